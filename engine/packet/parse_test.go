package packet

import (
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
)

func TestHeadersAgainstGopacket(t *testing.T) {
	r := rand.New(rand.NewPCG(6, 6))
	for i := range 4000 {
		s := randomSample(t, r, i&1 == 0, i&2 == 0, r.IntN(300))
		padded := append(append([]byte(nil), s.bytes...), make([]byte, r.IntN(20))...)
		var u Upper
		var upper []byte
		if s.ip4 != nil {
			h, reason := ParseIPv4(padded)
			if reason != OK || len(h) != len(s.bytes) {
				t.Fatalf("ParseIPv4: %v, %d bytes of %d", reason, len(h), len(s.bytes))
			}
			g := s.ip4
			if h.TTL() != g.TTL || h.TOS() != g.TOS || h.ID() != g.Id || h.Protocol() != uint8(g.Protocol) || h.TotalLen() != int(g.Length) ||
				h.Checksum() != g.Checksum || h.SrcAddr().String() != g.SrcIP.String() || h.DstAddr().String() != g.DstIP.String() || h.HeaderLen() != int(g.IHL)*4 {
				t.Fatalf("header %x differs from %+v", []byte(h[:20]), g)
			}
			u, upper = h.Upper(), h.Payload()
		} else {
			h, reason := ParseIPv6(padded)
			if reason != OK || len(h) != len(s.bytes) {
				t.Fatalf("ParseIPv6: %v, %d bytes of %d", reason, len(h), len(s.bytes))
			}
			g := s.ip6
			if h.HopLimit() != g.HopLimit || h.TrafficClass() != g.TrafficClass || h.FlowLabel() != g.FlowLabel || h.NextHeader() != uint8(g.NextHeader) ||
				h.PayloadLen() != int(g.Length) || h.SrcAddr().String() != g.SrcIP.String() || h.DstAddr().String() != g.DstIP.String() {
				t.Fatalf("header %x differs from %+v", []byte(h[:40]), g)
			}
			if u, reason = h.Upper(); reason != OK {
				t.Fatal(reason)
			}
			upper = h.Payload()
		}
		checkTransport(t, s, u, upper)
	}
}

func checkTransport(t *testing.T, s *sample, u Upper, upper []byte) {
	t.Helper()
	if u.Fragment || u.Later || u.Offset != s.l4() {
		t.Fatalf("upper is %+v", u)
	}
	if s.tcp != nil {
		h, r := ParseTCP(upper)
		if r != OK || u.Proto != ProtoTCP {
			t.Fatal(r, u)
		}
		if h.SrcPort() != uint16(s.tcp.SrcPort) || h.DstPort() != uint16(s.tcp.DstPort) || h.Seq() != s.tcp.Seq || h.Ack() != s.tcp.Ack ||
			h.Window() != s.tcp.Window || h.Checksum() != s.tcp.Checksum || string(h.Payload()) != string(s.body) ||
			h.Flags()&TCPFin != 0 != s.tcp.FIN || h.Flags()&TCPCwr != 0 != s.tcp.CWR || h.Flags()&TCPPsh != 0 != s.tcp.PSH {
			t.Fatalf("TCP %x differs from %+v", []byte(h[:20]), s.tcp)
		}
		return
	}
	h, r := ParseUDP(upper)
	if r != OK || u.Proto != ProtoUDP || h.SrcPort() != uint16(s.udp.SrcPort) || h.DstPort() != uint16(s.udp.DstPort) ||
		h.Length() != int(s.udp.Length) || h.Checksum() != s.udp.Checksum || string(h.Payload()) != string(s.body) {
		t.Fatalf("UDP %x differs from %+v: %v", []byte(h[:8]), s.udp, r)
	}
}

func TestExtensionHeaders(t *testing.T) {
	ip := func(next uint8, payload ...[]byte) []byte {
		p := make([]byte, IPv6Len)
		for _, q := range payload {
			p = append(p, q...)
		}
		MakeIPv6(p, [16]byte{15: 1}, [16]byte{15: 2}, next, 64)
		return p
	}
	opts := func(next uint8, eights int) []byte {
		p := make([]byte, 8*(eights+1))
		p[0], p[1] = next, uint8(eights)
		return p
	}
	frag := func(next uint8, field uint16) []byte {
		return []byte{next, 0, byte(field >> 8), byte(field), 0, 0, 0, 9}
	}
	udp := make([]byte, 8)
	many := ip(ProtoDstOptions)
	for range maxExtensions + 1 {
		many = append(many, opts(ProtoDstOptions, 0)...)
	}
	IPv6(many).SetPayloadLen(len(many) - IPv6Len)
	cases := []struct {
		name string
		p    []byte
		want Upper
		r    Reason
	}{
		{"none", ip(ProtoUDP, udp), Upper{Proto: ProtoUDP, Offset: 40}, OK},
		{"all", ip(ProtoHopByHop, opts(ProtoRouting, 1), opts(ProtoDstOptions, 0), opts(ProtoUDP, 2), udp), Upper{Proto: ProtoUDP, Offset: 40 + 16 + 8 + 24}, OK},
		{"authentication", ip(ProtoAH, append(opts(ProtoTCP, 1)[:2], make([]byte, 10)...), udp), Upper{Proto: ProtoTCP, Offset: 52}, OK},
		{"atomic fragment", ip(ProtoFragment, frag(ProtoUDP, 0), udp), Upper{Proto: ProtoUDP, Offset: 48, FragmentHeader: 40}, OK},
		{"first fragment", ip(ProtoFragment, frag(ProtoUDP, 1), udp), Upper{Proto: ProtoUDP, Offset: 48, FragmentHeader: 40, Fragment: true}, OK},
		{"later fragment of options", ip(ProtoFragment, frag(ProtoDstOptions, 8), udp), Upper{Proto: ProtoDstOptions, Offset: 48, FragmentHeader: 40, Fragment: true, Later: true}, OK},
		{"no next header", ip(ProtoNoNext), Upper{Proto: ProtoNoNext, Offset: 40}, OK},
		{"ESP ends the walk", ip(ProtoESP, udp), Upper{Proto: ProtoESP, Offset: 40}, OK},
		{"cut option", ip(ProtoDstOptions, opts(ProtoUDP, 3)[:16]), Upper{}, Truncated},
		{"cut fragment", ip(ProtoFragment, []byte{17, 0, 0}), Upper{}, Truncated},
		{"two fragment headers", ip(ProtoFragment, frag(ProtoFragment, 0), frag(ProtoUDP, 0), udp), Upper{}, BadFragment},
		{"overlong fragment", ip(ProtoFragment, frag(ProtoUDP, 0xfff8), make([]byte, 64)), Upper{}, BadFragment},
		{"too many", many, Upper{}, BadOption},
	}
	for _, c := range cases {
		h, r := ParseIPv6(c.p)
		if r != OK {
			t.Fatalf("%s: ParseIPv6: %v", c.name, r)
		}
		if u, r := h.Upper(); u != c.want || r != c.r {
			t.Errorf("%s: %+v, %v; want %+v, %v", c.name, u, r, c.want, c.r)
		}
	}
}

func TestBadHeadersAreNamed(t *testing.T) {
	good := make([]byte, 28)
	MakeIPv4(good, [4]byte{1, 2, 3, 4}, [4]byte{5, 6, 7, 8}, ProtoUDP, 9)
	edit := func(f func(h IPv4)) []byte {
		p := append([]byte(nil), good...)
		f(p)
		return p
	}
	fixed := func(f func(h IPv4)) []byte {
		return edit(func(h IPv4) { f(h); h.UpdateHeaderChecksum() })
	}
	for _, c := range []struct {
		name string
		p    []byte
		want Reason
	}{
		{"good", good, OK},
		{"short", good[:19], Truncated},
		{"version", edit(func(h IPv4) { h[0] = 0x65 }), BadVersion},
		{"header length", edit(func(h IPv4) { h[0] = 0x44 }), BadHeaderLength},
		{"total below header", edit(func(h IPv4) { h.SetTotalLen(19) }), BadLength},
		{"total above packet", fixed(func(h IPv4) { h.SetTotalLen(29) }), Truncated},
		{"options beyond packet", edit(func(h IPv4) { h[0] = 0x4f }), BadLength},
		{"checksum", edit(func(h IPv4) { h[8]++ }), BadChecksum},
		{"offset 1", fixed(func(h IPv4) { h.setFragment(1) }), BadFragment},
		{"ping of death", fixed(func(h IPv4) { h.setFragment(0x1fff) }), BadFragment},
		{"fragment", fixed(func(h IPv4) { h.setFragment(0x1000) }), OK},
	} {
		if _, r := ParseIPv4(c.p); r != c.want {
			t.Errorf("%s: %v, want %v", c.name, r, c.want)
		}
	}
	six := make([]byte, 48)
	MakeIPv6(six, [16]byte{}, [16]byte{}, ProtoHopByHop, 1)
	jumbo := append([]byte(nil), six...)
	IPv6(jumbo).SetPayloadLen(0)
	for _, c := range []struct {
		name string
		p    []byte
		want Reason
	}{
		{"good", six, OK}, {"short", six[:39], Truncated}, {"cut", six[:47], Truncated}, {"jumbogram", jumbo, Unsupported}, {"version", good[:20:20], Truncated},
		{"version 4", append(append([]byte(nil), good...), make([]byte, 20)...), BadVersion},
	} {
		if _, r := ParseIPv6(c.p); r != c.want {
			t.Errorf("IPv6 %s: %v, want %v", c.name, r, c.want)
		}
	}
	if _, r := ParseTCP(append(make([]byte, 12), 0x40, 0, 0, 0, 0, 0, 0, 0)); r != BadHeaderLength {
		t.Errorf("TCP data offset 4: %v", r)
	}
	if _, r := ParseTCP(append(make([]byte, 12), 0x60, 0, 0, 0, 0, 0, 0, 0)); r != Truncated {
		t.Errorf("TCP data offset 6 of 20 bytes: %v", r)
	}
	if _, r := ParseUDP([]byte{0, 1, 0, 2, 0, 7, 0, 0}); r != BadLength {
		t.Errorf("UDP length 7: %v", r)
	}
	if _, r := ParseUDP([]byte{0, 1, 0, 2, 0, 9, 0, 0}); r != Truncated {
		t.Errorf("UDP length 9 of 8: %v", r)
	}
}

func TestVLANs(t *testing.T) {
	p := serialize(t, &layers.Ethernet{SrcMAC: make([]byte, 6), DstMAC: make([]byte, 6), EthernetType: 0x88b5}, gopacket.Payload("payload"))
	b := FromBytes(p)
	b.L3, b.L4 = EthLen, EthLen+20
	if !PushVLAN(b, EtherTypeVLAN, 0x2005) || !PushVLAN(b, EtherTypeQinQ, 9) {
		t.Fatal("no room")
	}
	d := decode(t, b.Bytes(), layers.LayerTypeEthernet)
	tags := 0
	for _, l := range d.Layers() {
		if v, ok := l.(*layers.Dot1Q); ok {
			if want := []uint16{9, 5}[tags]; v.VLANIdentifier != want {
				t.Errorf("tag %d is %d", tags, v.VLANIdentifier)
			}
			tags++
		}
	}
	typ, off, r := EtherPayload(b.Bytes())
	if r != OK || typ != 0x88b5 || off != 22 || b.L3 != 22 || b.L4 != 42 || tags != 2 || !strings.HasPrefix(string(b.L3Bytes()), "payload") {
		t.Errorf("type %#x at %d, L3 %d, L4 %d, %d tags: %v", typ, off, b.L3, b.L4, tags, r)
	}
	if _, _, r := EtherPayload(b.Bytes()[:20]); r != Truncated {
		t.Errorf("cut tag is %v", r)
	}
}

func TestReasonsHaveNames(t *testing.T) {
	seen := map[string]bool{}
	for r := range numReasons {
		if s := r.String(); s == "" || s == "unknown" || seen[s] {
			t.Errorf("reason %d is %q", r, s)
		} else {
			seen[s] = true
		}
	}
	if numReasons.String() != "unknown" {
		t.Error("a reason beyond the last has a name")
	}
}
