package conformance

import (
	"encoding/binary"
	"net/netip"

	"github.com/google/gopacket/layers"
	"go.fd.io/govpp/binapi/cnat"
	"go.fd.io/govpp/binapi/feature"
	interfaces "go.fd.io/govpp/binapi/interface"
	"go.fd.io/govpp/binapi/interface_types"
	"go.fd.io/govpp/binapi/ip"
	"go.fd.io/govpp/binapi/ip_types"
)

// cnatCases are about services, in the plugin's feature mode. What VPP 25.10 does that
// nobody should do as well is left out, and listed here for those who program it:
//   - An update with 0 paths aborts VPP; a purge of sessions deletes the translations, too.
//   - The flag "do not translate" of a path (1) is taken for "active": such a path is
//     translated as any other, and every active path has the flag in a dump.
//   - A dump of sessions does not tell their age.
//   - SCTP has no source ports: a flow of it that a policy translates is dropped as if the
//     ports were used up. Over IPv6 SCTP is not translated at all.
//   - Later fragments are not translated: services have no datagrams above the MTU. By the
//     source, they are looked up by the first bytes of their data, as if those were ports.
//   - By the source, a UDP datagram over IPv4 without a checksum gets one that is wrong.
//   - An address that the interface of cnat_set_snat_addresses gets later is not taken over.
//   - What the machine itself answers to somebody outside gets another source as well, if
//     there is one.
//   - Where the features are off, packets to a service are translated when they are
//     forwarded, in a way of its own.
//   - Ports that are used up are counted for cnat-output-ip6, also those of IPv4.
func cnatCases() []Case {
	return []Case{
		{"cnat-translations", cnatTranslations},
		{"cnat-settings", cnatSettings},
		{"cnat-forth-and-back", cnatForthAndBack},
		{"cnat-maglev-source", cnatMaglevSource},
		{"cnat-k8s-outside", cnatOutside},
		{"cnat-k8s-hairpin", cnatHairpin},
		{"cnat-acl-order", cnatACLOrder},
		{"cnat-icmp-error", cnatICMPError},
	}
}

// noInterface says that an address is given.
const noInterface = ^interface_types.InterfaceIndex(0)

// endpoint is an address and port that no interface decides about.
func endpoint(addr string, port uint16) cnat.CnatEndpoint {
	return cnat.CnatEndpoint{Addr: address(addr), SwIfIndex: noInterface, Port: port}
}

// service is a translation to some backends with the port 8080.
func service(vip string, port uint16, proto ip_types.IPProto, backends ...string) *cnat.CnatTranslationUpdate {
	t := cnat.CnatTranslation{Vip: endpoint(vip, port), IPProto: proto, LbType: cnat.CNAT_LB_TYPE_MAGLEV}
	none := "0.0.0.0"
	if !netip.MustParseAddr(vip).Is4() {
		none = "::"
	}
	for _, b := range backends {
		t.Paths = append(t.Paths, cnat.CnatEndpointTuple{DstEp: endpoint(b, 8080), SrcEp: endpoint(none, 0)})
	}
	return &cnat.CnatTranslationUpdate{Translation: t}
}

// arcs switches the plugin's features on or off on a port.
func (p *Port) arcs(on bool) {
	p.s.T.Helper()
	for _, f := range [][2]string{{"ip4-unicast", "cnat-input-ip4"}, {"ip6-unicast", "cnat-input-ip6"},
		{"ip4-output", "cnat-output-ip4"}, {"ip6-output", "cnat-output-ip6"}} {
		p.s.Must(&feature.FeatureEnableDisable{SwIfIndex: p.Index, Enable: on, ArcName: f[0], FeatureName: f[1]})
	}
}

// needCNAT skips a machine without the plugin.
func (s *Session) needCNAT() {
	s.T.Helper()
	s.Call(&cnat.CnatGetSnatAddresses{})
}

func cnatTranslations(s *Session) {
	s.needCNAT()
	dump := func() { s.Dump(&cnat.CnatTranslationDump{}) }
	s.Note("by address, port and protocol; the id is the pool's")
	s.Call(service("10.96.0.1", 80, tcp, "10.0.2.2", "10.0.2.3"))
	s.Call(service("10.96.0.1", 80, udp, "10.0.2.2"))
	s.Call(service("10.96.0.1", 81, tcp, "10.0.2.2"))
	s.Call(service("fd00:96::1", 80, sctp, "fd00:2::2"))
	dump()
	s.Note("the same again: other backends")
	s.Call(service("10.96.0.1", 80, tcp, "10.0.2.4"))
	other := service("10.96.0.1", 80, udp, "10.0.2.5")
	other.Translation.LbType = cnat.CNAT_LB_TYPE_DEFAULT
	other.Translation.IsRealIP = 1
	s.Call(other)
	dump()
	s.Note("an interface that has no address, then one that has")
	a := s.Port()
	by := service("10.96.0.9", 80, tcp, "10.0.2.2")
	by.Translation.Vip = cnat.CnatEndpoint{SwIfIndex: a.Index, Port: 80}
	s.Call(by)
	dump()
	s.Must(&interfaces.SwInterfaceAddDelAddress{SwIfIndex: a.Index, IsAdd: true, Prefix: withPrefix("10.0.1.1/24")})
	dump()
	s.Note("deleted, deleted again, unknown; the last id is given out first")
	s.Call(&cnat.CnatTranslationDel{ID: 1})
	s.Call(&cnat.CnatTranslationDel{ID: 1})
	s.Call(&cnat.CnatTranslationDel{ID: 77})
	s.Call(&cnat.CnatTranslationDel{ID: 0})
	s.Call(service("10.96.0.3", 80, tcp, "10.0.2.2"))
	s.Call(service("10.96.0.4", 80, tcp, "10.0.2.2"))
	dump()
	s.Note("protocol 99, family 7")
	s.Call(service("10.96.0.5", 80, 99, "10.0.2.2"))
	bad := service("10.96.0.6", 80, tcp, "10.0.2.2")
	bad.Translation.Vip = cnat.CnatEndpoint{SwIfIndex: a.Index, IfAf: 7, Port: 80}
	s.Call(bad)
	dump()
}

func cnatSettings(s *Session) {
	s.needCNAT()
	a := s.Port()
	s.Note("addresses")
	s.Call(&cnat.CnatSetSnatAddresses{SnatIP4: ip4Address("10.0.2.1"), SnatIP6: netip.MustParseAddr("fd00:2::1").As16(), SwIfIndex: noInterface})
	s.Call(&cnat.CnatGetSnatAddresses{})
	s.Call(&cnat.CnatSetSnatAddresses{SwIfIndex: a.Index})
	s.Call(&cnat.CnatGetSnatAddresses{})
	s.Note("policies")
	for policy := range 4 {
		s.Call(&cnat.CnatSetSnatPolicy{Policy: cnat.CnatSnatPolicies(policy)})
	}
	s.Note("interfaces: tables, again, none")
	for table := range 5 {
		s.Call(&cnat.CnatSnatPolicyAddDelIf{SwIfIndex: a.Index, IsAdd: 1, Table: cnat.CnatSnatPolicyTable(table)})
	}
	s.Call(&cnat.CnatSnatPolicyAddDelIf{SwIfIndex: a.Index, IsAdd: 1})
	s.Call(&cnat.CnatSnatPolicyAddDelIf{SwIfIndex: a.Index})
	s.Call(&cnat.CnatSnatPolicyAddDelIf{SwIfIndex: a.Index})
	s.Call(&cnat.CnatSnatPolicyAddDelIf{SwIfIndex: 99, IsAdd: 1})
	s.Note("prefixes: twice, host bits, deleted once and once more, unknown")
	for _, p := range []string{"10.0.0.0/8", "10.0.0.0/8", "fd00::/16"} {
		s.Call(&cnat.CnatSnatPolicyAddDelExcludePfx{IsAdd: 1, Prefix: prefix(p)})
	}
	for _, p := range []string{"10.1.2.3/8", "10.0.0.0/8", "fd00::/16", "192.168.0.0/16"} {
		s.Call(&cnat.CnatSnatPolicyAddDelExcludePfx{Prefix: prefix(p)})
	}
	s.Note("features: twice, an unknown arc, an unknown feature, another arc's, an unknown interface")
	on := func(index interface_types.InterfaceIndex, enable bool, arc, name string) {
		s.Call(&feature.FeatureEnableDisable{SwIfIndex: index, Enable: enable, ArcName: arc, FeatureName: name})
	}
	for _, enable := range []bool{true, true, false, false} {
		on(a.Index, enable, "ip4-unicast", "cnat-input-ip4")
	}
	on(a.Index, true, "ip4-nowhere", "cnat-input-ip4")
	on(a.Index, true, "ip4-unicast", "cnat-nothing")
	on(a.Index, true, "ip4-output", "cnat-input-ip4")
	on(99, true, "ip4-unicast", "cnat-input-ip4")
	s.Note("nothing was translated")
	s.Dump(&cnat.CnatSessionDump{})
}

// cnatFamilies is families with the plugin's features on both ports.
func (s *Session) cnatFamilies(f func(a, b *Port, near, far, vip string)) {
	s.T.Helper()
	s.needCNAT()
	s.families(func(a, b *Port, near, far string) {
		vip := "10.96.0.1"
		if !netip.MustParseAddr(near).Is4() {
			vip = "fd00:96::1"
		} else {
			a.arcs(true)
			b.arcs(true)
			// Without an address nothing gets another source.
			s.Must(&cnat.CnatSetSnatPolicy{Policy: cnat.CNAT_POLICY_K8S})
		}
		f(a, b, near, far, vip)
	})
}

func cnatForthAndBack(s *Session) {
	s.cnatFamilies(func(a, b *Port, near, far, vip string) {
		for _, proto := range []ip_types.IPProto{tcp, udp} {
			s.Must(service(vip, 80, proto, far))
		}
		s.pods(a, b)
		s.Note("there and back, each twice")
		for range 2 {
			a.Play(a.segment(near, vip, 1000, 80, "S"), b, 1)
			b.Play(b.segment(far, near, 8080, 1000, "SA"), a, 1)
			a.Play(a.datagram(near, vip, 1001, 80), b, 1)
			b.Play(b.datagram(far, near, 8080, 1001), a, 1)
		}
		s.Dump(&cnat.CnatSessionDump{})
		s.Note("what nobody translates: to the backend itself, from another of its ports")
		a.Play(a.datagram(near, far, 1001, 8080), b, 1)
		b.Play(b.datagram(far, near, 8081, 1001), a, 1)
	})
}

// pods says that both ports lead to pods.
func (s *Session) pods(all ...*Port) {
	s.T.Helper()
	for _, p := range all {
		s.Must(&cnat.CnatSnatPolicyAddDelIf{SwIfIndex: p.Index, IsAdd: 1, Table: cnat.CNAT_POLICY_POD})
	}
}

// cnatMaglevSource: one source stays with one backend, whatever its port.
func cnatMaglevSource(s *Session) {
	s.cnatFamilies(func(a, b *Port, near, far, vip string) {
		if !netip.MustParseAddr(near).Is4() {
			return
		}
		s.pods(a, b)
		s.knows(b, "10.0.2.3", "fd00:2::3")
		t := service(vip, 80, udp, "10.0.2.2", "10.0.2.3")
		t.Translation.FlowHashConfig = ip.IP_API_V2_FLOW_HASH_SRC_IP
		s.Must(t)
		seen := map[netip.Addr]int{}
		for port := range uint16(16) {
			a.Send(a.datagram(near, vip, 2000+port, 80))
			for _, f := range b.Receive(1) {
				seen[netip.AddrFrom4([4]byte(f[30:34]))]++
			}
		}
		s.Write("16 flows of a source go to %d backends", len(seen))
		s.Note("without a hash of its own the ports count")
		s.Must(service(vip, 81, udp, "10.0.2.2", "10.0.2.3"))
		clear(seen)
		for port := range uint16(64) {
			a.Send(a.datagram(near, vip, 2000+port, 81))
			for _, f := range b.Receive(1) {
				seen[netip.AddrFrom4([4]byte(f[30:34]))]++
			}
		}
		s.Write("64 flows of a source go to %d backends", len(seen))
	})
}

// cnatOutside: a pod speaks to the outside by the node's address, but to excluded
// prefixes by its own; what comes from outside for a service elsewhere goes on so, too.
func cnatOutside(s *Session) {
	s.cnatFamilies(func(a, b *Port, near, far, vip string) {
		s.outsideAddresses()
		s.pods(a)
		for _, t := range []cnat.CnatSnatPolicyTable{cnat.CNAT_POLICY_INCLUDE_V4, cnat.CNAT_POLICY_INCLUDE_V6} {
			s.Must(&cnat.CnatSnatPolicyAddDelIf{SwIfIndex: a.Index, IsAdd: 1, Table: t})
		}
		node := "10.0.2.9"
		if !netip.MustParseAddr(near).Is4() {
			node = "fd00:2::9"
		}
		s.Note("from a pod: the source is the node's; both families share the ports from 49152 on")
		port := sourcePort(a.Play(a.datagram(near, far, 1000, 53), b, 1))
		b.Play(b.datagram(far, node, 53, port), a, 1)
		port = sourcePort(a.Play(a.segment(near, far, 1000, 53, "S"), b, 1))
		b.Play(b.segment(far, node, 53, port, "SA"), a, 1)
		a.Play(a.datagram(near, far, 1001, 53), b, 1)
		s.Note("an echo")
		a.Play(a.echo(near, far, 64, 8), b, 1)
		s.Dump(&cnat.CnatSessionDump{})
		s.Note("excluded: for flows that begin")
		s.Must(&cnat.CnatSnatPolicyAddDelExcludePfx{IsAdd: 1, Prefix: prefix(netip.PrefixFrom(netip.MustParseAddr(far), 24).Masked().String())})
		a.Play(a.datagram(near, far, 1002, 53), b, 1)
		a.Play(a.datagram(near, far, 1000, 53), b, 1)
		s.Note("from outside to a service whose backend is outside")
		s.Must(service(vip, 80, udp, far))
		b.Play(b.datagram(far, vip, 3000, 80), b, 1)
	})
}

// sourcePort is that of the last packet that came.
func sourcePort(frames [][]byte) uint16 {
	if len(frames) == 0 {
		return 0
	}
	f := frames[len(frames)-1]
	if f[12] == 0x86 {
		return binary.BigEndian.Uint16(f[54:])
	}
	return binary.BigEndian.Uint16(f[34:])
}

// outsideAddresses sets what flows to the outside are sent from.
func (s *Session) outsideAddresses() {
	s.T.Helper()
	s.Must(&cnat.CnatSetSnatAddresses{SnatIP4: ip4Address("10.0.2.9"), SnatIP6: netip.MustParseAddr("fd00:2::9").As16(), SwIfIndex: noInterface})
}

// cnatHairpin: a pod that reaches itself by a service must not see its own address.
func cnatHairpin(s *Session) {
	s.cnatFamilies(func(a, b *Port, near, far, vip string) {
		s.outsideAddresses()
		s.pods(a, b)
		node := "10.0.2.9"
		if !netip.MustParseAddr(near).Is4() {
			node = "fd00:2::9"
		}
		s.Must(service(vip, 80, tcp, near))
		port := sourcePort(a.Play(a.segment(near, vip, 1000, 80, "S"), a, 1))
		a.Play(a.segment(near, node, 8080, port, "SA"), a, 1)
		a.Play(a.segment(near, vip, 1000, 80, "A"), a, 1)
	})
}

// cnatACLOrder: access lists see the backend, not the service, and the pod, not the node.
func cnatACLOrder(s *Session) {
	s.cnatFamilies(func(a, b *Port, near, far, vip string) {
		s.outsideAddresses()
		s.pods(a, b)
		wide := everything(near)
		s.Must(service(vip, 80, udp, far))
		s.Note("input: a rule for the service's port, one for the backend's")
		a.lists([]uint32{s.list(rule(permits, udp, wide, wide, ports{80, 80}))}, nil)
		a.Play(a.datagram(near, vip, 1000, 80), b, 0)
		a.lists([]uint32{s.list(rule(permits, udp, wide, wide, ports{8080, 8080}))}, nil)
		a.Play(a.datagram(near, vip, 1000, 80), b, 1)
		a.lists(nil, nil)
		s.Note("output: the answer is still the backend's")
		a.lists(nil, []uint32{s.list(from(rule(permits, udp, wide, wide), ports{80, 80}))})
		b.Play(b.datagram(far, near, 8080, 1000), a, 0)
		a.lists(nil, []uint32{s.list(from(rule(permits, udp, wide, wide), ports{8080, 8080}))})
		b.Play(b.datagram(far, near, 8080, 1000), a, 1)
		a.lists(nil, nil)
	})
}

// cnatICMPError: what is said about a translated flow is told to its sender as of the
// flow that it knows.
func cnatICMPError(s *Session) {
	s.cnatFamilies(func(a, b *Port, near, far, vip string) {
		s.pods(a, b)
		s.Must(service(vip, 80, udp, far))
		for _, frame := range a.Play(a.datagram(near, vip, 1000, 80), b, 1) {
			s.Note("port unreachable")
			b.Play(b.about(frame[14:], far, near), a, 1)
		}
	})
}

// about is "port unreachable" about a packet.
func (p *Port) about(packet []byte, src, dst string) []byte {
	data := append(binary.BigEndian.AppendUint32(nil, 0), packet...)
	if netip.MustParseAddr(src).Is4() {
		return p.transport(src, dst, layers.IPProtocolICMPv4, &layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(3, 3)}, data[4:])
	}
	return p.transport(src, dst, layers.IPProtocolICMPv6, &layers.ICMPv6{TypeCode: layers.CreateICMPv6TypeCode(1, 4)}, data)
}
