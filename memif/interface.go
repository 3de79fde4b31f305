package memif

import (
	"context"
	"errors"
	"sync"
)

// Interface is one memif interface of a Socket: queues that live as long as it does, and a
// link that comes and goes.
type Interface struct {
	socket *Socket
	config Config
	rx     []*RxQueue
	tx     []*TxQueue
	watch  *watch

	telling sync.Mutex // held while OnChange is told of a change
	mu      sync.Mutex // guards what follows
	status  Status
	changed chan struct{} // closed with the next change of status
	taken   bool          // a connection has it
	stop    context.CancelCauseFunc
	ended   chan struct{} // closed when no connection works on it any more
	closed  bool
}

func newInterface(s *Socket, c Config) (*Interface, error) {
	if err := c.complete(); err != nil {
		return nil, err
	}
	i := &Interface{socket: s, config: c, watch: newWatch(), changed: make(chan struct{})}
	for n := range c.RxQueues {
		sleeper, err := newSleeper()
		if err != nil {
			i.free()
			return nil, err
		}
		i.rx = append(i.rx, &RxQueue{index: n, maxFrame: uint32(c.MaxFrame), mode: c.RxMode, spin: c.Spin, sleeper: sleeper})
	}
	for n := range c.TxQueues {
		k := &kicks{watch: i.watch}
		i.watch.queues = append(i.watch.queues, k)
		i.tx = append(i.tx, &TxQueue{index: n, maxFrame: uint32(c.MaxFrame), kicks: k})
	}
	return i, nil
}

// Config is the configuration with its defaults filled in.
func (i *Interface) Config() Config { return i.config }

// RxQueue and TxQueue return queue n, from 0 to Config().RxQueues or TxQueues exclusive.
func (i *Interface) RxQueue(n int) *RxQueue { return i.rx[n] }
func (i *Interface) TxQueue(n int) *TxQueue { return i.tx[n] }

// Status is the link's state now.
func (i *Interface) Status() Status {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.status
}

// WaitUp returns when the link is up. Its error is ctx's, with the reason why there is no
// link, or ErrClosed.
func (i *Interface) WaitUp(ctx context.Context) error {
	for {
		i.mu.Lock()
		status, changed, closed := i.status, i.changed, i.closed
		i.mu.Unlock()
		switch {
		case closed:
			return ErrClosed
		case status.Up:
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return errors.Join(context.Cause(ctx), status.Err)
		}
	}
}

// set changes the status.
func (i *Interface) set(change func(*Status)) Status {
	i.mu.Lock()
	defer i.mu.Unlock()
	change(&i.status)
	close(i.changed)
	i.changed = make(chan struct{})
	return i.status
}

// take gives the Interface to a connection, which calls the returned function when it has
// ended. It fails when another has it.
func (i *Interface) take(stop context.CancelCauseFunc) (release func(), ok bool) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.taken || i.closed {
		return nil, false
	}
	i.taken, i.stop, i.ended = true, stop, make(chan struct{})
	return func() {
		i.mu.Lock()
		defer i.mu.Unlock()
		i.taken = false
		close(i.ended)
	}, true
}

// turnedAway reports why a client was not let in, unless that was the last thing reported:
// clients try again and again. While a connection has the Interface it says nothing, and it
// does not take it: a client that is let in must not find it taken by one that is not.
func (i *Interface) turnedAway(err error) {
	i.telling.Lock()
	defer i.telling.Unlock()
	i.mu.Lock()
	quiet := i.taken || i.closed || errorText(i.status.Err) == err.Error()
	i.mu.Unlock()
	if !quiet {
		i.tell(func(s *Status) { s.Err = err })
	}
}

// up lets the queues have the link.
func (i *Interface) up(l *link, peer, peerIfName string) error {
	l.rxOf = make([][]*ring, len(i.rx))
	for n, r := range l.rx {
		k := n % len(i.rx)
		l.rxOf[k] = append(l.rxOf[k], r)
	}
	for _, r := range l.tx {
		r.shared = len(i.tx) > len(l.tx)
	}
	for k, q := range i.rx {
		for _, r := range l.rxOf[k] {
			if err := q.sleeper.add(r.event); err != nil {
				i.unwatch(l)
				return err
			}
		}
	}
	// Under the lock of the status: whoever got a frame over the link finds it up.
	i.report(func(s *Status) {
		for _, s := range i.seats() {
			s.next.Store(l)
		}
		for _, q := range i.rx {
			q.sleeper.wake()
		}
		*s = Status{Up: true, PeerName: peer, PeerIfName: peerIfName, RxRings: len(l.rx), TxRings: len(l.tx),
			Regions: len(l.regions), Links: s.Links + 1, Err: s.Err}
		for _, r := range append(l.rx[:len(l.rx):len(l.rx)], l.tx...) {
			s.RingSize = int(r.size)
			break
		}
	})
	return nil
}

// vacate takes the link away from the queues; each leaves it with its next call.
func (i *Interface) vacate(l *link) {
	for _, s := range i.seats() {
		s.next.CompareAndSwap(l, nil)
	}
}

// down ends a link that is vacated.
func (i *Interface) down(l *link, err error) {
	i.unwatch(l)
	for _, q := range i.rx {
		q.sleeper.wake()
	}
	i.report(func(s *Status) { s.Up, s.Err = false, err })
}

// report changes the status and says so; one report after the other.
func (i *Interface) report(change func(*Status)) {
	i.telling.Lock()
	defer i.telling.Unlock()
	i.tell(change)
}

func (i *Interface) tell(change func(*Status)) {
	status := i.set(change)
	if i.config.OnChange != nil {
		i.config.OnChange(status)
	}
}

func (i *Interface) unwatch(l *link) {
	for k, q := range i.rx {
		for _, r := range l.rxOf[k] {
			q.sleeper.remove(r.event)
		}
	}
}

func (i *Interface) seats() []*seat {
	var list []*seat
	for _, q := range i.rx {
		list = append(list, &q.seat)
	}
	for _, q := range i.tx {
		list = append(list, &q.seat)
	}
	return list
}

// finish has every further call on a queue answer ErrClosed.
func (i *Interface) finish() {
	i.mu.Lock()
	i.closed = true
	i.mu.Unlock()
	for _, s := range i.seats() {
		s.closed.Store(true)
	}
	for _, q := range i.rx {
		q.sleeper.wake()
	}
	i.set(func(*Status) {})
}

// Close takes the Interface off its Socket: the peer is told, and everything is freed. No
// call on a queue may be under way or follow. A second Close does nothing.
func (i *Interface) Close() error {
	if !i.socket.remove(i) {
		return nil
	}
	i.finish()
	i.mu.Lock()
	stop, ended, taken := i.stop, i.ended, i.taken
	i.mu.Unlock()
	if taken {
		stop(fail(Ended, "interface is deleted"))
		<-ended
	}
	return i.free()
}

func (i *Interface) free() error {
	var errs []error
	for _, s := range i.seats() {
		errs = append(errs, s.leave())
	}
	for _, q := range i.rx {
		q.sleeper.close()
	}
	return errors.Join(errs...)
}
