package scenario

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/millrace/millrace/benchmarks"
	"github.com/millrace/millrace/benchmarks/cores"
	"github.com/millrace/millrace/benchmarks/generator"
	"github.com/millrace/millrace/benchmarks/rig"
)

// aclWindow is one window of one router.
type aclWindow struct {
	router *rig.Router
	c      *aclCase
	load   aclLoad
	count  generator.Count
	cond   benchmarks.Condition
	clocks float64 // a packet by the router's own count, 0 where it has none
}

func (w aclWindow) rate() float64 { return float64(w.count.Received) / w.count.Took.Seconds() }

// window measures one router with the lists of a case, again while something disturbs it.
func (a *aclRun) window(ctx context.Context, r *rig.Router, c *aclCase, load aclLoad) (w aclWindow, err error) {
	// Raised threads of others would hold up the router also while it is programmed.
	pass, err := rig.TakeTurn()
	if err != nil {
		return w, err
	}
	defer func() { err = errors.Join(err, pass()) }()
	if err := r.Resume(); err != nil {
		return w, err
	}
	defer func() { err = errors.Join(err, r.Pause(context.WithoutCancel(ctx))) }()
	if err := r.Bind(ctx, c.guards[r]); err != nil {
		return w, err
	}
	g, err := r.Generator(a.Cores[0], a.Size, a.Batch, c.flows[load.name])
	if err != nil {
		return w, err
	}
	defer g.Close()
	clock, err := cores.NewClock()
	if err != nil {
		return w, err
	}
	b := &aclBench{aclRun: a, generator: g, clock: clock, aclWindow: aclWindow{router: r, c: c, load: load}}
	for try := 1; ; try++ {
		if err := r.ForgetSessions(ctx); err != nil {
			return w, err
		}
		if err := b.measure(ctx); err != nil {
			return w, err
		}
		w = b.aclWindow
		if !b.disturbed() || try == windowTries {
			a.done++
			return w, b.check(ctx)
		}
		a.discard(w, "disturbed")
	}
}

// aclBench is a window under way.
type aclBench struct {
	*aclRun
	aclWindow
	generator *generator.Generator
	clock     cores.Clock
}

func (b *aclBench) measure(ctx context.Context) (err error) {
	if !b.load.first {
		if err := b.establish(ctx); err != nil {
			return err
		}
	}
	vpp := b.router.About.Name == "vpp"
	if vpp {
		if _, err := b.router.CLI(ctx, "clear runtime"); err != nil {
			return err
		}
	}
	o := rig.Observed{Cores: b.Cores, Pollers: []int{b.workers[b.router]}, HasTurn: true}
	b.cond, err = o.During(b.clock, b.Timing, func(from, to int64) (err error) {
		if b.load.first {
			b.count, err = b.generator.Once(generator.Once{From: from, To: to, Warm: warmFlows, Patience: raisedPatience})
			return err
		}
		b.count, err = b.generator.Window(from, to)
		return err
	})
	if err = errors.Join(err, ctx.Err()); err != nil {
		return err
	}
	if b.count.Received == 0 {
		return fmt.Errorf("nothing of %d frames came back: %s", b.count.Sent, b.router.Trouble(ctx))
	}
	if vpp && !b.load.first {
		text, err := b.router.CLI(ctx, "show runtime")
		if err != nil {
			return err
		}
		b.clocks = clocksPerPacket(text)
	}
	return nil
}

// establish has every flow make its sessions.
func (b *aclBench) establish(ctx context.Context) error {
	for try := 1; ; try++ {
		count, err := b.once(ordinaryPatience)
		if err = errors.Join(err, ctx.Err()); err != nil {
			return err
		}
		if count.Sent == uint64(b.load.flows) && count.Received == count.Sent {
			return nil
		}
		if try == windowTries {
			return fmt.Errorf("%d frames of %d flows came back: %s", count.Received, b.load.flows, b.router.Trouble(ctx))
		}
	}
}

// How long nothing may come back: in a window, while sessions are made at ordinary
// priority on a machine that may be busy, and when nothing should.
const (
	raisedPatience    = 50 * time.Millisecond
	ordinaryPatience  = 3 * time.Second
	forbiddenPatience = 300 * time.Millisecond
)

// once sends all flows of the generator once, at ordinary priority.
func (b *aclBench) once(patience time.Duration) (generator.Count, error) {
	now := b.clock.Now()
	return b.generator.Once(generator.Once{From: now + int64(100*time.Millisecond), To: now + int64(time.Minute), Patience: patience})
}

func (b *aclBench) disturbed() bool {
	whole := b.load.first || b.count.Took >= b.Timing.Window*9/10 // or the generator's thread came late
	return !whole || b.cond.Waited > noisy || b.cond.Stolen > noisy || b.cond.Distance == "mixed"
}

// check counts frames that are not as they should be, and windows whose flows did not all
// have their sessions.
func (b *aclBench) check(ctx context.Context) error {
	s := b.seen[b.router]
	s.looked += b.count.Looked
	s.wrong += b.count.Wrong
	if len(b.c.guards) == 0 {
		return nil
	}
	n, err := b.router.Sessions(ctx)
	if err != nil {
		return err
	}
	want := b.load.flows // two sessions each
	if b.load.first {
		want = int(b.count.Received)
	}
	if n < 2*want-warmFlows {
		b.few[b.router]++
	}
	return nil
}

// enforced fails unless both lists of a case stop what they have no rule for.
func (a *aclRun) enforced(ctx context.Context, r *rig.Router, c *aclCase) error {
	if err := r.Bind(ctx, c.guards[r]); err != nil {
		return err
	}
	for _, egress := range []bool{true, false} {
		g, err := r.Generator(a.Cores[0], a.Size, a.Batch, generator.FlowsOf(c.forbiddenList(forbiddenFlows, egress)))
		if err != nil {
			return err
		}
		clock, err := cores.NewClock()
		if err != nil {
			g.Close()
			return err
		}
		b := &aclBench{generator: g, clock: clock}
		count, err := b.once(forbiddenPatience)
		g.Close()
		if err != nil {
			return err
		}
		if count.Sent != forbiddenFlows || count.Received > 0 {
			return fmt.Errorf("%s: %d of %d forbidden frames came through: %s", c.title, count.Received, count.Sent, r.Trouble(ctx))
		}
	}
	return nil
}

func (w aclWindow) measurement(size int) benchmarks.Measurement {
	return benchmarks.Measurement{
		Name: fmt.Sprintf("acl-%s-%s-%s", w.c.name, w.load.name, w.cond.Distance), Title: fmt.Sprintf("%d B, %s, %s, cores %s", size, w.load.title, w.c.title, w.cond.Distance),
		Subject: w.router.About.Name, Unit: "M frames/s", Better: benchmarks.Higher,
		Command: "millrace bench policy --scenario acl",
		Note:    "frames that came back to the generator",
	}
}

func (a *aclRun) discard(w aclWindow, why string) {
	m := w.measurement(a.Size)
	a.result.Discarded = append(a.result.Discarded, benchmarks.Discarded{Name: m.Name, Subject: m.Subject, Sample: w.rate() / 1e6, Condition: w.cond, Why: why})
}

// keep stores a window beside that without policy of the same round.
func (a *aclRun) keep(w, none aclWindow) {
	m := w.measurement(a.Size)
	a.result.AddUnder(m, w.rate()/1e6, w.cond)
	m.Note = ""
	aside := false
	one := func(name, unit, note string, better benchmarks.Better, v float64) {
		m := m
		m.Aside = aside
		m.Name, m.Unit, m.Note, m.Better = fmt.Sprintf("%s-%s-%s-%s", name, w.c.name, w.load.name, w.cond.Distance), unit, note, better
		a.result.Add(m, v)
	}
	one("cycles", "cycles/packet", fmt.Sprintf("the worker's core at %.2f GHz (measured) divided by the rate", a.hertz/1e9), benchmarks.Lower, a.hertz/w.rate())
	if w.c != none.c && w.cond.Distance == none.cond.Distance {
		one("share", "% of no policy", "the rate beside that of the same router without policy, in the same round", benchmarks.Higher, 100*w.rate()/none.rate())
	}
	aside = true
	one("full", "% of sends", "sends that found the router's ring full: below 50 the generator was the bottleneck", benchmarks.Higher, 100*w.count.Full)
	if w.load.first {
		one("lost", "frames per million", "of the first packets", benchmarks.Lower, 1e6*float64(w.count.Sent-min(w.count.Received, w.count.Sent))/float64(w.count.Sent))
	}
	if w.clocks > 0 {
		one("runtime", "clocks/packet", "sum over the nodes of VPP's show runtime, in ticks of the time stamp counter", benchmarks.Lower, w.clocks)
	}
}
