package conformance

import (
	"slices"
	"strings"
)

// aclCounters: rules count what they decide, not what sessions do.
func aclCounters(s *Session) {
	a, b := s.fourOnly()
	list := s.list(rule(denies, udp, "0.0.0.0/0", "0.0.0.0/0", ports{81, 81}), rule(permits, udp, "0.0.0.0/0", "0.0.0.0/0", ports{82, 82}),
		rule(reflects, udp, "0.0.0.0/0", "0.0.0.0/0", ports{83, 83}))
	out := s.list(all(permits)...)
	a.lists([]uint32{list}, nil)
	b.lists(nil, []uint32{out})
	// One by one: VPP may count packets of a flow that come together as its first.
	send := func(times, pass int, port uint16) {
		for range times {
			a.Send(a.datagram("10.0.1.2", "10.0.2.2", 1000, port))
			b.Receive(pass)
		}
	}
	s.Note("nobody asked to count")
	send(2, 0, 81)
	send(2, 1, 82)
	s.matches("0")
	s.countRules(true)
	s.Note("deny, permit, reflect, none")
	send(3, 0, 81)
	send(4, 1, 82)
	send(5, 1, 83)
	send(2, 0, 84)
	s.matches("0")
	s.matches("1")
	s.Note("replaced: all begins at 0, also with as many rules")
	s.replace(list, rule(permits, udp, "0.0.0.0/0", "0.0.0.0/0", ports{82, 82}), rule(denies, udp, "0.0.0.0/0", "0.0.0.0/0"), rule(denies, udp, "0.0.0.0/0", "0.0.0.0/0"))
	s.matches("0")
	send(1, 1, 82)
	send(1, 0, 84)
	s.matches("0")
	s.Note("no rules")
	s.replace(list)
	send(1, 0, 82)
	s.matches("0")
	s.countRules(false)
	s.replace(list, all(permits)...)
	send(1, 1, 82)
	s.matches("0")
}

// aclReasonCounters: what /err tells of the lists' nodes.
func aclReasonCounters(s *Session) {
	a, b := s.fourOnly()
	list := s.list(rule(denies, udp, "0.0.0.0/0", "0.0.0.0/0", ports{81, 81}), rule(permits, udp, "0.0.0.0/0", "0.0.0.0/0", ports{82, 82}),
		rule(reflects, udp, "0.0.0.0/0", "0.0.0.0/0", ports{83, 83}))
	a.lists([]uint32{list}, []uint32{list})
	b.lists(nil, []uint32{list})
	stats := s.dialStats()
	for _, step := range []struct {
		what        string
		port        uint16
		times, pass int
	}{{"denied", 81, 3, 0}, {"no rule", 84, 2, 0}, {"permitted", 82, 4, 1}, {"reflected", 83, 5, 1}, {"reflected again", 83, 2, 1}} {
		s.Write("%s", step.what)
		before, ports := s.errors(stats), s.portCounters(stats)
		for range step.times {
			a.Send(a.datagram("10.0.1.2", "10.0.2.2", 1000, step.port))
			b.Receive(step.pass)
		}
		s.counters(stats, ports)
		s.aclErrors(before, s.errors(stats))
	}
	s.Write("the way back")
	before := s.errors(stats)
	b.Send(b.datagram("10.0.2.2", "10.0.1.2", 83, 1000))
	a.Receive(1)
	s.aclErrors(before, s.errors(stats))
}

// aclErrors writes down what the nodes of the lists counted, but for how often a session's
// timer began anew.
func (s *Session) aclErrors(before, now map[string]uint64) {
	var lines []string
	for name, n := range now {
		if strings.Contains(name, "acl-plugin-") && n > before[name] && !strings.Contains(name, "restart session timer") {
			lines = append(lines, name)
		}
	}
	slices.Sort(lines)
	for _, name := range lines {
		s.Write("  %s %d", name, now[name]-before[name])
	}
}
