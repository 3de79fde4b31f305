package nat

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"math/rand/v2"
	"net"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"github.com/millrace/millrace/engine/packet"
)

// The oracle: a packet that was made with the new addresses and ports from the start is
// what the old one must be rewritten to, byte by byte.

// kind of packet that the tests make.
type kind int

const (
	tcp kind = iota
	udp
	udpBare // without a checksum
	sctp
	echo
	errorOf // an ICMP error about a packet that goes the other way
	kinds
)

func (k kind) String() string {
	return [...]string{"tcp", "udp", "udp without checksum", "sctp", "echo", "error"}[k]
}

// shape is what all packets of a flow have in common.
type shape struct {
	v6    bool
	kind  kind
	about kind // of an error
	quote int  // of an error: bytes of the transport header and data; 0 = all
	data  []byte
}

// make is the packet with t's addresses and ports.
func (s *shape) make(tb testing.TB, t *Target) []byte {
	tb.Helper()
	var l4 []gopacket.SerializableLayer
	var proto layers.IPProtocol
	payload := gopacket.Payload(s.data)
	var checked interface {
		SetNetworkLayerForChecksum(gopacket.NetworkLayer) error
	}
	switch s.kind {
	case tcp:
		h := &layers.TCP{SrcPort: layers.TCPPort(t.SrcPort), DstPort: layers.TCPPort(t.DstPort), Seq: 7, ACK: true, Window: 9}
		proto, l4, checked = layers.IPProtocolTCP, []gopacket.SerializableLayer{h, payload}, h
	case udp, udpBare:
		h := &layers.UDP{SrcPort: layers.UDPPort(t.SrcPort), DstPort: layers.UDPPort(t.DstPort)}
		proto, l4, checked = layers.IPProtocolUDP, []gopacket.SerializableLayer{h, payload}, h
	case sctp:
		p := binary.BigEndian.AppendUint16(nil, t.SrcPort)
		p = binary.BigEndian.AppendUint16(p, t.DstPort)
		p = append(append(p, 1, 2, 3, 4, 0, 0, 0, 0), s.data...)
		binary.LittleEndian.PutUint32(p[8:], crc32.Checksum(p, crc32.MakeTable(crc32.Castagnoli)))
		proto, l4 = layers.IPProtocolSCTP, []gopacket.SerializableLayer{gopacket.Payload(p)}
	case echo:
		return s.icmp(tb, t, 8, 128, binary.BigEndian.AppendUint16(nil, t.SrcPort), append([]byte{0, 1}, s.data...))
	case errorOf:
		back := t.reversed()
		inner := shape{v6: s.v6, kind: s.about, data: s.data}
		q := inner.make(tb, &back)
		if s.quote > 0 {
			q = q[:min(len(q), inner.header()+s.quote)]
		}
		return s.icmp(tb, t, 3, 1, make([]byte, 4), q)
	}
	ip := s.network(t, proto)
	if checked != nil {
		if err := checked.SetNetworkLayerForChecksum(ip.(gopacket.NetworkLayer)); err != nil {
			tb.Fatal(err)
		}
	}
	p := serialize(tb, append([]gopacket.SerializableLayer{ip}, l4...)...)
	if s.kind == udpBare && !s.v6 {
		p[26], p[27] = 0, 0
	}
	return p
}

func (s *shape) header() int {
	if s.v6 {
		return packet.IPv6Len
	}
	return packet.IPv4Len
}

func (s *shape) network(t *Target, proto layers.IPProtocol) gopacket.SerializableLayer {
	if s.v6 {
		return &layers.IPv6{Version: 6, HopLimit: 60, NextHeader: proto, SrcIP: t.Src[:], DstIP: t.Dst[:]}
	}
	return &layers.IPv4{Version: 4, TTL: 60, Id: 5, Protocol: proto, SrcIP: net.IP(t.Src[:4]), DstIP: net.IP(t.Dst[:4])}
}

func (s *shape) icmp(tb testing.TB, t *Target, type4, type6 uint8, rest, data []byte) []byte {
	tb.Helper()
	if s.v6 {
		ip := s.network(t, layers.IPProtocolICMPv6)
		h := &layers.ICMPv6{TypeCode: layers.CreateICMPv6TypeCode(type6, 0)}
		if err := h.SetNetworkLayerForChecksum(ip.(gopacket.NetworkLayer)); err != nil {
			tb.Fatal(err)
		}
		return serialize(tb, ip, h, gopacket.Payload(slices.Concat(rest, data)))
	}
	h := &layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(type4, 0), Id: binary.BigEndian.Uint16(rest)}
	if len(rest) == 2 {
		h.Seq, data = binary.BigEndian.Uint16(data), data[2:]
	}
	return serialize(tb, s.network(t, layers.IPProtocolICMPv4), h, gopacket.Payload(data))
}

func serialize(tb testing.TB, all ...gopacket.SerializableLayer) []byte {
	tb.Helper()
	b := gopacket.NewSerializeBuffer()
	if err := gopacket.SerializeLayers(b, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, all...); err != nil {
		tb.Fatal(err)
	}
	return b.Bytes()
}

// bufferOf is a packet behind an Ethernet header.
func bufferOf(p []byte) *packet.Buffer {
	b := packet.NewBuffer(make([]byte, 128+len(p)+64))
	b.Reset(128)
	b.Append(make([]byte, packet.EthLen))
	b.Append(p)
	b.L3 = packet.EthLen
	return b
}

func randomTarget(r *rand.Rand, v6, oneID bool) *Target {
	t := &Target{SrcPort: uint16(r.Uint32()), DstPort: uint16(r.Uint32())}
	n := 4
	if v6 {
		n = 16
	}
	for i := range n {
		t.Src[i], t.Dst[i] = byte(r.Uint32()), byte(r.Uint32())
	}
	if oneID {
		t.DstPort = t.SrcPort
	}
	return t
}

func randomShape(r *rand.Rand) *shape {
	s := &shape{v6: r.IntN(2) == 0, kind: kind(r.IntN(int(kinds))), data: make([]byte, r.IntN(80))}
	for i := range s.data {
		s.data[i] = byte(r.Uint32())
	}
	if s.kind == errorOf {
		s.about = kind(r.IntN(int(errorOf)))
		// Where SCTP is quoted its checksum stays: see TestQuotedSCTP.
		if s.about == sctp {
			s.about = tcp
		}
		if r.IntN(2) == 0 {
			s.quote = 8 + 2*r.IntN(10) // half a checksum cannot be made good
		}
	}
	return s
}

func TestRewriteMakesWhatWouldHaveBeenMade(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	seen := map[kind]int{}
	for range 6000 {
		s := randomShape(r)
		seen[s.kind]++
		oneID := s.kind == echo || s.kind == errorOf && s.about == echo
		from, to := randomTarget(r, s.v6, oneID), randomTarget(r, s.v6, oneID)
		b := bufferOf(s.make(t, from))
		if got := Rewrite(b, to, true); got != packet.OK {
			t.Fatalf("%v about %v, ip6 %v: %v", s.kind, s.about, s.v6, got)
		}
		if diff := cmp.Diff(s.make(t, to), b.L3Bytes()); diff != "" {
			t.Fatalf("%v about %v, ip6 %v, %d bytes quoted, from %v to %v (- want, + got):\n%s", s.kind, s.about, s.v6, s.quote, from, to, diff)
		}
	}
	if len(seen) != int(kinds) {
		t.Errorf("only these were tried: %v", seen)
	}
}

func TestRewriteLeavesChecksumsToTheDevice(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for range 2000 {
		s := &shape{v6: r.IntN(2) == 0, kind: kind(r.IntN(2)), data: make([]byte, r.IntN(1400))}
		from, to := randomTarget(r, s.v6, false), randomTarget(r, s.v6, false)
		b := bufferOf(s.make(t, from))
		b.L4 = b.L3 + uint16(s.header())
		if got := packet.LeaveChecksum(b); got != packet.OK {
			t.Fatal(got)
		}
		if got := Rewrite(b, to, true); got != packet.OK {
			t.Fatal(got)
		}
		if b.Offload.Flags&packet.NeedsChecksum == 0 {
			t.Fatal("the device is not told to finish the checksum any more")
		}
		if got := packet.FinishChecksum(b); got != packet.OK {
			t.Fatal(got)
		}
		if diff := cmp.Diff(s.make(t, to), b.L3Bytes()); diff != "" {
			t.Fatalf("%v, ip6 %v (- want, + got):\n%s", s.kind, s.v6, diff)
		}
	}
}

func TestErrorOfARouterKeepsItsSource(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	for _, v6 := range []bool{false, true} {
		s := &shape{v6: v6, kind: errorOf, about: udp, data: []byte("data")}
		from, to := randomTarget(r, v6, false), randomTarget(r, v6, false)
		b := bufferOf(s.make(t, from))
		if got := Rewrite(b, to, false); got != packet.OK {
			t.Fatal(got)
		}
		at, n := addrs4, size4/2
		if v6 {
			at, n = addrs6, size6/2
		}
		p := b.L3Bytes()
		if !bytes.Equal(p[at:at+n], from.Src[:n]) || !bytes.Equal(p[at+n:at+2*n], to.Dst[:n]) {
			t.Errorf("ip6 %v: from %x to %x", v6, p[at:at+n], p[at+n:at+2*n])
		}
		b.L4 = b.L3 + uint16(s.header())
		if got := packet.VerifyTransportChecksum(b); got != packet.OK {
			t.Errorf("ip6 %v: %v", v6, got)
		}
	}
}

func TestQuotedSCTP(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 8))
	s := &shape{kind: errorOf, about: sctp, data: []byte("data"), quote: 8}
	from, to := randomTarget(r, false, false), randomTarget(r, false, false)
	b := bufferOf(s.make(t, from))
	if got := Rewrite(b, to, true); got != packet.OK {
		t.Fatal(got)
	}
	if diff := cmp.Diff(s.make(t, to), b.L3Bytes()); diff != "" {
		t.Errorf("(- want, + got):\n%s", diff)
	}
}

// TestFragments: a later one has addresses only, whatever its data looks like.
func TestFragments(t *testing.T) {
	r := rand.New(rand.NewPCG(9, 10))
	s := &shape{kind: udp, data: []byte("0123456789")}
	to := randomTarget(r, false, false)
	p := s.make(t, randomTarget(r, false, false))
	binary.BigEndian.PutUint16(p[6:], 10)
	packet.IPv4(p).UpdateHeaderChecksum()
	b := bufferOf(p)
	if got := Rewrite(b, to, true); got != packet.OK {
		t.Fatal(got)
	}
	if !bytes.Equal(p[20:], b.L3Bytes()[20:]) {
		t.Errorf("data was changed: %x to %x", p[20:], b.L3Bytes()[20:])
	}
	if _, got := packet.ParseIPv4(b.L3Bytes()); got != packet.OK || packet.IPv4(b.L3Bytes()).Dst() != [4]byte(to.Dst[:4]) {
		t.Errorf("header: %v, %x", got, b.L3Bytes()[:20])
	}
}

func TestWhatCannotBeRewrittenStays(t *testing.T) {
	r := rand.New(rand.NewPCG(11, 12))
	full := func(k, about kind, v6 bool) []byte {
		s := &shape{v6: v6, kind: k, about: about, data: []byte("some data")}
		return s.make(t, randomTarget(r, v6, false))
	}
	with := func(p []byte, at int, v ...byte) []byte {
		copy(p[at:], v)
		return p
	}
	for _, c := range []struct {
		name string
		p    []byte
		want packet.Reason
	}{
		{"nothing", nil, packet.Truncated},
		{"half an IPv4 header", full(tcp, 0, false)[:10], packet.Truncated},
		{"half an IPv6 header", full(tcp, 0, true)[:30], packet.Truncated},
		{"a header length beyond the packet", with(full(udp, 0, false)[:24], 0, 0x4f), packet.Truncated},
		{"half a TCP header", full(tcp, 0, false)[:34], packet.Truncated},
		{"half a UDP header", full(udp, 0, true)[:45], packet.Truncated},
		{"another protocol", with(full(udp, 0, false), 9, packet.ProtoGRE), packet.Unsupported},
		{"a fragment of SCTP", with(full(sctp, 0, false), 6, 0x20), packet.Unsupported},
		{"a quote of nothing", full(errorOf, udp, false)[:28], packet.Truncated},
		{"a quote without ports", full(errorOf, udp, false)[:48], packet.Truncated},
		{"a quote of another family", with(full(errorOf, udp, true), 48, 0x45), packet.Unsupported},
		{"a quote of another protocol", with(full(errorOf, udp, false), 28+9, packet.ProtoESP), packet.Unsupported},
	} {
		b := bufferOf(c.p)
		if got := Rewrite(b, randomTarget(r, false, false), true); got != c.want {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
		if !bytes.Equal(b.L3Bytes(), c.p) {
			t.Errorf("%s: was changed:\n%x\n%x", c.name, c.p, b.L3Bytes())
		}
	}
}

func TestRewriteAllocatesNothing(t *testing.T) {
	r := rand.New(rand.NewPCG(13, 14))
	for k := range kinds {
		for _, v6 := range []bool{false, true} {
			s := &shape{v6: v6, kind: k, about: tcp, data: []byte("some data")}
			b, to := bufferOf(s.make(t, randomTarget(r, v6, true))), randomTarget(r, v6, true)
			if n := testing.AllocsPerRun(100, func() { Rewrite(b, to, true) }); n != 0 {
				t.Errorf("%v, ip6 %v: %v allocations", k, v6, n)
			}
		}
	}
}

// FuzzRewrite: whatever the bytes are, what is refused stays, nothing changes its length,
// and a good IPv4 header stays good.
func FuzzRewrite(f *testing.F) {
	r := rand.New(rand.NewPCG(15, 16))
	for range 40 {
		s := randomShape(r)
		f.Add(s.make(f, randomTarget(r, s.v6, true)), uint16(r.Uint32()), true)
	}
	f.Fuzz(func(t *testing.T, p []byte, port uint16, fromEnd bool) {
		if len(p) > 9000 {
			return
		}
		b := bufferOf(p)
		to := &Target{Src: [16]byte{10, 1, 2, 3, 15: 1}, Dst: [16]byte{10, 3, 2, 1, 15: 2}, SrcPort: port, DstPort: ^port}
		got := Rewrite(b, to, fromEnd)
		now := b.L3Bytes()
		switch {
		case len(now) != len(p):
			t.Fatalf("%d bytes became %d", len(p), len(now))
		case got != packet.OK && !bytes.Equal(now, p):
			t.Fatalf("%v, and yet changed", got)
		}
		if _, good := packet.ParseIPv4(p); good != packet.OK || got != packet.OK {
			return
		}
		if _, good := packet.ParseIPv4(now); good != packet.OK {
			t.Fatalf("a good IPv4 header became: %v", good)
		}
	})
}
