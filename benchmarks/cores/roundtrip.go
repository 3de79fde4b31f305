package cores

import (
	"cmp"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync/atomic"
	"time"
)

// Distance says how two cores share memory. Results of one kind are not compared with
// those of the other: moving data between far cores takes several times as long.
type Distance string

// Near cores share a cache; far ones do not, or their hypervisor has put them apart.
const (
	Near Distance = "near"
	Far  Distance = "far"
)

// nearLimit is the round trip of a cache line that separates near from far. Cores of one
// cache were seen at 60 to 180 ns, others at 250 to 600 ns.
const nearLimit = 220 * time.Nanosecond

// DistanceOf classifies a round trip.
func DistanceOf(roundTrip time.Duration) Distance {
	if roundTrip < nearLimit {
		return Near
	}
	return Far
}

var errOneCore = errors.New("want two cores")

// probePriority is above what is measured: the probe may run while that polls.
const probePriority = 80

const (
	probeRounds = 21
	probeTrips  = 400
)

// court is what two threads throw a counter back and forth in, one cache line each way.
type court struct {
	_    [64]byte
	ping atomic.Uint32
	_    [60]byte
	pong atomic.Uint32
	_    [60]byte
	stop atomic.Bool
}

// RoundTrip measures how long a cache line takes from core a to core b and back, the
// median of some rounds. Where priority cannot be raised it does without.
func RoundTrip(a, b int) (time.Duration, error) {
	if err := Check(a, b); err != nil || a == b {
		return 0, fmt.Errorf("measure round trip between cores %d and %d: %w", a, b, cmp.Or(err, errOneCore))
	}
	c := &court{}
	returned := make(chan error, 1)
	go func() {
		defer c.stop.Store(true) // nobody answers any more
		returned <- pinned(b, c.answer)
	}()
	rounds := make([]time.Duration, 0, probeRounds)
	err := pinned(a, func() { rounds = c.serve(rounds) })
	c.stop.Store(true)
	if err == nil && len(rounds) < probeRounds {
		err = errors.New("the other thread ended early")
	}
	if err = errors.Join(err, <-returned); err != nil {
		return 0, fmt.Errorf("measure round trip between cores %d and %d: %w", a, b, err)
	}
	slices.Sort(rounds)
	return rounds[len(rounds)/2], nil
}

// pinned runs fn on a thread of its own that ends with it.
func pinned(core int, fn func()) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: nobody gets a thread that was pinned
		if err := Pin(0, core); err != nil {
			done <- err
			return
		}
		_, _ = Raise(0, probePriority) // without the right to, the probe is only less exact
		fn()
		done <- nil
	}()
	return <-done
}

func (c *court) answer() {
	for last := uint32(0); !c.stop.Load(); {
		if n := c.ping.Load(); n != last {
			c.pong.Store(n)
			last = n
		}
	}
}

func (c *court) serve(rounds []time.Duration) []time.Duration {
	n := uint32(0)
	for range probeRounds {
		start := time.Now()
		for range probeTrips {
			n++
			c.ping.Store(n)
			for c.pong.Load() != n {
				if c.stop.Load() {
					return rounds
				}
			}
		}
		rounds = append(rounds, time.Since(start)/probeTrips)
	}
	return rounds
}
