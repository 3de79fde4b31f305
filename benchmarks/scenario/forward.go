package scenario

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"github.com/millrace/millrace/benchmarks"
	"github.com/millrace/millrace/benchmarks/cores"
	"github.com/millrace/millrace/benchmarks/generator"
	"github.com/millrace/millrace/benchmarks/rig"
)

// Forward compares routers: one generator on one core sends frames of one size by memif to
// a worker on another core, which looks each up among many routes and sends it back. The
// routers take turns.
type Forward struct {
	Title       string
	Routers     []*rig.Router
	Routes      int
	Hot         int // flows of the hot kind; the cold one has a destination in each route
	Size, Batch int
	Repetitions int
	Timing      rig.Timing
	Cores       [2]int // of the generator, of the worker
	Progress    func(Progress)
}

// load is where the frames of a window go.
type load struct {
	name, title string
	flows       generator.Flows
}

type forward struct {
	Forward
	result  *benchmarks.Result
	loads   []load
	started time.Time
	hertz   float64
	done    int
	seen    map[*rig.Router]*seen // of the present load
}

// seen is how many frames that came back were looked at, and how many were not as a router
// leaves them.
type seen struct{ looked, wrong uint64 }

// Run runs the comparison. The result is returned also when it was cut short.
func (c Forward) Run(ctx context.Context) (_ *benchmarks.Result, err error) {
	// Collecting would disturb the windows, and there is little to collect.
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	machine, err := benchmarks.ThisMachine()
	if err != nil {
		return nil, err
	}
	routes, hosts := randomRoutes(c.Routes)
	f := &forward{Forward: c, started: time.Now(), result: &benchmarks.Result{
		Schema: benchmarks.Schema, Title: c.Title, Started: time.Now().UTC(), Machine: machine,
	}}
	f.loads = []load{
		{"cold", fmt.Sprintf("one flow to each of %d routes", c.Routes), generator.NewFlows(hosts)},
		{"hot", fmt.Sprintf("%d flows", c.Hot), generator.NewFlows(hosts[:min(c.Hot, len(hosts))])},
	}
	launcher := rig.NewLauncher()
	defer launcher.Close()
	err = f.all(ctx, launcher, routes)
	for _, r := range c.Routers {
		err = errors.Join(err, r.Stop())
		f.result.Subjects = append(f.result.Subjects, r.About)
	}
	f.result.Seconds = time.Since(f.started).Seconds()
	if f.result.Complete = err == nil; err != nil {
		f.result.Problem = err.Error()
	}
	return f.result, err
}

func (f *forward) all(ctx context.Context, l *rig.Launcher, routes []netip.Prefix) (err error) {
	if f.hertz, err = cores.Hertz(f.Cores[1]); err != nil {
		return fmt.Errorf("measure clock of core %d: %w", f.Cores[1], err)
	}
	for _, r := range f.Routers {
		if err := r.Start(ctx, l, routes); err != nil {
			return err
		}
	}
	for _, load := range f.loads {
		f.seen = map[*rig.Router]*seen{}
		for _, r := range f.Routers {
			f.seen[r] = &seen{}
		}
		kept := rounds{}
		for n := 0; n < roundsFactor*f.Repetitions && kept.most() < f.Repetitions; n++ {
			distance, err := f.round(ctx, load, n)
			if err != nil {
				return err
			}
			kept[distance]++
		}
		for _, r := range f.Routers {
			s := f.seen[r]
			f.result.Checks = append(f.result.Checks, benchmarks.Check{Subject: r.About.Name, Name: load.title + ": frames come back as a router leaves them", OK: s.looked > 0 && s.wrong == 0,
				Detail: fmt.Sprintf("%d of %d looked at are wrong", s.wrong, s.looked)})
		}
		kept.settle(f.result, load.title, "-"+load.name, f.Repetitions)
	}
	return nil
}

// routed is one window of one router.
type routed struct {
	router *rig.Router
	count  generator.Count
	cond   benchmarks.Condition
	clocks float64 // a packet by the router's own count, 0 where it has none
}

func (f *forward) round(ctx context.Context, load load, n int) (string, error) {
	var windows []routed
	distance := ""
	for i := range f.Routers {
		r := f.Routers[(i+n)%len(f.Routers)]
		f.tell(fmt.Sprintf("%s: %s (%d of %d)", r.About.Name, load.title, min(n+1, f.Repetitions), f.Repetitions))
		w, err := f.window(ctx, r, load)
		if err != nil {
			return "", fmt.Errorf("%s: %s: %w", r.About.Name, load.title, err)
		}
		if windows = append(windows, w); i == 0 {
			distance = w.cond.Distance
		}
		if w.cond.Distance != distance {
			distance = "mixed"
		}
	}
	for _, w := range windows {
		if distance == "mixed" {
			f.discard(w, load, "the cores' distance changed during the round")
			continue
		}
		f.keep(w, load)
	}
	return distance, nil
}

func (f *forward) tell(step string) {
	total := f.Repetitions * len(f.loads) * len(f.Routers)
	elapsed := time.Since(f.started)
	p := Progress{Step: step, Done: min(f.done, total), Total: total, Elapsed: elapsed}
	if f.done > 0 {
		p.Left = max(0, time.Duration(float64(elapsed)*float64(total-f.done)/float64(f.done)))
	}
	f.done++
	f.Progress(p)
}

// window measures one router, again while something disturbs it.
func (f *forward) window(ctx context.Context, r *rig.Router, load load) (w routed, err error) {
	if err := r.Resume(); err != nil {
		return w, err
	}
	defer func() { err = errors.Join(err, r.Pause(context.WithoutCancel(ctx))) }()
	g, err := r.Generator(f.Cores[0], f.Size, f.Batch, load.flows)
	if err != nil {
		return w, err
	}
	defer g.Close()
	worker, err := r.Worker(ctx)
	if err != nil {
		return w, err
	}
	clock, err := cores.NewClock()
	if err != nil {
		return w, err
	}
	for try := 1; ; try++ {
		w = routed{router: r}
		if _, err := r.CLI(ctx, "clear runtime"); err != nil && r.About.Name == "vpp" {
			return w, err
		}
		o := rig.Observed{Cores: f.Cores, Pollers: []int{worker}}
		w.cond, err = o.During(clock, f.Timing, func(from, to int64) (err error) {
			w.count, err = g.Window(from, to)
			return err
		})
		if err = errors.Join(err, ctx.Err()); err != nil {
			return w, err
		}
		whole := w.count.Took >= f.Timing.Window*9/10
		if !whole && try < windowTries {
			continue // the generator's thread came late
		}
		if w.count.Received == 0 {
			return w, fmt.Errorf("nothing of %d frames came back: %s", w.count.Sent, r.Trouble(ctx))
		}
		f.seen[r].looked += w.count.Looked
		f.seen[r].wrong += w.count.Wrong
		if r.About.Name == "vpp" {
			text, err := r.CLI(ctx, "show runtime")
			if err != nil {
				return w, err
			}
			w.clocks = clocksPerPacket(text)
		}
		if whole && w.cond.Waited <= noisy && w.cond.Stolen <= noisy && w.cond.Distance != "mixed" || try == windowTries {
			return w, nil
		}
		f.discard(w, load, "disturbed")
	}
}

func (w routed) rate() float64 { return float64(w.count.Received) / w.count.Took.Seconds() }

func (w routed) measurement(load load, f *forward) benchmarks.Measurement {
	return benchmarks.Measurement{
		Name: fmt.Sprintf("forward-%s-%s", load.name, w.cond.Distance), Title: fmt.Sprintf("%d B, %s, cores %s", f.Size, load.title, w.cond.Distance),
		Subject: w.router.About.Name, Unit: "M frames/s", Better: benchmarks.Higher,
		Command: "millrace bench memif --scenario forward",
		Note:    "frames that came back to the generator",
	}
}

func (f *forward) discard(w routed, load load, why string) {
	m := w.measurement(load, f)
	f.result.Discarded = append(f.result.Discarded, benchmarks.Discarded{Name: m.Name, Subject: m.Subject, Sample: w.rate() / 1e6, Condition: w.cond, Why: why})
}

func (f *forward) keep(w routed, load load) {
	m := w.measurement(load, f)
	f.result.AddUnder(m, w.rate()/1e6, w.cond)
	m.Note = ""
	one := func(name, unit, note string, better benchmarks.Better, v float64) {
		m := m
		m.Name, m.Unit, m.Note, m.Better = fmt.Sprintf("%s-%s-%s", name, load.name, w.cond.Distance), unit, note, better
		f.result.Add(m, v)
	}
	one("cycles", "cycles/packet", fmt.Sprintf("the worker's core at %.2f GHz (measured) divided by the rate", f.hertz/1e9), benchmarks.Lower, f.hertz/w.rate())
	one("full", "% of sends", "sends that found the router's ring full: below 50 the generator was the bottleneck", benchmarks.Higher, 100*w.count.Full)
	if w.clocks > 0 {
		one("runtime", "clocks/packet", "sum over the nodes of VPP's show runtime, in ticks of the time stamp counter", benchmarks.Lower, w.clocks)
	}
}

// clocksPerPacket sums clocks times vectors over the worker's nodes in the text of "show
// runtime", and divides by the packets that memif-input took.
func clocksPerPacket(text string) float64 {
	var clocks, packets float64
	_, worker, found := strings.Cut(text, "vpp_wk_0")
	if !found {
		return 0
	}
	for line := range strings.Lines(worker) {
		fields := strings.Fields(line)
		// name state calls vectors suspends clocks vectors/call; a state may be two words
		if len(fields) < 7 {
			continue
		}
		tail := fields[len(fields)-5:]
		vectors, err1 := strconv.ParseFloat(tail[1], 64)
		each, err2 := strconv.ParseFloat(tail[3], 64)
		if err1 != nil || err2 != nil || vectors == 0 {
			continue
		}
		clocks += vectors * each
		if fields[0] == "memif-input" {
			packets = vectors
		}
	}
	if packets == 0 {
		return 0
	}
	return clocks / packets
}

// randomRoutes are n different prefixes, mostly /24 as in the Internet's table, with an
// address in each, the same in every run.
func randomRoutes(n int) (routes []netip.Prefix, hosts []netip.Addr) {
	rng := rand.New(rand.NewPCG(25, 10))
	seen := make(map[netip.Prefix]bool, n)
	for len(routes) < n {
		bits := 24
		switch p := rng.IntN(100); {
		case p < 5:
			bits = 25 + rng.IntN(8)
		case p < 35:
			bits = 16 + rng.IntN(8)
		}
		a := rng.Uint32N(0xdf000000-0x0b000000) + 0x0b000000 // 11.0.0.0 to 222.255.255.255
		if a>>24 == 127 || a>>17 == 0xc612>>1 {              // loopback, and 198.18.0.0/15, where the generator is
			continue
		}
		host := netip.AddrFrom4([4]byte{byte(a >> 24), byte(a >> 16), byte(a >> 8), byte(a)})
		p := netip.PrefixFrom(host, bits).Masked()
		if seen[p] {
			continue
		}
		seen[p] = true
		routes, hosts = append(routes, p), append(hosts, host)
	}
	return routes, hosts
}
