package nat

import (
	"iter"
	"net/netip"

	"github.com/millrace/millrace/engine/packet"
)

// numPorts is how many protocols have source ports to give out.
const numPorts = 5

// portsOf are the ports of a protocol, nil for one that has none.
func (s *Sessions) portsOf(proto uint8) *Ports {
	switch proto {
	case packet.ProtoTCP:
		return &s.ports[0]
	case packet.ProtoUDP:
		return &s.ports[1]
	case packet.ProtoICMP:
		return &s.ports[2]
	case packet.ProtoICMPv6:
		return &s.ports[3]
	case packet.ProtoSCTP:
		return &s.ports[4]
	}
	return nil
}

// PortsUsed is how many source ports of a protocol are given out.
func (s *Sessions) PortsUsed(proto uint8) int {
	if p := s.portsOf(proto); p != nil {
		return p.Used()
	}
	return 0
}

// over reports whether a session has timed out. The clock's seconds are whole: the last
// packet may have come at the end of one.
func (s *Sessions) over(r Ref, now uint32) bool {
	rec := &s.records[r.place]
	idle := now - rec.stamp.Load()
	return rec.version.Load() == r.version && int32(idle) > 0 && idle > rec.lifetime()
}

// End ends a session, and gives back its port.
func (s *Sessions) End(r Ref) { s.end(r, func() bool { return true }) }

// end ends a session if it is still there and is to end, which is asked with it locked.
func (s *Sessions) end(r Ref, still func() bool) bool {
	var f Flow
	rec := &s.records[r.place]
	rec.read(&f)
	if r.version&1 == 0 || rec.version.Load() != r.version {
		return false
	}
	hash, answers := f.Key.hash(s.seed), f.answers()
	back := answers.hash(s.seed)
	n, one, two := s.place(hash)
	m, three, four := s.place(back)
	s.lock(n, m)
	defer s.unlock(n, m)
	if rec.version.Load() != r.version || !still() {
		return false
	}
	forget(one, two, slotOf(r.place, false, hash))
	if !f.OneWay {
		forget(three, four, slotOf(r.place, true, back))
	}
	rec.version.Add(1)
	s.stripes[n].free = append(s.stripes[n].free, r.place)
	s.count.Add(-1)
	s.dels.Add(1)
	if f.OwnPort {
		s.portsOf(f.Key.Protocol()).Put(uint16(f.To.Ports >> 16))
	}
	return true
}

func forget(one, two *bucket, slot uint64) {
	for _, b := range [2]*bucket{one, two} {
		for i := range b {
			if b[i].Load() == slot {
				b[i].Store(0)
			}
		}
	}
}

// candidates is how many sessions are looked at to make room in a full table.
const candidates = 16

// recycle makes room for one more session: it ends one that is over anyway, or the oldest
// TCP session of the candidates that was never answered.
func (s *Sessions) recycle(now uint32) bool {
	oldest, age := Ref{}, uint32(0)
	turn := s.turn.Add(candidates)
	for i := range uint32(candidates) {
		n := (turn + i) % stripes
		used := s.stripes[n].next.Load() / stripes
		if used == 0 {
			continue
		}
		r := s.at((turn+i)/stripes%used*stripes + n)
		rec := &s.records[r.place]
		switch idle := now - rec.stamp.Load(); {
		case !r.Valid():
		case s.over(r, now):
			return s.end(r, func() bool { return s.over(r, now) })
		case uint8(rec.kind.Load()) == packet.ProtoTCP && rec.stage.Load() == stageNew && (!oldest.Valid() || idle > age):
			oldest, age = r, idle
		}
	}
	return oldest.Valid() && s.end(oldest, func() bool { return true })
}

// at is the session at a place; not valid if there is none.
func (s *Sessions) at(place uint32) Ref {
	if v := s.records[place].version.Load(); v&1 != 0 {
		return Ref{place, v}
	}
	return Ref{place: place}
}

// Sweep ends sessions that are over at the time now. It looks at no more than budget
// places and goes on there with the next call.
func (s *Sessions) Sweep(now uint32, budget int) {
	s.sweeping.Lock()
	defer s.sweeping.Unlock()
	for range budget {
		n := s.hand % stripes
		if s.hand >= s.stripes[n].next.Load() {
			if s.hand = (n + 1) % stripes; s.hand == 0 {
				return
			}
			continue
		}
		if r := s.at(s.hand); r.Valid() && s.over(r, now) {
			s.end(r, func() bool { return s.over(r, now) })
		}
		s.hand += stripes
	}
}

// Clear ends all sessions that there are when it is called.
func (s *Sessions) Clear() {
	for r := range s.all() {
		s.End(r)
	}
}

func (s *Sessions) all() iter.Seq[Ref] {
	return func(yield func(Ref) bool) {
		for n := range s.stripes {
			end := s.stripes[n].next.Load()
			for place := uint32(n); place < end; place += stripes {
				if r := s.at(place); r.Valid() && !yield(r) {
					return
				}
			}
		}
	}
}

// Count is how many sessions there are; those that are over and wait for the sweep count.
func (s *Sessions) Count() int { return int(s.count.Load()) }

// Max is how many sessions there can be.
func (s *Sessions) Max() int { return int(s.max) }

// Totals is how many sessions were made and ended.
func (s *Sessions) Totals() (adds, dels uint64) { return s.adds.Load(), s.dels.Load() }

// Info is a direction of a session for those who list them, as VPP does: two for most.
type Info struct {
	Src, Dst netip.AddrPort // what packets have; the identifier of an echo is both ports
	NewSrc   netip.AddrPort // what they get
	NewDst   netip.AddrPort
	Proto    uint8
	Output   bool // of packets that go out, else of those that come in
	Back     bool // of the answers
	// Translation is the id of the translation that made it, or NoTranslation.
	Translation uint32
	Idle        uint32 // seconds without a packet, either way
	Lifetime    uint32 // seconds without a packet after which it ends
}

// All yields the sessions there are, in no order, while others come and go. What is noted
// for fragments is left out.
func (s *Sessions) All(now uint32) iter.Seq[Info] {
	return func(yield func(Info) bool) {
		for r := range s.all() {
			var f Flow
			rec := &s.records[r.place]
			rec.read(&f)
			i := Info{Translation: f.Translation, Proto: f.Key.Protocol(), Idle: max(now, rec.stamp.Load()) - rec.stamp.Load(),
				Lifetime: rec.lifetime()}
			if rec.version.Load() != r.version || s.over(r, now) || f.Key.Kind&KeyPiece != 0 {
				continue
			}
			ip6 := f.Key.Kind&KeyIP6 != 0
			i.Src, i.Dst = f.Key.ends(ip6)
			i.NewSrc, i.NewDst = f.To.ends(ip6)
			i.Output = f.Key.Kind&KeyOutput != 0
			if !yield(i) {
				return
			}
			if f.OneWay {
				continue
			}
			i.Src, i.Dst, i.NewSrc, i.NewDst = i.NewDst, i.NewSrc, i.Dst, i.Src
			i.Output, i.Back = !i.Output, true
			if !yield(i) {
				return
			}
		}
	}
}

// ends are source and destination of t.
func (t *Tuple) ends(ip6 bool) (src, dst netip.AddrPort) {
	to := t.Target(ip6)
	address := func(b [16]byte) netip.Addr {
		if ip6 {
			return netip.AddrFrom16(b)
		}
		return netip.AddrFrom4([4]byte(b[:4]))
	}
	return netip.AddrPortFrom(address(to.Src), to.SrcPort), netip.AddrPortFrom(address(to.Dst), to.DstPort)
}
