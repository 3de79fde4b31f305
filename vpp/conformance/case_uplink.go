package conformance

import (
	"net"
	"net/netip"

	"github.com/google/gopacket/layers"
	"go.fd.io/govpp/binapi/arp"
	"go.fd.io/govpp/binapi/fib"
	"go.fd.io/govpp/binapi/fib_types"
	interfaces "go.fd.io/govpp/binapi/interface"
	"go.fd.io/govpp/binapi/ip"
	"go.fd.io/govpp/binapi/ip_neighbor"
	"go.fd.io/govpp/binapi/ip_types"
)

// uplinkCases are what the wiring of a node's uplinks stands on.
func uplinkCases() []Case {
	return []Case{
		{"proxy-arp", proxyARP},
		{"route-hidden-source", hiddenSource},
		{"route-attached-source", attachedSource},
		{"uplink-host-address", hostAddress},
		{"uplink-broadcast", hostBroadcast},
	}
}

func ip4Address(text string) ip_types.IP4Address { return netip.MustParseAddr(text).As4() }

func (s *Session) proxyRange(add bool, table uint32, low, high string) {
	s.T.Helper()
	s.Call(&arp.ProxyArpAddDel{IsAdd: add, Proxy: arp.ProxyArp{TableID: table, Low: ip4Address(low), Hi: ip4Address(high)}})
}

func (s *Session) proxies() {
	s.T.Helper()
	s.Dump(&arp.ProxyArpDump{})
	s.Dump(&arp.ProxyArpIntfcDump{})
}

func proxyARP(s *Session) {
	a, b := s.wired()
	s.table(true, 7, false, "seven")
	s.Note("ranges: again, of a table that is not there, the wrong way round")
	s.proxyRange(true, 0, "10.0.1.100", "10.0.1.200")
	s.proxyRange(true, 0, "10.0.1.100", "10.0.1.200")
	s.proxyRange(true, 7, "10.0.1.50", "10.0.1.60")
	s.proxyRange(true, 99, "10.0.1.1", "10.0.1.2")
	s.proxyRange(true, 0, "10.9.0.9", "10.9.0.1")
	s.proxyRange(true, 0, "30.0.0.1", "30.0.0.1")
	s.proxies()
	s.Note("nobody answers before an interface is told to")
	a.Play(a.arp(1, "10.0.1.2", "10.0.1.100"), a, 0)
	s.Call(&arp.ProxyArpIntfcEnableDisable{SwIfIndex: a.Index, Enable: true})
	s.Call(&arp.ProxyArpIntfcEnableDisable{SwIfIndex: a.Index, Enable: true})
	s.Call(&arp.ProxyArpIntfcEnableDisable{SwIfIndex: missing, Enable: true})
	s.proxies()
	a.Play(a.arp(1, "10.0.1.2", "10.0.1.100"), a, 1)
	a.Play(a.arp(1, "10.0.1.2", "10.0.1.200"), a, 1)
	a.Play(a.arp(1, "10.0.1.2", "30.0.0.1"), a, 1)
	s.Note("its own address as before; outside the range, of another table, on another interface")
	a.Play(a.arp(1, "10.0.1.2", "10.0.1.1"), a, 1)
	a.Play(a.arp(1, "10.0.1.2", "10.0.1.99"), a, 0)
	a.Play(a.arp(1, "10.0.1.2", "10.0.1.55"), a, 0)
	b.Play(b.arp(1, "10.0.2.2", "10.0.1.100"), b, 0)
	s.Note("a probe, a sender off the subnet, our own address as sender, a reply, a gratuitous one")
	a.Play(a.arp(1, "0.0.0.0", "10.0.1.100"), a, 0)
	a.Play(a.arp(1, "99.0.0.1", "10.0.1.100"), a, 0)
	a.Play(a.arp(1, "10.0.1.1", "10.0.1.100"), a, 1)
	a.Play(a.arp(2, "10.0.1.2", "10.0.1.100"), a, 0)
	a.Play(a.arp(1, "10.0.1.150", "10.0.1.150"), a, 1)
	s.neighbors()
	s.Note("for a neighbour in the range, too")
	s.knows(a, "10.0.1.120")
	a.Play(a.arp(1, "10.0.1.2", "10.0.1.120"), a, 1)
	s.Note("the end of a range, of one that is not there, of the interface's answers")
	s.proxyRange(false, 0, "10.0.1.100", "10.0.1.200")
	s.proxyRange(false, 0, "10.0.1.100", "10.0.1.199")
	s.proxyRange(false, 99, "10.0.1.100", "10.0.1.199")
	a.Play(a.arp(1, "10.0.1.2", "10.0.1.100"), a, 0)
	s.Call(&arp.ProxyArpIntfcEnableDisable{SwIfIndex: a.Index})
	s.Call(&arp.ProxyArpIntfcEnableDisable{SwIfIndex: a.Index})
	a.Play(a.arp(1, "10.0.1.2", "30.0.0.1"), a, 0)
	s.proxies()
}

// source makes a FIB source.
func (s *Session) source(name string, priority uint8) uint8 {
	s.T.Helper()
	reply, ok := s.Call(&fib.FibSourceAdd{Src: fib.FibSource{Name: name, Priority: priority}}).(*fib.FibSourceAddReply)
	if !ok {
		s.T.Fatal("no reply")
	}
	return reply.ID
}

func (s *Session) sourced(source uint8, table uint32, to string, paths ...fib_types.FibPath) {
	s.T.Helper()
	s.Call(&ip.IPRouteAddDelV2{IsAdd: true, Route: sourcedRoute(source, table, to, paths...)})
}

func sourcedRoute(source uint8, table uint32, to string, paths ...fib_types.FibPath) ip.IPRouteV2 {
	p := prefix(to)
	for i := range paths {
		if p.Address.Af == ip_types.ADDRESS_IP6 {
			paths[i].Proto = fib_types.FIB_API_PATH_NH_PROTO_IP6
		}
	}
	return ip.IPRouteV2{TableID: table, Prefix: p, Src: source, NPaths: uint8(len(paths)), Paths: paths}
}

// lookupIn is a path that looks up in another table.
func lookupIn(table uint32) fib_types.FibPath {
	p := via("0.0.0.0", none)
	p.TableID = table
	return p
}

func attached(p *Port) fib_types.FibPath { return via("0.0.0.0", p.Index) }

// hiddenSource: a source's dump lacks what a better source has, too.
func hiddenSource(s *Session) {
	p := s.Port()
	s.addAddress(p.Index, "10.0.0.1/24")
	low, high := s.source("low", 0x7f), s.source("high", 0x02)
	s.sourced(low, 0, "20.0.0.0/8", via("10.0.0.2", p.Index))
	s.sourced(high, 0, "20.0.0.0/8", via("10.0.0.3", p.Index))
	s.sourced(low, 0, "10.0.0.1/32", via("10.0.0.2", p.Index))
	for _, source := range []uint8{low, high, 8} {
		s.Dump(&ip.IPRouteV2Dump{Src: source})
	}
	s.Note("a better source than the interface's address, and its end")
	s.sourced(high, 0, "10.0.0.1/32", via("10.0.0.3", p.Index))
	s.route("10.0.0.1/32")
	s.Dump(&ip.IPRouteV2Dump{Src: high})
	s.Call(&ip.IPRouteAddDelV2{Route: sourcedRoute(high, 0, "10.0.0.1/32")})
	s.Call(&ip.IPRouteAddDelV2{Route: sourcedRoute(high, 0, "20.0.0.0/8")})
	s.route("10.0.0.1/32")
	s.Dump(&ip.IPRouteV2Dump{Src: low})
	s.Dump(&ip.IPRouteV2Dump{Src: high})
}

// attachedSource: neighbours make routes below prefixes that the API attached, not below
// those of other sources.
func attachedSource(s *Session) {
	a, b := s.wired()
	s.knows(a, "10.0.1.2")
	own := s.source("own", 0x02)
	s.sourced(8, 0, "30.0.0.0/24", attached(b))
	s.sourced(own, 0, "40.0.0.0/24", attached(b))
	for _, to := range []string{"30.0.0.2", "40.0.0.2"} {
		s.Note("%s: asked for, answered, reached or not", to)
		a.Play(a.udp("10.0.1.2", to, 64, 20), b, 1)
		b.Send(b.arp(2, to, "10.0.2.1"))
		s.Drain()
		s.route(to + "/32")
	}
	s.neighbors()
	a.Play(a.udp("10.0.1.2", "30.0.0.2", 64, 20), b, 1)
}

// node wires b, the way out, and a, the link to a host that has 10.0.2.1 and fd00:2::1.
func (s *Session) node() (a, b *Port, own uint8) {
	s.T.Helper()
	a, b = s.Port(), s.Port()
	const wire, host = 7, 8
	for _, id := range []uint32{wire, host} {
		for _, six := range []bool{false, true} {
			s.Must(&ip.IPTableAddDelV2{IsAdd: true, Table: ip.IPTable{TableID: id, IsIP6: six, Name: "t"}, CreateMfib: true})
		}
	}
	reply, ok := s.Must(&interfaces.CreateLoopback{}).(*interfaces.CreateLoopbackReply)
	if !ok {
		s.T.Fatal("no loopback")
	}
	loop := reply.SwIfIndex
	for index, table := range map[interfaceIndex]uint32{a.Index: host, b.Index: wire, loop: wire} {
		for _, six := range []bool{false, true} {
			s.Must(&interfaces.SwInterfaceSetTable{SwIfIndex: index, VrfID: table, IsIPv6: six})
		}
	}
	s.Must(&interfaces.SwInterfaceSetFlags{SwIfIndex: loop, Flags: 1})
	for _, x := range []struct {
		index interfaceIndex
		addr  string
	}{{loop, "10.0.2.1/32"}, {loop, "fd00:2::1/128"}, {a.Index, "169.254.0.1/32"}} {
		s.Must(&interfaces.SwInterfaceAddDelAddress{SwIfIndex: x.index, IsAdd: true, Prefix: withPrefix(x.addr)})
	}
	s.Must(&interfaces.SwInterfaceSetUnnumbered{SwIfIndex: loop, UnnumberedSwIfIndex: b.Index, IsAdd: true})
	for _, index := range []interfaceIndex{a.Index, b.Index} {
		s.Must(&ip.SwInterfaceIP6EnableDisable{SwIfIndex: index, Enable: true})
	}
	own = s.source("node", 0x02)
	for _, to := range []string{"10.0.2.1/32", "fd00:2::1/128"} {
		s.Must(&ip.IPRouteAddDelV2{IsAdd: true, Route: sourcedRoute(own, host, to, attached(a))})
		s.Must(&ip.IPRouteAddDelV2{IsAdd: true, Route: sourcedRoute(own, wire, to, lookupIn(host))})
	}
	for _, to := range []string{"10.0.2.0/24", "fd00:2::/64"} {
		s.Must(&ip.IPRouteAddDelV2{IsAdd: true, Route: sourcedRoute(8, wire, to, attached(b))})
		s.Must(&ip.IPRouteAddDelV2{IsAdd: true, Route: sourcedRoute(own, 0, to, lookupIn(wire))})
	}
	for _, to := range []string{"0.0.0.0/0", "::/0"} {
		s.Must(&ip.IPRouteAddDelV2{IsAdd: true, Route: sourcedRoute(own, host, to, lookupIn(0))})
		s.Must(&ip.IPRouteAddDelV2{IsAdd: true, Route: sourcedRoute(own, wire, to, lookupIn(0))})
	}
	s.Must(&ip.IPRouteAddDelV2{IsAdd: true, Route: sourcedRoute(own, 0, "0.0.0.0/0", via("10.0.2.9", b.Index))})
	s.Must(&arp.ProxyArpAddDel{IsAdd: true, Proxy: arp.ProxyArp{TableID: host, Low: ip4Address("10.0.2.2"), Hi: ip4Address("10.0.2.255")}})
	s.Must(&arp.ProxyArpIntfcEnableDisable{SwIfIndex: a.Index, Enable: true})
	for _, addr := range []string{"10.0.2.1", "fd00:2::1"} {
		s.Must(&ip_neighbor.IPNeighborAddDel{IsAdd: true, Neighbor: neighbor(a.Index, addr, a.Peer, ip_neighbor.IP_API_NEIGHBOR_FLAG_STATIC)})
	}
	s.Drain()
	return a, b, own
}

func hostAddress(s *Session) {
	a, b, _ := s.node()
	s.routes(7, false)
	s.routes(8, false)
	s.Note("the wire asks for the host's addresses")
	b.Play(b.arp(1, "10.0.2.2", "10.0.2.1"), b, 1)
	b.Play(b.solicit("fd00:2::2", "fd00:2::1"), b, 1)
	b.Play(b.arp(1, "10.0.2.2", "10.0.2.7"), b, 0)
	s.neighbors()
	s.Note("what is for the host reaches it, whatever it is")
	b.Play(b.udp("10.0.2.2", "10.0.2.1", 64, 20), a, 1)
	b.Play(b.echo("10.0.2.2", "10.0.2.1", 64, 20), a, 1)
	b.Play(build(b.ether(layers.EthernetTypeIPv4), ip4("10.0.2.2", "10.0.2.1", 64, 89), payload(20)), a, 1)
	b.Play(b.udp("fd00:2::2", "fd00:2::1", 64, 20), a, 1)
	b.Play(b.echo("fd00:2::2", "fd00:2::1", 64, 20), a, 1)
	s.Note("the host asks for neighbours of its address, and gets the dataplane")
	a.Play(a.arp(1, "10.0.2.1", "10.0.2.2"), a, 1)
	a.Play(a.arp(1, "10.0.2.1", "10.0.2.1"), a, 0)
	a.Play(a.arp(1, "0.0.0.0", "10.0.2.2"), a, 0)
	s.Note("what the host sends leaves by the wire")
	a.Play(a.udp("10.0.2.1", "10.0.2.2", 64, 20), b, 1)
	a.Play(a.udp("fd00:2::1", "fd00:2::2", 64, 20), b, 1)
	a.Play(a.udp("10.0.2.1", "10.0.2.3", 64, 20), b, 1)
	b.Send(b.arp(2, "10.0.2.3", "10.0.2.1"))
	s.Drain()
	a.Play(a.udp("10.0.2.1", "10.0.2.3", 64, 20), b, 1)
	s.knows(b, "10.0.2.9")
	a.Play(a.udp("10.0.2.1", "99.0.0.1", 64, 20), b, 1)
	s.Note("a TTL that ends on the way, both ways")
	a.Play(a.udp("10.0.2.1", "10.0.2.2", 1, 20), a, 1)
	b.Play(b.udp("10.0.2.2", "10.0.2.1", 1, 20), b, 1)
}

func hostBroadcast(s *Session) {
	a, b, own := s.node()
	all := net.HardwareAddr{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
	for _, x := range []struct {
		p     *Port
		table uint32
	}{{a, 7}, {b, 8}} {
		for _, to := range []string{"255.255.255.255", "10.0.2.255"} {
			s.Call(&ip_neighbor.IPNeighborAddDel{IsAdd: true, Neighbor: neighbor(x.p.Index, to, all,
				ip_neighbor.IP_API_NEIGHBOR_FLAG_STATIC|ip_neighbor.IP_API_NEIGHBOR_FLAG_NO_FIB_ENTRY)})
			s.sourced(own, x.table, to+"/32", attached(x.p))
		}
	}
	s.Drain()
	s.Note("a host without an address asks for one, and is answered")
	a.Play(toAll(a.udp("0.0.0.0", "255.255.255.255", 64, 20)), b, 1)
	b.Play(toAll(b.udp("10.0.2.2", "255.255.255.255", 64, 20)), a, 1)
	s.Note("to the subnet")
	a.Play(toAll(a.udp("10.0.2.1", "10.0.2.255", 64, 20)), b, 1)
	b.Play(toAll(b.udp("10.0.2.2", "10.0.2.255", 64, 20)), a, 1)
}

// toAll sends a frame to the Ethernet's broadcast address.
func toAll(frame []byte) []byte {
	copy(frame, []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff})
	return frame
}
