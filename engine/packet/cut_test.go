package packet

import (
	"math/rand/v2"
	"testing"

	"github.com/google/gopacket/ip4defrag"
	"github.com/google/gopacket/layers"
)

// gsoOf makes the sample a GSO packet as a host's stack would hand it over.
func gsoOf(t testing.TB, s *sample, size int) *Buffer {
	t.Helper()
	b := FromBytes(s.bytes)
	b.L4 = uint16(s.l4())
	if r := LeaveChecksum(b); r != OK {
		t.Fatal(r)
	}
	switch {
	case s.udp != nil:
		b.Offload.GSO = GSOUDPL4
	case s.ip4 != nil:
		b.Offload.GSO = GSOTCPv4
	default:
		b.Offload.GSO = GSOTCPv6
	}
	if s.tcp != nil && s.tcp.CWR {
		b.Offload.GSO |= GSOECN
	}
	b.Offload.GSOSize = uint16(size)
	return b
}

func TestSegmentsAgainstGopacket(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 7))
	dst := FromBytes(nil)
	for i := range 600 {
		s := randomSample(t, r, i&1 == 0, i&2 == 0, r.IntN(20_000))
		size := 100 + r.IntN(1400)
		b := gsoOf(t, s, size)
		b.RxInterface, b.Meta[1] = 7, 8
		tagged := i&4 == 0
		if tagged {
			PushEthernet(b, MAC{1}, MAC{2}, EtherTypeIPv4)
			PushVLAN(b, EtherTypeVLAN, 5)
		}
		if r := CheckOffload(b); r != OK {
			t.Fatalf("offload %+v is %v", b.Offload, r)
		}
		l2 := string(b.Bytes()[:b.L3])
		var cut Segmenter
		if r := cut.Start(b); r != OK {
			t.Fatal(r)
		}
		cut.LeaveChecksum = i&8 == 0
		want := max(1, (len(s.body)+size-1)/size)
		if cut.Remaining() != want {
			t.Fatalf("%d segments of %d for %d bytes, want %d", cut.Remaining(), size, len(s.body), want)
		}
		var body []byte
		for n := range want {
			if !cut.Next(dst) {
				t.Fatalf("segment %d of %d is missing", n, want)
			}
			if string(dst.Bytes()[:dst.L3]) != l2 || dst.RxInterface != 7 || dst.Meta[1] != 8 || dst.L4 != b.L4 {
				t.Fatal("a segment lost its L2 header or what was learned")
			}
			if cut.LeaveChecksum {
				if dst.Offload.Flags != NeedsChecksum || dst.Offload.CsumStart != dst.L4 {
					t.Fatalf("offload %+v", dst.Offload)
				}
				if r := FinishChecksum(dst); r != OK {
					t.Fatal(r)
				}
			}
			body = append(body, checkSegment(t, s, dst, n, n == want-1, size)...)
		}
		if cut.Next(dst) || cut.Remaining() != 0 {
			t.Fatal("a segment too many")
		}
		if string(body) != string(s.body) {
			t.Fatal("the segments' payloads are not the packet's")
		}
		if mtu := size + int(b.L4-b.L3) + s.transportLen(); want > 1 && (!Fits(b, mtu) || Fits(b, mtu-1) || WireLen(b) != mtu) {
			t.Fatalf("WireLen = %d, want %d", WireLen(b), mtu)
		}
	}
}

func (s *sample) transportLen() int {
	if s.tcp != nil {
		return int(s.tcp.DataOffset) * 4
	}
	return UDPLen
}

func checkSegment(t *testing.T, s *sample, dst *Buffer, n int, last bool, size int) []byte {
	t.Helper()
	d := verify(t, dst.L3Bytes(), s.first())
	if s.ip4 != nil {
		if ip := d.NetworkLayer().(*layers.IPv4); ip.Id != s.ip4.Id+uint16(n) {
			t.Fatalf("segment %d has ID %d after %d", n, ip.Id, s.ip4.Id)
		}
	}
	if s.tcp == nil {
		return d.TransportLayer().LayerPayload()
	}
	h := d.TransportLayer().(*layers.TCP)
	if h.Seq != s.tcp.Seq+uint32(n*size) || h.FIN != (s.tcp.FIN && last) || h.PSH != (s.tcp.PSH && last) || h.CWR != (s.tcp.CWR && n == 0) || !h.ACK {
		t.Fatalf("segment %d of %+v is %+v", n, s.tcp, h)
	}
	return h.Payload
}

func TestSegmenterRefuses(t *testing.T) {
	r := rand.New(rand.NewPCG(8, 8))
	for _, c := range []struct {
		name string
		edit func(b *Buffer)
		want Reason
	}{
		{"no GSO", func(b *Buffer) { b.Offload.GSO = GSONone }, BadOffload},
		{"size 0", func(b *Buffer) { b.Offload.GSOSize = 0 }, BadOffload},
		{"family", func(b *Buffer) { b.Offload.GSO = GSOTCPv6 }, BadOffload},
		{"protocol", func(b *Buffer) { b.Offload.GSO = GSOUDPL4 }, BadOffload},
		{"unknown type", func(b *Buffer) { b.Offload.GSO = 3 }, BadOffload},
		{"cut", func(b *Buffer) { b.Trim(30) }, Truncated},
		{"fragment", func(b *Buffer) { IPv4(b.Bytes()).setFragment(ip4MF) }, BadOffload},
	} {
		s := randomSample(t, r, false, true, 3000)
		b := gsoOf(t, s, 1000)
		c.edit(b)
		var cut Segmenter
		if r := cut.Start(b); r != c.want {
			t.Errorf("%s: %v, want %v", c.name, r, c.want)
		}
		if cut.Next(FromBytes(nil)) {
			t.Errorf("%s: a segment all the same", c.name)
		}
	}
}

func TestFragmentsAgainstGopacket(t *testing.T) {
	r := rand.New(rand.NewPCG(9, 9))
	for i := range 500 {
		s := randomSample(t, r, false, i&1 == 0, 1+r.IntN(9000))
		b := FromBytes(s.bytes)
		b.L4 = uint16(s.l4())
		if i&2 == 0 {
			if r := LeaveChecksum(b); r != OK {
				t.Fatal(r)
			}
		}
		if i&4 == 0 {
			PushEthernet(b, MAC{}, MAC{}, EtherTypeIPv4)
		}
		mtu := 68 + r.IntN(1500)
		var cut Fragmenter
		if r := cut.Start(b, mtu); r != OK {
			t.Fatal(r)
		}
		defrag := ip4defrag.NewIPv4Defragmenter()
		want := cut.Remaining()
		dst := FromBytes(nil)
		var whole *layers.IPv4
		joined := make([]byte, len(s.bytes)-s.l4())
		for n := range want {
			if !cut.Next(dst) {
				t.Fatalf("fragment %d of %d is missing", n, want)
			}
			if dst.Len() > mtu || dst.L3 != 0 || (dst.L4 != 0) != (n == 0) {
				t.Fatalf("fragment of %d bytes for MTU %d, L4 %d", dst.Len(), mtu, dst.L4)
			}
			if want > 1 && n < want-1 && mtu-dst.Len() >= 8+dst.Len()%4 {
				t.Fatalf("fragment of %d bytes wastes room of MTU %d", dst.Len(), mtu)
			}
			ip := *decode(t, dst.Bytes(), layers.LayerTypeIPv4).NetworkLayer().(*layers.IPv4)
			if _, r := ParseIPv4(dst.Bytes()); r != OK {
				t.Fatal(r)
			}
			at := int(ip.FragOffset) * 8
			copy(joined[at:], ip.Payload)
			if more := ip.Flags&layers.IPv4MoreFragments != 0; more != (n < want-1) || !more && at+len(ip.Payload) != len(joined) {
				t.Fatalf("fragment %d of %d at %d, more %v", n, want, at, more)
			}
			if len(s.ip4.Options) > 0 || len(ip.Payload) < 8 {
				continue // gopacket takes every header for 20 bytes, and short ends for an attack
			}
			var err error
			if whole, err = defrag.DefragIPv4(&ip); err != nil {
				t.Fatalf("fragment %d of %d, MTU %d: %v", n, want, mtu, err)
			}
			if (whole != nil) != (n == want-1) {
				t.Fatalf("complete after %d of %d", n+1, want)
			}
		}
		if cut.Next(dst) {
			t.Fatal("a fragment too many")
		}
		if string(joined) != string(s.bytes[s.l4():]) || whole != nil && string(whole.Payload) != string(joined) {
			t.Fatal("the fragments make another packet")
		}
	}
}

// RFC 791: options with the copied flag stand in every fragment, the others in the first.
func TestFragmentOptions(t *testing.T) {
	opts := []byte{
		7, 7, 4, 0, 0, 0, 0, // record route, not copied
		1,                       // no operation
		0x83, 7, 4, 10, 0, 0, 9, // loose source route, copied
		148, 4, 0, 0, // router alert, copied
		0, // end
	}
	p := make([]byte, IPv4Len+len(opts)+100)
	MakeIPv4(p, [4]byte{10, 0, 0, 1}, [4]byte{10, 0, 0, 2}, ProtoUDP, 9)
	copy(p[IPv4Len:], opts)
	p[0] = 0x40 | byte(5+len(opts)/4)
	IPv4(p).UpdateHeaderChecksum()
	var cut Fragmenter
	if r := cut.Start(FromBytes(p), 88); r != OK {
		t.Fatal(r)
	}
	dst := FromBytes(nil)
	var headers []string
	for cut.Next(dst) {
		ip, r := ParseIPv4(dst.Bytes())
		if r != OK {
			t.Fatal(r)
		}
		headers = append(headers, string(ip.Options()))
	}
	later := string([]byte{0x83, 7, 4, 10, 0, 0, 9, 148, 4, 0, 0, 0})
	if len(headers) != 3 || headers[0] != string(opts) || headers[1] != later || headers[2] != later {
		t.Errorf("options %x", headers)
	}
	for _, bad := range [][]byte{{7, 1, 0, 0}, {7, 200, 0, 0}, {1, 1, 1, 7}} {
		copy(p[IPv4Len:], bad)
		IPv4(p).UpdateHeaderChecksum()
		if r := cut.Start(FromBytes(p), 88); r != BadOption {
			t.Errorf("options %x are %v", bad, r)
		}
	}
}

func TestFragmentOfFragmentAndRefusals(t *testing.T) {
	p := make([]byte, 220)
	h := MakeIPv4(p, [4]byte{10, 0, 0, 1}, [4]byte{10, 0, 0, 2}, ProtoUDP, 9)
	h.setFragment(ip4MF | 50)
	h.UpdateHeaderChecksum()
	var cut Fragmenter
	if r := cut.Start(FromBytes(p), 120); r != OK {
		t.Fatal(r)
	}
	dst := FromBytes(nil)
	for _, want := range []int{400, 496, 592} {
		if !cut.Next(dst) {
			t.Fatal("a fragment is missing")
		}
		if f := IPv4(dst.Bytes()); f.FragmentOffset() != want || !f.MoreFragments() {
			t.Errorf("fragment at %d, want %d; more %v", f.FragmentOffset(), want, f.MoreFragments())
		}
	}
	h.setFragment(ip4DF)
	h.UpdateHeaderChecksum()
	if r := cut.Start(FromBytes(p), 219); r != MustNotFragment {
		t.Errorf("DF is %v", r)
	}
	if r := cut.Start(FromBytes(p), 220); r != OK || cut.Remaining() != 1 || !cut.Next(dst) || string(dst.Bytes()) != string(p) {
		t.Errorf("a packet that fits: %v", r)
	}
	h.setFragment(0)
	h.UpdateHeaderChecksum()
	if r := cut.Start(FromBytes(p), 27); r != NoRoom {
		t.Errorf("MTU 27 is %v", r)
	}
	b := FromBytes(p)
	b.Offload.GSO = GSOTCPv4
	if r := cut.Start(b, 100); r != BadOffload {
		t.Errorf("GSO is %v", r)
	}
}
