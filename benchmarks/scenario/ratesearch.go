package scenario

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/millrace/millrace/benchmarks"
	"github.com/millrace/millrace/benchmarks/cores"
	"github.com/millrace/millrace/benchmarks/generator"
	"github.com/millrace/millrace/benchmarks/rig"
	"github.com/millrace/millrace/benchmarks/search"
)

// searched is one router's search with cores at one distance, and the latencies after it.
// It may be under way.
type searched struct {
	router    *rig.Router
	size      int
	full      generator.Count // at full speed, before the search
	made      []search.Trial  // so far
	result    search.Result
	latencies []latency
	complete  bool
	cond      benchmarks.Condition // the worst of all trials; its distance is the search's
}

// latency is one trial at a share of the NDR.
type latency struct {
	share int // percent
	tally generator.Tally
	cond  benchmarks.Condition
}

// text is the search for whoever doubts it.
func (s *searched) text() string {
	var b strings.Builder
	for i, name := range []string{"NDR", "PDR"} {
		f := s.result.Found[i]
		fmt.Fprintf(&b, "%s %s at %.3f to %.3f M frames/s; ", name, f.Outcome, f.Rate/1e6, f.Upper/1e6)
	}
	fmt.Fprintf(&b, "%.3f came back at full speed; offered M frames/s and loss of %d trials:", float64(s.full.Received)/s.full.Took.Seconds()/1e6, len(s.result.Trials))
	for _, t := range s.result.Trials {
		fmt.Fprintf(&b, " %.3f:%.2g%%", t.Offered/1e6, 100*t.Loss)
	}
	return b.String()
}

// errMoved says that the cores' distance is no longer that of the search.
var errMoved = errors.New("the cores' distance changed")

// drained is how long a trial waits for its last frames, with the worker still raised.
const drained = 10 * time.Millisecond

// restDuration is between two trials: raised threads must leave some of each second to
// others, or Linux stops them.
const restDuration = 120 * time.Millisecond

// rateBench is a router with its generator, and the search that its trials go to.
type rateBench struct {
	*rate
	*searched
	generator *generator.Generator
	clock     cores.Clock
	observed  rig.Observed
}

// search goes on with the search that fits the cores' distance, until that ends or the
// cores move.
func (r *rate) search(ctx context.Context, router *rig.Router, size int, open map[string]*searched) (err error) {
	trip, err := cores.RoundTrip(r.Cores[0], r.Cores[1])
	if err != nil {
		return err
	}
	distance := string(cores.DistanceOf(trip))
	s := open[distance]
	if s == nil {
		s = &searched{router: router, size: size, cond: benchmarks.Condition{Distance: distance}}
		open[distance] = s
	}
	if s.complete { // the others have to come after
		return ctx.Err()
	}
	if err := router.Resume(); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, router.Pause(context.WithoutCancel(ctx))) }()
	g, err := router.Generator(r.Cores[0], size, r.Batch, r.flows)
	if err != nil {
		return err
	}
	defer g.Close()
	worker, err := router.Worker(ctx)
	if err != nil {
		return err
	}
	clock, err := cores.NewClock()
	if err != nil {
		return err
	}
	b := &rateBench{rate: r, searched: s, generator: g, clock: clock, observed: rig.Observed{Cores: r.Cores, Pollers: []int{worker}}}
	if err := b.fill(ctx); !errors.Is(err, errMoved) {
		return err
	}
	return nil
}

// fill finds the rates, then measures latency below the NDR. What was measured before the
// cores moved away is not measured again.
func (b *rateBench) fill(ctx context.Context) (err error) {
	s := b.searched
	if s.full.Received == 0 {
		s.cond, err = b.quiet(ctx, func(from, to int64) (uint64, error) {
			var err error
			s.full, err = b.generator.Window(from, to)
			return s.full.Received, err
		})
		if err != nil {
			s.full = generator.Count{}
			return err
		}
		if s.full.Received == 0 {
			return errors.New("nothing came back")
		}
	}
	if err := b.find(ctx); err != nil {
		return err
	}
	if ndr := s.result.Found[0].Rate; ndr > 0 {
		for _, share := range latencyShares[len(s.latencies):] {
			tally, cond, err := b.trial(ctx, ndr*float64(share)/100)
			if err != nil {
				return err
			}
			s.latencies = append(s.latencies, latency{share, tally, cond})
		}
	}
	s.complete = true
	return nil
}

// find searches. The search asks for the same rates when it gets the same answers: so it
// is taken up by answering again what it has asked before.
func (b *rateBench) find(ctx context.Context) (err error) {
	s, asked := b.searched, 0
	high := max(headroom*float64(s.full.Received)/s.full.Took.Seconds(), 2*lowestRate)
	s.result, err = search.Run(search.Config{
		Goals: []float64{search.NDR, search.PDR}, Low: lowestRate, High: high,
		Precision: ratePrecision, Repeats: rateRepeats, Trials: rateTrials,
	}, func(rate float64) (search.Trial, error) {
		if asked++; asked <= len(s.made) {
			return s.made[asked-1], nil
		}
		tally, _, err := b.trial(ctx, rate)
		t := search.Trial{Offered: tally.Rate(), Loss: tally.Loss()}
		if err == nil {
			s.made = append(s.made, t)
		}
		return t, err
	})
	return err
}

// trial sends at a rate for one window.
func (b *rateBench) trial(ctx context.Context, rate float64) (tally generator.Tally, cond benchmarks.Condition, err error) {
	cond, err = b.quiet(ctx, func(from, to int64) (uint64, error) {
		var err error
		tally, err = b.generator.Trial(generator.Trial{Rate: rate, From: from, To: to - int64(drained), Drain: drained})
		return tally.Received, err
	})
	if err != nil {
		return tally, cond, err
	}
	if tally.Disorder > 0 {
		return tally, cond, fmt.Errorf("%d frames came back out of order or twice", tally.Disorder)
	}
	b.cond = worse(b.cond, cond)
	return tally, cond, nil
}

// quiet runs a window, which says how many frames came back, again while something
// disturbs it. That nothing comes back at all is a disturbance too: the worker polls, but
// something more urgent had its core.
func (b *rateBench) quiet(ctx context.Context, window func(from, to int64) (uint64, error)) (cond benchmarks.Condition, err error) {
	for try := 1; ; try++ {
		select {
		case <-ctx.Done():
			return cond, ctx.Err()
		case <-time.After(restDuration):
		}
		timing := b.Timing
		timing.Window += drained
		received := uint64(0)
		cond, err = b.observed.During(b.clock, timing, func(from, to int64) (err error) {
			received, err = window(from, to)
			return err
		})
		if err != nil {
			return cond, err
		}
		moved := cond.Distance != b.cond.Distance
		if noise := received == 0 || cond.Waited > noisy || cond.Stolen > noisy; !noise && !moved {
			return cond, nil
		}
		if try == windowTries && moved {
			return cond, errMoved
		}
		if try == windowTries {
			return cond, nil
		}
	}
}

// worse is the condition of two windows together.
func worse(a, b benchmarks.Condition) benchmarks.Condition {
	if a.RoundTrip == [2]float64{} {
		return b
	}
	b.RoundTrip[0] = a.RoundTrip[0] // from the first to the last
	b.Waited, b.Stolen, b.Raised = max(a.Waited, b.Waited), max(a.Stolen, b.Stolen), a.Raised && b.Raised
	return b
}
