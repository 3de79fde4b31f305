package generator

import (
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"testing"
)

// TestFramesAreWhole checks frames as a router would: lengths, checksum, and where they go.
func TestFramesAreWhole(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for _, size := range []int{MinFrame, 64, 65, 1500, MaxFrame} {
		b, err := newBatch(DefaultHeader(), size, 3)
		if err != nil {
			t.Fatal(err)
		}
		for range 1000 {
			f := b.frames[rng.IntN(3)]
			x := flow{to: rng.Uint32(), src: uint16(rng.Uint32()), dst: uint16(rng.Uint32())}
			from := word(DefaultHeader().Source)
			if rng.IntN(2) == 0 {
				x.from = rng.Uint32() | 1
				from = x.from
			}
			b.aim(f, &x)
			if len(f) != size || !ours(f) {
				t.Fatalf("frame of %d bytes, ours %t; want %d", len(f), ours(f), size)
			}
			ip := f[ipAt:]
			s := sum(ip[:20])
			for s > 0xffff {
				s = s>>16 + s&0xffff
			}
			if s != 0xffff {
				t.Fatalf("checksum of %+v: header sums up to %#x", x, s)
			}
			if n := binary.BigEndian.Uint16(ip[2:]); int(n) != size-14 {
				t.Fatalf("IPv4 length %d in a frame of %d", n, size)
			}
			if n := binary.BigEndian.Uint16(f[udpAt+4:]); int(n) != size-34 {
				t.Fatalf("UDP length %d in a frame of %d", n, size)
			}
			if binary.BigEndian.Uint32(ip[12:]) != from || binary.BigEndian.Uint32(ip[16:]) != x.to ||
				binary.BigEndian.Uint16(f[srcPortAt:]) != x.src || binary.BigEndian.Uint16(f[srcPortAt+2:]) != x.dst {
				t.Fatal("frame does not go where it was aimed at")
			}
		}
	}
}

func TestBatchRefuses(t *testing.T) {
	for _, size := range []int{0, MinFrame - 1, MaxFrame + 1} {
		if _, err := newBatch(DefaultHeader(), size, 1); err == nil {
			t.Errorf("size %d is no error", size)
		}
	}
	if _, err := newBatch(Header{Source: netip.MustParseAddr("2001:db8::1")}, 64, 1); err == nil {
		t.Error("an IPv6 source is no error")
	}
}

// TestFlowsInTurn: every flow is aimed at once before one is again, whatever the batch,
// and frames that were not sent do not use up their flows.
func TestFlowsInTurn(t *testing.T) {
	var to []netip.Addr
	for i := range 10 {
		to = append(to, netip.AddrFrom4([4]byte{10, 0, 0, byte(i)}))
	}
	w := NewFlows(to).walk()
	b, err := newBatch(DefaultHeader(), 64, 4)
	if err != nil {
		t.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(1, 2))
	for want := 0; want < 200; {
		w.aim(b, len(b.frames))
		sent := rng.IntN(5)
		for _, f := range b.frames[:sent] {
			if got := f[dstAt+3]; int(got) != want%10 {
				t.Fatalf("frame %d goes to flow %d", want, got)
			}
			want++
		}
		w.next(sent)
	}
}

// TestForwarded: a frame passes as a router leaves it, and not with any byte of its headers
// changed.
func TestForwarded(t *testing.T) {
	h := DefaultHeader()
	b, err := newBatch(h, 64, 1)
	if err != nil {
		t.Fatal(err)
	}
	router, host := h.To, [6]byte{2, 9, 9, 9, 9, 9}
	f := b.frames[0]
	right := Forwarded(router, host, 64)
	if right(f) {
		t.Error("a frame that no router has touched passes")
	}
	copy(f[0:], host[:])
	copy(f[6:], router[:])
	f[ttlAt]--
	binary.BigEndian.PutUint16(f[sumAt:], binary.BigEndian.Uint16(f[sumAt:])+0x100) // RFC 1624
	if !right(f) {
		t.Fatal("a frame that was forwarded does not pass")
	}
	for i := range f[:udpAt] {
		if i == 12 || i == 13 {
			continue // the type: what is not IPv4 would not come back
		}
		f[i] ^= 0x41
		if right(f) {
			t.Errorf("byte %d is changed, and the frame passes", i)
		}
		f[i] ^= 0x41
	}
	if right(f[:63]) {
		t.Error("a frame that was cut passes")
	}
}
