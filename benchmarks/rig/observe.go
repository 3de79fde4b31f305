package rig

import (
	"errors"
	"os"
	"time"

	"github.com/millrace/millrace/benchmarks"
	"github.com/millrace/millrace/benchmarks/cores"
)

// Timing is how long a window is. Threads that are raised longer than 0.9 s at a time are
// stopped by Linux.
type Timing struct {
	Settle time.Duration // threads take up their work
	Warm   time.Duration // they are raised, and nothing counts
	Window time.Duration
}

// DefaultTiming suits a shared machine.
func DefaultTiming() Timing {
	return Timing{Settle: 60 * time.Millisecond, Warm: 60 * time.Millisecond, Window: 600 * time.Millisecond}
}

const (
	pollPriority  = 50
	orderPriority = 60
)

// Observed is what a window keeps an eye on.
type Observed struct {
	Cores   [2]int
	Pollers []int // threads that do what is measured
	// HasTurn says that the caller has taken its turn with other measurements.
	HasTurn bool
}

// During runs a window of the monotonic clock, in ns, with its threads raised, and tells
// what the machine was like. Where raising is not permitted it does without.
func (o Observed) During(clock cores.Clock, t Timing, window func(from, to int64) error) (c benchmarks.Condition, err error) {
	if !o.HasTurn {
		pass, err := TakeTurn()
		if err != nil {
			return c, err
		}
		defer func() { err = errors.Join(err, pass()) }()
	}
	before, err := cores.RoundTrip(o.Cores[0], o.Cores[1])
	if err != nil {
		return c, err
	}
	done := make(chan error, 1)
	restore, err := cores.RaiseSelf(orderPriority)
	c.Raised = err == nil
	if err != nil && !errors.Is(err, os.ErrPermission) {
		return c, errors.Join(err, restore())
	}
	// The window is fixed once this process is raised: before, it may have to wait.
	from := clock.Now() + int64(t.Settle+t.Warm)
	to := from + int64(t.Window)
	go func() { done <- window(from, to) }()
	// Pollers are raised once they poll, and only until the window ends: what gives them
	// their orders has ordinary priority.
	err = o.watch(&c, clock, from-int64(t.Warm), from, to)
	err = errors.Join(err, <-done)
	if c.Raised {
		err = errors.Join(err, restore())
	}
	if err != nil {
		return c, err
	}
	after, err := cores.RoundTrip(o.Cores[0], o.Cores[1])
	if err != nil {
		return c, err
	}
	c.RoundTrip = [2]float64{float64(before.Nanoseconds()), float64(after.Nanoseconds())}
	c.Distance = string(cores.DistanceOf(before))
	if cores.DistanceOf(before) != cores.DistanceOf(after) {
		c.Distance = "mixed"
	}
	return c, nil
}

// watch raises the pollers from one time on and reads what they got between two others.
func (o Observed) watch(c *benchmarks.Condition, clock cores.Clock, raise, from, to int64) (err error) {
	sleep := func(until int64) { time.Sleep(time.Duration(until - clock.Now())) }
	sleep(raise)
	if c.Raised {
		for _, tid := range o.Pollers {
			restore, failed := cores.Raise(tid, pollPriority)
			if failed != nil {
				return failed
			}
			defer func() { err = errors.Join(err, restore()) }()
		}
	}
	sleep(from)
	start, used, err := o.usage()
	if err != nil {
		return err
	}
	sleep(to)
	end, now, err := o.usage()
	if err != nil {
		return err
	}
	took := float64(end.Sub(start))
	for tid := range used.waited {
		c.Waited = max(c.Waited, float64(now.waited[tid]-used.waited[tid])/took)
	}
	c.Stolen = float64(now.stolen-used.stolen) / took / float64(len(o.Cores))
	return nil
}

// used is what threads and hypervisor have had so far.
type used struct {
	waited map[int]time.Duration
	stolen time.Duration
}

func (o Observed) usage() (time.Time, used, error) {
	u := used{waited: map[int]time.Duration{}}
	for _, tid := range o.Pollers {
		usage, err := cores.UsageOf(tid)
		if err != nil {
			return time.Time{}, u, err
		}
		u.waited[tid] = usage.Waited
	}
	var err error
	u.stolen, err = cores.Stolen(o.Cores[0], o.Cores[1])
	return time.Now(), u, err
}
