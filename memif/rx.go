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
	// given back; and up to where the ring was looked through, which may be further.
	lender  *ring
	lent    []uint16
	seen    uint16
	chained bool   // some frame since the ring was given back takes several slots
	copies  []byte // what views show where the shared memory may fault
}

// Receive copies waiting frames, in order, into bufs: buffer i is made as long as frame i,
// within its capacity. It returns how many there were and never blocks. A frame that does
// not fit its buffer is dropped and counted. Without a link it returns 0; the only error is
// ErrClosed, or one of the operating system, or of kind BadConfig while views are out.
func (q *RxQueue) Receive(bufs [][]byte) (int, error) {
	l, err := q.link()
	if l == nil || len(bufs) == 0 {
		return 0, err
	}
	if l.guarded || len(q.lent) > 0 {
		return q.receiveRarely(l, bufs)
	}
	return q.receive(l, bufs), nil
}

func (q *RxQueue) receiveRarely(l *link, bufs [][]byte) (int, error) {
	if len(q.lent) > 0 {
		return 0, badConfig("receive while %d borrowed views are out: release them first", len(q.lent))
	}
	return q.receiveGuarded(l, bufs), nil
}

// link is the link to receive from; while views are out it is theirs, or none. A new one
// gets the mask that the mode asks for.
func (q *RxQueue) link() (*link, error) {
	if len(q.lent) > 0 {
		return q.lending()
	}
	l, fresh, err := q.current()
	if fresh {
		q.at, q.lender, q.chained = 0, nil, false
		q.mask(l, q.mode == Polling)
	}
	return l, err
}

// lending is the link of the views that are out, as long as it is up: the queue must not
// leave it, for the memory would go.
func (q *RxQueue) lending() (*link, error) {
	switch {
	case q.closed.Load():
		return nil, ErrClosed
	case q.next.Load() == q.cur && !q.broken:
		return q.cur, nil
	}
	return nil, nil
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
	q.touch(l, (*RxQueue).storeMask)
}

func (q *RxQueue) storeMask(l *link) bool {
	for _, r := range l.rxOf[q.index] {
		r.setMasked(q.masked)
	}
	return false
}

// pending says whether some ring has something.
func (q *RxQueue) pending(l *link) bool { return q.touch(l, (*RxQueue).anyWaits) }

func (q *RxQueue) anyWaits(l *link) bool {
	for _, r := range l.rxOf[q.index] {
		at := r.next
		if r == q.lender && len(q.lent) > 0 {
			at = q.seen
		}
		if now := r.loadPeer(); now != at && !(r.stuck && now == r.peer) {
			return true
		}
	}
	return false
}

// touch looks at or writes to the link's memory, under a guard where it may fault.
func (q *RxQueue) touch(l *link, f func(*RxQueue, *link) bool) bool {
	if !l.guarded {
		return f(q, l)
	}
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer q.recovered(l)
	return f(q, l)
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
