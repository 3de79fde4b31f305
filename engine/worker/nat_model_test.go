package worker

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/millrace/millrace/engine/nat"
	"github.com/millrace/millrace/engine/packet"
)

// The model translates one packet at a time by a map of what each direction of each flow
// gets. What it cannot know, a port or a backend that was free to choose, it takes from
// what came out, once it has found that it was free.
type natModel struct {
	sessions map[natKey]*natSession
	services map[nat.Endpoint][]netip.AddrPort
	policy   *nat.Policy
	now      uint32
	begun    int // sessions so far
	// shown is the source port that a flow got since its answers would be confused else.
	shown func(uint8, twoEnds) uint16
}

// natKey is what packets of a direction have, and where.
type natKey struct {
	out      bool
	proto    uint8
	src, dst netip.AddrPort
}

type natSession struct {
	key, answer natKey
	to          twoEnds // what packets of key get
	seen, life  uint32
	port        uint16 // of its own, or 0
}

// twoEnds is the source and destination of a packet.
type twoEnds [2]netip.AddrPort

func (p twoEnds) back() twoEnds { return twoEnds{p[1], p[0]} }

// find is the session of a packet, and what the packet gets.
func (m *natModel) find(out bool, proto uint8, p twoEnds) (*natSession, twoEnds) {
	s := m.sessions[natKey{out, proto, p[0], p[1]}]
	switch {
	case s == nil:
		return nil, p
	case s.key.out == out && s.key.src == p[0] && s.key.dst == p[1]:
		return s, s.to
	}
	return s, twoEnds{s.key.dst, s.key.src}
}

func (m *natModel) end(s *natSession) {
	delete(m.sessions, s.key)
	delete(m.sessions, s.answer)
}

// tick moves the time.
func (m *natModel) tick(seconds uint32) {
	m.now += seconds
	for _, s := range m.sessions {
		if m.now-s.seen > s.life {
			m.end(s)
		}
	}
}

// begin makes a session by which packets get to, and answers that is the other way round.
func (m *natModel) begin(out bool, proto uint8, p, to twoEnds) *natSession {
	s := &natSession{key: natKey{out, proto, p[0], p[1]}, answer: natKey{!out, proto, to[1], to[0]}, to: to, life: nat.IdleTimeout}
	m.sessions[s.key], m.sessions[s.answer] = s, s
	m.begun++
	return s
}

// note takes a packet into account.
func (s *natSession) note(proto, flags uint8, now uint32) {
	s.seen = now
	switch {
	case proto != packet.ProtoTCP:
	case flags&packet.TCPSyn != 0 && flags&packet.TCPAck != 0:
		s.life = nat.OpenTimeout
	case flags&(packet.TCPFin|packet.TCPRst) != 0:
		s.life = nat.ClosedTimeout
	}
}

// stays reports whether a session outlives what it was made by.
func (s *natSession) stays(proto, flags uint8) bool {
	return proto == packet.ProtoTCP && s.life != nat.IdleTimeout && flags&(packet.TCPSyn|packet.TCPAck) != packet.TCPSyn
}

// take gives s a port of its own, which nobody may have.
func (m *natModel) take(s *natSession, proto uint8, port uint16) error {
	for _, o := range m.sessions {
		if o != s && o.port == port && o.key.proto == proto {
			return fmt.Errorf("port %d of %v is that of %v, too", port, s.key, o.key)
		}
	}
	if port < 49152 || port == 65535 {
		return fmt.Errorf("port %d was given out", port)
	}
	s.port = port
	return nil
}

// in is the input side: what the packet is from then on. saw is what came out, as the same
// flow there.
func (m *natModel) in(w *wire, p twoEnds, saw *twoEnds) (twoEnds, error) {
	s, to := m.find(false, w.proto, p)
	backends, served := m.services[nat.Endpoint{Addr: p[1].Addr(), Port: p[1].Port(), Protocol: w.proto}]
	if s != nil && s.to == to && !slices.Contains(backends, to[1]) && !s.stays(w.proto, w.flags) {
		m.end(s)
		s = nil
	}
	if s == nil {
		if !served || len(backends) == 0 {
			return p, nil
		}
		if saw == nil {
			return p, errUnseen
		}
		backend := saw[1]
		if !slices.Contains(backends, backend) {
			return p, fmt.Errorf("%v is no backend of %v", backend, p[1])
		}
		to = twoEnds{p[0], backend}
		clash := m.sessions[natKey{true, w.proto, backend, p[0]}] != nil
		if clash {
			to[0] = withPort(p[0], m.shown(w.proto, p))
		}
		s = m.begin(false, w.proto, p, to)
		if clash {
			if err := m.take(s, w.proto, to[0].Port()); err != nil {
				return p, err
			}
		}
	}
	s.note(w.proto, w.flags, m.now)
	return to, nil
}

// chooses reports whether a packet begins a flow to a backend.
func (m *natModel) chooses(w *wire) bool {
	p := twoEnds{w.src, w.dst}
	backends, served := m.services[nat.Endpoint{Addr: p[1].Addr(), Port: p[1].Port(), Protocol: w.proto}]
	s, to := m.find(false, w.proto, p)
	return served && (s == nil || s.to == to && !slices.Contains(backends, to[1]))
}

// errUnseen says that something was free to choose and did not come out.
var errUnseen = fmt.Errorf("nothing came out to learn from")

// out is the output side.
func (m *natModel) out(w *wire, p twoEnds, in, out uint32, saw *twoEnds) (twoEnds, error) {
	s, to := m.find(true, w.proto, p)
	source := m.policy.Source4
	if p[0].Addr().Is6() {
		source = m.policy.Source6
	}
	if s != nil && s.to == to && s.key.out && to[0].Addr() != source && !s.stays(w.proto, w.flags) {
		m.end(s)
		s = nil
	}
	if s == nil {
		if !m.hides(w.proto, p, in, out, source) {
			return p, nil
		}
		if saw == nil {
			return p, errUnseen
		}
		to = twoEnds{netip.AddrPortFrom(source, saw[0].Port()), p[1]}
		if w.proto == packet.ProtoICMP || w.proto == packet.ProtoICMPv6 {
			to[1] = withPort(p[1], saw[0].Port())
		}
		s = m.begin(true, w.proto, p, to)
		if err := m.take(s, w.proto, to[0].Port()); err != nil {
			return p, err
		}
	}
	s.note(w.proto, w.flags, m.now)
	return to, nil
}

// hides is the policy for Kubernetes.
func (m *natModel) hides(proto uint8, p twoEnds, in, out uint32, source netip.Addr) bool {
	pod := func(i uint32) bool { return m.policy.Pods.Has(i) }
	excluded := m.policy.Excluded.Has(p[1].Addr())
	switch {
	case pod(in) && !excluded:
		return true
	case !pod(in) && !pod(out):
		s := m.sessions[natKey{true, proto, p[1], p[0]}]
		return s != nil && !s.key.out && p[0].Addr() != source
	}
	return p[0].Addr() == p[1].Addr()
}

// route is where an address leads: an interface, or 0 for the node.
func route(a netip.Addr) uint32 {
	switch s := a.String(); {
	case s == "10.0.0.1" || s == "fd00::1":
		return 0
	case strings.HasPrefix(s, "10.0.1.") || strings.HasPrefix(s, "fd00:1:"):
		return inIf
	case strings.HasPrefix(s, "10.0.2.") || strings.HasPrefix(s, "fd00:2:"):
		return outIf
	}
	return uplinkIf
}

// way is the way of a packet. It returns what must come out, given what did.
func (m *natModel) way(by uint32, w wire, saw *twoEnds) (uint32, twoEnds, error) {
	p, err := m.in(&w, twoEnds{w.src, w.dst}, saw)
	if err != nil {
		return 0, p, err
	}
	to := route(p[1].Addr())
	if to == 0 || w.ttl <= 1 {
		return 0, p, nil
	}
	p, err = m.out(&w, p, by, to, saw)
	return to, p, err
}

// tell is the way of an error about a packet that had the twoEnds inner, from some address,
// which may be the node's.
func (m *natModel) tell(from netip.Addr, proto uint8, inner twoEnds, own bool) (src, dst netip.Addr, told twoEnds) {
	answer := inner.back()
	dst = inner[0].Addr()
	for _, out := range []bool{false, true} {
		was := answer
		if route(dst) == 0 && out || own && !out {
			continue
		}
		_, answer = m.find(out, proto, answer)
		if answer == was {
			continue
		}
		if from == was[0].Addr() {
			from = answer[0].Addr()
		}
		dst = answer[1].Addr()
	}
	return from, dst, answer.back()
}
