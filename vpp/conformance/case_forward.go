package conformance

import (
	"net"
	"regexp"
	"slices"
	"strings"

	"github.com/google/gopacket/layers"
	interfaces "go.fd.io/govpp/binapi/interface"
	"go.fd.io/govpp/binapi/ip"
	"go.fd.io/govpp/binapi/ip_neighbor"
	"go.fd.io/govpp/binapi/urpf"
)

func forwardCases() []Case {
	return []Case{
		{"forward-ip4", forward4},
		{"forward-ip6", forward6},
		{"forward-bad-packets", badPackets},
		{"forward-echo", echoes},
		{"forward-local", localDelivery},
		{"forward-fragments", fragments},
		{"forward-tables", forwardTables},
		{"forward-ecmp", ecmp},
		{"forward-same-port", samePort},
		{"forward-ethernet", ethernet},
	}
}

func neighborAdd(p *Port, addr string) *ip_neighbor.IPNeighborAddDel {
	return &ip_neighbor.IPNeighborAddDel{IsAdd: true, Neighbor: neighbor(p.Index, addr, p.Peer, ip_neighbor.IP_API_NEIGHBOR_FLAG_STATIC)}
}

func forward4(s *Session) {
	a, b := s.wired()
	s.knows(a, "10.0.1.2")
	s.knows(b, "10.0.2.2")
	s.Note("TTL falls by one, the checksum follows, the MACs change")
	for _, ttl := range []uint8{64, 255, 2} {
		a.Play(a.udp("10.0.1.2", "10.0.2.2", ttl, 20), b, 1)
	}
	b.Play(b.udp("10.0.2.2", "10.0.1.2", 64, 20), a, 1)
	s.Note("sizes up to the MTU, no byte at all")
	for _, n := range []int{0, 1, 18, 1000, 1472, 8972} {
		a.Play(a.udp("10.0.1.2", "10.0.2.2", 64, n), b, 1)
	}
	s.Note("other fields stay: DSCP, ECN, id, DF, fragments; packets with options are dropped")
	h := ip4("10.0.1.2", "10.0.2.2", 64, layers.IPProtocolUDP)
	h.TOS, h.Id, h.Flags = 0xb9, 0xffff, layers.IPv4DontFragment
	a.Play(build(a.ether(layers.EthernetTypeIPv4), h, &layers.UDP{SrcPort: 1, DstPort: 2}, payload(9)), b, 1)
	h = ip4("10.0.1.2", "10.0.2.2", 64, layers.IPProtocolUDP)
	for _, kind := range []uint8{148, 7, 1} { // router alert, record route, no operation
		h.Options = []layers.IPv4Option{{OptionType: kind, OptionLength: 4, OptionData: []byte{0, 0}}}
		a.Play(build(a.ether(layers.EthernetTypeIPv4), h, &layers.UDP{SrcPort: 1, DstPort: 2}, payload(9)), b, 0)
	}
	h = ip4("10.0.1.2", "10.0.2.2", 64, layers.IPProtocolUDP)
	h.FragOffset = 100
	a.Play(build(a.ether(layers.EthernetTypeIPv4), h, payload(64)), b, 1)
	s.Note("other protocols")
	a.Play(build(a.ether(layers.EthernetTypeIPv4), ip4("10.0.1.2", "10.0.2.2", 64, 132), payload(40)), b, 1)
	a.Play(build(a.ether(layers.EthernetTypeIPv4), ip4("10.0.1.2", "10.0.2.2", 64, layers.IPProtocolTCP), &layers.TCP{SrcPort: 1, DstPort: 2, Seq: 3, SYN: true, Window: 9}, payload(5)), b, 1)
	a.Play(a.echo("10.0.1.2", "10.0.2.2", 64, 32), b, 1)
	s.Note("a frame longer than its packet: the padding is not forwarded")
	a.Play(append(a.udp("10.0.1.2", "10.0.2.2", 64, 1), make([]byte, 17)...), b, 1)
}

func forward6(s *Session) {
	a, b := s.wired()
	s.knows(a, "fd00:1::2")
	s.knows(b, "fd00:2::2")
	for _, limit := range []uint8{64, 255, 2} {
		a.Play(a.udp("fd00:1::2", "fd00:2::2", limit, 20), b, 1)
	}
	b.Play(b.udp("fd00:2::2", "fd00:1::2", 64, 20), a, 1)
	for _, n := range []int{0, 1000, 1452, 8952} {
		a.Play(a.udp("fd00:1::2", "fd00:2::2", 64, n), b, 1)
	}
	s.Note("class and flow label stay; extension headers pass")
	h := ip6("fd00:1::2", "fd00:2::2", 64, layers.IPProtocolUDP)
	h.TrafficClass, h.FlowLabel = 0xb9, 0x12345
	a.Play(build(a.ether(layers.EthernetTypeIPv6), h, &layers.UDP{SrcPort: 1, DstPort: 2}, payload(9)), b, 1)
	a.Play(build(a.ether(layers.EthernetTypeIPv6), ip6("fd00:1::2", "fd00:2::2", 64, layers.IPProtocolNoNextHeader)), b, 1)
	a.Play(a.echo("fd00:1::2", "fd00:2::2", 64, 32), b, 1)
	s.Note("a link-local destination is one of the link it came by")
	a.Play(a.udp("fd00:1::2", "fe80::9", 64, 20), b, 0)
}

// badPackets must be dropped, each with a reason in the counters.
func badPackets(s *Session) {
	a, b := s.wired()
	s.knows(a, "10.0.1.2", "fd00:1::2")
	s.knows(b, "10.0.2.2", "fd00:2::2")
	good := a.udp("10.0.1.2", "10.0.2.2", 64, 20)
	six := a.udp("fd00:1::2", "fd00:2::2", 64, 20)
	change := func(frame []byte, at int, to byte) []byte {
		c := slices.Clone(frame)
		c[at] = to
		return c
	}
	for _, tt := range []struct {
		name  string
		frame []byte
	}{
		{"wrong header checksum", change(good, 14+10, good[14+10]^0xff)},
		{"version 5", change(good, 14, 0x55)},
		{"header length 4", change(good, 14, 0x44)},
		{"total length above the frame", change(good, 14+3, 200)},
		{"total length below the header", change(good, 14+3, 10)},
		{"cut in the header", good[:14+12]},
		{"nothing behind Ethernet", good[:14]},
		{"fragment offset 1", fragmentOne(a)},
		{"v6 version 4", change(six, 14, 0x40)},
		{"v6 cut in the header", six[:14+20]},
		{"source is multicast", a.udp("224.0.0.9", "10.0.2.2", 64, 20)},
		{"source is broadcast", a.udp("255.255.255.255", "10.0.2.2", 64, 20)},
		{"source is ours", a.udp("10.0.1.1", "10.0.2.2", 64, 20)},
		{"source is loopback", a.udp("127.0.0.1", "10.0.2.2", 64, 20)},
		{"destination is loopback", a.udp("10.0.1.2", "127.0.0.1", 64, 20)},
		{"destination is class E", a.udp("10.0.1.2", "240.0.0.1", 64, 20)},
		{"destination is multicast", a.udp("10.0.1.2", "224.0.0.9", 64, 20)},
		{"destination is 0.0.0.0", a.udp("10.0.1.2", "0.0.0.0", 64, 20)},
		{"v6 source is ::", a.udp("::", "fd00:2::2", 64, 20)},
		{"v6 source is multicast", a.udp("ff02::9", "fd00:2::2", 64, 20)},
		{"v6 destination is ::1", a.udp("fd00:1::2", "::1", 64, 20)},
	} {
		s.Write("%s", tt.name)
		a.Send(tt.frame)
		for _, p := range []*Port{a, b} {
			p.Rest()
		}
	}
	a.Play(good, b, 1)
}

func fragmentOne(p *Port) []byte {
	h := ip4("10.0.1.2", "10.0.2.2", 64, layers.IPProtocolTCP)
	h.FragOffset = 1
	return build(p.ether(layers.EthernetTypeIPv4), h, payload(64))
}

func echoes(s *Session) {
	a, b := s.wired()
	s.knows(a, "10.0.1.2", "fd00:1::2")
	s.knows(b, "10.0.2.2", "fd00:2::2")
	s.Note("our address, that of another interface, TTL 1, empty, large")
	a.Play(a.echo("10.0.1.2", "10.0.1.1", 64, 56), a, 1)
	a.Play(a.echo("10.0.1.2", "10.0.2.1", 64, 56), a, 1)
	a.Play(a.echo("10.0.1.2", "10.0.1.1", 1, 56), a, 1)
	a.Play(a.echo("10.0.1.2", "10.0.1.1", 64, 0), a, 1)
	a.Play(a.echo("10.0.1.2", "10.0.1.1", 64, 1472), a, 1)
	s.Note("an answer nobody asked for; broadcast")
	a.Play(build(a.ether(layers.EthernetTypeIPv4), ip4("10.0.1.2", "10.0.1.1", 64, layers.IPProtocolICMPv4), &layers.ICMPv4{Id: 1}, payload(8)), a, 0)
	a.Play(a.echo("10.0.1.2", "10.0.1.255", 64, 8), a, 0)
	s.Note("v6: our address, the other one, limit 1, link-local, wrong checksum")
	a.Play(a.echo("fd00:1::2", "fd00:1::1", 64, 56), a, 1)
	a.Play(a.echo("fd00:1::2", "fd00:2::1", 64, 56), a, 1)
	a.Play(a.echo("fd00:1::2", "fd00:1::1", 1, 56), a, 1)
	wrong := a.echo("fd00:1::2", "fd00:1::1", 64, 56)
	wrong[len(wrong)-1] ^= 0xff
	a.Play(wrong, a, 0)
	s.Note("the answer to a peer without a neighbour entry asks first")
	a.Play(a.echo("10.0.1.77", "10.0.1.1", 64, 8), a, 1)
	s.Note("timestamp requests are for nobody")
	a.Play(build(a.ether(layers.EthernetTypeIPv4), ip4("10.0.1.2", "10.0.1.1", 64, layers.IPProtocolICMPv4), &layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(13, 0), Id: 1}, payload(12)), a, 0)
}

// localDelivery shows what packets to the machine get that no one there wants.
func localDelivery(s *Session) {
	a, _ := s.wired()
	s.knows(a, "10.0.1.2", "fd00:1::2")
	s.Note("UDP to a port without a user")
	a.Play(a.udp("10.0.1.2", "10.0.1.1", 64, 20), a, 1)
	a.Play(a.udp("fd00:1::2", "fd00:1::1", 64, 20), a, 1)
	s.Note("TCP, an unknown protocol")
	a.Play(build(a.ether(layers.EthernetTypeIPv4), ip4("10.0.1.2", "10.0.1.1", 64, layers.IPProtocolTCP), &layers.TCP{SrcPort: 1, DstPort: 2, SYN: true}), a, 0)
	a.Play(build(a.ether(layers.EthernetTypeIPv4), ip4("10.0.1.2", "10.0.1.1", 64, 132), payload(40)), a, 0)
	a.Play(build(a.ether(layers.EthernetTypeIPv6), ip6("fd00:1::2", "fd00:1::1", 64, 132), payload(40)), a, 0)
	s.Note("with a wrong UDP checksum, without one")
	wrong := a.udp("10.0.1.2", "10.0.1.1", 64, 20)
	wrong[14+20+6] ^= 0xff
	a.Play(wrong, a, 0)
	wrong[14+20+6], wrong[14+20+7] = 0, 0
	a.Play(wrong, a, 1)
}

// fragments: too large a packet for the way out, with and without DF.
func fragments(s *Session) {
	a, b := s.wired()
	s.knows(a, "10.0.1.2", "fd00:1::2")
	s.knows(b, "10.0.2.2", "fd00:2::2")
	s.Must(&interfaces.SwInterfaceSetMtu{SwIfIndex: b.Index, Mtu: []uint32{1280, 0, 0, 0}})
	at := func(n int, df bool) []byte {
		h := ip4("10.0.1.2", "10.0.2.2", 64, layers.IPProtocolUDP)
		if df {
			h.Flags = layers.IPv4DontFragment
		}
		return build(a.ether(layers.EthernetTypeIPv4), h, &layers.UDP{SrcPort: 1000, DstPort: 2000}, payload(n))
	}
	s.Note("just fits, one byte more, twice, three parts")
	a.Play(at(1252, false), b, 1)
	for _, n := range []int{1253, 1500, 3000} {
		parts := a.Play(at(n, false), b, (n+1251)/1252)
		one := true
		for _, p := range parts {
			one = one && len(p) > 20 && string(p[18:20]) == string(parts[0][18:20])
		}
		s.Write("  one id for all parts: %v", one)
	}
	s.Note("with DF: the sender is told the MTU")
	a.Play(at(1252, true), b, 1)
	a.Play(at(1253, true), a, 1)
	s.Note("a fragment is fragmented further")
	h := ip4("10.0.1.2", "10.0.2.2", 64, layers.IPProtocolUDP)
	h.Flags, h.FragOffset = layers.IPv4MoreFragments, 200
	for _, p := range a.Play(build(a.ether(layers.EthernetTypeIPv4), h, payload(1600)), b, 2) {
		s.Write("  the id stays: %v", p[18] == 0 && p[19] == 7)
	}
	s.Note("v6 is never fragmented on the way")
	a.Play(a.udp("fd00:1::2", "fd00:2::2", 64, 1232), b, 1)
	a.Play(a.udp("fd00:1::2", "fd00:2::2", 64, 1233), a, 1)
	s.Note("the machine's own large answer is fragmented")
	s.Must(&interfaces.SwInterfaceSetMtu{SwIfIndex: a.Index, Mtu: []uint32{1280, 0, 0, 0}})
	for _, frame := range [][]byte{a.echo("10.0.1.2", "10.0.1.1", 64, 1400), a.echo("fd00:1::2", "fd00:1::1", 64, 1400)} {
		a.Send(frame)
		for _, f := range a.Receive(2) { // VPP decrements its own TTL here
			s.Write("  %s", regexp.MustCompile("(ttl|limit) 6[34]").ReplaceAllString(describeFrame(f), "$1 any"))
		}
	}
	s.Note("an IP4 MTU beside the L3 one")
	s.Must(&interfaces.SwInterfaceSetMtu{SwIfIndex: b.Index, Mtu: []uint32{1500, 600, 0, 0}})
	a.Play(at(700, true), a, 1)
	a.Play(a.udp("fd00:1::2", "fd00:2::2", 64, 700), b, 1)
}

func forwardTables(s *Session) {
	a, b := s.Port(), s.Port()
	s.table(true, 7, false, "")
	s.Call(&interfaces.SwInterfaceSetTable{SwIfIndex: a.Index, VrfID: 7})
	s.addAddress(a.Index, "10.0.1.1/24")
	s.addAddress(b.Index, "10.0.2.1/24")
	s.knows(a, "10.0.1.2")
	s.knows(b, "10.0.2.2")
	s.Drain()
	s.Note("no way between tables")
	a.Play(a.udp("10.0.1.2", "10.0.2.2", 64, 20), b, 0)
	s.Note("a route that looks up in table 0")
	into := via("0.0.0.0", none)
	s.Call(&ip.IPRouteAddDel{IsAdd: true, Route: inTable(7, route("10.0.2.0/24", into))})
	a.Play(a.udp("10.0.1.2", "10.0.2.2", 64, 20), b, 1)
	b.Play(b.udp("10.0.2.2", "10.0.1.2", 64, 20), a, 0)
	back := via("10.0.1.2", a.Index)
	s.Call(&ip.IPRouteAddDel{IsAdd: true, Route: route("10.0.1.2/32", back)})
	b.Play(b.udp("10.0.2.2", "10.0.1.2", 64, 20), a, 1)
}

// ecmp asserts no exact split: only that flows stay on their path and both are used.
func ecmp(s *Session) {
	a, b := s.wired()
	s.knows(a, "10.0.1.2")
	s.knows(b, "10.0.2.2")
	other := net.HardwareAddr{2, 0, 0, 0, 0, 0x22}
	s.Must(&ip_neighbor.IPNeighborAddDel{IsAdd: true, Neighbor: neighbor(b.Index, "10.0.2.3", other, ip_neighbor.IP_API_NEIGHBOR_FLAG_STATIC)})
	s.Call(&ip.IPRouteAddDel{IsAdd: true, Route: route("20.0.0.0/8", via("10.0.2.2", b.Index), via("10.0.2.3", b.Index))})
	s.split(a, b, other)
	s.Note("weights 3 to 1")
	s.Call(&ip.IPRouteAddDel{IsAdd: true, Route: route("20.0.0.0/8", weighted(3, via("10.0.2.2", b.Index)), via("10.0.2.3", b.Index))})
	s.split(a, b, other)
	s.Note("a path of a lower preference is idle")
	second := via("10.0.2.3", b.Index)
	second.Preference = 1
	s.Call(&ip.IPRouteAddDel{IsAdd: true, Route: route("20.0.0.0/8", via("10.0.2.2", b.Index), second)})
	s.split(a, b, other)
}

// split sends 200 flows of three packets each.
func (s *Session) split(a, b *Port, second net.HardwareAddr) {
	const flows, burst = 200, 20 // a burst fits the shortest ring
	paths := map[uint16]map[string]int{}
	for range 3 {
		for first := uint16(0); first < flows; first += burst {
			for port := first; port < first+burst; port++ {
				a.Send(build(a.ether(layers.EthernetTypeIPv4), ip4("10.0.1.2", "20.0.0.1", 64, layers.IPProtocolUDP),
					&layers.UDP{SrcPort: layers.UDPPort(5000 + port), DstPort: 53}, payload(8)))
			}
			for _, f := range b.Receive(burst) {
				port := uint16(f[34])<<8 | uint16(f[35])
				if paths[port] == nil {
					paths[port] = map[string]int{}
				}
				paths[port][net.HardwareAddr(f[:6]).String()]++
			}
		}
	}
	onSecond, whole := 0, 0
	for _, used := range paths {
		if len(used) == 1 {
			whole++
		}
		if used[second.String()] > 0 {
			onSecond++
		}
	}
	s.Write("  flows seen %d, each on one path %d, second path unused %v, at least a tenth %v, at most six tenths %v",
		len(paths), whole, onSecond == 0, onSecond*10 >= flows, onSecond*10 <= 6*flows)
}

// samePort sends a packet back out of the port it came in by.
func samePort(s *Session) {
	a, _ := s.wired()
	s.knows(a, "10.0.1.2", "10.0.1.3", "fd00:1::2", "fd00:1::3")
	s.Note("VPP forwards; it sends no redirect")
	a.Play(a.udp("10.0.1.2", "10.0.1.3", 64, 20), a, 1)
	a.Play(a.udp("fd00:1::2", "fd00:1::3", 64, 20), a, 1)
}

// ethernet: which frames are taken in.
func ethernet(s *Session) {
	a, b := s.wired()
	s.knows(b, "10.0.2.2")
	frame := a.udp("10.0.1.2", "10.0.2.2", 64, 20)
	to := func(mac net.HardwareAddr) []byte {
		f := slices.Clone(frame)
		copy(f, mac)
		return f
	}
	s.Note("to our MAC, to another, to all, to a group")
	a.Play(to(a.MAC), b, 1)
	a.Play(to(net.HardwareAddr{2, 9, 9, 9, 9, 9}), b, 0)
	a.Play(to(net.HardwareAddr{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}), b, 0)
	a.Play(to(net.HardwareAddr{1, 0, 0x5e, 0, 0, 1}), b, 0)
	s.Note("unknown types, a VLAN nobody has")
	f := slices.Clone(frame)
	f[12], f[13] = 0x88, 0xb5
	a.Play(f, b, 0)
	tagged := append(append(slices.Clone(frame[:12]), 0x81, 0, 0, 5), frame[12:]...)
	a.Play(tagged, b, 0)
	s.Note("after a change of MAC")
	s.Call(&interfaces.SwInterfaceSetMacAddress{SwIfIndex: a.Index, MacAddress: mac(net.HardwareAddr{2, 7, 7, 7, 7, 7})})
	s.Drain()
	a.Play(to(a.MAC), b, 0)
	a.Play(to(net.HardwareAddr{2, 7, 7, 7, 7, 7}), b, 1)
	a.Play(a.arp(1, "10.0.1.2", "10.0.1.1"), a, 1)
}

func urpfCases() []Case {
	return []Case{{"urpf", reversePath}}
}

func reversePath(s *Session) {
	a, b := s.wired()
	s.knows(a, "10.0.1.2", "fd00:1::2")
	s.knows(b, "10.0.2.2", "fd00:2::2")
	try := func() {
		for _, from := range []string{"10.0.1.2", "10.0.2.9", "99.0.0.1"} {
			n, within := 0, quiet
			if next := s.ahead(); len(next) > 0 && !strings.Contains(next[0], ": 0 came") {
				within = patience / 5
			}
			a.Send(a.udp(from, "10.0.2.2", 64, 20))
			for f := b.read(within); f != nil; f = b.read(quiet) {
				n++
			}
			s.Write("  from %s: %d came through", from, n)
		}
	}
	try()
	for _, mode := range []urpf.UrpfMode{urpf.URPF_API_MODE_STRICT, urpf.URPF_API_MODE_LOOSE, urpf.URPF_API_MODE_OFF} {
		s.Call(&urpf.UrpfUpdateV2{IsInput: true, Mode: mode, SwIfIndex: a.Index, TableID: ^uint32(0)})
		s.Dump(&urpf.UrpfInterfaceDump{SwIfIndex: none})
		try()
	}
	s.Note("strict, with routes to the source through another port, through both")
	s.Call(&urpf.UrpfUpdateV2{IsInput: true, Mode: urpf.URPF_API_MODE_STRICT, SwIfIndex: a.Index, TableID: ^uint32(0)})
	s.Must(&ip.IPRouteAddDel{IsAdd: true, Route: route("99.0.0.0/8", via("10.0.2.2", b.Index))})
	try()
	s.Must(&ip.IPRouteAddDel{IsAdd: true, IsMultipath: true, Route: route("99.0.0.0/8", via("10.0.1.2", a.Index))})
	try()
	s.Note("strict does not stop the resolution and the answers of the subnet")
	a.Play(a.echo("10.0.1.2", "10.0.1.1", 64, 8), a, 1)
	a.Play(a.arp(1, "10.0.1.2", "10.0.1.1"), a, 1)
	s.Note("v6")
	s.Call(&urpf.UrpfUpdateV2{IsInput: true, Mode: urpf.URPF_API_MODE_STRICT, Af: 1, SwIfIndex: a.Index, TableID: ^uint32(0)})
	a.Play(a.udp("fd00:1::2", "fd00:2::2", 64, 20), b, 1)
	a.Play(a.udp("fd00:2::9", "fd00:2::2", 64, 20), b, 0)
	a.Play(a.solicit("fe80::99", "fd00:1::1"), a, 1)
	s.Note("wrong calls")
	s.Call(&urpf.UrpfUpdateV2{IsInput: true, Mode: 9, SwIfIndex: a.Index, TableID: ^uint32(0)})
	s.Call(&urpf.UrpfUpdateV2{IsInput: true, Mode: 1, SwIfIndex: missing, TableID: ^uint32(0)})
	s.Call(&urpf.UrpfUpdateV2{IsInput: true, Mode: 1, SwIfIndex: a.Index, TableID: 99})
	s.Call(&urpf.UrpfUpdate{IsInput: true, Mode: 0, SwIfIndex: a.Index})
	s.Dump(&urpf.UrpfInterfaceDump{SwIfIndex: a.Index})
}
