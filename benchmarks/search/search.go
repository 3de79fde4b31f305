// Package search owns the search for the highest rate that a device carries with no more
// than a given loss: RFC 2544's throughput by bisection, for several loss ratios in one
// search whose trials narrow all of them (MLRsearch, draft-ietf-bmwg-mlrsearch).
//
// It never sends a frame and never reads a clock: its caller makes the trials.
package search

import (
	"errors"
	"fmt"
	"math"
	"slices"
)

// The usual two loss ratios: the non-drop rate, and the partial drop rate.
const (
	NDR = 0
	PDR = 0.005
)

// Trial is one measurement at one rate.
type Trial struct {
	Asked   float64 `json:"asked"`   // frames/s
	Offered float64 `json:"offered"` // frames/s that the generator really kept up
	Loss    float64 `json:"loss"`    // lost frames / offered frames, 0 to 1
}

// Measure makes a trial at a rate in frames/s.
type Measure func(rate float64) (Trial, error)

// Config is what to search, and where.
type Config struct {
	Goals     []float64 // loss ratios, such as NDR and PDR
	Low, High float64   // bounds in frames/s; High should be above what the device carries
	Precision float64   // the interval's width relative to the rate at which the search ends
	// Repeats is how often a trial that lost too much is made again before that is
	// believed: on a shared machine one loss may be the machine's. 0 = never, as RFC 2544.
	Repeats int
	Trials  int // at most
}

// Outcome says why a search for one ratio ended.
type Outcome string

// Outcomes.
const (
	Settled   Outcome = "settled"   // the interval is as narrow as asked for
	Above     Outcome = "above"     // not too much loss even at Config.High
	Below     Outcome = "below"     // too much loss even at Config.Low: Rate is 0
	Generator Outcome = "generator" // the generator could not offer more: the device may carry it
	OutOf     Outcome = "unsettled" // Config.Trials were made
)

// Found is the answer for one ratio.
type Found struct {
	Ratio   float64 // the goal
	Rate    float64 // highest offered rate in frames/s that lost no more than that; 0 = none
	Upper   float64 // lowest rate above it that failed; +Inf = none did
	Outcome Outcome
}

// Result is the answers in the order of Config.Goals, and the trials in the order made.
type Result struct {
	Found  []Found
	Trials []Trial
}

func (c Config) check() error {
	switch {
	case len(c.Goals) == 0:
		return errors.New("no loss ratio to search for")
	case !(c.Low > 0 && c.Low < c.High) || math.IsInf(c.High, 0):
		return fmt.Errorf("bounds %v to %v frames/s: want 0 < low < high", c.Low, c.High)
	case !(c.Precision > 0 && c.Precision < 1):
		return fmt.Errorf("precision %v: want one between 0 and 1", c.Precision)
	case c.Repeats < 0 || c.Trials < 1:
		return fmt.Errorf("%d repeats, %d trials: want none or more, and at least one", c.Repeats, c.Trials)
	}
	for _, g := range c.Goals {
		if !(g >= 0 && g < 1) {
			return fmt.Errorf("loss ratio %v: want 0 to less than 1", g)
		}
	}
	return nil
}

// Run searches. The result holds what is known also when measure failed.
func Run(c Config, measure Measure) (Result, error) {
	if err := c.check(); err != nil {
		return Result{}, fmt.Errorf("search rate: %w", err)
	}
	s := &search{Config: c, measure: measure}
	for _, g := range c.Goals {
		s.goals = append(s.goals, &goal{ratio: g, upper: math.Inf(1), width: c.Precision})
	}
	err := s.run()
	r := Result{Trials: s.trials}
	for _, g := range s.goals {
		r.Found = append(r.Found, g.found(c))
	}
	if err != nil {
		return r, fmt.Errorf("search rate: %w", err)
	}
	return r, nil
}

type search struct {
	Config
	measure Measure
	goals   []*goal // in the order of Config.Goals
	trials  []Trial
}

func (s *search) run() error {
	// The loosest first: it is close to what the device carries at most, and its trials
	// bring the stricter ones near.
	order := slices.SortedFunc(slices.Values(s.goals), func(a, b *goal) int {
		switch {
		case a.ratio > b.ratio:
			return -1
		case a.ratio < b.ratio:
			return 1
		}
		return 0
	})
	for _, g := range order {
		for !g.done(s.Config) && len(s.trials) < s.Trials {
			if err := s.try(g.next(s.Config)); err != nil {
				return err
			}
		}
	}
	return nil
}

// try makes a trial at a rate, again while it lost too much for a ratio that it could
// narrow, and tells all ratios the best of them.
func (s *search) try(rate float64) error {
	var best Trial
	for n := 0; n <= s.Repeats && len(s.trials) < s.Trials; n++ {
		t, err := s.measure(rate)
		if err != nil {
			return err
		}
		if !(t.Offered > 0) || !(t.Loss >= 0 && t.Loss <= 1) {
			return fmt.Errorf("trial at %.0f frames/s: offered %v, loss ratio %v: that is no measurement", rate, t.Offered, t.Loss)
		}
		t.Asked = rate
		s.trials = append(s.trials, t)
		if n == 0 || t.Loss < best.Loss {
			best = t
		}
		if !slices.ContainsFunc(s.goals, func(g *goal) bool { return g.within(rate) && t.Loss > g.ratio }) {
			break
		}
	}
	for _, g := range s.goals {
		g.learn(best, s.Precision)
	}
	return nil
}
