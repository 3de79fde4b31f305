package scenario

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"runtime"
	"runtime/debug"
	"slices"
	"time"

	"github.com/millrace/millrace/benchmarks"
	"github.com/millrace/millrace/benchmarks/cores"
	"github.com/millrace/millrace/benchmarks/generator"
	"github.com/millrace/millrace/benchmarks/rig"
)

// ACL compares what access lists cost routers. Frames come in by one memif, where the
// egress rules of the sender's policies judge them, and go out by another, where the
// ingress rules of the receiver's do: a way through has both, as between two pods. A strict
// check of source addresses is always there, as on each interface of a pod. Lists of each
// size and none at all are measured in turn, by first packets (each frame a new flow)
// and by flows that have their sessions. The routers take turns.
type ACL struct {
	Title       string
	Routers     []*rig.Router // with two arms and the plugins acl and urpf
	Rules       []string      // names of lists, of ACLRules; nil is all
	Loads       []string      // names of kinds of traffic, of ACLLoads; nil is all
	Routes      int
	Size, Batch int
	Repetitions int
	Timing      rig.Timing
	Cores       [2]int // of the generator, of the worker
	Progress    func(Progress)
}

// ACLRules are the names of the lists that there are.
func ACLRules() []string {
	var names []string
	for _, s := range ruleSets() {
		names = append(names, s.name)
	}
	return names
}

const (
	// firstFlows is how many new flows a window of first packets has: two sessions of each
	// fit into the 500000 that VPP's acl plugin and the engine keep.
	firstFlows = 200_000
	warmFlows  = 64 // that keep the router at work before

	forbiddenFlows = 1000
)

// aclLoad is one kind of traffic.
type aclLoad struct {
	name, title string
	flows       int
	first       bool // each flow has one frame
}

func aclLoads() []aclLoad {
	return []aclLoad{
		{name: "first", title: "first packets", flows: firstFlows + warmFlows, first: true},
		{name: "1k", title: "1000 flows", flows: 1000},
		{name: "100k", title: "100000 flows", flows: 100_000},
	}
}

// ACLLoads are the names of the kinds of traffic that there are.
func ACLLoads() []string {
	var names []string
	for _, l := range aclLoads() {
		names = append(names, l.name)
	}
	return names
}

// aclCase is lists on the routers' way, with what passes them.
type aclCase struct {
	ruleSet
	guards map[*rig.Router]rig.Guard
	flows  map[string]generator.Flows // by the load's name
	kept   rounds                     // of the present load
}

type aclRun struct {
	ACL
	result  *benchmarks.Result
	loads   []aclLoad
	cases   []*aclCase // the first has no rules
	workers map[*rig.Router]int
	seen    map[*rig.Router]*seen
	few     map[*rig.Router]int // windows with fewer sessions than flows
	hertz   float64
	started time.Time
	done    int
	total   int
}

// Run runs the comparison. The result is returned also when it was cut short.
func (c ACL) Run(ctx context.Context) (_ *benchmarks.Result, err error) {
	machine, err := benchmarks.ThisMachine()
	if err != nil {
		return nil, err
	}
	a := &aclRun{ACL: c, started: time.Now(), workers: map[*rig.Router]int{}, seen: map[*rig.Router]*seen{}, few: map[*rig.Router]int{}, result: &benchmarks.Result{
		Schema: benchmarks.Schema, Title: c.Title, Started: time.Now().UTC(), Machine: machine,
	}}
	a.prepare()
	runtime.GC()
	// Collecting would disturb the windows, and there is little to collect.
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	launcher := rig.NewLauncher()
	defer launcher.Close()
	err = a.all(ctx, launcher)
	for _, r := range c.Routers {
		err = errors.Join(err, r.Stop())
		a.result.Subjects = append(a.result.Subjects, r.About)
	}
	a.result.Seconds = time.Since(a.started).Seconds()
	if a.result.Complete = err == nil; err != nil {
		a.result.Problem = err.Error()
	}
	return a.result, err
}

// prepare makes the flows. Those that no rules judge are those of a thousand rules.
func (a *aclRun) prepare() {
	for _, l := range aclLoads() {
		if a.Loads == nil || slices.Contains(a.Loads, l.name) {
			a.loads = append(a.loads, l)
		}
	}
	sets := []ruleSet{{name: "none", title: "no policy"}}
	for _, s := range ruleSets() {
		if s.name == "1k" {
			sets[0].peers, sets[0].ports = s.peers, s.ports
		}
		if a.Rules == nil || slices.Contains(a.Rules, s.name) {
			sets = append(sets, s)
		}
	}
	for _, s := range sets {
		c := &aclCase{ruleSet: s, guards: map[*rig.Router]rig.Guard{}, flows: map[string]generator.Flows{}}
		for _, load := range a.loads {
			c.flows[load.name] = generator.FlowsOf(s.flowList(load.flows))
		}
		a.cases = append(a.cases, c)
	}
	a.total = len(a.cases) * len(a.loads) * a.Repetitions * len(a.Routers)
}

func (a *aclRun) all(ctx context.Context, l *rig.Launcher) (err error) {
	if a.hertz, err = cores.Hertz(a.Cores[1]); err != nil {
		return fmt.Errorf("measure clock of core %d: %w", a.Cores[1], err)
	}
	most := 0
	for _, c := range a.cases {
		most = max(most, len(c.peers))
	}
	routes, err := peerRoutes(most, max(most, a.Routes))
	if err != nil {
		return err
	}
	for _, r := range a.Routers {
		a.tell(r.About.Name + ": start, write lists")
		a.seen[r] = &seen{}
		if err := a.start(ctx, l, r, routes); err != nil {
			return fmt.Errorf("%s: %w", r.About.Name, err)
		}
	}
	for _, load := range a.loads {
		if err := a.kind(ctx, load); err != nil {
			return err
		}
	}
	for _, r := range a.Routers {
		s := a.seen[r]
		a.result.Checks = append(a.result.Checks, benchmarks.Check{Subject: r.About.Name, Name: "frames come back as a router leaves them", OK: s.looked > 0 && s.wrong == 0,
			Detail: fmt.Sprintf("%d of %d looked at are wrong", s.wrong, s.looked)},
			benchmarks.Check{Subject: r.About.Name, Name: "each flow that rules let through has its sessions", OK: a.few[r] == 0, Detail: fmt.Sprintf("in %d windows some had not", a.few[r])})
	}
	return nil
}

// start starts a router and gives it all lists.
func (a *aclRun) start(ctx context.Context, l *rig.Launcher, r *rig.Router, routes []netip.Prefix) (err error) {
	pass, err := rig.TakeTurn()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, pass()) }()
	r.Sources = sources()
	if err := r.Start(ctx, l, routes); err != nil {
		return err
	}
	return a.write(ctx, r)
}

// write gives a router all lists, finds its worker, and sees that rules stop what they
// should.
func (a *aclRun) write(ctx context.Context, r *rig.Router) (err error) {
	if err := r.Resume(); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Pause(context.WithoutCancel(ctx))) }()
	if a.workers[r], err = r.Worker(ctx); err != nil {
		return err
	}
	// As the agent has it: live sessions are judged again when a list changes.
	if _, err := r.CLI(ctx, "set acl-plugin reclassify-sessions 1"); err != nil {
		return err
	}
	base, err := r.WriteACL(ctx, "base", baseRules())
	if err != nil {
		return err
	}
	for _, c := range a.cases[1:] {
		egress, ingress := c.lists()
		out, err := r.WriteACL(ctx, "egress/"+c.name, egress)
		if err != nil {
			return err
		}
		in, err := r.WriteACL(ctx, "ingress/"+c.name, ingress)
		if err != nil {
			return err
		}
		c.guards[r] = rig.Guard{Input: []uint32{base, out}, Output: []uint32{base, in}}
		if err := a.enforced(ctx, r, c); err != nil {
			return err
		}
	}
	return nil
}

// kind measures one kind of traffic until each case has enough rounds of one kind.
func (a *aclRun) kind(ctx context.Context, load aclLoad) error {
	for _, c := range a.cases {
		c.kept = rounds{}
	}
	for n := 0; n < roundsFactor*a.Repetitions; n++ {
		open := []*aclCase{a.cases[0]}
		for _, c := range a.cases[1:] {
			if c.kept.most() < a.Repetitions {
				open = append(open, c)
			}
		}
		if len(open) == 1 {
			break
		}
		if err := a.round(ctx, load, n, open); err != nil {
			return err
		}
	}
	for _, c := range a.cases {
		c.kept.settle(a.result, load.title+", "+c.title, "-"+c.name+"-"+load.name, a.Repetitions)
	}
	return nil
}

// round measures the cases one after the other, each with all routers next to each other.
func (a *aclRun) round(ctx context.Context, load aclLoad, n int, open []*aclCase) error {
	var none []aclWindow
	for _, c := range open {
		windows := make([]aclWindow, len(a.Routers))
		for i := range a.Routers {
			at := (i + n) % len(a.Routers)
			r := a.Routers[at]
			a.tell(fmt.Sprintf("%s: %s, %s (%d of %d)", r.About.Name, load.title, c.title, min(c.kept.most()+1, a.Repetitions), a.Repetitions))
			w, err := a.window(ctx, r, c, load)
			if err != nil {
				return fmt.Errorf("%s: %s, %s: %w", r.About.Name, load.title, c.title, err)
			}
			windows[at] = w
		}
		if c == a.cases[0] {
			none = windows
		}
		distance := distanceOf(windows)
		c.kept[distance]++
		for i, w := range windows {
			if distance == "mixed" {
				a.discard(w, "the cores' distance changed during the round")
				continue
			}
			a.keep(w, none[i])
		}
	}
	return nil
}

// distanceOf is that of all windows, or mixed.
func distanceOf(windows []aclWindow) string {
	for _, w := range windows {
		if w.cond.Distance != windows[0].cond.Distance {
			return "mixed"
		}
	}
	return windows[0].cond.Distance
}

func (a *aclRun) tell(step string) {
	elapsed := time.Since(a.started)
	p := Progress{Step: step, Done: min(a.done, a.total), Total: a.total, Elapsed: elapsed}
	if a.done > 0 {
		p.Left = max(0, time.Duration(float64(elapsed)*float64(a.total-a.done)/float64(a.done)))
	}
	a.Progress(p)
}
