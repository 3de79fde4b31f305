package memif_test

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/millrace/millrace/memif"
	"golang.org/x/sys/unix"
)

// scribbler rewrites rings without pause while the other side works with them: with what
// could be true, though not at that moment, and one time in rare with what cannot.
type scribbler struct {
	rand      *rand.Rand
	rare      int
	client    bool // the scribbler is the client: heads are its own, tails the server's
	up, down  rawRing
	regionEnd uint32
	scribbled uint64
}

func newScribbler(rare int, up, down rawRing, regionEnd int) *scribbler {
	return &scribbler{rand: rand.New(rand.NewPCG(rand.Uint64(), 1)), rare: rare, up: up, down: down, regionEnd: uint32(regionEnd)}
}

func (s *scribbler) rarely() bool { return s.rand.IntN(s.rare) == 0 }

// scribble writes one thing.
func (s *scribbler) scribble() {
	s.scribbled++
	ring := s.up
	if s.rand.IntN(2) == 0 {
		ring = s.down
	}
	slot := s.rand.IntN(ring.size)
	b := ring.slot(slot)
	switch s.rand.IntN(12) {
	case 0:
		le.PutUint16(b, s.mark())
	case 1:
		if s.rarely() {
			le.PutUint16(b[2:], uint16(s.rand.Uint32())) // the region
		}
	case 2, 3:
		le.PutUint32(b[4:], s.length())
	case 4, 5:
		le.PutUint32(b[8:], s.offset())
	case 6:
		ring.setDesc(slot, rawDesc{flags: s.mark(), length: s.length(), offset: s.offset()})
	case 7:
		ring.setFlags(uint16(s.rand.Uint32()))
	default:
		s.index(ring)
	}
}

// mark says mostly that the frame ends.
func (s *scribbler) mark() uint16 {
	v := uint16(s.rand.Uint32())
	if s.rand.IntN(4) > 0 {
		v &^= 1
	}
	return v
}

func (s *scribbler) index(r rawRing) {
	if s.rand.IntN(s.rare*s.rare) == 0 {
		r.setHead(uint16(s.rand.Uint32()))
		r.setTail(uint16(s.rand.Uint32()))
		return
	}
	head, tail := r.head(), r.tail()
	switch {
	case s.client: // of what there is, or of empty buffers
		r.setHead(head + s.some(uint16(r.size)-(head-tail)))
	default: // of what the client sent, or of the buffers that it offers
		r.setTail(tail + s.some(head-tail))
	}
}

func (s *scribbler) some(most uint16) uint16 { return uint16(s.rand.Uint32N(uint32(most) + 1)) }

func (s *scribbler) length() uint32 {
	if s.rarely() {
		return []uint32{0, s.rand.Uint32(), s.regionEnd, s.regionEnd - first, guestRoom + 1, 1 << 31}[s.rand.IntN(6)]
	}
	return 1 + uint32(s.rand.IntN(guestRoom))
}

// offset leads to buffers or outside, not to the rings: what is read from buffers is known.
func (s *scribbler) offset() uint32 {
	if s.rarely() {
		return []uint32{s.regionEnd, s.regionEnd - 1, s.regionEnd + s.rand.Uint32N(1<<20), -s.rand.Uint32N(1 << 16)}[s.rand.IntN(4)]
	}
	return first + s.rand.Uint32N(s.regionEnd-guestRoom-first+1)
}

// torment scribbles until the link is down or it has gone on for long enough.
func (s *scribbler) torment(h host, most time.Duration) {
	for end := time.Now().Add(most); time.Now().Before(end) && h.Status().Up; {
		for range 500 {
			s.scribble()
		}
	}
}

const torment = 500 * time.Millisecond

// TestHostileScribblingClient: whatever a server reads is of the buffers, and it lives.
func TestHostileScribblingClient(t *testing.T) {
	leaksNothing(t)
	for _, rare := range []int{1 << 20, 10000, 30} {
		t.Run(fmt.Sprintf("lies one in %d", rare), func(t *testing.T) {
			h := newHost(t, memif.Server, 0, memif.Config{})
			stop := h.tormented(t)
			var scribbled uint64
			for end := time.Now().Add(torment); time.Now().Before(end); {
				g := h.admitted(t, seals)
				copy(g.mem[first:], bytes5A(guestBytes-first))
				s := newScribbler(rare, g.up, g.down, guestBytes)
				s.client = true
				s.torment(h, time.Until(end))
				scribbled += s.scribbled
				_ = unix.Shutdown(g.fd, unix.SHUT_RDWR) // the server may have ended the link
				until(t, "link down", h.down)
			}
			stop()
			t.Logf("%d writes, %d links, received %+v, sent %+v", scribbled, h.Status().Links, h.RxQueue(0).Stats(), h.TxQueue(0).Stats())
			h.welcomes(t)
		})
	}
}

// TestHostileScribblingServer is the same for a client: it goes by its own layout.
func TestHostileScribblingServer(t *testing.T) {
	leaksNothing(t)
	for _, rare := range []int{1 << 20, 10000, 30} {
		t.Run(fmt.Sprintf("lies one in %d", rare), func(t *testing.T) {
			h, k := newGoer(t, 0, clientConfig())
			stop := h.tormented(t)
			var scribbled uint64
			for end := time.Now().Add(torment); time.Now().Before(end); {
				s := h.joined(t, k)
				mem := s.mem[0]
				copy(mem[first:], bytes5A(len(mem)-first))
				w := newScribbler(rare, s.up[0], s.down[0], len(mem))
				w.torment(h, time.Until(end))
				scribbled += w.scribbled
				s.leave(t)
				until(t, "link down", h.down)
			}
			stop()
			t.Logf("%d writes, %d links, received %+v, sent %+v", scribbled, h.Status().Links, h.RxQueue(0).Stats(), h.TxQueue(0).Stats())
			h.goes(t, k)
		})
	}
}

// tormented runs traffic until the returned function is called.
func (h host) tormented(t *testing.T) (stop func()) {
	var end atomic.Bool
	var work sync.WaitGroup
	work.Go(func() { h.traffic(t, &end, true) })
	return func() {
		end.Store(true)
		work.Wait()
	}
}
