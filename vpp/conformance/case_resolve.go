package conformance

import (
	"go.fd.io/govpp/binapi/ip"

	interfaces "go.fd.io/govpp/binapi/interface"
)

func resolutionCases() []Case {
	return []Case{
		{"arp-answer", arpAnswer},
		{"arp-ask", arpAsk},
		{"nd-answer", ndAnswer},
		{"nd-ask", ndAsk},
	}
}

// wired is a machine with two subnets and a port in each.
func (s *Session) wired() (a, b *Port) { return s.addressed(s.Port(), s.Port()) }

// addressed gives two ports the addresses 10.0.1.1, 10.0.2.1, fd00:1::1 and fd00:2::1.
func (s *Session) addressed(a, b *Port) (*Port, *Port) {
	s.T.Helper()
	for _, x := range []struct {
		p    *Port
		addr string
	}{{a, "10.0.1.1/24"}, {b, "10.0.2.1/24"}, {a, "fd00:1::1/64"}, {b, "fd00:2::1/64"}} {
		s.Must(&interfaces.SwInterfaceAddDelAddress{SwIfIndex: x.p.Index, IsAdd: true, Prefix: withPrefix(x.addr)})
	}
	s.Drain()
	return a, b
}

// knows makes the machine resolve a port's addresses without a line in the transcript.
func (s *Session) knows(p *Port, addrs ...string) {
	s.T.Helper()
	for _, a := range addrs {
		s.Must(neighborAdd(p, a))
	}
}

func arpAnswer(s *Session) {
	a, b := s.wired()
	s.Note("for our address, and what is learnt from the question")
	a.Play(a.arp(1, "10.0.1.2", "10.0.1.1"), a, 1)
	s.neighbors()
	s.Note("not for others, nor for an address of another interface, nor from another subnet")
	a.Play(a.arp(1, "10.0.1.2", "10.0.1.9"), a, 0)
	a.Play(a.arp(1, "10.0.1.2", "10.0.2.1"), a, 0)
	a.Play(a.arp(1, "99.0.0.1", "10.0.1.1"), a, 0)
	a.Play(a.arp(1, "10.0.2.2", "10.0.1.1"), a, 0)
	s.Note("a probe (RFC 5227) has no sender address; our own as sender")
	a.Play(a.arp(1, "0.0.0.0", "10.0.1.1"), a, 0)
	a.Play(a.arp(1, "10.0.1.1", "10.0.1.1"), a, 0)
	s.Note("a reply nobody asked for, and a gratuitous one for a known address")
	b.Play(b.arp(2, "10.0.2.7", "10.0.2.1"), b, 0)
	b.Play(b.arp(2, "10.0.2.8", "10.0.2.8"), b, 0)
	s.neighbors()
	s.Note("an interface that is down")
	s.Must(&interfaces.SwInterfaceSetFlags{SwIfIndex: a.Index})
	a.Play(a.arp(1, "10.0.1.2", "10.0.1.1"), a, 0)
}

func arpAsk(s *Session) {
	a, b := s.wired()
	s.Note("the first packet becomes a question, and is lost")
	a.Play(a.udp("10.0.1.2", "10.0.2.2", 64, 20), b, 1)
	s.neighbors()
	s.Note("after the answer the next goes through")
	b.Send(b.arp(2, "10.0.2.2", "10.0.2.1"))
	s.Drain()
	s.neighbors()
	a.Play(a.udp("10.0.1.2", "10.0.2.2", 64, 20), b, 1)
	s.Note("through a next hop")
	s.Must(&ip.IPRouteAddDel{IsAdd: true, Route: route("20.0.0.0/8", via("10.0.2.3", b.Index))})
	a.Play(a.udp("10.0.1.2", "20.0.0.1", 64, 20), b, 1)
	b.Send(b.arp(2, "10.0.2.3", "10.0.2.1"))
	s.Drain()
	a.Play(a.udp("10.0.1.2", "20.0.0.1", 64, 20), b, 1)
	s.Note("the machine's own ping, broadcast and network address of the subnet")
	a.Play(a.udp("10.0.1.2", "10.0.2.255", 64, 20), b, 0)
	a.Play(a.udp("10.0.1.2", "10.0.2.0", 64, 20), b, 0)
	a.Play(a.udp("10.0.1.2", "255.255.255.255", 64, 20), b, 0)
}

func ndAnswer(s *Session) {
	a, _ := s.wired()
	s.Note("for our address, multicast and link-local")
	a.Play(a.solicit("fd00:1::2", "fd00:1::1"), a, 1)
	s.neighbors()
	a.Play(a.solicit("fe80::99", "fe80::fe:ff:fe00:1"), a, 1) // from the MAC by RFC 4291 appendix A
	s.Note("not for others, nor from another subnet")
	a.Play(a.solicit("fd00:1::2", "fd00:1::9"), a, 0)
	a.Play(a.solicit("fd00:1::2", "fd00:2::1"), a, 0)
	a.Play(a.solicit("fd00:99::2", "fd00:1::1"), a, 0)
	s.Note("detection of a double address asks from ::")
	a.Play(a.solicit("::", "fd00:1::1"), a, 0)
	s.neighbors()
}

func ndAsk(s *Session) {
	a, b := s.wired()
	a.Play(a.udp("fd00:1::2", "fd00:2::2", 64, 20), b, 1)
	s.neighbors()
	b.Send(b.advertise("fd00:2::2", "fd00:2::1"))
	s.Drain()
	s.neighbors()
	a.Play(a.udp("fd00:1::2", "fd00:2::2", 64, 20), b, 1)
	s.Note("through a link-local next hop")
	s.Must(&ip.IPRouteAddDel{IsAdd: true, Route: route("fd20::/64", via("fe80::2", b.Index))})
	a.Play(a.udp("fd00:1::2", "fd20::1", 64, 20), b, 1)
	b.Send(b.advertise("fe80::2", "fd00:2::1"))
	s.Drain()
	a.Play(a.udp("fd00:1::2", "fd20::1", 64, 20), b, 1)
}
