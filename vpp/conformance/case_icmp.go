package conformance

import (
	"github.com/google/gopacket/layers"
	"go.fd.io/govpp/binapi/fib_types"
	interfaces "go.fd.io/govpp/binapi/interface"
	"go.fd.io/govpp/binapi/ip"
)

func icmpCases() []Case {
	return []Case{
		{"icmp-ttl", ttlExpired},
		{"icmp-unreachable", unreachable},
		{"icmp-for-what", icmpQuery},
		{"icmp-path-mtu", pathMTU},
	}
}

func ttlExpired(s *Session) {
	a, b := s.wired()
	s.knows(a, "10.0.1.2", "fd00:1::2")
	s.knows(b, "10.0.2.2", "fd00:2::2")
	s.Note("TTL 1 and 0, short and long packets")
	a.Play(a.udp("10.0.1.2", "10.0.2.2", 1, 20), a, 1)
	a.Play(a.udp("10.0.1.2", "10.0.2.2", 0, 20), a, 1)
	a.Play(a.udp("10.0.1.2", "10.0.2.2", 1, 18), a, 1)
	a.Play(a.udp("10.0.1.2", "10.0.2.2", 1, 1400), a, 1)
	a.Play(a.udp("fd00:1::2", "fd00:2::2", 1, 20), a, 1)
	a.Play(a.udp("fd00:1::2", "fd00:2::2", 0, 20), a, 1)
	a.Play(a.udp("fd00:1::2", "fd00:2::2", 1, 1400), a, 1)
	s.Note("on the way to nowhere")
	a.Play(a.udp("10.0.1.2", "99.0.0.1", 1, 20), a, 0)
	s.Note("the error goes where the route to the source leads")
	s.Must(&ip.IPRouteAddDel{IsAdd: true, Route: route("50.0.0.0/8", via("10.0.2.2", b.Index))})
	a.Play(a.udp("50.0.0.1", "10.0.2.2", 1, 20), b, 1)
}

func unreachable(s *Session) {
	a, b := s.wired()
	s.knows(a, "10.0.1.2", "fd00:1::2")
	s.knows(b, "10.0.2.2")
	s.Note("no route: VPP drops in silence")
	a.Play(a.udp("10.0.1.2", "99.0.0.1", 64, 20), a, 0)
	a.Play(a.udp("fd00:1::2", "fd99::1", 64, 20), a, 0)
	for _, tt := range []struct {
		name   string
		t      fib_types.FibPathType
		errors int
	}{
		{"drop", fib_types.FIB_API_PATH_TYPE_DROP, 0},
		{"unreachable", fib_types.FIB_API_PATH_TYPE_ICMP_UNREACH, 1},
		{"prohibit", fib_types.FIB_API_PATH_TYPE_ICMP_PROHIBIT, 1},
	} {
		s.Note("%s", tt.name)
		s.Call(&ip.IPRouteAddDel{IsAdd: true, Route: route("20.0.0.0/8", typed(tt.t, "0.0.0.0"))})
		s.Call(&ip.IPRouteAddDel{IsAdd: true, Route: route("fd20::/64", typed(tt.t, "::"))})
		a.Play(a.udp("10.0.1.2", "20.0.0.1", 64, 20), a, tt.errors)
		a.Play(a.udp("fd00:1::2", "fd20::1", 64, 20), a, tt.errors)
		s.Drain()
	}
	s.Note("an interface without addresses borrows none: the source of the error")
	c := s.Port()
	s.Must(&ip.IPRouteAddDel{IsAdd: true, Route: route("60.0.0.2/32", via("60.0.0.2", c.Index))})
	s.knows(c, "60.0.0.2")
	s.Call(&interfaces.SwInterfaceSetUnnumbered{SwIfIndex: a.Index, UnnumberedSwIfIndex: c.Index, IsAdd: true})
	s.Drain()
	c.Play(c.udp("60.0.0.2", "20.0.0.1", 64, 20), c, 1)
	c.Play(c.udp("60.0.0.2", "10.0.2.2", 1, 20), c, 1)
}

// icmpQuery shows which packets get an error at all. VPP answers ICMP errors and later
// fragments with errors, too, against RFC 1122 3.2.2; nobody has to follow it there.
func icmpQuery(s *Session) {
	a, b := s.wired()
	s.knows(a, "10.0.1.2", "fd00:1::2")
	s.knows(b, "10.0.2.2", "fd00:2::2")
	s.Note("an echo request that expires")
	a.Play(a.echo("10.0.1.2", "10.0.2.2", 1, 18), a, 1)
	a.Play(a.echo("fd00:1::2", "fd00:2::2", 1, 18), a, 1)
	s.Note("packets to a group or to all")
	a.Play(a.udp("10.0.1.2", "224.0.0.9", 1, 20), a, 0)
	a.Play(a.udp("10.0.1.2", "255.255.255.255", 1, 20), a, 0)
	s.Note("an error that leads nowhere, and one whose receiver is not resolved")
	a.Play(a.udp("99.0.0.9", "10.0.2.2", 1, 20), a, 0)
	a.Play(a.udp("10.0.1.77", "10.0.2.2", 1, 20), a, 1)
}

// pathMTU is the MTU of one next hop.
func pathMTU(s *Session) {
	a, b := s.wired()
	s.knows(a, "10.0.1.2")
	s.knows(b, "10.0.2.2", "10.0.2.3")
	s.Call(&ip.IPPathMtuUpdate{Pmtu: ip.IPPathMtu{Nh: address("10.0.2.2"), PathMtu: 900}})
	h := ip4("10.0.1.2", "10.0.2.2", 64, layers.IPProtocolUDP)
	h.Flags = layers.IPv4DontFragment
	a.Play(build(a.ether(layers.EthernetTypeIPv4), h, &layers.UDP{SrcPort: 1, DstPort: 2}, payload(1000)), a, 1)
	a.Play(a.udp("10.0.1.2", "10.0.2.2", 64, 1000), b, 2)
	a.Play(a.udp("10.0.1.2", "10.0.2.3", 64, 1000), b, 1)
	s.Note("removal, of what is not there, in an unknown table")
	s.Call(&ip.IPPathMtuUpdate{Pmtu: ip.IPPathMtu{Nh: address("10.0.2.2")}})
	a.Play(a.udp("10.0.1.2", "10.0.2.2", 64, 1000), b, 1)
	s.Call(&ip.IPPathMtuUpdate{Pmtu: ip.IPPathMtu{Nh: address("10.0.2.2")}})
	s.Call(&ip.IPPathMtuUpdate{Pmtu: ip.IPPathMtu{TableID: 99, Nh: address("10.0.2.2"), PathMtu: 900}})
}
