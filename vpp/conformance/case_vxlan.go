package conformance

import (
	"net"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"go.fd.io/govpp/binapi/feature"
	interfaces "go.fd.io/govpp/binapi/interface"
	"go.fd.io/govpp/binapi/interface_types"
	"go.fd.io/govpp/binapi/ip"
	"go.fd.io/govpp/binapi/ip_neighbor"
	"go.fd.io/govpp/binapi/vlib"
	"go.fd.io/govpp/binapi/vxlan"
)

// vxlanCases are tunnels between nodes.
func vxlanCases() []Case {
	return []Case{
		{"vxlan-api", vxlanAPI},
		{"vxlan-ip4", func(s *Session) { vxlanPackets(s, "10.0.2.1", "10.0.2.2") }},
		{"vxlan-ip6", func(s *Session) { vxlanPackets(s, "fd00:2::1", "fd00:2::2") }},
		{"vxlan-bypass", vxlanBypass},
		{"vxlan-large", vxlanLarge},
		{"vxlan-l3", vxlanL3},
	}
}

// vxlanTo is a tunnel of VNI 7 with a number of its own.
func vxlanTo(src, dst string) *vxlan.VxlanAddDelTunnelV3 {
	return &vxlan.VxlanAddDelTunnelV3{
		IsAdd: true, Instance: uint32(none), SrcAddress: address(src), DstAddress: address(dst),
		McastSwIfIndex: none, DecapNextIndex: uint32(none), Vni: 7,
	}
}

func vxlanAPI(s *Session) {
	s.Note("nodes that a tunnel's packets may go to")
	s.Call(&vlib.AddNodeNext{NodeName: "vxlan4-input", NextName: "ethernet-input"})
	s.Call(&vlib.AddNodeNext{NodeName: "vxlan4-input", NextName: "ethernet-input"})
	s.Call(&vlib.AddNodeNext{NodeName: "vxlan4-input", NextName: "l2-input"})
	s.Call(&vlib.AddNodeNext{NodeName: "vxlan4-input", NextName: "no-such"})
	s.Call(&vlib.AddNodeNext{NodeName: "no-such", NextName: "ethernet-input"})
	s.Note("what cannot be")
	odd := func(change func(*vxlan.VxlanAddDelTunnelV3)) {
		q := vxlanTo("10.0.2.1", "10.0.2.2")
		change(q)
		s.Call(q)
	}
	odd(func(q *vxlan.VxlanAddDelTunnelV3) { q.EncapVrfID = 9 })
	odd(func(q *vxlan.VxlanAddDelTunnelV3) { q.DstAddress = address("fd00::2") })
	odd(func(q *vxlan.VxlanAddDelTunnelV3) { q.DstAddress = q.SrcAddress })
	odd(func(q *vxlan.VxlanAddDelTunnelV3) { q.DstAddress = address("239.1.1.1") })
	odd(func(q *vxlan.VxlanAddDelTunnelV3) { q.DecapNextIndex = 99 })
	odd(func(q *vxlan.VxlanAddDelTunnelV3) { q.IsAdd = false })
	s.Note("what can: twice, another network, another port, an instance")
	odd(func(*vxlan.VxlanAddDelTunnelV3) {})
	odd(func(*vxlan.VxlanAddDelTunnelV3) {})
	odd(func(q *vxlan.VxlanAddDelTunnelV3) { q.SrcPort, q.DstPort = 4789, 4789 })
	odd(func(q *vxlan.VxlanAddDelTunnelV3) { q.Vni, q.DecapNextIndex = 8, 2 })
	odd(func(q *vxlan.VxlanAddDelTunnelV3) { q.SrcPort, q.DstPort = 4790, 4791 })
	odd(func(q *vxlan.VxlanAddDelTunnelV3) { q.Vni, q.Instance, q.IsL3 = 9, 77, true })
	odd(func(q *vxlan.VxlanAddDelTunnelV3) { q.Vni, q.Instance = 10, 77 })
	s.Note("over IPv6 the other end is what counts")
	s.Call(vxlanTo("fd00:2::1", "fd00:2::2"))
	s.Call(vxlanTo("fd00:2::11", "fd00:2::2"))
	s.Dump(&vxlan.VxlanTunnelDump{SwIfIndex: none})
	s.Dump(&vxlan.VxlanTunnelV2Dump{SwIfIndex: none})
	s.Dump(&vxlan.VxlanTunnelV2Dump{SwIfIndex: 2})
	s.Dump(&vxlan.VxlanTunnelV2Dump{SwIfIndex: 0})
	s.Note("the end: by another port it is another, then once and again")
	odd(func(q *vxlan.VxlanAddDelTunnelV3) { q.IsAdd, q.SrcPort = false, 4999 })
	odd(func(q *vxlan.VxlanAddDelTunnelV3) { q.IsAdd = false })
	odd(func(q *vxlan.VxlanAddDelTunnelV3) { q.IsAdd = false })
	s.Dump(&vxlan.VxlanTunnelV2Dump{SwIfIndex: none})
	s.Note("bypass")
	s.Call(&vxlan.SwInterfaceSetVxlanBypass{SwIfIndex: missing, Enable: true})
	bypassed := func(index interface_types.InterfaceIndex) {
		s.Call(&feature.FeatureIsEnabled{ArcName: "ip4-unicast", FeatureName: "ip4-vxlan-bypass", SwIfIndex: index})
		s.Call(&feature.FeatureIsEnabled{ArcName: "ip6-unicast", FeatureName: "ip6-vxlan-bypass", SwIfIndex: index})
	}
	a := s.Port()
	bypassed(a.Index)
	s.Call(&vxlan.SwInterfaceSetVxlanBypass{SwIfIndex: a.Index, Enable: true})
	s.Call(&vxlan.SwInterfaceSetVxlanBypass{SwIfIndex: a.Index, Enable: true})
	bypassed(a.Index)
	s.Call(&vxlan.SwInterfaceSetVxlanBypass{SwIfIndex: a.Index, IsIPv6: true, Enable: true})
	bypassed(a.Index)
	s.Call(&vxlan.SwInterfaceSetVxlanBypass{SwIfIndex: a.Index})
	bypassed(a.Index)
}

var (
	tunnelMAC = net.HardwareAddr{2, 0xaa, 0, 0, 0, 1}
	farMAC    = net.HardwareAddr{2, 0xaa, 0, 0, 0, 2}
)

// tunnelled makes a routed tunnel from b's network, with 10.9.0.0/16 and fd09::/32 behind
// it, in a table of the outer packets.
func (s *Session) tunnelled(a, b *Port, src, dst string, table uint32) interface_types.InterfaceIndex {
	s.T.Helper()
	s.knows(a, "10.0.1.2", "fd00:1::2")
	s.knows(b, "10.0.2.2", "fd00:2::2")
	q := vxlanTo(src, dst)
	q.EncapVrfID = table
	node := "vxlan4-input"
	if six := len(net.ParseIP(src).To4()) == 0; six {
		node = "vxlan6-input"
	}
	q.DecapNextIndex = s.Must(&vlib.AddNodeNext{NodeName: node, NextName: "ethernet-input"}).(*vlib.AddNodeNextReply).NextIndex
	index := s.Must(q).(*vxlan.VxlanAddDelTunnelV3Reply).SwIfIndex
	s.Must(&interfaces.SwInterfaceSetMacAddress{SwIfIndex: index, MacAddress: mac(tunnelMAC)})
	for _, x := range []struct{ own, far, behind string }{{"10.0.3.1/24", "10.0.3.2", "10.9.0.0/16"}, {"fd00:3::1/64", "fd00:3::2", "fd09::/32"}} {
		s.Must(&interfaces.SwInterfaceAddDelAddress{SwIfIndex: index, IsAdd: true, Prefix: withPrefix(x.own)})
		s.Must(&ip_neighbor.IPNeighborAddDel{IsAdd: true, Neighbor: neighbor(index, x.far, farMAC, ip_neighbor.IP_API_NEIGHBOR_FLAG_STATIC)})
		s.Must(&ip.IPRouteAddDel{IsAdd: true, Route: route(x.behind, via(x.far, index))})
	}
	s.Drain()
	return index
}

// flagless is a network whose packets do not say that they have a number.
const flagless = 6

// inside puts a frame from behind a tunnel into a datagram of the tunnel.
func (p *Port) inside(src, dst string, vni uint32, frame []byte) []byte {
	u := &layers.UDP{SrcPort: 50000, DstPort: vxlanPort}
	v := &layers.VXLAN{ValidIDFlag: vni != flagless, VNI: vni}
	if net.ParseIP(src).To4() != nil {
		return build(p.ether(layers.EthernetTypeIPv4), ip4(src, dst, 64, layers.IPProtocolUDP), u, v, gopacket.Payload(frame))
	}
	return build(p.ether(layers.EthernetTypeIPv6), ip6(src, dst, 64, layers.IPProtocolUDP), u, v, gopacket.Payload(frame))
}

// vxlanPackets: both families through a tunnel, each way, and what is no tunnel's.
func vxlanPackets(s *Session, src, dst string) {
	a, b := s.wired()
	s.tunnelled(a, b, src, dst, 0)
	far := &Port{MAC: tunnelMAC, Peer: farMAC}
	s.Note("out")
	a.Play(a.udp("10.0.1.2", "10.9.0.1", 64, 100), b, 1)
	a.Play(a.udp("fd00:1::2", "fd09::1", 64, 100), b, 1)
	a.Play(a.udp("10.0.1.2", "10.9.0.1", 64, 1200), b, 1)
	a.Play(a.echo("10.0.1.2", "10.9.0.1", 64, 30), b, 1)
	s.Note("back")
	b.Play(b.inside(dst, src, 7, far.udp("10.9.0.1", "10.0.1.2", 64, 100)), a, 1)
	b.Play(b.inside(dst, src, 7, far.udp("fd09::1", "fd00:1::2", 64, 100)), a, 1)
	s.Note("to the tunnel's own address inside")
	b.Play(b.inside(dst, src, 7, far.echo("10.0.3.2", "10.0.3.1", 64, 30)), b, 1)
	b.Play(b.inside(dst, src, 7, far.echo("fd00:3::2", "fd00:3::1", 64, 30)), b, 1)
	s.Note("another network, another sender, another version, an address that is not the tunnel's inside")
	b.Play(b.inside(dst, src, 8, far.udp("10.9.0.1", "10.0.1.2", 64, 100)), a, 0)
	b.Play(b.inside(dst, src, flagless, far.udp("10.9.0.1", "10.0.1.2", 64, 100)), a, 0)
	stranger := &Port{MAC: net.HardwareAddr{2, 0xaa, 0, 0, 0, 9}, Peer: farMAC}
	b.Play(b.inside(dst, src, 7, stranger.udp("10.9.0.1", "10.0.1.2", 64, 100)), a, 0)
	s.Note("after the tunnel's end")
	q := vxlanTo(src, dst)
	q.IsAdd = false
	s.Call(q)
	b.Play(b.inside(dst, src, 7, far.udp("10.9.0.1", "10.0.1.2", 64, 100)), a, 0)
	a.Play(a.udp("10.0.1.2", "10.9.0.1", 64, 100), b, 0)
}

// vxlanBypass: a tunnel whose address is routed to somebody else, as a node's is to its
// host.
func vxlanBypass(s *Session) {
	a, b := s.Port(), s.Port()
	s.table(true, 7, false, "wire")
	s.Must(&interfaces.SwInterfaceSetTable{SwIfIndex: b.Index, VrfID: 7})
	s.addressed(a, b)
	h := s.Port()
	s.Must(&interfaces.SwInterfaceAddDelAddress{SwIfIndex: h.Index, IsAdd: true, Prefix: withPrefix("10.0.9.1/24")})
	s.knows(h, "10.0.9.2")
	r := route("10.0.2.9/32", via("10.0.9.2", h.Index))
	r.TableID = 7
	s.Must(&ip.IPRouteAddDel{IsAdd: true, Route: r})
	s.tunnelled(a, b, "10.0.2.9", "10.0.2.2", 7)
	far := &Port{MAC: tunnelMAC, Peer: farMAC}
	inner := far.udp("10.9.0.1", "10.0.1.2", 64, 100)
	s.Note("out")
	a.Play(a.udp("10.0.1.2", "10.9.0.1", 64, 100), b, 1)
	s.Note("without bypass it goes where the route leads")
	b.Play(b.inside("10.0.2.2", "10.0.2.9", 7, inner), h, 1)
	s.Call(&vxlan.SwInterfaceSetVxlanBypass{SwIfIndex: b.Index, Enable: true})
	b.Play(b.inside("10.0.2.2", "10.0.2.9", 7, inner), a, 1)
	s.Note("with bypass, other networks and other datagrams still do")
	b.Play(b.inside("10.0.2.2", "10.0.2.9", 8, inner), h, 1)
	b.Play(b.inside("10.0.2.3", "10.0.2.9", 7, inner), h, 1)
	b.Play(b.udp("10.0.2.2", "10.0.2.9", 64, 100), h, 1)
	s.Note("a wrong checksum")
	bad := b.inside("10.0.2.2", "10.0.2.9", 7, inner)
	bad[len(bad)-1] ^= 1
	b.Play(bad, a, 0)
	s.Call(&vxlan.SwInterfaceSetVxlanBypass{SwIfIndex: b.Index})
	b.Play(b.inside("10.0.2.2", "10.0.2.9", 7, inner), h, 1)
}

// vxlanLarge: the tunnel's MTU is told to the sender inside; without one, the outer packet
// is cut.
func vxlanLarge(s *Session) {
	a, b := s.wired()
	index := s.tunnelled(a, b, "10.0.2.1", "10.0.2.2", 0)
	s.Must(&interfaces.SwInterfaceSetMtu{SwIfIndex: index, Mtu: []uint32{1450, 0, 0, 0}})
	s.Must(&interfaces.SwInterfaceSetMtu{SwIfIndex: b.Index, Mtu: []uint32{1500, 0, 0, 0}})
	s.Note("1450 bytes fit; 1451 do not, and may not be cut")
	a.Play(a.udp("10.0.1.2", "10.9.0.1", 64, 1422), b, 1)
	whole := ip4("10.0.1.2", "10.9.0.1", 64, layers.IPProtocolUDP)
	whole.Flags = layers.IPv4DontFragment
	a.Play(build(a.ether(layers.EthernetTypeIPv4), whole, &layers.UDP{SrcPort: 1000, DstPort: 2000}, payload(1423)), a, 1)
	a.Play(a.udp("fd00:1::2", "fd09::1", 64, 1402), b, 1)
	a.Play(a.udp("fd00:1::2", "fd09::1", 64, 1403), a, 1)
	s.Note("what may be cut is cut inside")
	a.Play(a.udp("10.0.1.2", "10.9.0.1", 64, 1423), b, 2)
	s.Note("a tunnel that says more than it can: its packets are cut")
	s.Must(&interfaces.SwInterfaceSetMtu{SwIfIndex: index, Mtu: []uint32{1500, 0, 0, 0}})
	a.Play(a.udp("10.0.1.2", "10.9.0.1", 64, 1440), b, 2)
}

// vxlanL3: a tunnel without Ethernet inside, of one family: where its packets go on says of
// which.
func vxlanL3(s *Session) {
	a, b := s.wired()
	s.knows(a, "10.0.1.2")
	s.knows(b, "10.0.2.2")
	q := vxlanTo("10.0.2.1", "10.0.2.2")
	q.IsL3 = true
	q.DecapNextIndex = s.Must(&vlib.AddNodeNext{NodeName: "vxlan4-input", NextName: "ip4-input"}).(*vlib.AddNodeNextReply).NextIndex
	index := s.Must(q).(*vxlan.VxlanAddDelTunnelV3Reply).SwIfIndex
	s.Must(&interfaces.SwInterfaceAddDelAddress{SwIfIndex: index, IsAdd: true, Prefix: withPrefix("10.0.3.1/24")})
	s.Must(&ip.IPRouteAddDel{IsAdd: true, Route: route("10.9.0.0/16", via("10.0.3.2", index))})
	s.Drain()
	s.Dump(&interfaces.SwInterfaceDump{SwIfIndex: index})
	s.Note("out, and back")
	a.Play(a.udp("10.0.1.2", "10.9.0.1", 64, 100), b, 1)
	inner := a.udp("10.9.0.1", "10.0.1.2", 64, 100)[14:]
	b.Play(b.inside("10.0.2.2", "10.0.2.1", 7, inner), a, 1)
	s.Note("the other family is none")
	b.Play(b.inside("10.0.2.2", "10.0.2.1", 7, a.udp("fd09::1", "fd00:1::2", 64, 100)[14:]), a, 0)
}
