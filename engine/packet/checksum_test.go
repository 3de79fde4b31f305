package packet

import (
	"encoding/binary"
	"math/rand/v2"
	"testing"
)

// slowSum is RFC 1071 word by word.
func slowSum(p []byte) uint16 {
	var s uint32
	for i := 0; i < len(p); i += 2 {
		w := uint32(p[i]) << 8
		if i+1 < len(p) {
			w |= uint32(p[i+1])
		}
		s += w
		s = s>>16 + s&0xffff
	}
	return uint16(s)
}

func TestSumAgainstWordByWord(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	for range 20_000 {
		p := randomBytes(r, r.IntN(400))
		switch r.IntN(10) {
		case 0:
			clear(p)
		case 1:
			for i := range p {
				p[i] = 0xff
			}
		}
		if got, want := Sum(p, 0), slowSum(p); got != want {
			t.Fatalf("Sum of %x = %#04x, want %#04x", p, got, want)
		}
		cut := r.IntN(len(p)/2+1) * 2
		if got, want := Sum(p[cut:], Sum(p[:cut], 0)), slowSum(p); got != want {
			t.Fatalf("chained at %d: %#04x, want %#04x", cut, got, want)
		}
	}
}

// 1 is the only sum with two forms of zero: both verify, so they count as equal.
func sameCheck(a, b uint16) bool { return a == b || a+b == 0xffff && (a == 0 || b == 0) }

func TestUpdatesAgainstRecomputing(t *testing.T) {
	r := rand.New(rand.NewPCG(2, 2))
	for range 20_000 {
		p := randomBytes(r, 20+r.IntN(60)*2)
		if r.IntN(8) == 0 {
			clear(p)
		}
		p[0] |= 1 // a header is never all zero
		before := Checksum(p)
		at := 2 + r.IntN((len(p)-18)/2)*2
		q := append([]byte(nil), p...)
		size := []int{2, 4, 16}[r.IntN(3)]
		copy(q[at:at+size], randomBytes(r, size))
		var got uint16
		switch size {
		case 2:
			got = UpdateChecksum(before, binary.BigEndian.Uint16(p[at:]), binary.BigEndian.Uint16(q[at:]))
		case 4:
			got = UpdateChecksum32(before, binary.BigEndian.Uint32(p[at:]), binary.BigEndian.Uint32(q[at:]))
		default:
			got = UpdateChecksumBytes(before, p[at:at+16], q[at:at+16])
		}
		if want := Checksum(q); !sameCheck(got, want) {
			t.Fatalf("update = %#04x, want %#04x", got, want)
		}
	}
}

func TestDecrementTTLKeepsEveryHeaderValid(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 3))
	for range 70_000 {
		p := make([]byte, IPv4Len)
		h := MakeIPv4(p, [4]byte(randomBytes(r, 4)), [4]byte(randomBytes(r, 4)), uint8(r.Uint32()), uint8(2+r.UintN(254)))
		h.SetID(uint16(r.Uint32()))
		h.UpdateHeaderChecksum()
		ttl := h.TTL()
		h.DecrementTTL()
		if _, reason := ParseIPv4(p); reason != OK || h.TTL() != ttl-1 {
			t.Fatalf("%v after TTL %d", reason, ttl)
		}
	}
}

func TestChecksumOffloadRoundTrip(t *testing.T) {
	r := rand.New(rand.NewPCG(4, 4))
	for i := range 2000 {
		s := randomSample(t, r, i&1 == 0, i&2 == 0, r.IntN(3000))
		b := FromBytes(s.bytes)
		b.L4 = uint16(s.l4())
		if r := VerifyTransportChecksum(b); r != OK {
			t.Fatalf("gopacket's checksum is %v", r)
		}
		if i&4 == 0 {
			PushEthernet(b, MAC{}, MAC{}, 0) // offsets have to follow
		}
		if r := LeaveChecksum(b); r != OK || b.Offload.Flags != NeedsChecksum {
			t.Fatal(r, b.Offload)
		}
		if i&8 == 0 {
			if r := FinishChecksum(b); r != OK {
				t.Fatal(r)
			}
		} else if r := SetTransportChecksum(b); r != OK {
			t.Fatal(r)
		}
		if b.Offload != (Offload{}) {
			t.Fatalf("offload %+v is left", b.Offload)
		}
		if string(b.L3Bytes()) != string(s.bytes) {
			t.Fatalf("packet differs from gopacket's")
		}
		b.Bytes()[b.Len()-1] ^= 0x40
		if r := VerifyTransportChecksum(b); r != BadChecksum {
			t.Fatalf("a changed packet is %v", r)
		}
	}
}

func TestUDPChecksumZero(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 5))
	for _, v6 := range []bool{false, true} {
		s := randomSample(t, r, v6, false, 10)
		b := FromBytes(s.bytes)
		b.L4 = uint16(s.l4())
		UDP(b.L4Bytes()).SetChecksum(0)
		want := OK
		if v6 {
			want = BadChecksum
		}
		if r := VerifyTransportChecksum(b); r != want {
			t.Errorf("v6 %v: no checksum is %v, want %v", v6, r, want)
		}
		// A payload that makes the sum come out as 0 is sent as 0xffff.
		u := UDP(b.L4Bytes())
		u.SetChecksum(0)
		sum := Sum(u, pseudoOf(b.Bytes(), ProtoUDP, len(u)))
		binary.BigEndian.PutUint16(u[8:], addOnes(binary.BigEndian.Uint16(u[8:]), ^sum))
		if r := SetTransportChecksum(b); r != OK || u.Checksum() != 0xffff {
			t.Errorf("checksum %#04x, %v", u.Checksum(), r)
		}
	}
}

func TestFinishChecksumRefusesWhatIsOutside(t *testing.T) {
	b := FromBytes(make([]byte, 60))
	for _, o := range []Offload{
		{Flags: NeedsChecksum, CsumStart: 59},
		{Flags: NeedsChecksum, CsumStart: 0xffff, CsumOffset: 0xffff},
		{Flags: NeedsChecksum, CsumStart: 20, CsumOffset: 39},
	} {
		b.Offload = o
		if r := FinishChecksum(b); r != BadOffload {
			t.Errorf("%+v is %v", o, r)
		}
		if r := CheckOffload(b); r != BadOffload {
			t.Errorf("%+v is %v", o, r)
		}
	}
}
