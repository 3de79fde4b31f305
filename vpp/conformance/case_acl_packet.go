package conformance

import (
	"net/netip"
	"slices"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	interfaces "go.fd.io/govpp/binapi/interface"
)

func aclFirstMatch(s *Session) {
	s.families(func(a, b *Port, near, far string) {
		wide := everything(near)
		one := s.list(rule(denies, udp, wide, wide, ports{80, 80}), rule(permits, udp, wide, wide, ports{80, 82}))
		two := s.list(rule(permits, udp, wide, wide, ports{80, 80}), rule(denies, udp, wide, wide, ports{82, 82}), rule(permits, udp, wide, wide, ports{83, 83}))
		try := func(pass ...uint16) {
			for _, port := range []uint16{80, 81, 82, 83, 84} {
				a.Play(a.datagram(near, far, 1000, port), b, btoi(slices.Contains(pass, port)))
			}
		}
		s.Note("input: one list, both, the other way round")
		a.lists([]uint32{one}, nil)
		try(81, 82)
		a.lists([]uint32{one, two}, nil)
		try(81, 82, 83)
		a.lists([]uint32{two, one}, nil)
		try(80, 81, 83)
		a.lists(nil, nil)
		s.Note("output: the same")
		b.lists(nil, []uint32{one, two})
		try(81, 82, 83)
		b.lists(nil, []uint32{two, one})
		try(80, 81, 83)
		s.Note("both")
		a.lists([]uint32{one}, nil)
		try(81)
		a.lists(nil, nil)
		b.lists(nil, nil)
		try(80, 81, 82, 83, 84)
	})
}

// aclNoMatch: what no rule permits is denied, once a direction has a list.
func aclNoMatch(s *Session) {
	empty, four := s.list(), s.list(rule(permits, anyProto, "0.0.0.0/0", "0.0.0.0/0"))
	s.families(func(a, b *Port, near, far string) {
		six := !netip.MustParseAddr(near).Is4()
		forth, back := a.datagram(near, far, 1000, 80), b.datagram(far, near, 80, 1000)
		s.Note("a list without rules alone; the other direction has none")
		a.lists([]uint32{empty}, nil)
		a.Play(forth, b, 0)
		b.Play(back, a, 1)
		a.lists(nil, []uint32{empty})
		a.Play(forth, b, 1)
		b.Play(back, a, 0)
		s.Note("a list that knows IPv4 only")
		a.lists([]uint32{four}, nil)
		a.Play(forth, b, btoi(!six))
		a.lists([]uint32{empty, four}, nil)
		a.Play(forth, b, btoi(!six))
		s.Note("no list")
		a.lists(nil, nil)
		a.Play(forth, b, 1)
	})
}

// aclPorts: both ends of a range are in it; "last 0" is port 0 only.
func aclPorts(s *Session) {
	s.families(func(a, b *Port, near, far string) {
		wide := everything(near)
		s.Note("10 to 20, from 1000 to 1001")
		a.lists([]uint32{s.list(from(rule(permits, udp, wide, wide, ports{10, 20}), ports{1000, 1001}))}, nil)
		for _, p := range [][3]uint16{{1000, 10, 1}, {1001, 20, 1}, {1000, 9, 0}, {1000, 21, 0}, {999, 15, 0}, {1002, 15, 0}} {
			a.Play(a.datagram(near, far, p[0], p[1]), b, int(p[2]))
		}
		s.Note("a range that was left 0")
		zero := rule(permits, udp, wide, wide, ports{0, 0})
		a.lists([]uint32{s.list(zero)}, nil)
		a.Play(a.datagram(near, far, 1000, 0), b, 1)
		a.Play(a.datagram(near, far, 1000, 1), b, 0)
		s.Note("without a protocol ports do not matter")
		zero.Proto = anyProto
		a.lists([]uint32{s.list(from(zero, ports{0, 0}))}, nil)
		a.Play(a.datagram(near, far, 1000, 1), b, 1)
		a.lists(nil, nil)
	})
}

// aclProtocols: a rule's protocol is that above the extension headers.
func aclProtocols(s *Session) {
	s.families(func(a, b *Port, near, far string) {
		wide := everything(near)
		a.lists([]uint32{s.list(rule(permits, udp, wide, wide), rule(permits, sctp, wide, wide), rule(permits, 47, wide, wide))}, nil)
		a.Play(a.datagram(near, far, 1, 2), b, 1)
		a.Play(a.segment(near, far, 1, 2, "S"), b, 0)
		a.Play(a.raw(near, far, 132, 40), b, 1)
		a.Play(a.raw(near, far, 47, 40), b, 1)
		a.Play(a.raw(near, far, 50, 40), b, 0)
		a.Play(a.raw(near, far, layers.IPProtocolNoNextHeader, 0), b, 0)
		if wide == "::/0" {
			s.Note("behind options")
			options := []byte{17, 0, 1, 4, 0, 0, 0, 0}
			inner := a.datagram(near, far, 1, 2)[14+40:]
			a.Play(build(a.ether(layers.EthernetTypeIPv6), ip6(near, far, 64, layers.IPProtocolIPv6Destination), gopacket.Payload(slices.Concat(options, inner))), b, 1)
			options[0] = 6
			inner = a.segment(near, far, 1, 2, "S")[14+40:]
			a.Play(build(a.ether(layers.EthernetTypeIPv6), ip6(near, far, 64, layers.IPProtocolIPv6Destination), gopacket.Payload(slices.Concat(options, inner))), b, 0)
		}
		a.lists(nil, nil)
	})
}

// aclReflect: what was let through comes back, on that interface.
func aclReflect(s *Session) {
	let, shut := s.list(all(reflects)...), s.list(all(denies)...)
	s.families(func(a, b *Port, near, far string) {
		forth, back := a.datagram(near, far, 1000, 80), b.datagram(far, near, 80, 1000)
		s.Note("from the port")
		a.lists([]uint32{let}, []uint32{shut})
		b.Play(back, a, 0)
		a.Play(forth, b, 1)
		b.Play(back, a, 1)
		a.Play(forth, b, 1)
		b.Play(b.datagram(far, near, 80, 1001), a, 0)
		b.Play(b.datagram(far, near, 81, 1000), a, 0)
		b.Play(b.segment(far, near, 80, 1000, "A"), a, 0)
		s.sessions("1")
		a.lists(nil, nil)
		s.sessions("0")
		s.Note("to the port")
		a.lists([]uint32{shut}, []uint32{let})
		a.Play(forth, b, 0)
		b.Play(back, a, 1)
		a.Play(forth, b, 1)
		s.sessions("1")
		a.lists(nil, nil)
		s.sessions("0")
		s.Note("each interface has sessions of its own")
		a.lists([]uint32{let}, []uint32{shut})
		b.lists([]uint32{shut}, []uint32{let})
		b.Play(back, a, 0)
		a.Play(forth, b, 1)
		s.sessions("2")
		b.Play(back, a, 1)
		b.lists(nil, nil)
		s.sessions("1")
		b.Play(back, a, 1)
		a.lists(nil, nil)
		s.sessions("0")
		s.Note("a permit without reflection lets nothing back")
		a.lists([]uint32{s.list(all(permits)...)}, []uint32{shut})
		a.Play(forth, b, 1)
		b.Play(back, a, 0)
		s.sessions("0")
		a.lists(nil, nil)
	})
}

// aclReflectTCP: any packet of TCP makes a session.
func aclReflectTCP(s *Session) {
	let, shut := s.list(all(reflects)...), s.list(all(denies)...)
	s.families(func(a, b *Port, near, far string) {
		a.lists([]uint32{let}, []uint32{shut})
		for n, flags := range []string{"S", "A", "R", "FA"} {
			sport := 1000 + uint16(n)
			b.Play(b.segment(far, near, 80, sport, "A"), a, 0)
			a.Play(a.segment(near, far, sport, 80, flags), b, 1)
			b.Play(b.segment(far, near, 80, sport, "SA"), a, 1)
			a.Play(a.segment(near, far, sport, 80, "A"), b, 1)
			b.Play(b.segment(far, near, 80, sport, "FA"), a, 1)
			b.Play(b.segment(far, near, 80, sport, "R"), a, 1)
		}
		s.sessions("4")
		s.Note("other protocols")
		a.Play(a.raw(near, far, 47, 40), b, 1)
		b.Play(b.raw(far, near, 47, 40), a, 1)
		b.Play(b.raw(far, near, 50, 40), a, 0)
		a.lists(nil, nil)
		s.sessions("0")
	})
}

// aclICMP: an echo lets its answer back; errors need rules of their own.
func aclICMP(s *Session) {
	let, shut := s.list(all(reflects)...), s.list(all(denies)...)
	s.families(func(a, b *Port, near, far string) {
		echo, answer, unreachable, tooBig := uint8(8), uint8(0), uint8(3), uint8(3)
		proto, wide := icmp, "0.0.0.0/0"
		if !netip.MustParseAddr(near).Is4() {
			echo, answer, unreachable, tooBig = 128, 129, 1, 2
			proto, wide = icmp6, "::/0"
		}
		a.lists([]uint32{let}, []uint32{shut})
		b.Play(b.message(far, near, answer, 0), a, 0)
		a.Play(a.message(near, far, echo, 0), b, 1)
		b.Play(b.message(far, near, answer, 0), a, 1)
		s.Note("not: an echo, an answer of another code, errors")
		b.Play(b.message(far, near, echo, 0), a, 0)
		b.Play(b.message(far, near, answer, 1), a, 0)
		b.Play(b.message(far, near, unreachable, 4), a, 0)
		s.Note("errors that are let out let nothing in")
		a.Play(a.message(near, far, unreachable, 1), b, 1)
		b.Play(b.message(far, near, unreachable, 1), a, 0)
		s.Note("an answer that is let out lets no echo in")
		a.Play(a.message(near, far, answer, 0), b, 1)
		b.Play(b.message(far, near, echo, 0), a, 0)
		a.lists(nil, nil)
		s.sessions("0")
		s.Note("by type and code")
		a.lists(nil, []uint32{s.list(from(rule(permits, proto, wide, wide, ports{4, 5}), ports{uint16(unreachable), uint16(tooBig)}))})
		for _, code := range []uint8{3, 4, 5, 6} {
			b.Play(b.message(far, near, unreachable, code), a, btoi(code == 4 || code == 5))
		}
		b.Play(b.message(far, near, echo, 4), a, 0)
		a.lists(nil, nil)
	})
}

// aclFragments: a later fragment has no ports, so that only addresses and protocol count;
// the first rule that could match decides.
func aclFragments(s *Session) {
	let, shut := s.list(all(reflects)...), s.list(all(denies)...)
	s.families(func(a, b *Port, near, far string) {
		wide := everything(near)
		try := func(dport uint16, first, later int) {
			a.Play(a.piece(near, far, dport, true), b, first)
			a.Play(a.piece(near, far, dport, false), b, later)
		}
		s.Note("permit port 80 only: later fragments pass")
		a.lists([]uint32{s.list(rule(permits, udp, wide, wide, ports{80, 80}))}, nil)
		try(80, 1, 1)
		try(81, 0, 1)
		s.Note("deny port 81, permit others: later fragments do not")
		a.lists([]uint32{s.list(rule(denies, udp, wide, wide, ports{81, 81}), rule(permits, udp, wide, wide))}, nil)
		try(80, 1, 0)
		try(81, 0, 0)
		s.Note("the rules of another protocol do not matter")
		a.lists([]uint32{s.list(rule(denies, tcp, wide, wide, ports{81, 81}), rule(permits, udp, wide, wide))}, nil)
		try(80, 1, 1)
		s.Note("output")
		a.lists(nil, nil)
		b.lists(nil, []uint32{s.list(rule(permits, udp, wide, wide, ports{80, 80}))})
		try(80, 1, 1)
		try(81, 0, 1)
		b.lists(nil, nil)
		s.Note("sessions: first fragments by their ports, later ones by none")
		a.lists([]uint32{let}, []uint32{shut})
		b.Play(b.piece(far, near, 1000, false), a, 0)
		try(80, 1, 1)
		b.Play(b.datagram(far, near, 80, 1000), a, 1)
		b.Play(b.piece(far, near, 1000, false), a, 1)
		s.sessions("2")
		a.lists(nil, nil)
		s.sessions("0")
	})
}

func aclTCPFlags(s *Session) {
	s.families(func(a, b *Port, near, far string) {
		wide := everything(near)
		flags := rule(permits, tcp, wide, wide)
		s.Note("ACK without SYN, in one flow")
		flags.TCPFlagsMask, flags.TCPFlagsValue = 0x12, 0x10
		a.lists([]uint32{s.list(flags)}, nil)
		for _, f := range []string{"S", "A", "SA", "FA", "R", "A"} {
			a.Play(a.segment(near, far, 1000, 80, f), b, btoi(f == "A" || f == "FA"))
		}
		s.Note("a value beyond the mask")
		flags.TCPFlagsMask, flags.TCPFlagsValue = 0x02, 0x12
		a.lists([]uint32{s.list(flags)}, nil)
		a.Play(a.segment(near, far, 1000, 80, "SA"), b, 0)
		s.Note("a SYN lets the rest of its flow through")
		flags.IsPermit, flags.TCPFlagsMask, flags.TCPFlagsValue = reflects, 0x12, 0x02
		a.lists([]uint32{s.list(flags)}, []uint32{s.list()})
		a.Play(a.segment(near, far, 1000, 80, "A"), b, 0)
		a.Play(a.segment(near, far, 1000, 80, "S"), b, 1)
		b.Play(b.segment(far, near, 80, 1000, "SA"), a, 1)
		a.Play(a.segment(near, far, 1000, 80, "A"), b, 1)
		a.lists(nil, nil)
		s.sessions("0")
	})
}

// aclOwn: what the machine answers itself is judged where it goes out.
func aclOwn(s *Session) {
	let, shut := s.list(all(reflects)...), s.list(all(denies)...)
	s.families(func(a, b *Port, near, far string) {
		own := map[bool]string{true: "10.0.1.1", false: "fd00:1::1"}[netip.MustParseAddr(near).Is4()]
		s.Note("echo: nothing goes out; the answer to a session; nothing comes in")
		a.lists(nil, []uint32{shut})
		a.Play(a.echo(near, own, 64, 20), a, 0)
		a.lists([]uint32{let}, []uint32{shut})
		a.Play(a.echo(near, own, 64, 20), a, 1)
		a.lists([]uint32{shut}, nil)
		a.Play(a.echo(near, own, 64, 20), a, 0)
		s.Note("errors of the machine are no answer to a session")
		a.lists([]uint32{let}, []uint32{shut})
		a.Play(a.udp(near, far, 1, 20), a, 0)
		a.lists([]uint32{let}, []uint32{let})
		a.Play(a.udp(near, far, 1, 20), a, 1)
		s.Note("what is denied gets no error")
		a.lists([]uint32{shut}, nil)
		a.Play(a.udp(near, far, 1, 20), a, 0)
		a.lists(nil, nil)
		s.sessions("0")
		s.Note("too late or too big for the way out: before its lists")
		b.lists(nil, []uint32{shut})
		a.Play(a.udp(near, far, 1, 20), a, 1)
		s.Must(&interfaces.SwInterfaceSetMtu{SwIfIndex: b.Index, Mtu: []uint32{1280, 0, 0, 0}})
		if netip.MustParseAddr(near).Is4() {
			h := ip4(near, far, 64, layers.IPProtocolUDP)
			h.Flags = layers.IPv4DontFragment
			a.Play(build(a.ether(layers.EthernetTypeIPv4), h, &layers.UDP{SrcPort: 1, DstPort: 2}, payload(1400)), a, 1)
		} else {
			a.Play(a.udp(near, far, 64, 1400), a, 1)
		}
		a.Play(a.udp(near, far, 64, 20), a, 0)
		s.Must(&interfaces.SwInterfaceSetMtu{SwIfIndex: b.Index, Mtu: []uint32{9000, 0, 0, 0}})
		b.lists(nil, nil)
	})
}

// aclNotJudged: what goes by the lists of an L3 interface, though it is no packet of a flow,
// and what does not.
func aclNotJudged(s *Session) {
	a, b := s.wired()
	shut := s.list(all(denies)...)
	s.knows(a, "10.0.1.2", "fd00:1::2")
	a.lists([]uint32{shut}, []uint32{shut})
	b.lists([]uint32{shut}, []uint32{shut})
	s.Note("ARP, a solicitation of a group")
	a.Play(a.arp(1, "10.0.1.2", "10.0.1.1"), a, 1)
	a.Play(a.solicit("fd00:1::2", "fd00:1::1"), a, 1)
	s.Note("the machine asks for its neighbours: by ARP; not by ND, which the lists of the way out forbid")
	a.lists(nil, nil)
	s.Drain()
	a.Play(a.udp("10.0.1.2", "10.0.2.2", 64, 20), b, 1)
	a.Play(a.udp("fd00:1::2", "fd00:2::2", 64, 20), b, 0)
	s.Note("an advertisement to the machine alone is judged; an answer by ARP is not")
	b.Send(b.arp(2, "10.0.2.2", "10.0.2.1"))
	b.Send(b.advertise("fd00:2::2", "fd00:2::1"))
	b.Receive(0)
	s.neighbors()
}
