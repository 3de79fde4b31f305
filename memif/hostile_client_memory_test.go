package memif_test

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/millrace/millrace/memif"
)

// TestHostileFills has a server fill buffers wrongly. A client reads its own buffers,
// whatever region and offset the descriptor shows by then.
func TestHostileFills(t *testing.T) {
	leaksNothing(t)
	c := clientConfig()
	c.MaxFrame = 5000
	h, k := newGoer(t, 0, c)
	whole := func(last uint16) []rawDesc {
		list := make([]rawDesc, guestRing)
		for i := range list {
			list[i] = rawDesc{flags: 1, length: 10}
		}
		list[guestRing-1].flags = last
		return list
	}
	for name, take := range taking {
		for _, x := range []hoax{
			{name: "length 0", descs: []rawDesc{{}}, invalid: 1},
			{name: "whole buffer", descs: []rawDesc{{length: guestRoom}}, frames: []int{guestRoom}},
			{name: "longer than the buffer", descs: []rawDesc{{length: guestRoom + 1}}, invalid: 1},
			{name: "longest length there is", descs: []rawDesc{{length: 1<<32 - 1}}, invalid: 1},
			{name: "offset outside", descs: []rawDesc{{length: 10, offset: 1<<32 - 1}}, frames: []int{10}},
			{name: "region outside", descs: []rawDesc{{length: 10, region: 65535}}, frames: []int{10}},
			{name: "unknown flags", descs: []rawDesc{{length: 10, flags: 0xfffe}}, frames: []int{10}},
			{name: "chain", descs: []rawDesc{{length: 10, flags: 1}, {length: guestRoom, flags: 1}, {length: 1}}, frames: []int{guestRoom + 11}},
			{name: "chain with a long piece", descs: []rawDesc{{length: 10, flags: 1}, {length: guestRoom + 1, flags: 1}, {length: 1}}, invalid: 1},
			{name: "chain that is too long", descs: []rawDesc{{length: guestRoom, flags: 1}, {length: guestRoom, flags: 1}, {length: guestRoom}}, tooLong: 1},
			{name: "chain over the whole ring", descs: whole(0), frames: []int{10 * guestRing}},
			{name: "chain that does not end", descs: whole(1), corrupt: true},
		} {
			t.Run(name+"/"+x.name, func(t *testing.T) {
				s := h.joined(t, k)
				h.judgesFill(t, s, x, take)
				s.leave(t)
				until(t, "link down", h.down)
			})
		}
	}
	h.goes(t, k)
}

func (h host) judgesFill(t *testing.T, s *stay, x hoax, take func(*testing.T, *memif.RxQueue) [][]byte) {
	before := h.RxQueue(0).Stats()
	down := s.down[0]
	blank := make([]rawDesc, guestRing) // as the client offers its buffers
	for i := range blank {
		blank[i] = down.desc(i)
		b := s.mem[blank[i].region][blank[i].offset:][:blank[i].length]
		copy(b, bytes.Repeat([]byte{byte('a' + i)}, len(b)))
	}
	for i, d := range x.descs {
		down.setDesc(i, d)
	}
	n := uint16(len(x.descs))
	down.setTail(n)
	frames := take(t, h.RxQueue(0))
	if x.corrupt {
		h.endedBy(t, memif.Corrupt)
		return
	}
	if len(frames) != len(x.frames) {
		t.Fatalf("%d frames; want %d", len(frames), len(x.frames))
	}
	for i, f := range frames {
		if len(f) != x.frames[i] || f[0] != 'a' || f[len(f)-1] != byte('a'+len(x.descs)-1) {
			t.Errorf("%d bytes from %q to %q; want %d", len(f), f[0], f[len(f)-1], x.frames[i])
		}
	}
	st := h.RxQueue(0).Stats()
	if invalid, tooLong := st.Invalid-before.Invalid, st.TooLong-before.TooLong; invalid != x.invalid || tooLong != x.tooLong {
		t.Errorf("%d invalid and %d too long; want %d and %d", invalid, tooLong, x.invalid, x.tooLong)
	}
	if head := down.head(); head != guestRing+n {
		t.Errorf("the client offers up to %d; want %d", head, guestRing+n)
	}
	for i, want := range blank {
		if got := down.desc(i); got != want {
			t.Errorf("the client offers %+v again; want %+v", got, want)
		}
	}
}

// TestHostileTails: a tail that the server cannot have ends the link.
func TestHostileTails(t *testing.T) {
	leaksNothing(t)
	h, k := newGoer(t, 0, clientConfig())
	// Senders look at the tail only when they need to: for more than the ring holds.
	views, frames := make([]memif.View, guestRing+1), [][]byte{frame(1, 100)}
	for name, call := range map[string]func(s *stay, tail uint16) (int, error){
		"Receive": func(s *stay, tail uint16) (int, error) {
			s.down[0].setTail(tail)
			return h.RxQueue(0).Receive(buffers(3, 100))
		},
		"Borrow":  func(s *stay, tail uint16) (int, error) { s.down[0].setTail(tail); return h.RxQueue(0).Borrow(views) },
		"Reserve": func(s *stay, tail uint16) (int, error) { s.up[0].setTail(tail); return h.TxQueue(0).Reserve(views) },
		"Send": func(s *stay, tail uint16) (int, error) {
			s.up[0].setTail(tail)
			for range guestRing {
				if n, err := h.TxQueue(0).Send(frames); n != 1 || err != nil {
					return 0, err
				}
			}
			return h.TxQueue(0).Send(frames)
		},
	} {
		for _, tail := range []uint16{guestRing + 1, 2*guestRing + 1, 0x7fff, 0x8000, 0xffff - guestRing, 0xffff} {
			if name == "Reserve" && tail == 0xffff {
				continue // as if one frame were not taken yet: that can be
			}
			t.Run(fmt.Sprintf("%s with %d", name, tail), func(t *testing.T) {
				if n, err := call(h.joined(t, k), tail); n != 0 || err != nil {
					t.Errorf("it did %d, %v", n, err)
				}
				h.endedBy(t, memif.Corrupt)
			})
		}
	}
	h.goes(t, k)
}

// TestHostileRewrites has a server rewrite all descriptors of the ring that a client sends
// by: the client goes by its own layout, and the next server finds all in order.
func TestHostileRewrites(t *testing.T) {
	leaksNothing(t)
	h, k := newGoer(t, 0, clientConfig())
	s := h.joined(t, k)
	up := s.up[0]
	blank := make([]rawDesc, guestRing)
	for i := range blank {
		blank[i] = up.desc(i)
	}
	for n := range 5 * guestRing {
		for i := range guestRing {
			up.setDesc(i, rawDesc{flags: 0xffff, region: 0xffff, length: uint32(n), offset: 1<<32 - 1})
		}
		sent := frame(uint64(n), 1+n*40)
		if got, err := h.TxQueue(0).Send([][]byte{sent}); got != 1 || err != nil {
			t.Fatalf("frame %d: sent %d, %v", n, got, err)
		}
		d, at := up.desc(n), blank[n%guestRing]
		if d.flags != 0 || d.region != at.region || int(d.length) != len(sent) || !bytes.Equal(s.mem[at.region][at.offset:][:d.length], sent) {
			t.Fatalf("frame %d stands as %+v", n, d)
		}
		up.setTail(uint16(n + 1))
	}
	s.leave(t)
	h.goes(t, k)
}
