package memif

import "runtime/debug"

// TxQueue is what an Interface sends by. It belongs to one goroutine at a time.
type TxQueue struct {
	seat
	counters
	index    int
	maxFrame uint32
	kicks    *kicks

	// Buffers that are reserved: their descriptors as they were, or memory of our own.
	lent   []descriptor
	copies []byte
}

// Send copies frames, in order, into the peer's ring and returns how many it took; the rest
// found no room. It never blocks. A frame that can never be sent (empty, longer than
// MaxFrame or than the whole ring) is taken, dropped and counted. What is reserved and not
// committed is forgotten. Without a link it returns 0; the only error is ErrClosed, or one of
// the operating system.
func (q *TxQueue) Send(frames [][]byte) (int, error) {
	l, err := q.link()
	if l == nil || len(frames) == 0 || len(l.tx) == 0 {
		return 0, err
	}
	q.forget()
	if l.guarded {
		return q.sendGuarded(l, frames), nil
	}
	return q.send(l, frames), nil
}

func (q *TxQueue) link() (*link, error) {
	l, fresh, err := q.current()
	if fresh {
		q.forget()
	}
	return l, err
}

// forget takes back what is reserved: its slots are free for other frames.
func (q *TxQueue) forget() {
	q.lent = q.lent[:0]
	q.copies = q.copies[:0]
}

func (q *TxQueue) sendGuarded(l *link, frames [][]byte) (n int) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer q.recovered(l)
	return q.send(l, frames)
}

func (q *TxQueue) recovered(l *link) {
	if err := faultOf(recover()); err != nil {
		q.fail(l, err)
	}
}

func (q *TxQueue) send(l *link, frames [][]byte) int {
	r := l.tx[q.index%len(l.tx)]
	if r.shared {
		r.mu.Lock()
		defer r.mu.Unlock()
	}
	n, err := q.put(r, frames)
	if err != nil {
		q.fail(l, err)
	}
	return n
}

// signal wakes a peer that sleeps. The caller has published, and published is seen before
// the flags are read: publish is a fence.
func (q *TxQueue) signal(r *ring) {
	if r.masked() {
		return
	}
	add(&q.signals, 1)
	q.kicks.kick(&q.seat, r.event)
}

// Stats may be called by any goroutine.
func (q *TxQueue) Stats() QueueStats { return q.read() }
