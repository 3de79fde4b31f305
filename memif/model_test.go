package memif_test

import (
	"slices"

	"github.com/millrace/millrace/memif"
)

// The model says what the queues of one link must do with what stands in the memory, one
// thing after the other: which frames come out, what is written where, and when the link
// ends. It is plain Go over a copy of the memory, in which every index is checked by the
// language, and knows nothing of the package but its promises.

type model struct {
	mem     [][]byte // what each region holds by now
	client  bool     // the model is of the client's side
	guarded bool
	most    int // longest frame
	up      []*modelRing
	down    []*modelRing

	rx modelRx
	tx modelTx
}

// modelRing is one ring with what its user remembers.
type modelRing struct {
	memif.Place
	next, peer            uint16
	open                  bool // the next frame's end was not there at the last look
	bare                  bool // and there was nothing else
	first, stride, length int  // of a client's buffers
}

func (r *modelRing) size() int { return 1 << r.Log2 }

// modelRx is a receive queue that takes from all rings of its direction.
type modelRx struct {
	rings   []*modelRing
	adopted bool // the queue has seen this link
	broken  bool
	masked  bool
	polling bool
	at      int

	lender  *modelRing
	lent    []uint16 // where the ring stands once each view is given back
	seen    uint16
	chained bool
	copied  int // bytes that views show copies of

	frames, bytes, invalid, tooLong int
}

// modelTx is a transmit queue with one ring.
type modelTx struct {
	ring   *modelRing
	broken bool
	lent   []rawDesc
	copies int // views of our own memory that are lent

	frames, bytes, invalid, tooLong int
}

// raw is a ring in the model's memory.
func (m *model) raw(r *modelRing) rawRing {
	return rawRing{m.mem[r.Region][r.Offset:], r.size()}
}

// index is the peer's.
func (m *model) index(r *modelRing) uint16 {
	if m.client {
		return m.raw(r).tail()
	}
	return m.raw(r).head()
}

// publish writes ours. The server's has a cache line of its own.
func (m *model) publish(r *modelRing, v uint16) {
	if m.client {
		m.raw(r).setHead(v)
	} else {
		le.PutUint32(m.raw(r).mem[64:], uint32(v))
	}
}

// buffer is the memory that a descriptor stands for.
func (m *model) buffer(r *modelRing, i int, d rawDesc) ([]byte, bool) {
	if m.client {
		slot := i & (r.size() - 1)
		if int64(d.length) > int64(r.length) {
			return nil, false
		}
		return m.mem[0][r.first+slot*r.stride:][:d.length], true
	}
	if int(d.region) >= len(m.mem) || uint64(d.offset)+uint64(d.length) > uint64(len(m.mem[d.region])) {
		return nil, false
	}
	return m.mem[d.region][d.offset:][:d.length], true
}

// blank is a client's empty buffer.
func (m *model) blank(r *modelRing, i int) rawDesc {
	return rawDesc{length: uint32(r.length), offset: uint32(r.first + i&(r.size()-1)*r.stride)}
}

// waiting is how many slots there are to take, and false for an impossible index.
func (m *model) waiting(r *modelRing) (int, bool) {
	r.peer, r.open = m.index(r), false
	n := int(r.peer - r.next)
	return n, n <= r.size()
}

// chain is the frame that begins at slot i: its pieces, as long as all are right.
type chain struct {
	slots   int // 0: its end is not there
	pieces  [][]byte
	bytes   int
	invalid bool
}

func (m *model) chain(r *modelRing, i, end int) (c chain) {
	for more := true; more; c.slots++ {
		if i+c.slots == end {
			return chain{}
		}
		d := m.raw(r).desc(i + c.slots)
		b, ok := m.buffer(r, i+c.slots, d)
		c.invalid = c.invalid || !ok || len(b) == 0
		c.pieces = append(c.pieces, b)
		c.bytes += int(d.length)
		more = d.flags&1 != 0
	}
	return c
}

func (m *model) unchain(r *modelRing, i, n int) {
	if m.client {
		return
	}
	for k := range n {
		le.PutUint16(m.raw(r).slot(i+k), 0)
	}
}

// giveBack returns slots up to i.
func (m *model) giveBack(r *modelRing, i int) {
	to := uint16(i)
	if to == r.next {
		return
	}
	if !m.client {
		r.next = to
		m.publish(r, to)
		return
	}
	for k := int(r.next); k != i; k++ {
		m.raw(r).setDesc(k, m.blank(r, k))
	}
	r.next = to
	m.publish(r, to+uint16(r.size()))
}

func (m *model) mask(on bool) {
	m.rx.masked = on
	for _, r := range m.rx.rings {
		v := m.raw(r).flags() &^ 1
		if on {
			v |= 1
		}
		m.raw(r).setFlags(v)
	}
}

// link is what every call of the receive queue does first. It says whether there is one.
func (m *model) link() bool {
	if !m.rx.adopted {
		m.rx.adopted = true
		m.mask(m.rx.polling)
	}
	return !m.rx.broken
}

// receive takes frames into buffers of those capacities.
func (m *model) receive(caps []int) (frames [][]byte) {
	if !m.link() || len(caps) == 0 {
		return nil
	}
	n := len(m.rx.rings)
	for k := range n {
		got, ok := m.take(m.rx.rings[(m.rx.at+k)%n], caps[len(frames):])
		if frames = append(frames, got...); !ok {
			m.rx.broken = true
			return frames
		}
		if len(frames) == len(caps) {
			break
		}
	}
	if n > 1 {
		m.rx.at = (m.rx.at + 1) % n
	}
	if len(frames) == len(caps) && !m.rx.masked {
		m.mask(true)
	}
	return frames
}

func (m *model) take(r *modelRing, caps []int) (frames [][]byte, ok bool) {
	waiting, ok := m.waiting(r)
	if !ok {
		return nil, false
	}
	i := int(r.next)
	for end := i + waiting; len(frames) < len(caps) && i != end; {
		c := m.chain(r, i, end)
		if r.open = c.slots == 0; r.open {
			r.bare = i == int(r.next)
			if waiting == r.size() && i == int(r.next) {
				return nil, false
			}
			break
		}
		room := caps[len(frames)]
		if c.slots > 1 {
			room = min(room, m.most)
		}
		switch {
		case c.invalid:
			m.rx.invalid++
		case c.bytes > room || c.bytes > m.most:
			m.rx.tooLong++
		default:
			frames = append(frames, slices.Concat(c.pieces...))
			m.rx.frames++
			m.rx.bytes += c.bytes
		}
		if c.slots > 1 {
			m.unchain(r, i, c.slots)
		}
		i += c.slots
	}
	m.giveBack(r, i)
	return frames, true
}

// modelView is a view as the model expects it: the memory that it shows.
type modelView struct {
	bytes []byte
	more  bool
}

const modelCopies = 256 << 10

// borrow lends up to n views. Where the memory may fault they show copies, of what is there
// when the call is done with the rings.
func (m *model) borrow(n int) []modelView {
	views := m.borrowed(n)
	if m.guarded {
		for i, v := range views {
			views[i].bytes = slices.Clone(v.bytes)
		}
	}
	return views
}

func (m *model) borrowed(n int) []modelView {
	if !m.link() || n == 0 {
		return nil
	}
	budget := 1 << 60
	if len(m.rx.lent) == 0 {
		m.rx.copied = 0
	}
	if m.guarded {
		budget = max(modelCopies, m.most) - m.rx.copied
	}
	if len(m.rx.lent) > 0 {
		return m.lend(m.rx.lender, n, budget)
	}
	for k := range m.rx.rings {
		at := (m.rx.at + k) % len(m.rx.rings)
		views := m.lend(m.rx.rings[at], n, budget)
		if len(views) > 0 {
			m.rx.lender, m.rx.at = m.rx.rings[at], (at+1)%len(m.rx.rings)
			if len(views) == n && !m.rx.masked {
				m.mask(true)
			}
			return views
		}
		if m.rx.broken {
			break
		}
	}
	return nil
}

func (m *model) lend(r *modelRing, n, budget int) (views []modelView) {
	waiting, ok := m.waiting(r)
	i := int(r.next)
	end := i + waiting
	if len(m.rx.lent) > 0 {
		i += int(m.rx.seen - r.next)
	}
	if !ok || i > end {
		m.rx.broken = true
		return nil
	}
	for len(views) < n && i != end {
		c := m.chain(r, i, end)
		if r.open = c.slots == 0; r.open {
			r.bare = i == int(r.next)
			m.rx.broken = m.rx.broken || waiting == r.size() && i == int(r.next)
			break
		}
		drop := c.invalid || len(c.pieces) > n || c.bytes > m.most
		if !drop && (len(c.pieces) > n-len(views) || c.bytes > budget) {
			break
		}
		m.rx.chained = m.rx.chained || c.slots > 1
		switch {
		case c.invalid:
			m.rx.invalid++
		case drop:
			m.rx.tooLong++
		default:
			for k, b := range c.pieces {
				m.rx.lent = append(m.rx.lent, uint16(i+k+1))
				views = append(views, modelView{b, k < len(c.pieces)-1})
			}
			m.rx.frames++
			m.rx.bytes += c.bytes
			m.rx.copied += c.bytes
			budget -= c.bytes
		}
		i += c.slots
	}
	m.rx.seen = uint16(i)
	if len(m.rx.lent) == 0 {
		m.back(r, m.rx.seen)
	}
	return views
}

func (m *model) back(r *modelRing, to uint16) {
	n := int(to - r.next)
	if m.rx.chained {
		m.unchain(r, int(r.next), n)
		m.rx.chained = to != m.rx.seen
	}
	m.giveBack(r, int(r.next)+n)
}

func (m *model) release(n int) {
	if n = min(n, len(m.rx.lent)); n == 0 {
		return
	}
	to := m.rx.lent[n-1]
	m.rx.lent = m.rx.lent[n:]
	if len(m.rx.lent) == 0 {
		to = m.rx.seen
	}
	if !m.rx.broken {
		m.back(m.rx.lender, to)
	}
}

// ready says whether some ring has a frame to take: one that came since the last look, or
// whose end was there then. While views are out, their ring is the only one to take from.
// idle says that no ring has anything that was not there when it was last found bare.
func (m *model) ready() (ready, idle bool) {
	idle = true
	for _, r := range m.rx.rings {
		from, end := int(r.next), int(r.next)+int(m.index(r)-r.next)
		out := len(m.rx.lent) > 0
		if out && r == m.rx.lender {
			from += int(m.rx.seen - r.next)
		}
		known := r.open && m.index(r) == r.peer
		idle = idle && (from == end || known && r.bare)
		if !known && (!out || r == m.rx.lender) && from < end && end <= int(r.next)+r.size() {
			ready = ready || m.chain(r, from, end).slots > 0
		}
	}
	return ready, idle
}
