package conformance

import (
	"github.com/google/gopacket/layers"
	"go.fd.io/govpp/binapi/fib_types"
	interfaces "go.fd.io/govpp/binapi/interface"
	"go.fd.io/govpp/binapi/ip"
	"go.fd.io/govpp/binapi/ip_types"
	"go.fd.io/govpp/binapi/punt"
	"go.fd.io/govpp/binapi/vlib"
)

func puntCases() []Case {
	return []Case{
		{"punt-redirect", puntRedirect},
		{"punt-udp", puntUDP},
		{"process-threads", threads},
		{"route-first-dump", firstDumps},
	}
}

// puntRedirect: packets for the machine that no one there wants go to a next hop.
func puntRedirect(s *Session) {
	a, b := s.wired()
	s.knows(a, "10.0.1.2", "fd00:1::2")
	s.knows(b, "10.0.2.2", "fd00:2::2")
	redirect := func(rx interfaceIndex, af ip_types.AddressFamily, paths ...fib_types.FibPath) ip.PuntRedirectV2 {
		return ip.PuntRedirectV2{RxSwIfIndex: rx, Af: af, NPaths: uint32(len(paths)), Paths: paths}
	}
	tcp := build(a.ether(layers.EthernetTypeIPv4), ip4("10.0.1.2", "10.0.1.1", 64, layers.IPProtocolTCP), &layers.TCP{SrcPort: 1, DstPort: 2, SYN: true}, payload(3))
	unknown := build(a.ether(layers.EthernetTypeIPv4), ip4("10.0.1.2", "10.0.1.1", 64, 132), payload(20))
	tcp6 := build(a.ether(layers.EthernetTypeIPv6), ip6("fd00:1::2", "fd00:1::1", 64, layers.IPProtocolTCP), &layers.TCP{SrcPort: 1, DstPort: 2, SYN: true}, payload(3))
	dump := func() {
		s.Dump(&ip.IPPuntRedirectV2Dump{SwIfIndex: none})
		s.Dump(&ip.IPPuntRedirectV2Dump{SwIfIndex: none, Af: ip_types.ADDRESS_IP6})
	}
	dump()
	s.Note("from one port: TCP, an unknown protocol; UDP to a port without a user gets an error instead")
	s.Call(&ip.AddDelIPPuntRedirectV2{IsAdd: true, Punt: redirect(a.Index, ip_types.ADDRESS_IP4, via("10.0.2.2", b.Index))})
	dump()
	a.Play(tcp, b, 1)
	a.Play(unknown, b, 1)
	a.Play(a.udp("10.0.1.2", "10.0.1.1", 64, 20), a, 1)
	s.Note("what the machine answers itself is not redirected")
	a.Play(a.echo("10.0.1.2", "10.0.1.1", 64, 20), a, 1)
	s.Note("from any port, v6")
	s.Call(&ip.AddDelIPPuntRedirectV2{IsAdd: true, Punt: redirect(none, ip_types.ADDRESS_IP6, via("fd00:2::2", b.Index))})
	dump()
	a.Play(tcp6, b, 1)
	s.Note("removal, again")
	s.Call(&ip.AddDelIPPuntRedirectV2{Punt: redirect(a.Index, ip_types.ADDRESS_IP4)})
	s.Call(&ip.AddDelIPPuntRedirectV2{Punt: redirect(a.Index, ip_types.ADDRESS_IP4)})
	dump()
	a.Play(tcp, b, 0)
}

// puntUDP: VPP hands on UDP to ports without a user only after set_punt.
func puntUDP(s *Session) {
	a, b := s.wired()
	s.knows(a, "10.0.1.2")
	s.knows(b, "10.0.2.2")
	s.Must(&ip.AddDelIPPuntRedirectV2{IsAdd: true, Punt: ip.PuntRedirectV2{
		RxSwIfIndex: none, NPaths: 1, Paths: []fib_types.FibPath{via("10.0.2.2", b.Index)}}})
	all := punt.PuntL4{Protocol: ip_types.IP_API_PROTO_UDP, Port: 0xffff}
	s.Call(&punt.SetPunt{IsAdd: true, Punt: punt.Punt{Type: punt.PUNT_API_TYPE_L4, Punt: punt.PuntUnionL4(all)}})
	a.Play(a.udp("10.0.1.2", "10.0.1.1", 64, 20), b, 1)
	s.Call(&punt.SetPunt{Punt: punt.Punt{Type: punt.PUNT_API_TYPE_L4, Punt: punt.PuntUnionL4(all)}})
	a.Play(a.udp("10.0.1.2", "10.0.1.1", 64, 20), a, 1)
}

func threads(s *Session) {
	reply := s.Must(&vlib.ShowThreads{}).(*vlib.ShowThreadsReply)
	s.Write("counted as listed: %v, the first is %q", int(reply.Count) == len(reply.ThreadData), reply.ThreadData[0].Name)
}

// firstDumps are the messages before the second version.
func firstDumps(s *Session) {
	p := s.Port()
	s.addAddress(p.Index, "10.0.0.1/24")
	s.Must(&ip.IPRouteAddDel{IsAdd: true, Route: route("20.0.0.0/8", via("10.0.0.2", p.Index))})
	s.Dump(&ip.IPRouteDump{})
	s.Dump(&ip.IPRouteDump{Table: ip.IPTable{TableID: 99}})
	s.Note("interfaces with an address")
	s.loopback()
	s.Dump(&ip.IPDump{})
	s.Dump(&ip.IPDump{IsIPv6: true})
	s.Must(&interfaces.DeleteLoopback{SwIfIndex: 2})
	s.Call(&ip.IPRouteLookup{Prefix: prefix("20.1.0.0/16")})
}
