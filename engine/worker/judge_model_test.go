package worker

import (
	"encoding/binary"
	"net/netip"

	"github.com/millrace/millrace/engine/acl"
	"github.com/millrace/millrace/engine/session"
)

// The model says, packet by packet and without any cache, what access lists do: rules one
// after the other, sessions in a map.

type modelPacket struct {
	id           uint16
	src, dst     netip.Addr
	proto        uint8
	sport, dport uint16 // type and code of ICMP
	flags        uint8
	first, later bool // fragments
}

type modelKey struct {
	iface         int
	near, far     netip.Addr
	proto         uint8
	nport, fport  uint16
	query, lonely bool
	askedByFar    bool
}

type modelSession struct {
	byInput bool
	policy  [2]int // of the interface's lists, input and output, when it was judged last
	last    uint32
	seen    [2]uint8
	proto   uint8
	refused bool
}

type model struct {
	rules      [3][2][]acl.Rule // by interface and direction; nil = no list
	policy     [3][2]int
	reclassify bool
	now        uint32
	sessions   map[modelKey]*modelSession
	judged     int
}

func direction(input bool) int {
	if input {
		return 0
	}
	return 1
}

// keys are where the packet's session may be; the last is that of a new one.
func (m *model) keys(i int, input bool, p modelPacket) []modelKey {
	k := modelKey{iface: i, near: p.src, far: p.dst, proto: p.proto, nport: p.sport, fport: p.dport}
	if !input {
		k.near, k.far, k.nport, k.fport = p.dst, p.src, p.dport, p.sport
	}
	if p.later {
		k.nport, k.fport = 0, 0
		return []modelKey{k}
	}
	if p.proto != 1 && p.proto != 58 {
		return []modelKey{k}
	}
	k.nport, k.fport = p.sport, p.dport
	alone := k
	alone.lonely, alone.askedByFar = true, !input
	echo, answer := uint16(8), uint16(0)
	if p.proto == 58 {
		echo, answer = 128, 129
	}
	switch p.sport {
	case echo:
		k.query, k.askedByFar = true, !input
		return []modelKey{k}
	case answer:
		k.query, k.askedByFar, k.nport = true, input, echo
		return []modelKey{k, alone}
	}
	return []modelKey{alone}
}

func (p modelPacket) key() acl.Key {
	k := acl.KeyOf(p.src, p.dst, p.proto, p.sport, p.dport)
	if k.TCPFlags = p.flags; p.later {
		k.Flags |= acl.KeyFragment
	}
	return k
}

// match is the action of the first rule that matches.
func match(rules []acl.Rule, k acl.Key) acl.Action {
	in := func(p netip.Prefix, a acl.Addr) bool {
		var b [16]byte
		binary.BigEndian.PutUint64(b[:], a.Hi)
		binary.BigEndian.PutUint64(b[8:], a.Lo)
		if k.Flags&acl.KeyIPv6 == 0 {
			return p.Contains(netip.AddrFrom4([4]byte(b[12:])))
		}
		return p.Contains(netip.AddrFrom16(b))
	}
	for _, r := range rules {
		switch {
		case !in(r.Src, k.Src) || !in(r.Dst, k.Dst) || r.Protocol != 0 && r.Protocol != k.Protocol:
		case r.Protocol == 0 || k.Flags&acl.KeyFragment != 0:
			return r.Action
		case k.SrcPort < r.SrcPorts.First || k.SrcPort > r.SrcPorts.Last || k.DstPort < r.DstPorts.First || k.DstPort > r.DstPorts.Last:
		case k.Protocol == 6 && k.TCPFlags&r.TCPMask != r.TCPValue:
		default:
			return r.Action
		}
	}
	return acl.Deny
}

func hasFlags(rules []acl.Rule) bool {
	for _, r := range rules {
		if r.TCPMask|r.TCPValue != 0 {
			return true
		}
	}
	return false
}

// passes judges one packet by the lists of an interface and direction.
func (m *model) passes(i int, input bool, p modelPacket) bool {
	d := direction(input)
	rules := m.rules[i][d]
	if rules == nil {
		return true
	}
	m.judged++
	keys := m.keys(i, input, p)
	for _, k := range keys {
		s := m.sessions[k]
		if s == nil {
			continue
		}
		if !s.refused {
			s.note(d, p, m.now)
			if m.holds(i, k, s, input, p) {
				return true
			}
			s.refused, s.policy = true, m.policy[i]
		}
		if verdict, known := m.answers(i, k, s, input, p); known {
			return verdict
		}
		break
	}
	switch match(rules, p.key()) {
	case acl.Deny:
		return false
	case acl.PermitReflect:
		s := &modelSession{byInput: input, policy: m.policy[i], proto: p.proto}
		if was := m.sessions[keys[len(keys)-1]]; was != nil && was.byInput == input {
			s.seen = was.seen // it was refused, and goes on
		}
		s.note(d, p, m.now)
		m.sessions[keys[len(keys)-1]] = s
	}
	return true
}

// answers gives the verdict on a packet that answers what a refused session was made for.
func (m *model) answers(i int, k modelKey, s *modelSession, input bool, p modelPacket) (verdict, known bool) {
	d := direction(s.byInput)
	switch {
	case s.byInput == input || m.rules[i][d] == nil || p.proto == 6 && p.flags&0x12 == 2:
		return false, false
	case m.policy[i][d] == s.policy[d] || p.proto == 6 && hasFlags(m.rules[i][d]) || match(m.rules[i][d], p.answered(k)) != acl.PermitReflect:
		return false, true
	}
	s.refused, s.policy = false, m.policy[i]
	s.note(direction(input), p, m.now)
	return true, true
}

// answered is the key of the packet that p answers, in the session of k.
func (p modelPacket) answered(k modelKey) acl.Key {
	q := p.key()
	q.Src, q.Dst, q.SrcPort, q.DstPort = q.Dst, q.Src, q.DstPort, q.SrcPort
	if k.query {
		q.SrcPort, q.DstPort = k.nport, p.dport
	}
	return q
}

// live counts the sessions that are not refused.
func (m *model) live() (n int) {
	for _, s := range m.sessions {
		if !s.refused {
			n++
		}
	}
	return n
}

// holds says whether a session stands before the rules of now.
func (m *model) holds(i int, k modelKey, s *modelSession, input bool, p modelPacket) bool {
	d := direction(s.byInput)
	rules := m.rules[i][d]
	if !m.reclassify || rules == nil || m.policy[i][d] == s.policy[d] {
		return true
	}
	q := p.key()
	if s.byInput != input {
		if hasFlags(rules) && p.proto == 6 {
			return true
		}
		q = p.answered(k)
	}
	if match(rules, q) != acl.PermitReflect {
		return false
	}
	s.policy = m.policy[i]
	return true
}

func (s *modelSession) note(d int, p modelPacket, now uint32) {
	s.last = now
	if p.proto == 6 && !p.later {
		s.seen[d] |= p.flags & session.TCPFlags
	}
}

func (m *model) expire(udp, idle, transient uint32) {
	for k, s := range m.sessions {
		limit := udp
		if s.proto == 6 {
			if limit = transient; !s.refused && s.seen == [2]uint8{0x12, 0x12} {
				limit = idle
			}
		}
		if m.now-s.last > limit {
			delete(m.sessions, k)
		}
	}
}
