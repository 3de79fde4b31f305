package conformance

import (
	"slices"

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
		{"punt-udp-ip6", puntUDP6},
		{"punt-kinds", puntKinds},
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

// puntUDP6: the families are apart, and what is damaged is handed on by neither.
func puntUDP6(s *Session) {
	a, b := s.wired()
	s.knows(a, "10.0.1.2", "fd00:1::2")
	s.knows(b, "10.0.2.2", "fd00:2::2")
	s.Must(&ip.AddDelIPPuntRedirectV2{IsAdd: true, Punt: ip.PuntRedirectV2{
		RxSwIfIndex: none, NPaths: 1, Paths: []fib_types.FibPath{via("10.0.2.2", b.Index)}}})
	s.Must(&ip.AddDelIPPuntRedirectV2{IsAdd: true, Punt: ip.PuntRedirectV2{
		RxSwIfIndex: none, Af: ip_types.ADDRESS_IP6, NPaths: 1, Paths: []fib_types.FibPath{via("fd00:2::2", b.Index)}}})
	four, six := a.udp("10.0.1.2", "10.0.1.1", 64, 20), a.udp("fd00:1::2", "fd00:1::1", 64, 20)
	s.Note("IPv6 only")
	s.Call(puntL4(true, ip_types.ADDRESS_IP6, ip_types.IP_API_PROTO_UDP, 0xffff))
	a.Play(six, b, 1)
	a.Play(four, a, 1)
	s.Note("twice, and both")
	s.Call(puntL4(true, ip_types.ADDRESS_IP6, ip_types.IP_API_PROTO_UDP, 0xffff))
	s.Call(puntL4(true, ip_types.ADDRESS_IP4, ip_types.IP_API_PROTO_UDP, 0xffff))
	a.Play(six, b, 1)
	a.Play(four, b, 1)
	s.Note("a checksum that is wrong, a length beyond the packet, a header that is cut off")
	damaged := func(frame []byte, at int) []byte {
		frame = slices.Clone(frame)
		frame[at] ^= 1
		return frame
	}
	for _, frame := range [][]byte{four, six} {
		a.Play(damaged(frame, len(frame)-1), b, 0)
		a.Play(damaged(frame, len(frame)-24), b, 0)
	}
	a.Play(build(a.ether(layers.EthernetTypeIPv6), ip6("fd00:1::2", "fd00:1::1", 64, layers.IPProtocolUDP), payload(4)), b, 0)
	s.Note("TCP with a wrong checksum")
	tcp := &layers.TCP{SrcPort: 1, DstPort: 2, SYN: true}
	tcp4 := build(a.ether(layers.EthernetTypeIPv4), ip4("10.0.1.2", "10.0.1.1", 64, layers.IPProtocolTCP), tcp, payload(3))
	a.Play(damaged(tcp4, 14+20+20), b, 0) // what follows the packet is padding
	tcp6 := build(a.ether(layers.EthernetTypeIPv6), ip6("fd00:1::2", "fd00:1::1", 64, layers.IPProtocolTCP), tcp, payload(3))
	a.Play(damaged(tcp6, len(tcp6)-1), b, 1)
	s.Note("IPv4 only")
	s.Call(puntL4(false, ip_types.ADDRESS_IP6, ip_types.IP_API_PROTO_UDP, 0xffff))
	s.Call(puntL4(false, ip_types.ADDRESS_IP6, ip_types.IP_API_PROTO_UDP, 0xffff))
	a.Play(six, a, 1)
	a.Play(four, b, 1)
}

func puntL4(add bool, af ip_types.AddressFamily, p ip_types.IPProto, port uint16) *punt.SetPunt {
	return &punt.SetPunt{IsAdd: add, Punt: punt.Punt{Punt: punt.PuntUnionL4(punt.PuntL4{Af: af, Protocol: p, Port: port})}}
}

// puntKinds are the requests that VPP refuses, and those that change nothing.
func puntKinds(s *Session) {
	const tcp, udp = ip_types.IP_API_PROTO_TCP, ip_types.IP_API_PROTO_UDP
	for _, add := range []bool{true, false} {
		s.Note("L4: TCP; no transport; no protocol; no family")
		s.Call(puntL4(add, ip_types.ADDRESS_IP4, tcp, 0xffff))
		s.Call(puntL4(add, ip_types.ADDRESS_IP6, tcp, 0xffff))
		s.Call(puntL4(add, ip_types.ADDRESS_IP4, tcp, 80))
		s.Call(puntL4(add, ip_types.ADDRESS_IP4, ip_types.IP_API_PROTO_ICMP, 0xffff))
		for _, p := range []ip_types.IPProto{60, 61, 62, 63, 68, 99, 114, 143, 144, 252, 253, 255} {
			s.Call(puntL4(add, ip_types.ADDRESS_IP4, p, 0xffff))
		}
		s.Call(puntL4(add, 2, udp, 0xffff))
		s.Call(puntL4(add, 255, 61, 0xffff))
		s.Note("protocols of IP")
		for _, q := range []punt.PuntIPProto{{Protocol: ip_types.IP_API_PROTO_OSPF}, {Af: ip_types.ADDRESS_IP6, Protocol: udp}, {Protocol: 61}, {Af: 9}} {
			s.Call(&punt.SetPunt{IsAdd: add, Punt: punt.Punt{Type: punt.PUNT_API_TYPE_IP_PROTO, Punt: punt.PuntUnionIPProto(q)}})
		}
		s.Note("an exception without a reason; a type that is none")
		s.Call(&punt.SetPunt{IsAdd: add, Punt: punt.Punt{Type: punt.PUNT_API_TYPE_EXCEPTION, Punt: punt.PuntUnionException(punt.PuntException{ID: 9999})}})
		s.Call(&punt.SetPunt{IsAdd: add, Punt: punt.Punt{Type: 3}})
	}
	s.Note("a port that was never added")
	s.Call(puntL4(false, ip_types.ADDRESS_IP4, udp, 7777))
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
