package memif

import (
	"math"
	"runtime/debug"
)

// View is one buffer of the shared memory.
//
//   - Lent by Borrow, Bytes is what the peer sent. The peer can change it while it is looked
//     at: whoever checks something and then acts on it reads it once, or copies it first.
//   - Lent by Reserve, Bytes is empty room, as long as the buffer; the caller makes it as
//     long as what it wrote there.
//
// More says that the frame goes on in the next View.
type View struct {
	Bytes []byte
	More  bool
}

// copyBytes is how much views show at a time where they have to be copies: of memory that
// may fault, or of a ring that transmit queues share.
const copyBytes = 256 << 10

// Borrow lends frames where they lie, whole frames only, and returns how many views there
// are. They stay valid until Release, also when the link has ended meanwhile; the queue gets
// to the next link when all are released. While views are out, further ones are of the same
// ring, and Receive is an error. A frame that needs more than all of views is dropped and
// counted. Where the memory may fault, views show copies, in room for 256 KiB or one frame:
// once that is taken, there is more when all are released.
func (q *RxQueue) Borrow(views []View) (int, error) {
	l, err := q.link()
	if l == nil || len(views) == 0 {
		return 0, err
	}
	if l.guarded {
		return q.borrowGuarded(l, views), nil
	}
	return q.borrow(l, views, math.MaxUint64), nil
}

func (q *RxQueue) borrowGuarded(l *link, views []View) (n int) {
	if cap(q.copies) == 0 {
		q.copies = make([]byte, 0, max(copyBytes, int(q.maxFrame)))
	}
	if len(q.lent) == 0 {
		q.copies = q.copies[:0]
	}
	before := len(q.lent)
	defer func() { q.lent = q.lent[:before+n] }() // after a fault: none of these
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer q.recovered(l)
	found := q.borrow(l, views, uint64(cap(q.copies)-len(q.copies)))
	for i, v := range views[:found] {
		at := len(q.copies)
		q.copies = append(q.copies, v.Bytes...)
		views[i].Bytes = q.copies[at:len(q.copies):len(q.copies)]
	}
	return found
}

// borrow lends frames of at most budget bytes.
func (q *RxQueue) borrow(l *link, views []View, budget uint64) int {
	if len(q.lent) > 0 {
		return q.lend(l, q.lender, views, budget)
	}
	rings := l.rxOf[q.index]
	for k := range rings {
		at := (q.at + k) % len(rings)
		if n := q.lend(l, rings[at], views, budget); n > 0 {
			q.lender, q.at = rings[at], (at+1)%len(rings)
			if n == len(views) && !q.masked {
				q.mask(l, true)
			}
			return n
		}
		if q.broken {
			return 0
		}
	}
	return 0
}

// lend goes on where the ring was looked through before.
func (q *RxQueue) lend(l *link, r *ring, views []View, budget uint64) int {
	waiting, err := r.waiting()
	begin := uint32(r.next)
	i, end, n := begin, begin+waiting, 0
	open := false // the next frame's end is not there yet
	if len(q.lent) > 0 {
		i += uint32(q.seen - r.next)
	}
	if err == nil && i-begin > waiting {
		err = r.jumped()
	}
	if err != nil {
		q.fail(l, err)
		return 0
	}
	var t tally
	for n < len(views) && i != end {
		f := r.show(i, end, views[n:])
		if open = f.slots == 0; open {
			if i == begin && waiting == r.size {
				q.fail(l, unfinished(nil))
			}
			break
		}
		drop := f.invalid || f.views > len(views) || f.bytes > uint64(q.maxFrame)
		if !drop && (f.views > len(views)-n || f.bytes > budget) {
			break
		}
		q.chained = q.chained || f.slots > 1
		i += f.slots
		switch {
		case f.invalid:
			t.invalid++
		case drop:
			t.tooLong++
		default:
			for k := i - f.slots; k != i; k++ {
				q.lent = append(q.lent, uint16(k+1))
			}
			n += f.views
			t.frames++
			t.bytes += f.bytes
			budget -= f.bytes
		}
	}
	q.seen = uint16(i)
	if len(q.lent) == 0 {
		q.giveBack(r, q.seen) // dropped frames only
	}
	r.stuck = n == 0 && open
	q.count(&t)
	return n
}

// shown is one frame as views.
type shown struct {
	slots   uint32
	views   int // what it needs; only as many as there were are filled in
	bytes   uint64
	invalid bool
}

func (r *ring) show(i, end uint32, views []View) (f shown) {
	for more := true; more; {
		if i+f.slots == end {
			return shown{}
		}
		d := r.load(i + f.slots)
		from, ok := r.at(i+f.slots, d)
		f.invalid = f.invalid || !ok || d.length() == 0
		more = d.more()
		if f.views < len(views) && !f.invalid {
			views[f.views] = View{bytesAt(from, d.length()), more}
		}
		f.bytes += uint64(d.length())
		f.views++
		f.slots++
	}
	return f
}

// Release gives the n oldest views back, in the order in which they were lent.
func (q *RxQueue) Release(n int) {
	if n = min(n, len(q.lent)); n <= 0 {
		return
	}
	to := q.lent[n-1]
	q.lent = q.lent[:copy(q.lent, q.lent[n:])]
	if len(q.lent) == 0 {
		to = q.seen // with what was dropped after them
	}
	switch {
	case q.broken, q.cur == nil:
	case q.cur.guarded:
		q.releaseGuarded(to)
	default:
		q.giveBack(q.lender, to)
	}
}

func (q *RxQueue) releaseGuarded(to uint16) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer q.recovered(q.cur)
	q.giveBack(q.lender, to)
}

// giveBack returns the ring's slots up to to. Their marks are cleared only now: until then
// a frame may be looked at once more.
func (q *RxQueue) giveBack(r *ring, to uint16) {
	n := uint32(to - r.next)
	if q.chained {
		r.unchain(uint32(r.next), n)
		q.chained = to != q.seen
	}
	r.giveBack(uint32(r.next) + n)
}
