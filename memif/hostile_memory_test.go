package memif_test

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/millrace/millrace/memif"
	"golang.org/x/sys/unix"
)

// Ways to take frames out of a queue. Both must judge alike.
var taking = map[string]func(t *testing.T, q *memif.RxQueue) [][]byte{
	"Receive": func(t *testing.T, q *memif.RxQueue) [][]byte {
		bufs := buffers(2*guestRing, guestBytes)
		n, err := q.Receive(bufs)
		if err != nil {
			t.Fatal(err)
		}
		return bufs[:n]
	},
	"Borrow": func(t *testing.T, q *memif.RxQueue) [][]byte {
		views := make([]memif.View, 2*guestRing)
		n, err := q.Borrow(views)
		if err != nil {
			t.Fatal(err)
		}
		var frames [][]byte
		fresh := true
		for _, v := range views[:n] {
			if fresh {
				frames = append(frames, nil)
			}
			frames[len(frames)-1] = append(frames[len(frames)-1], v.Bytes...)
			fresh = !v.More
		}
		q.Release(n)
		return frames
	},
}

const (
	first = guestBuffers // offsets of buffers
	next  = guestBuffers + guestRoom
	end   = guestBytes
)

// hoax is what a client writes to S2M, and what the server makes of it. A good frame of 3
// bytes follows, which has to come through unless the link ends.
type hoax struct {
	name             string
	descs            []rawDesc
	frames           []int // lengths
	invalid, tooLong uint64
	corrupt          bool // the link ends
}

func hoaxes() []hoax {
	chain := func(n int, last uint16) []rawDesc {
		list := make([]rawDesc, n)
		for i := range list {
			list[i] = rawDesc{flags: 1, length: 10, offset: first}
		}
		list[n-1].flags = last
		return list
	}
	patched := func(list []rawDesc, i int, d rawDesc) []rawDesc { list[i] = d; return list }
	one := func(d rawDesc) []rawDesc { return []rawDesc{d} }
	return []hoax{
		{name: "length 0", descs: one(rawDesc{offset: first}), invalid: 1},
		{name: "length 0 at the end", descs: one(rawDesc{offset: end}), invalid: 1},
		{name: "last byte", descs: one(rawDesc{offset: end - 1, length: 1}), frames: []int{1}},
		{name: "one byte behind the end", descs: one(rawDesc{offset: end - 1, length: 2}), invalid: 1},
		{name: "at the end", descs: one(rawDesc{offset: end, length: 1}), invalid: 1},
		{name: "one page behind the end", descs: one(rawDesc{offset: end + 4096, length: 1}), invalid: 1},
		{name: "last offset there is", descs: one(rawDesc{offset: 1<<32 - 1, length: 1}), invalid: 1},
		{name: "offset and length wrap to 0", descs: one(rawDesc{offset: 1<<32 - 16, length: 16}), invalid: 1},
		{name: "offset and length wrap to the first buffer", descs: one(rawDesc{offset: 1<<32 - 16, length: first + 16}), invalid: 1},
		{name: "longest length there is", descs: one(rawDesc{offset: first, length: 1<<32 - 1}), invalid: 1},
		{name: "longest length, from 1", descs: one(rawDesc{offset: 1, length: 1<<32 - 1}), invalid: 1},
		{name: "length 2^31", descs: one(rawDesc{offset: 0, length: 1 << 31}), invalid: 1},
		{name: "the rings themselves", descs: one(rawDesc{length: first}), frames: []int{first}},
		{name: "the longest frame", descs: one(rawDesc{offset: first, length: 4096}), frames: []int{4096}},
		{name: "longer than the longest frame", descs: one(rawDesc{offset: first, length: 4097}), tooLong: 1},
		{name: "region 1 of 1", descs: one(rawDesc{region: 1, offset: first, length: 10}), invalid: 1},
		{name: "region 65535", descs: one(rawDesc{region: 65535, offset: first, length: 10}), invalid: 1},
		{name: "unknown flags", descs: one(rawDesc{flags: 0xfffe, offset: first, length: 10}), frames: []int{10}},
		{name: "metadata", descs: one(rawDesc{meta: 0xffffffff, offset: first, length: 10}), frames: []int{10}},
		{name: "chain", descs: chain(3, 0), frames: []int{30}},
		{name: "chain with a hole", descs: patched(chain(3, 0), 1, rawDesc{flags: 1, offset: first}), invalid: 1},
		{name: "chain that ends in nothing", descs: patched(chain(3, 0), 2, rawDesc{offset: first}), invalid: 1},
		{name: "chain that leads outside", descs: patched(chain(3, 0), 2, rawDesc{offset: end, length: 10}), invalid: 1},
		{name: "chain that leads to no region", descs: patched(chain(3, 0), 0, rawDesc{flags: 1, region: 9, length: 10}), invalid: 1},
		{name: "chain of the longest frame", descs: []rawDesc{{flags: 1, offset: first, length: 4000}, {offset: next, length: 96}}, frames: []int{4096}},
		{name: "chain longer than the longest frame", descs: []rawDesc{{flags: 1, offset: first, length: 4000}, {offset: next, length: 97}}, tooLong: 1},
		{name: "chain longer than 2^32", descs: patched(patched(chain(3, 0), 0, rawDesc{flags: 1, length: end}), 1, rawDesc{flags: 1, length: 1<<32 - 1}), invalid: 1},
		{name: "chain over all but one", descs: chain(guestRing-1, 0), frames: []int{10 * (guestRing - 1)}},
		{name: "chain over the whole ring", descs: chain(guestRing, 0), frames: []int{10 * guestRing}},
		{name: "chain that does not end", descs: chain(guestRing, 1), corrupt: true},
		{name: "chain that does not end, with unknown flags", descs: chain(guestRing, 0xffff), corrupt: true},
		{name: "nothing but invalid", descs: make([]rawDesc, guestRing), invalid: guestRing},
	}
}

// TestHostileDescriptors: a bad descriptor costs its frame, and one that cannot be passed
// over ends the link.
func TestHostileDescriptors(t *testing.T) {
	leaksNothing(t)
	h := newHost(t, memif.Server, 0, memif.Config{MaxFrame: 4096})
	for name, take := range taking {
		for _, x := range hoaxes() {
			for _, start := range []uint16{0, 5} { // the second wraps in the ring
				t.Run(fmt.Sprintf("%s/%s/from %d", name, x.name, start), func(t *testing.T) {
					g := h.admitted(t, seals)
					h.skip(t, g, int(start))
					h.judges(t, g, x, take)
				})
			}
		}
	}
	h.welcomes(t)
}

// skip moves a ring on by n frames.
func (h host) skip(t *testing.T, g *guest, n int) {
	for range n {
		if err := g.put([]byte("skip")); err != nil {
			t.Fatal(err)
		}
		receive(t, h.RxQueue(0), 1)
	}
}

func (h host) judges(t *testing.T, g *guest, x hoax, take func(*testing.T, *memif.RxQueue) [][]byte) {
	before := h.RxQueue(0).Stats()
	head := g.up.head()
	copy(g.mem[first:], "a frame and more of it")
	for i, d := range x.descs {
		g.up.setDesc(int(head)+i, d)
	}
	g.up.setHead(head + uint16(len(x.descs)))
	frames := take(t, h.RxQueue(0))
	if x.corrupt {
		if len(frames) > 0 {
			t.Errorf("%d frames", len(frames))
		}
		h.endedBy(t, memif.Corrupt)
		return
	}
	if err := g.put([]byte("yes")); err != nil {
		t.Fatal(err)
	}
	frames = append(frames, take(t, h.RxQueue(0))...)
	if len(frames) != len(x.frames)+1 || !bytes.Equal(frames[len(frames)-1], []byte("yes")) {
		t.Fatalf("%d frames, the last %.20q; want %d and %q", len(frames), frames[max(0, len(frames)-1):], len(x.frames), "yes")
	}
	for i, n := range x.frames {
		if len(frames[i]) != n {
			t.Errorf("frame %d of %d bytes; want %d", i, len(frames[i]), n)
		}
	}
	s := h.RxQueue(0).Stats()
	if invalid, tooLong := s.Invalid-before.Invalid, s.TooLong-before.TooLong; invalid != x.invalid || tooLong != x.tooLong {
		t.Errorf("%d invalid and %d too long; want %d and %d", invalid, tooLong, x.invalid, x.tooLong)
	}
	if tail := g.up.tail(); tail != g.up.head() {
		t.Errorf("the server has taken up to %d of %d", tail, g.up.head())
	}
	if err := unix.Shutdown(g.fd, unix.SHUT_RDWR); err != nil {
		t.Error(err)
	}
}

// TestHostileUnfinished: the beginning of a frame stays until the rest comes.
func TestHostileUnfinished(t *testing.T) {
	leaksNothing(t)
	h := newHost(t, memif.Server, 0, memif.Config{})
	for name, take := range taking {
		t.Run(name, func(t *testing.T) {
			g := h.admitted(t, seals)
			for i := range guestRing - 1 {
				g.up.setDesc(i, rawDesc{flags: 1, offset: first, length: 10})
				g.up.setHead(uint16(i + 1))
				if n := len(take(t, h.RxQueue(0))); n != 0 || g.up.tail() != 0 {
					t.Fatalf("%d frames out of %d pieces; taken up to %d", n, i+1, g.up.tail())
				}
			}
			g.up.setDesc(guestRing-1, rawDesc{offset: first, length: 10})
			g.up.setHead(guestRing)
			if frames := take(t, h.RxQueue(0)); len(frames) != 1 || len(frames[0]) != 10*guestRing {
				t.Errorf("%d frames; want one", len(frames))
			}
			if err := unix.Shutdown(g.fd, unix.SHUT_RDWR); err != nil {
				t.Error(err)
			}
		})
	}
	h.welcomes(t)
}

// TestHostileIndices: an index that the peer cannot have ends the link, whichever call sees it.
func TestHostileIndices(t *testing.T) {
	leaksNothing(t)
	frames := [][]byte{frame(1, 100)}
	calls := map[string]func(h host, g *guest, index uint16) error{
		"Receive": func(h host, g *guest, index uint16) error {
			g.up.setHead(index)
			_, err := h.RxQueue(0).Receive(buffers(3, 100))
			return err
		},
		"Borrow": func(h host, g *guest, index uint16) error {
			g.up.setHead(index)
			_, err := h.RxQueue(0).Borrow(make([]memif.View, 3))
			return err
		},
		"Send": func(h host, g *guest, index uint16) error {
			g.down.setHead(index)
			_, err := h.TxQueue(0).Send(frames)
			return err
		},
		"Reserve": func(h host, g *guest, index uint16) error {
			g.down.setHead(index)
			_, err := h.TxQueue(0).Reserve(make([]memif.View, 3))
			return err
		},
	}
	h := newHost(t, memif.Server, 0, memif.Config{})
	for name, call := range calls {
		for _, jump := range []int{guestRing + 1, 2 * guestRing, 0x7fff, 0x8000, 0xffff - guestRing, -2, -1} {
			t.Run(fmt.Sprintf("%s by %d", name, jump), func(t *testing.T) {
				if err := call(h, h.admitted(t, seals), uint16(jump)); err != nil {
					t.Error(err)
				}
				h.endedBy(t, memif.Corrupt)
			})
		}
	}
	h.welcomes(t)
}

// TestHostileOffers: empty buffers that are none end the link; odd ones are filled as they are.
func TestHostileOffers(t *testing.T) {
	leaksNothing(t)
	h := newHost(t, memif.Server, 0, memif.Config{MaxMemory: hostMemory})
	calls := map[string]func() (int, error){
		"Send":    func() (int, error) { return h.TxQueue(0).Send([][]byte{frame(1, 100)}) },
		"scatter": func() (int, error) { return h.TxQueue(0).Send([][]byte{frame(1, 5000)}) },
		"Reserve": func() (int, error) { return h.TxQueue(0).Reserve(make([]memif.View, 4)) },
	}
	for call, try := range calls {
		for name, d := range map[string]rawDesc{
			"length 0":        {offset: first},
			"ends outside":    {offset: end - 1, length: 2},
			"begins outside":  {offset: end, length: 1},
			"wraps":           {offset: 1<<32 - 16, length: 2048},
			"wraps to inside": {offset: 1<<32 - 16, length: first + 16},
			"all there is":    {offset: 0, length: 1<<32 - 1},
			"in region 1":     {region: 1, offset: first, length: 2048},
			"in region 65535": {region: 65535, offset: first, length: 2048},
		} {
			t.Run(call+" into one that "+name, func(t *testing.T) {
				g := h.admitted(t, seals)
				g.down.setDesc(0, d)
				g.down.setDesc(2, d)
				g.offer()
				if n, err := try(); n != 0 || err != nil {
					t.Errorf("it took %d, %v", n, err)
				}
				h.endedBy(t, memif.Corrupt)
			})
		}
	}
	t.Run("into single bytes", func(t *testing.T) {
		g := h.admitted(t, seals)
		for i := range guestRing {
			g.down.setDesc(i, rawDesc{offset: uint32(first + i), length: 1})
		}
		g.offer()
		before := h.TxQueue(0).Stats()
		n, err := h.TxQueue(0).Send([][]byte{[]byte("too long."), []byte("to go in")})
		if s := h.TxQueue(0).Stats(); n != 2 || err != nil || s.Frames != before.Frames+1 || s.TooLong != before.TooLong+1 {
			t.Errorf("%d, %v, %+v; want one frame sent and one dropped", n, err, s)
		}
		if got := g.mem[first:][:guestRing+1]; !bytes.Equal(got, []byte("to go in\x00")) || g.down.tail() != guestRing {
			t.Errorf("the memory holds %q, tail %d", got, g.down.tail())
		}
		if err := unix.Shutdown(g.fd, unix.SHUT_RDWR); err != nil {
			t.Error(err)
		}
	})
	h.welcomes(t)
}
