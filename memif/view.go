package memif

import "runtime/debug"

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
// are. They stay valid until Release, also when the link has ended meanwhile. While views
// are out, further ones are of the same ring. A frame that needs more than all of views is
// dropped and counted. Receive and Borrow do not mix while views are out.
func (q *RxQueue) Borrow(views []View) (int, error) {
	l := q.cur
	if len(q.lent) == 0 {
		var err error
		if l, err = q.link(); l == nil || err != nil {
			return 0, err
		}
	}
	if q.broken || len(views) == 0 {
		return 0, nil
	}
	if l.guarded {
		return q.borrowGuarded(l, views), nil
	}
	return q.borrow(l, views), nil
}

func (q *RxQueue) borrowGuarded(l *link, views []View) (n int) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer q.recovered(l)
	before := len(q.lent)
	n = q.copyViews(views[:q.borrow(l, views)])
	q.lent = q.lent[:before+n]
	return n
}

// copyViews has views show copies, of as many whole frames as there is room for.
func (q *RxQueue) copyViews(views []View) int {
	if cap(q.copies) == 0 {
		q.copies = make([]byte, 0, max(copyBytes, int(q.maxFrame)))
	}
	whole, used := 0, len(q.copies)
	for n, v := range views {
		if len(v.Bytes) > cap(q.copies)-used {
			break
		}
		to := q.copies[used : used+len(v.Bytes) : used+len(v.Bytes)]
		copy(to, v.Bytes)
		views[n].Bytes = to
		used += len(to)
		if !v.More {
			whole, q.copies = n+1, q.copies[:used]
		}
	}
	return whole
}

func (q *RxQueue) borrow(l *link, views []View) int {
	if len(q.lent) > 0 {
		return q.lend(l, q.lender, views)
	}
	rings := l.rxOf[q.index]
	for k := range rings {
		at := (q.at + k) % len(rings)
		if n := q.lend(l, rings[at], views); n > 0 {
			q.lender, q.at = rings[at], (at+1)%len(rings)
			if n == len(views) && !q.masked {
				q.mask(l, true)
			}
			return n
		}
	}
	return 0
}

// lend goes on where the views that are out end.
func (q *RxQueue) lend(l *link, r *ring, views []View) int {
	waiting, err := r.waiting()
	if err != nil {
		q.fail(l, err)
		return 0
	}
	var t tally
	begin := uint32(r.next)
	i, end, n := begin, begin+waiting, 0
	if out := len(q.lent); out > 0 {
		i += uint32(q.lent[out-1] - r.next)
	}
	for n < len(views) && i != end {
		f := r.show(i, end, views[n:])
		if f.slots == 0 { // its end is not there yet
			if i == begin && waiting == r.size {
				q.fail(l, unfinished(nil))
			}
			break
		}
		if f.views > len(views)-n && n > 0 {
			break
		}
		r.unchain(i, f.slots)
		switch {
		case f.invalid:
			t.invalid++
		case f.views > len(views), f.bytes > uint64(q.maxFrame):
			t.tooLong++
		default:
			for k := range f.slots {
				q.lent = append(q.lent, uint16(i+k+1))
			}
			n += f.views
			t.frames++
			t.bytes += f.bytes
		}
		i += f.slots
	}
	if len(q.lent) == 0 {
		r.giveBack(i) // dropped frames only
	}
	r.stuck = n == 0 && i != end
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
		q.copies = q.copies[:0]
	}
	switch {
	case q.broken:
	case q.cur.guarded:
		q.releaseGuarded(to)
	default:
		q.lender.giveBackTo(to)
	}
}

func (q *RxQueue) releaseGuarded(to uint16) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer q.recovered(q.cur)
	q.lender.giveBackTo(to)
}

func (r *ring) giveBackTo(to uint16) { r.giveBack(uint32(r.next) + uint32(to-r.next)) }
