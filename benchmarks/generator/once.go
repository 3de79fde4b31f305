package generator

import (
	"errors"
	"fmt"
	"time"
)

// silence is how long nothing may come back before what is still missing is lost.
const silence = 20 * time.Millisecond

// Once is frames of which each is the first of its flow.
type Once struct {
	// From is when they begin, To when they end though not all flows have had their turn:
	// ns of the machine's monotonic clock.
	From, To int64
	// Warm is how many flows, the first of the list, keep the device at work before From.
	// They are not counted.
	Warm int
}

// Once sends one frame to each flow behind the warm ones, at full speed, and counts until
// the last has come back, or nothing has for a while. Count.Took ends with the last that
// came back; so no frame of before or after is counted.
func (g *Generator) Once(o Once) (Count, error) {
	switch {
	case o.From >= o.To:
		return Count{}, errors.New("send each flow once: it ends before it begins")
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
	for g.clock.Now() < o.From { // the device goes on polling
		if _, _, err := g.gather(); err != nil {
			return Count{}, err
		}
	}
	fresh := walk{list: g.config.Flows.list[o.Warm:]}
	was, begin := g.counters, g.clock.Now()
	last := begin
	for left := len(fresh.list); ; {
		n, err := g.burstOf(&fresh, min(left, len(g.out.frames)))
		if err != nil {
			return Count{}, err
		}
		left -= n
		now, came, err := g.gather()
		if err != nil {
			return Count{}, err
		}
		if came {
			last = now
		}
		all := left == 0 && g.received-was.received >= g.sent-was.sent
		if all || now >= o.To || left == 0 && now-last > int64(silence) {
			return g.counters.since(was, time.Duration(last-begin)), nil
		}
	}
}

// warm keeps the device at work until shortly before From, then lets it come to an end.
func (g *Generator) warm(o Once) error {
	w := walk{list: g.config.Flows.list[:o.Warm]}
	was, last := g.counters, g.clock.Now()
	for stop := o.From - int64(silence); ; {
		if o.Warm > 0 && g.clock.Now() < stop {
			if _, err := g.burstOf(&w, len(g.out.frames)); err != nil {
				return err
			}
		}
		now, came, err := g.gather()
		if err != nil {
			return err
		}
		if came {
			last = now
		}
		if now >= stop && (g.received-was.received >= g.sent-was.sent || now-last > int64(silence)) {
			return nil
		}
	}
}

// gather takes in a batch, and says when that was and whether anything came.
func (g *Generator) gather() (now int64, came bool, err error) {
	was := g.received
	if err := g.take(g.config.Rx[0]); err != nil {
		return 0, false, fmt.Errorf("receive frames: %w", err)
	}
	return g.clock.Now(), g.received != was, nil
}

// burstOf offers n frames to the flows that come next, and says how many the device took.
func (g *Generator) burstOf(w *walk, n int) (int, error) {
	if n == 0 {
		return 0, nil
	}
	w.aim(g.out, n)
	took, err := g.config.Tx[0].Send(g.out.frames[:n])
	if err != nil {
		return 0, fmt.Errorf("send frames: %w", err)
	}
	g.sent += uint64(took)
	g.calls++
	if took < n {
		g.full++
	}
	w.next(took)
	return took, nil
}
