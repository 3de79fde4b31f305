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

// searched is one router's search and the latencies after it. The distance of its
// condition is "mixed", and the rest may be missing, when the cores moved each time.
type searched struct {
	router    *rig.Router
	size      int
	full      generator.Count // at full speed, before the search
	result    search.Result
	latencies []latency
	cond      benchmarks.Condition // the worst of all trials
}

// latency is one trial at a share of the NDR.
type latency struct {
	share int // percent
	tally generator.Tally
	cond  benchmarks.Condition
}

// text is the search for whoever doubts it.
func (s searched) text() string {
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

// errMoved says that the cores' distance is no longer that of the search's beginning.
var errMoved = errors.New("the cores' distance changed")

// drained is how long a trial waits for its last frames, with the worker still raised.
const drained = 10 * time.Millisecond

// restDuration is between two trials: raised threads must leave some of each second to
// others, or Linux stops them.
const restDuration = 120 * time.Millisecond

// rateBench is a router with its generator for the length of a search.
type rateBench struct {
	*rate
	generator *generator.Generator
	clock     cores.Clock
	observed  rig.Observed
	cond      benchmarks.Condition // worst so far
}

// search searches, again when the cores moved meanwhile.
func (r *rate) search(ctx context.Context, router *rig.Router, size int) (s searched, err error) {
	if err := router.Resume(); err != nil {
		return s, err
	}
	defer func() { err = errors.Join(err, router.Pause()) }()
	g, err := router.Generator(r.Cores[0], size, r.Batch, r.flows)
	if err != nil {
		return s, err
	}
	defer g.Close()
	worker, err := router.Worker(ctx)
	if err != nil {
		return s, err
	}
	clock, err := cores.NewClock()
	if err != nil {
		return s, err
	}
	for range movedTries {
		b := &rateBench{rate: r, generator: g, clock: clock, observed: rig.Observed{Cores: r.Cores, Pollers: []int{worker}}}
		s = searched{router: router, size: size}
		err = b.fill(ctx, &s)
		s.cond = b.cond
		if !errors.Is(err, errMoved) {
			return s, err
		}
	}
	s.cond.Distance = "mixed"
	return s, nil
}

// fill finds the rates, then measures latency below the NDR.
func (b *rateBench) fill(ctx context.Context, s *searched) (err error) {
	err = b.quiet(ctx, func(from, to int64) (uint64, error) {
		var err error
		s.full, err = b.generator.Window(from, to)
		return s.full.Received, err
	})
	if err != nil {
		return err
	}
	if s.full.Received == 0 {
		return errors.New("nothing came back")
	}
	high := max(headroom*float64(s.full.Received)/s.full.Took.Seconds(), 2*lowestRate)
	s.result, err = search.Run(search.Config{
		Goals: []float64{search.NDR, search.PDR}, Low: lowestRate, High: high,
		Precision: ratePrecision, Repeats: rateRepeats, Trials: rateTrials,
	}, func(rate float64) (search.Trial, error) {
		tally, _, err := b.trial(ctx, rate)
		return search.Trial{Offered: tally.Rate(), Loss: tally.Loss()}, err
	})
	if err != nil || s.result.Found[0].Rate == 0 {
		return err
	}
	for _, share := range latencyShares {
		tally, cond, err := b.trial(ctx, s.result.Found[0].Rate*float64(share)/100)
		if err != nil {
			return err
		}
		s.latencies = append(s.latencies, latency{share, tally, cond})
	}
	return nil
}

// trial sends at a rate for one window.
func (b *rateBench) trial(ctx context.Context, rate float64) (tally generator.Tally, cond benchmarks.Condition, err error) {
	before := b.cond
	b.cond = benchmarks.Condition{Distance: before.Distance}
	err = b.quiet(ctx, func(from, to int64) (uint64, error) {
		var err error
		tally, err = b.generator.Trial(generator.Trial{Rate: rate, From: from, To: to - int64(drained), Drain: drained})
		return tally.Received, err
	})
	cond = b.cond
	b.cond = worse(before, cond)
	if err == nil && tally.Disorder > 0 {
		err = fmt.Errorf("%d frames came back out of order or twice", tally.Disorder)
	}
	return tally, cond, err
}

// quiet runs a window, which says how many frames came back, again while something
// disturbs it. That nothing comes back at all is a disturbance too: the worker polls, but
// something more urgent had its core.
func (b *rateBench) quiet(ctx context.Context, window func(from, to int64) (uint64, error)) error {
	for try := 1; ; try++ {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(restDuration):
		}
		timing := b.Timing
		timing.Window += drained
		received := uint64(0)
		cond, err := b.observed.During(b.clock, timing, func(from, to int64) (err error) {
			received, err = window(from, to)
			return err
		})
		if err != nil {
			return err
		}
		moved := cond.Distance == "mixed" || b.cond.Distance != "" && cond.Distance != b.cond.Distance
		if noise := received == 0 || cond.Waited > noisy || cond.Stolen > noisy; (noise || moved) && try < windowTries {
			continue
		}
		b.cond = worse(b.cond, cond)
		if moved {
			return errMoved
		}
		return nil
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
