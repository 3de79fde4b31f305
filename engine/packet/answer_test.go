package packet

import (
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
)

func a4(s string) [4]byte  { return netip.MustParseAddr(s).As4() }
func a6(s string) [16]byte { return netip.MustParseAddr(s).As16() }

func TestICMPv4Errors(t *testing.T) {
	r := rand.New(rand.NewPCG(10, 10))
	for i := range 300 {
		s := randomSample(t, r, false, i&1 == 0, r.IntN(3000))
		b := FromBytes(s.bytes)
		if i&2 == 0 {
			PushEthernet(b, MAC{}, MAC{}, EtherTypeIPv4)
		}
		b.Append(make([]byte, 9)) // Ethernet padding is not quoted
		e := ICMPError{Type: ICMPv4Unreachable, Code: ICMPv4FragNeeded, Info: 1400}
		if r := MakeICMPv4Error(b, a4("192.0.2.1"), e); r != OK {
			t.Fatal(r)
		}
		d := verify(t, b.Bytes(), layers.LayerTypeIPv4)
		ip := d.NetworkLayer().(*layers.IPv4)
		m := d.Layer(layers.LayerTypeICMPv4).(*layers.ICMPv4)
		if ip.SrcIP.String() != "192.0.2.1" || !ip.DstIP.Equal(s.ip4.SrcIP) || ip.TTL != 255 || b.Len() > 576 || b.L3 != 0 || b.L4 != 20 {
			t.Fatalf("header %+v", ip)
		}
		if m.TypeCode != layers.CreateICMPv4TypeCode(3, 4) || m.Seq != 1400 || ICMPv4(b.L4Bytes()).MTU() != 1400 {
			t.Fatalf("message %+v", m)
		}
		if want := s.bytes[:min(len(s.bytes), 576-28)]; string(m.Payload) != string(want) {
			t.Fatalf("quotes %d bytes, want %d", len(m.Payload), len(want))
		}
	}
}

func TestICMPv6Errors(t *testing.T) {
	r := rand.New(rand.NewPCG(11, 11))
	for i := range 300 {
		s := randomSample(t, r, true, i&1 == 0, r.IntN(3000))
		b := FromBytes(s.bytes)
		if i&2 == 0 {
			PushEthernet(b, MAC{}, MAC{}, EtherTypeIPv6)
		}
		if r := MakeICMPv6Error(b, a6("2001:db8::1"), ICMPError{Type: ICMPv6PacketTooBig, Info: 1280}); r != OK {
			t.Fatal(r)
		}
		d := verify(t, b.Bytes(), layers.LayerTypeIPv6)
		ip := d.NetworkLayer().(*layers.IPv6)
		m := d.Layer(layers.LayerTypeICMPv6).(*layers.ICMPv6)
		if ip.SrcIP.String() != "2001:db8::1" || !ip.DstIP.Equal(s.ip6.SrcIP) || ip.HopLimit != 255 || b.Len() > 1280 {
			t.Fatalf("header %+v", ip)
		}
		if m.TypeCode != layers.CreateICMPv6TypeCode(2, 0) || ICMPv6(b.L4Bytes()).MTU() != 1280 {
			t.Fatalf("message %+v", m)
		}
		if want := s.bytes[:min(len(s.bytes), 1280-48)]; string(m.Payload[4:]) != string(want) {
			t.Fatalf("quotes %d bytes, want %d", len(m.Payload)-4, len(want))
		}
	}
}

func TestErrorsThatMustNotBeSent4(t *testing.T) {
	packetOf := func(src, dst string, proto uint8, payload ...byte) []byte {
		p := append(make([]byte, IPv4Len), payload...)
		MakeIPv4(p, a4(src), a4(dst), proto, 1)
		return p
	}
	later := packetOf("10.0.0.1", "10.0.0.2", ProtoUDP, make([]byte, 16)...)
	IPv4(later).setFragment(100)
	IPv4(later).UpdateHeaderChecksum()
	first := packetOf("10.0.0.1", "10.0.0.2", ProtoUDP, make([]byte, 16)...)
	IPv4(first).setFragment(ip4MF)
	IPv4(first).UpdateHeaderChecksum()
	for _, c := range []struct {
		name string
		p    []byte
		want Reason
	}{
		{"datagram", packetOf("10.0.0.1", "10.0.0.2", ProtoUDP), OK},
		{"first fragment", first, OK},
		{"later fragment", later, MustNotAnswer},
		{"echo", packetOf("10.0.0.1", "10.0.0.2", ProtoICMP, 8, 0, 0, 0), OK},
		{"echo reply", packetOf("10.0.0.1", "10.0.0.2", ProtoICMP, 0, 0, 0, 0), OK},
		{"unreachable", packetOf("10.0.0.1", "10.0.0.2", ProtoICMP, 3, 1, 0, 0), MustNotAnswer},
		{"redirect", packetOf("10.0.0.1", "10.0.0.2", ProtoICMP, 5, 1, 0, 0), MustNotAnswer},
		{"time exceeded", packetOf("10.0.0.1", "10.0.0.2", ProtoICMP, 11, 0, 0, 0), MustNotAnswer},
		{"unknown type", packetOf("10.0.0.1", "10.0.0.2", ProtoICMP, 99, 0, 0, 0), MustNotAnswer},
		{"no type", packetOf("10.0.0.1", "10.0.0.2", ProtoICMP), MustNotAnswer},
		{"to multicast", packetOf("10.0.0.1", "224.0.0.5", ProtoUDP), MustNotAnswer},
		{"to broadcast", packetOf("10.0.0.1", "255.255.255.255", ProtoUDP), MustNotAnswer},
		{"from nobody", packetOf("0.0.0.0", "10.0.0.2", ProtoUDP), MustNotAnswer},
		{"from multicast", packetOf("224.0.0.1", "10.0.0.2", ProtoUDP), MustNotAnswer},
		{"from broadcast", packetOf("255.255.255.255", "10.0.0.2", ProtoUDP), MustNotAnswer},
		{"from loopback", packetOf("127.0.0.1", "10.0.0.2", ProtoUDP), MustNotAnswer},
	} {
		b := FromBytes(c.p)
		if r := MakeICMPv4Error(b, a4("192.0.2.1"), ICMPError{Type: ICMPv4TimeExceeded}); r != c.want {
			t.Errorf("%s: %v, want %v", c.name, r, c.want)
		} else if r != OK && string(b.Bytes()) != string(c.p) {
			t.Errorf("%s: the packet was changed", c.name)
		}
	}
}

func TestErrorsThatMustNotBeSent6(t *testing.T) {
	packetOf := func(src, dst string, next uint8, payload ...byte) []byte {
		p := append(make([]byte, IPv6Len), payload...)
		MakeIPv6(p, a6(src), a6(dst), next, 1)
		return p
	}
	ttl, tooBig := ICMPError{Type: ICMPv6TimeExceeded}, ICMPError{Type: ICMPv6PacketTooBig, Info: 1280}
	option := ICMPError{Type: ICMPv6ParamProblem, Code: 2}
	for _, c := range []struct {
		name string
		p    []byte
		e    ICMPError
		want Reason
	}{
		{"datagram", packetOf("fd00::1", "fd00::2", ProtoUDP), ttl, OK},
		{"echo", packetOf("fd00::1", "fd00::2", ProtoICMPv6, 128, 0, 0, 0), ttl, OK},
		{"neighbour solicitation", packetOf("fd00::1", "fd00::2", ProtoICMPv6, 135, 0, 0, 0), ttl, OK},
		{"unreachable", packetOf("fd00::1", "fd00::2", ProtoICMPv6, 1, 0, 0, 0), ttl, MustNotAnswer},
		{"unknown error", packetOf("fd00::1", "fd00::2", ProtoICMPv6, 100, 0, 0, 0), tooBig, MustNotAnswer},
		{"redirect", packetOf("fd00::1", "fd00::2", ProtoICMPv6, 137, 0, 0, 0), ttl, MustNotAnswer},
		{"error behind options", packetOf("fd00::1", "fd00::2", ProtoDstOptions, ProtoICMPv6, 0, 1, 4, 0, 0, 0, 0, 1, 0, 0, 0), ttl, MustNotAnswer},
		{"later fragment", packetOf("fd00::1", "fd00::2", ProtoFragment, ProtoUDP, 0, 1, 0, 0, 0, 0, 1), ttl, MustNotAnswer},
		{"first fragment", packetOf("fd00::1", "fd00::2", ProtoFragment, ProtoUDP, 0, 0, 1, 0, 0, 0, 1), ttl, OK},
		{"to multicast", packetOf("fd00::1", "ff02::5", ProtoUDP), ttl, MustNotAnswer},
		{"to multicast, too big", packetOf("fd00::1", "ff02::5", ProtoUDP), tooBig, OK},
		{"to multicast, option", packetOf("fd00::1", "ff02::5", ProtoUDP), option, OK},
		{"from nobody", packetOf("::", "fd00::2", ProtoUDP), tooBig, MustNotAnswer},
		{"from multicast", packetOf("ff02::1", "fd00::2", ProtoUDP), tooBig, MustNotAnswer},
		{"from loopback", packetOf("::1", "fd00::2", ProtoUDP), ttl, MustNotAnswer},
	} {
		b := FromBytes(c.p)
		if r := MakeICMPv6Error(b, a6("2001:db8::1"), c.e); r != c.want {
			t.Errorf("%s: %v, want %v", c.name, r, c.want)
		} else if r != OK && string(b.Bytes()) != string(c.p) {
			t.Errorf("%s: the packet was changed", c.name)
		}
	}
}

func TestErrorNeedsRoom(t *testing.T) {
	p := make([]byte, 40)
	MakeIPv4(p, a4("10.0.0.1"), a4("10.0.0.2"), ProtoUDP, 1)
	b := &Buffer{}
	b.SetView(p, 0, len(p))
	if r := MakeICMPv4Error(b, a4("192.0.2.1"), ICMPError{Type: ICMPv4TimeExceeded}); r != NoRoom {
		t.Errorf("a view without headroom: %v", r)
	}
}

func TestEchoReplies(t *testing.T) {
	r := rand.New(rand.NewPCG(12, 12))
	for range 300 {
		q := EchoRequest{ID: uint16(r.Uint32()), Sequence: uint16(r.Uint32()), Payload: randomBytes(r, r.IntN(3000))}
		b := FromBytes(nil)
		if r := MakeEchoRequest4(b, a4("10.0.0.1"), a4("10.0.0.2"), q); r != OK {
			t.Fatal(r)
		}
		verify(t, b.Bytes(), layers.LayerTypeIPv4)
		IPv4(b.Bytes()).DecrementTTL()
		PushEthernet(b, MAC{}, MAC{}, EtherTypeIPv4)
		if r := MakeEchoReply4(b); r != OK {
			t.Fatal(r)
		}
		m := verify(t, b.L3Bytes(), layers.LayerTypeIPv4).Layer(layers.LayerTypeICMPv4).(*layers.ICMPv4)
		if m.TypeCode != 0 || m.Id != q.ID || m.Seq != q.Sequence || string(m.Payload) != string(q.Payload) || IPv4(b.L3Bytes()).Src() != a4("10.0.0.2") {
			t.Fatalf("reply %+v", m)
		}
		if r := MakeEchoRequest6(b, a6("fd00::1"), a6("ff02::1"), q); r != OK {
			t.Fatal(r)
		}
		verifyICMPv6(t, b.Bytes())
		if r := MakeEchoReply6(b, a6("fd00::9")); r != OK {
			t.Fatal(r)
		}
		d := verifyICMPv6(t, b.Bytes())
		if d.Layer(layers.LayerTypeICMPv6).(*layers.ICMPv6).TypeCode != layers.CreateICMPv6TypeCode(129, 0) {
			t.Fatal("no echo reply")
		}
		if ip := IPv6(b.Bytes()); ip.Src() != a6("fd00::9") || ip.Dst() != a6("fd00::1") || ip.HopLimit() != 64 {
			t.Fatal("addresses")
		}
	}
}

// verifyICMPv6 is verify for messages that gopacket decodes further, losing bytes.
func verifyICMPv6(t *testing.T, p []byte) gopacket.Packet {
	t.Helper()
	d := decode(t, p, layers.LayerTypeIPv6)
	ip, m := d.NetworkLayer().(*layers.IPv6), d.Layer(layers.LayerTypeICMPv6).(*layers.ICMPv6)
	if err := m.SetNetworkLayerForChecksum(ip); err != nil {
		t.Fatal(err)
	}
	if again := serialize(t, ip, m, gopacket.Payload(m.Payload)); string(again) != string(p) {
		t.Fatalf("gopacket would have written\n%x, not\n%x", again, p)
	}
	return d
}

func TestEchoRefusals(t *testing.T) {
	b := FromBytes(nil)
	edit := func(f func(ip IPv4)) Reason {
		MakeEchoRequest4(b, a4("10.0.0.1"), a4("10.0.0.2"), EchoRequest{ID: 1})
		f(b.Bytes())
		IPv4(b.Bytes()).UpdateHeaderChecksum()
		return MakeEchoReply4(b)
	}
	for _, c := range []struct {
		name string
		f    func(ip IPv4)
		want Reason
	}{
		{"reply", func(ip IPv4) {
			ip[20] = 0
			binary.BigEndian.PutUint16(ip[22:], 0)
			binary.BigEndian.PutUint16(ip[22:], Checksum(ip[20:]))
		}, Unsupported},
		{"checksum", func(ip IPv4) { ip[27]++ }, BadChecksum},
		{"fragment", func(ip IPv4) { ip.setFragment(ip4MF) }, Unsupported},
		{"UDP", func(ip IPv4) { ip[ip4Proto] = ProtoUDP }, Unsupported},
		{"from broadcast", func(ip IPv4) { ip.SetSrc(a4("255.255.255.255")) }, MustNotAnswer},
	} {
		if r := edit(c.f); r != c.want {
			t.Errorf("%s: %v, want %v", c.name, r, c.want)
		}
	}
}

func TestARP(t *testing.T) {
	me, you := MAC{2, 0, 0, 0, 0, 1}, MAC{2, 0, 0, 0, 0, 2}
	b := FromBytes(nil)
	MakeARPRequest(b, me, a4("10.0.0.1"), a4("10.0.0.2"))
	d := decode(t, b.Bytes(), layers.LayerTypeEthernet)
	g := d.Layer(layers.LayerTypeARP).(*layers.ARP)
	if !Ethernet(b.Bytes()).IsBroadcast() || g.Operation != 1 || string(g.SourceHwAddress) != string(me[:]) || string(g.DstProtAddress) != "\x0a\x00\x00\x02" || g.HwAddressSize != 6 {
		t.Errorf("request %+v", g)
	}
	a, r := ParseARP(b.L3Bytes())
	if r != OK || a.Op() != ARPRequest || a.TargetIP() != a4("10.0.0.2") {
		t.Fatal(r)
	}
	MakeARPReply(b, a, you) // in place
	g = decode(t, b.Bytes(), layers.LayerTypeEthernet).Layer(layers.LayerTypeARP).(*layers.ARP)
	e := Ethernet(b.Bytes())
	if e.Dst() != me || e.Src() != you || g.Operation != 2 || string(g.SourceProtAddress) != "\x0a\x00\x00\x02" || string(g.DstHwAddress) != string(me[:]) || string(g.SourceHwAddress) != string(you[:]) {
		t.Errorf("reply %+v", g)
	}
	for i, at := range []int{1, 3, 4, 5} {
		p := append([]byte(nil), b.L3Bytes()...)
		p[at]++
		if _, r := ParseARP(p); r != Unsupported {
			t.Errorf("case %d: %v", i, r)
		}
	}
	if _, r := ParseARP(make([]byte, 27)); r != Truncated {
		t.Error(r)
	}
}

func TestNeighborMessages(t *testing.T) {
	me, you := MAC{2, 0, 0, 0, 0, 1}, MAC{2, 0, 0, 0, 0, 2}
	target := a6("fd00::1234:5678")
	b := FromBytes(nil)
	MakeNeighborSolicit(b, me, a6("fd00::1"), target)
	d := verifyEthernet(t, b.Bytes())
	if g := d.Layer(layers.LayerTypeICMPv6NeighborSolicitation).(*layers.ICMPv6NeighborSolicitation); string(g.TargetAddress) != string(target[:]) || len(g.Options) != 1 {
		t.Errorf("solicitation %+v", g)
	}
	e := Ethernet(b.Bytes())
	if e.Dst() != (MAC{0x33, 0x33, 0xff, 0x34, 0x56, 0x78}) {
		t.Errorf("sent to %x", e.Dst())
	}
	ip, _ := ParseIPv6(b.L3Bytes())
	n, r := ParseNeighbor(ip, ip.Payload())
	if r != OK || !n.IsSolicit() || n.Target() != target {
		t.Fatal(r)
	}
	if mac, ok := n.LinkAddr(); !ok || mac != me {
		t.Errorf("source %x, %v", mac, ok)
	}
	AnswerNeighborSolicit(b, ip, me, target, you, NARouter) // in place
	d = verifyEthernet(t, b.Bytes())
	g := d.Layer(layers.LayerTypeICMPv6NeighborAdvertisement).(*layers.ICMPv6NeighborAdvertisement)
	if !g.Router() || !g.Solicited() || !g.Override() || Ethernet(b.Bytes()).Dst() != me {
		t.Errorf("advertisement %+v", g)
	}
	ip, _ = ParseIPv6(b.L3Bytes())
	if n, r = ParseNeighbor(ip, ip.Payload()); r != OK || n.IsSolicit() {
		t.Fatal(r)
	}
	if mac, ok := n.LinkAddr(); !ok || mac != you {
		t.Errorf("target %x, %v", mac, ok)
	}
	MakeNeighborProbe(b, me, you, a6("fd00::1"), target)
	verifyEthernet(t, b.Bytes())
	if Ethernet(b.Bytes()).Dst() != you || IPv6(b.L3Bytes()).Dst() != target {
		t.Error("a probe is unicast")
	}
}

func verifyEthernet(t *testing.T, p []byte) gopacket.Packet {
	t.Helper()
	ip, r := ParseIPv6(p[EthLen:])
	if r != OK || ip.HopLimit() != 255 {
		t.Fatal(r)
	}
	if _, r := ParseICMPv6(ip, ip.Payload()); r != OK {
		t.Fatal(r)
	}
	return decode(t, p, layers.LayerTypeEthernet)
}

func TestNeighborRules(t *testing.T) {
	b := FromBytes(nil)
	target := a6("fd00::1")
	for _, c := range []struct {
		name string
		edit func(ip IPv6, m []byte) []byte
		want Reason
	}{
		{"good", func(ip IPv6, m []byte) []byte { return m }, OK},
		{"forwarded", func(ip IPv6, m []byte) []byte { ip.SetHopLimit(254); return m }, BadValue},
		{"code", func(ip IPv6, m []byte) []byte { m[icmpCode] = 1; return m }, BadValue},
		{"multicast target", func(ip IPv6, m []byte) []byte { m[ndTarget] = 0xff; return m }, BadValue},
		{"option of length 0", func(ip IPv6, m []byte) []byte { m[ndLen+1] = 0; return m }, BadOption},
		{"option too long", func(ip IPv6, m []byte) []byte { m[ndLen+1] = 2; return m }, BadOption},
		{"other type", func(ip IPv6, m []byte) []byte { m[icmpType] = 128; return m }, Unsupported},
		{"short", func(ip IPv6, m []byte) []byte { return m[:23] }, Truncated},
		{"DAD with source option", func(ip IPv6, m []byte) []byte { ip.SetSrc([16]byte{}); return m }, BadValue},
		{"DAD", func(ip IPv6, m []byte) []byte { ip.SetSrc([16]byte{}); return m[:ndLen] }, OK},
		{"DAD to unicast", func(ip IPv6, m []byte) []byte { ip.SetSrc([16]byte{}); ip.SetDst(a6("fd00::1")); return m[:ndLen] }, BadValue},
		{"solicited to multicast", func(ip IPv6, m []byte) []byte { m[icmpType] = ICMPv6NeighborAdvert; m[ndFlags] = NASolicited; return m }, BadValue},
	} {
		MakeNeighborSolicit(b, MAC{2}, a6("fd00::2"), target)
		ip, _ := ParseIPv6(b.L3Bytes())
		m := c.edit(ip, ip.Payload())
		binary.BigEndian.PutUint16(m[icmpCheck:], 0)
		binary.BigEndian.PutUint16(m[icmpCheck:], ^Sum(m, ip.pseudo(ProtoICMPv6, len(m))))
		if _, r := ParseNeighbor(ip, m); r != c.want {
			t.Errorf("%s: %v, want %v", c.name, r, c.want)
		}
	}
	MakeNeighborSolicit(b, MAC{2}, a6("fd00::2"), target)
	ip, _ := ParseIPv6(b.L3Bytes())
	ip[len(ip)-1]++
	if _, r := ParseNeighbor(ip, ip.Payload()); r != BadChecksum {
		t.Errorf("checksum: %v", r)
	}
	AnswerNeighborSolicit(b, func() IPv6 { ip.SetSrc([16]byte{}); return ip }(), MAC{9}, target, MAC{2}, 0)
	if e := Ethernet(b.Bytes()); e.Dst() != (MAC{0x33, 0x33, 0, 0, 0, 1}) || b.L4Bytes()[ndFlags] != NAOverride {
		t.Errorf("DAD is answered to %x with %#x", e.Dst(), b.L4Bytes()[ndFlags])
	}
}

func TestRouterMessages(t *testing.T) {
	make6 := func(src string, hop uint8, m ...byte) (IPv6, []byte) {
		p := append(make([]byte, IPv6Len), m...)
		ip := MakeIPv6(p, a6(src), a6("ff02::1"), ProtoICMPv6, hop)
		binary.BigEndian.PutUint16(ip[IPv6Len+icmpCheck:], ^Sum(ip[IPv6Len:], ip.pseudo(ProtoICMPv6, len(m))))
		return ip, ip.Payload()
	}
	option := []byte{optSourceLL, 1, 2, 0, 0, 0, 0, 7}
	ra := append([]byte{134, 0, 0, 0, 64, 0, 0x07, 0x08, 0, 0, 0, 0, 0, 0, 0, 0}, option...)
	rs := append([]byte{133, 0, 0, 0, 0, 0, 0, 0}, option...)
	for _, c := range []struct {
		name, src string
		hop       uint8
		m         []byte
		want      Reason
	}{
		{"RA", "fe80::1", 255, ra, OK},
		{"RA from global", "fd00::1", 255, ra, BadValue},
		{"RA forwarded", "fe80::1", 64, ra, BadValue},
		{"RA short", "fe80::1", 255, ra[:12], Truncated},
		{"RA option", "fe80::1", 255, ra[:20], BadOption},
		{"RS", "fe80::2", 255, rs, OK},
		{"RS from nobody", "::", 255, rs[:8], OK},
		{"RS from nobody with address", "::", 255, rs, BadValue},
		{"NS", "fe80::2", 255, []byte{135, 0, 0, 0, 0, 0, 0, 0}, Unsupported},
	} {
		ip, m := make6(c.src, c.hop, c.m...)
		q, r := ParseRouter(ip, m)
		if r != c.want {
			t.Errorf("%s: %v, want %v", c.name, r, c.want)
		}
		if r != OK || len(c.m) < 16 {
			continue
		}
		if mac, ok := q.LinkAddr(); !ok || mac != (MAC{2, 0, 0, 0, 0, 7}) {
			t.Errorf("%s: address %x", c.name, mac)
		}
		if !q.IsSolicit() && q.Lifetime() != 1800 {
			t.Errorf("%s: lifetime %d", c.name, q.Lifetime())
		}
	}
}

func TestDerivedAddresses(t *testing.T) {
	if got := netip.AddrFrom16(LinkLocal(MAC{0x02, 0xfe, 0x12, 0x34, 0x56, 0x78})); got.String() != "fe80::fe:12ff:fe34:5678" {
		t.Error(got)
	}
	if got := netip.AddrFrom16(SolicitedNode(a6("fd00::1234:5678"))); got.String() != "ff02::1:ff34:5678" {
		t.Error(got)
	}
	if got := MulticastMAC4(a4("239.129.2.3")); got != (MAC{1, 0, 0x5e, 1, 2, 3}) {
		t.Errorf("%x", got)
	}
}
