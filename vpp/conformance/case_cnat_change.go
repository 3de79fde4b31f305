package conformance

import (
	"fmt"
	"net/netip"

	"github.com/google/gopacket/layers"
	"go.fd.io/govpp/adapter"
	"go.fd.io/govpp/binapi/cnat"
	"go.fd.io/govpp/binapi/ip_types"
)

// cnatChangeCases are about services that change under live flows, and about what is a
// service's and what is not.
func cnatChangeCases() []Case {
	return []Case{
		{"cnat-edited", cnatEdited},
		{"cnat-many-backends", cnatManyBackends},
		{"cnat-sctp", cnatSCTP},
		{"cnat-real-ip", cnatRealIP},
		{"cnat-only-vip", cnatOnlyVIP},
		{"cnat-policies", cnatPolicies},
		{"cnat-one-way", cnatOneWay},
		{"cnat-counters", cnatCounters},
	}
}

// beside is another host on the link of far.
func (s *Session) beside(b *Port, far string) string {
	s.T.Helper()
	s.knows(b, "10.0.2.3", "fd00:2::3")
	if netip.MustParseAddr(far).Is4() {
		return "10.0.2.3"
	}
	return "fd00:2::3"
}

// opens is both ends of a connection from near to a service, port 80, at far, port 8080.
func (s *Session) opens(a, b *Port, near, vip, far string, port uint16) {
	s.T.Helper()
	a.Play(a.segment(near, vip, port, 80, "S"), b, 1)
	b.Play(b.segment(far, near, 8080, port, "SA"), a, 1)
}

// cnatEdited: connections outlive their backend's place among the others, and the
// translation itself. Of datagrams that is not asked: their backend may be gone for good.
func cnatEdited(s *Session) {
	s.cnatFamilies(func(a, b *Port, near, far, vip string) {
		s.pods(a, b)
		other := s.beside(b, far)
		s.Must(service(vip, 80, tcp, far))
		s.opens(a, b, near, vip, far, 1000)
		s.Note("another backend instead: connections stay, others begin there")
		id := s.Must(service(vip, 80, tcp, other)).(*cnat.CnatTranslationUpdateReply).ID
		a.Play(a.segment(near, vip, 1000, 80, "A"), b, 1)
		b.Play(b.segment(far, near, 8080, 1000, "A"), a, 1)
		s.opens(a, b, near, vip, other, 1001)
		s.Note("deleted: both stay")
		s.Must(&cnat.CnatTranslationDel{ID: id})
		a.Play(a.segment(near, vip, 1000, 80, "A"), b, 1)
		a.Play(a.segment(near, vip, 1001, 80, "A"), b, 1)
		b.Play(b.segment(other, near, 8080, 1001, "A"), a, 1)
		a.Play(a.segment(near, vip, 1002, 80, "S"), b, 0)
		s.Note("made again")
		s.Must(service(vip, 80, tcp, other))
		a.Play(a.segment(near, vip, 1000, 80, "A"), b, 1)
		a.Play(a.segment(near, vip, 1003, 80, "S"), b, 1)
	})
}

// cnatManyBackends: with either way to choose, all backends are chosen, and the sessions
// say so.
func cnatManyBackends(s *Session) {
	s.cnatFamilies(func(a, b *Port, near, far, vip string) {
		s.pods(a, b)
		const backends, flows, together = 20, 240, 16
		var all []string
		for n := range backends {
			addr := fmt.Sprintf("10.0.2.%d", 100+n)
			if !netip.MustParseAddr(near).Is4() {
				addr = fmt.Sprintf("fd00:2::%d", 100+n)
			}
			all = append(all, addr)
			s.knows(b, addr)
		}
		for n, lb := range []cnat.CnatLbType{cnat.CNAT_LB_TYPE_DEFAULT, cnat.CNAT_LB_TYPE_MAGLEV} {
			t := service(vip, 80+uint16(n), udp, all...)
			t.Translation.LbType = lb
			s.Must(t)
			for port := uint16(0); port < flows; port += together {
				var frames [][]byte
				for k := range uint16(together) {
					frames = append(frames, a.datagram(near, vip, 2000+port+k, 80+uint16(n)))
				}
				a.Send(frames...)
				b.Receive(together)
			}
			chosen := map[netip.Addr]bool{}
			for _, d := range s.Details(&cnat.CnatSessionDump{}) {
				d := d.(*cnat.CnatSessionDetails).Session
				if d.Dst.Addr == address(vip) && d.Dst.Port == 80+uint16(n) && d.Location == 0 {
					chosen[netip.MustParseAddr(d.New.Addr.String())] = true
				}
			}
			s.Write("%v: %d flows to %d of %d backends", lb, flows, len(chosen), backends)
		}
	})
}

// cnatSCTP is over IPv4 only.
func cnatSCTP(s *Session) {
	s.cnatFamilies(func(a, b *Port, near, far, vip string) {
		if !netip.MustParseAddr(near).Is4() {
			return
		}
		s.pods(a, b)
		s.Must(service(vip, 80, sctp, far))
		chunk := func(p *Port, src, dst string, sport, dport uint16) []byte {
			return build(p.ether(layers.EthernetTypeIPv4), ip4(src, dst, 64, layers.IPProtocolSCTP),
				&layers.SCTP{SrcPort: layers.SCTPPort(sport), DstPort: layers.SCTPPort(dport), VerificationTag: 5}, payload(20))
		}
		for range 2 {
			a.Play(chunk(a, near, vip, 1000, 80), b, 1)
			b.Play(chunk(b, far, near, 8080, 1000), a, 1)
		}
		s.Dump(&cnat.CnatSessionDump{})
	})
}

// cnatRealIP: a service at an address that is the machine's own, too, as that of a node.
func cnatRealIP(s *Session) {
	s.cnatFamilies(func(a, b *Port, near, far, _ string) {
		s.pods(b)
		node := "10.0.1.1"
		if !netip.MustParseAddr(near).Is4() {
			node = "fd00:1::1"
		}
		t := service(node, 30080, udp, far)
		t.Translation.IsRealIP = 1
		s.Must(t)
		s.Note("from outside to a pod")
		a.Play(a.datagram(near, node, 1000, 30080), b, 1)
		b.Play(b.datagram(far, near, 8080, 1000), a, 1)
		s.Note("the address itself answers as before")
		a.Play(a.echo(near, node, 64, 32), a, 1)
		a.Play(a.datagram(near, node, 1000, 30081), a, 1)
		s.Note("as it does for the port, once the translation is deleted")
		s.Must(&cnat.CnatTranslationDel{ID: s.Details(&cnat.CnatTranslationDump{})[0].(*cnat.CnatTranslationDetails).Translation.ID})
		a.Play(a.datagram(near, node, 1001, 30080), a, 1)
	})
}

// cnatOnlyVIP: what a service does not take goes nowhere, whatever route there is.
func cnatOnlyVIP(s *Session) {
	s.cnatFamilies(func(a, b *Port, near, far, vip string) {
		s.pods(a, b)
		host := netip.PrefixFrom(netip.MustParseAddr(vip), netip.MustParseAddr(vip).BitLen()).String()
		s.addRoute(route(host, via(far, b.Index)))
		s.Note("before there is a service: a route")
		a.Play(a.datagram(near, vip, 1000, 80), b, 1)
		id := s.Must(service(vip, 81, udp, far)).(*cnat.CnatTranslationUpdateReply).ID
		s.route(host)
		a.Play(a.datagram(near, vip, 1000, 80), b, 0)
		a.Play(a.segment(near, vip, 1000, 81, "S"), b, 0)
		a.Play(a.echo(near, vip, 64, 32), b, 0)
		s.Note("and afterwards")
		s.Must(&cnat.CnatTranslationDel{ID: id})
		s.route(host)
		a.Play(a.datagram(near, vip, 1000, 80), b, 1)
	})
}

// cnatPolicies: without a policy all flows get another source; by interfaces and prefixes
// those of an interface that is included.
func cnatPolicies(s *Session) {
	s.cnatFamilies(func(a, b *Port, near, far, vip string) {
		s.outsideAddresses()
		s.Note("none: a flow, and another one the other way")
		s.Must(&cnat.CnatSetSnatPolicy{Policy: cnat.CNAT_POLICY_NONE})
		a.Play(a.datagram(near, far, 1000, 53), b, 1)
		b.Play(b.datagram(far, near, 1001, 53), a, 1)
		s.Note("by interface: not included, included")
		s.Must(&cnat.CnatSetSnatPolicy{Policy: cnat.CNAT_POLICY_IF_PFX})
		a.Play(a.datagram(near, far, 1002, 53), b, 1)
		for _, table := range []cnat.CnatSnatPolicyTable{cnat.CNAT_POLICY_INCLUDE_V4, cnat.CNAT_POLICY_INCLUDE_V6} {
			s.Must(&cnat.CnatSnatPolicyAddDelIf{SwIfIndex: a.Index, IsAdd: 1, Table: table})
		}
		a.Play(a.datagram(near, far, 1003, 53), b, 1)
		s.Note("a service's flow goes by the backend's address")
		s.Must(service(vip, 80, udp, far))
		a.Play(a.datagram(near, vip, 1004, 80), b, 1)
		s.Note("no more by the host's link, with the policy for Kubernetes")
		s.Must(&cnat.CnatSetSnatPolicy{Policy: cnat.CNAT_POLICY_K8S})
		s.Must(&cnat.CnatSnatPolicyAddDelIf{SwIfIndex: b.Index, IsAdd: 1, Table: cnat.CNAT_POLICY_HOST})
		a.Play(a.datagram(near, far, 1005, 53), b, 1)
		for _, table := range []cnat.CnatSnatPolicyTable{cnat.CNAT_POLICY_INCLUDE_V4, cnat.CNAT_POLICY_INCLUDE_V6} {
			s.Must(&cnat.CnatSnatPolicyAddDelIf{SwIfIndex: a.Index, Table: table})
		}
		s.Must(&cnat.CnatSnatPolicyAddDelIf{SwIfIndex: b.Index, Table: cnat.CNAT_POLICY_HOST})
	})
}

// cnatOneWay: a translation that leaves answers alone.
func cnatOneWay(s *Session) {
	s.cnatFamilies(func(a, b *Port, near, far, vip string) {
		s.pods(a, b)
		t := service(vip, 80, udp, far)
		t.Translation.Flags = uint8(cnat.CNAT_TRANSLATION_NO_RETURN_SESSION)
		s.Must(t)
		a.Play(a.datagram(near, vip, 1000, 80), b, 1)
		b.Play(b.datagram(far, near, 8080, 1000), a, 1)
		s.Dump(&cnat.CnatSessionDump{})
	})
}

// cnatCounters: a translation counts the first packets of its flows.
func cnatCounters(s *Session) {
	stats := s.dialStats()
	s.cnatFamilies(func(a, b *Port, near, far, vip string) {
		s.pods(a, b)
		count := func(ids ...uint32) {
			all, err := stats.Entries(s.T.Context(), "^/net/cnat-translation$")
			if err != nil || len(all) != 1 {
				s.T.Fatalf("%d entries, %v", len(all), err)
			}
			for _, id := range ids {
				var packets, bytes uint64
				for _, row := range all[0].Data.(adapter.CombinedCounterStat) {
					if int(id) < len(row) {
						packets, bytes = packets+row[id].Packets(), bytes+row[id].Bytes()
					}
				}
				s.Write("  translation %d: %d packets, %d bytes", id, packets, bytes)
			}
		}
		made := func(port uint16, proto ip_types.IPProto) uint32 {
			return s.Must(service(vip, port, proto, far)).(*cnat.CnatTranslationUpdateReply).ID
		}
		one, two := made(80, udp), made(81, udp)
		for _, port := range []uint16{1000, 1000, 1001} {
			a.Play(a.datagram(near, vip, port, 80), b, 1)
		}
		b.Play(b.datagram(far, near, 8080, 1000), a, 1)
		count(one, two)
		s.Note("an edit keeps them, another life of the id does not")
		made(80, udp)
		count(one, two)
		s.Must(&cnat.CnatTranslationDel{ID: one})
		count(made(82, udp))
	})
}
