package memif

import (
	"errors"
	"runtime/debug"
	"sync/atomic"
)

// link is the memory of one connection: regions, rings and their eventfds. It is complete
// before any queue sees it and does not change afterwards.
//
// Queues use it without a lock. Each queue that has adopted it holds a reference, and so
// does the connection's goroutine; the last one to leave unmaps it. Memory is therefore
// never unmapped under a queue, and a queue leaves when its next call finds another link.
type link struct {
	regions []region
	rx, tx  []*ring
	rxOf    [][]*ring // the rings of each receive queue
	refs    atomic.Int32
	// guarded says that reading or writing the memory may fault.
	guarded bool
	// end is the connection's: it takes the link down because of err.
	end func(err error)
}

// newLink returns a link with one reference, the caller's.
func newLink(end func(error)) *link {
	l := &link{end: end}
	l.refs.Store(1)
	return l
}

func (l *link) addRegion(r region) {
	l.regions = append(l.regions, r)
	l.guarded = l.guarded || !r.sealed
}

// memory is the regions as the rings see them.
func (l *link) memory() []memory {
	list := make([]memory, len(l.regions))
	for i, r := range l.regions {
		list[i] = memoryOf(r)
	}
	return list
}

// adopt takes a reference. It fails when the last one has gone.
func (l *link) adopt() bool {
	for {
		n := l.refs.Load()
		if n == 0 {
			return false
		}
		if l.refs.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

// leave gives a reference back; the last one frees everything.
func (l *link) leave() error {
	if l.refs.Add(-1) != 0 {
		return nil
	}
	var errs []error
	for _, list := range [][]*ring{l.rx, l.tx} {
		for _, r := range list {
			closeFD(r.event)
			r.event = -1
		}
	}
	for i := range l.regions {
		errs = append(errs, l.regions[i].close())
	}
	return errors.Join(errs...)
}

// guarded runs f on memory that may fault.
func guarded(f func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if fault := faultOf(recover()); fault != nil {
			err = fault
		}
	}()
	return f()
}

// faultOf turns what recover returned after a memory fault into an error. A panic that is
// no memory fault goes on.
func faultOf(r any) error {
	if r == nil {
		return nil
	}
	if _, ok := r.(interface{ Addr() uintptr }); !ok {
		panic(r)
	}
	return fail(Fault, "the peer took its memory away: %v", r)
}
