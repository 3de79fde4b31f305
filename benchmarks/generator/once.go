package generator

import (
	"errors"
	"fmt"
	"time"

	"github.com/millrace/millrace/memif"
)

// inFlight is how many frames may be on their way: fewer than a ring holds, so that the
// device always has room for what it sends back, whatever holds up the generator.
const inFlight = memif.DefaultRingSize - 1

// pause is how long before the first frame the device gets no more to warm up.
const pause = 20 * time.Millisecond

// Once is frames of which each is the first of its flow.
type Once struct {
	// From is when they begin, To when no more are sent though not all flows have had their
	// turn: ns of the machine's monotonic clock.
	From, To int64
	// Warm is how many flows, the first of the list, keep the device at work before From.
	// They are not counted.
	Warm int
	// Patience is how long nothing may come back before what is still missing is lost.
	Patience time.Duration
}

// Once sends one frame to each flow behind the warm ones, at full speed, and counts until
// the last has come back, or nothing has for a while. Count.Took ends with the last that
// came back; so no frame of before or after is counted.
func (g *Generator) Once(o Once) (Count, error) {
	switch {
	case o.From >= o.To:
		return Count{}, errors.New("send each flow once: it ends before it begins")
	case o.Patience <= 0:
		return Count{}, errors.New("send each flow once: without patience all is lost")
	case o.Warm < 0 || o.Warm >= g.config.Flows.Len():
		return Count{}, fmt.Errorf("send each flow once: %d of %d flows are to warm the device", o.Warm, g.config.Flows.Len())
	case len(g.config.Tx) != 1 || len(g.config.Rx) != 1:
		return Count{}, errors.New("send each flow once: want one queue to send to and one to receive from")
	}
	var c Count
	before := mallocs()
	err := g.do(func() (err error) {
		c, err = g.once(o)
		return err
	})
	c.Mallocs = mallocs() - before
	return c, err
}

func (g *Generator) once(o Once) (Count, error) {
	if err := g.warm(o); err != nil {
		return Count{}, err
	}
	// The device goes on polling. What is late from before goes by, also when this thread
	// is late itself.
	for came := true; came || g.clock.Now() < o.From; {
		was := g.received
		if err := g.take(g.config.Rx[0]); err != nil {
			return Count{}, fmt.Errorf("receive frames: %w", err)
		}
		came = g.received != was
	}
	all := newOuting(g, walk{list: g.config.Flows.list[o.Warm:]}, o.Patience)
	was, begin := g.counters, g.clock.Now()
	for left := len(all.list); ; {
		n, err := all.step(left)
		if err != nil {
			return Count{}, err
		}
		if left -= n; g.clock.Now() >= o.To {
			left = 0
		}
		if left == 0 && all.away == 0 {
			return g.counters.since(was, time.Duration(all.last-begin)), nil
		}
	}
}

// warm keeps the device at work until shortly before From, then lets it come to an end.
func (g *Generator) warm(o Once) error {
	warm := newOuting(g, walk{list: g.config.Flows.list[:o.Warm]}, o.Patience)
	for stop := o.From - int64(pause); ; {
		most := 0
		if len(warm.list) > 0 && g.clock.Now() < stop {
			most = len(g.out.frames)
		}
		if _, err := warm.step(most); err != nil {
			return err
		}
		if g.clock.Now() >= stop && warm.away == 0 {
			return nil
		}
	}
}

// outing is frames that are sent to come back.
type outing struct {
	*Generator
	walk
	patience time.Duration
	away     uint64 // frames on their way
	last     int64  // when one came back
	heard    int64  // the same, or when the first left after all were back
}

func newOuting(g *Generator, w walk, patience time.Duration) *outing {
	now := g.clock.Now()
	return &outing{Generator: g, walk: w, patience: patience, last: now, heard: now}
}

// step sends up to most frames, takes in what came back, and says how many were sent.
func (o *outing) step(most int) (n int, err error) {
	if most = min(most, len(o.out.frames)); most > 0 {
		if n, err = o.offer(most); err != nil {
			return 0, fmt.Errorf("send frames: %w", err)
		}
	}
	was := o.received
	if err := o.take(o.config.Rx[0]); err != nil {
		return 0, fmt.Errorf("receive frames: %w", err)
	}
	now := o.clock.Now()
	switch {
	case o.received != was:
		o.away -= min(o.away, o.received-was)
		o.last, o.heard = now, now
	case o.away > 0 && now-o.heard > int64(o.patience): // lost
		o.away = 0
	}
	return n, nil
}

// offer sends up to most frames, as far as there may be so many on their way.
func (o *outing) offer(most int) (took int, err error) {
	if o.away == 0 {
		o.heard = o.clock.Now()
	}
	if n := min(most, int(inFlight-o.away)); n > 0 {
		o.aim(o.out, n)
		if took, err = o.config.Tx[0].Send(o.out.frames[:n]); err != nil {
			return 0, err
		}
		o.next(took)
	}
	o.sent += uint64(took)
	o.away += uint64(took)
	o.calls++
	if took < most {
		o.full++
	}
	return took, nil
}
