package memif

import (
	"runtime/debug"
	"time"
)

// RxQueue is what an Interface receives by. It belongs to one goroutine at a time.
type RxQueue struct {
	seat
	counters
	index    int
	maxFrame uint32
	mode     RxMode
	spin     time.Duration
	at       int  // which of the rings comes first
	masked   bool // the peer was told not to signal
	sleeper  *sleeper

	// Views that are out: of which ring, and for each where the ring stands once it is
	// given back.
	lender *ring
	lent   []uint16
	copies []byte // what views show where the shared memory may fault
}

// Receive copies waiting frames, in order, into bufs: buffer i is made as long as frame i,
// within its capacity. It returns how many there were and never blocks. A frame that does
// not fit its buffer is dropped and counted. Without a link it returns 0; the only error is
// ErrClosed, or one of the operating system.
func (q *RxQueue) Receive(bufs [][]byte) (int, error) {
	l, err := q.link()
	if l == nil || len(bufs) == 0 {
		return 0, err
	}
	if l.guarded {
		return q.receiveGuarded(l, bufs), nil
	}
	return q.receive(l, bufs), nil
}

// link is the link to receive from. A new one gets the mask that the mode asks for.
func (q *RxQueue) link() (*link, error) {
	l, fresh, err := q.current()
	if fresh {
		q.masked, q.at, q.lender, q.lent = false, 0, nil, q.lent[:0]
		if q.mode == Polling {
			q.mask(l, true)
		}
	}
	return l, err
}

func (q *RxQueue) receiveGuarded(l *link, bufs [][]byte) (n int) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer q.recovered(l)
	return q.receive(l, bufs)
}

// recovered is deferred by calls on guarded memory.
func (q *RxQueue) recovered(l *link) {
	if err := faultOf(recover()); err != nil {
		q.fail(l, err)
	}
}

// receive goes once around the rings of this queue, from another one each time.
func (q *RxQueue) receive(l *link, bufs [][]byte) int {
	rings := l.rxOf[q.index]
	n := 0
	for k := range rings {
		r := rings[(q.at+k)%len(rings)]
		got, err := q.take(r, bufs[n:])
		n += got
		if err != nil {
			q.fail(l, err)
			return n
		}
		if n == len(bufs) {
			break
		}
	}
	if len(rings) > 1 {
		q.at = (q.at + 1) % len(rings)
	}
	// There is more than the caller takes at once: no need to be told so.
	if n == len(bufs) && !q.masked {
		q.mask(l, true)
	}
	return n
}

// mask tells the peer whether to signal.
func (q *RxQueue) mask(l *link, on bool) {
	q.masked = on
	for _, r := range l.rxOf[q.index] {
		r.setMasked(on)
	}
}

// pending says whether some ring has something.
func (q *RxQueue) pending(l *link) bool {
	for _, r := range l.rxOf[q.index] {
		if now := r.loadPeer(); now != r.next && !(r.stuck && now == r.peer) {
			return true
		}
	}
	return false
}

// SetRxMode changes how Wait waits; a Polling queue's peer is told not to signal.
func (q *RxQueue) SetRxMode(m RxMode) {
	q.mode = m
	if q.cur != nil && !q.broken && (m == Polling) != q.masked {
		q.mask(q.cur, m == Polling)
	}
}

// Stats may be called by any goroutine.
func (q *RxQueue) Stats() QueueStats { return q.read() }

// tally is what a call has to count, written down once at its end.
type tally struct {
	frames, bytes, invalid, tooLong uint64
}

func (c *counters) count(t *tally) {
	add(&c.frames, t.frames)
	add(&c.bytes, t.bytes)
	if t.invalid|t.tooLong != 0 {
		add(&c.invalid, t.invalid)
		add(&c.tooLong, t.tooLong)
	}
}
