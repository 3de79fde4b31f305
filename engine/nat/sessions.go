package nat

import (
	"math/rand/v2"
	"sync"
	"sync/atomic"

	"github.com/millrace/millrace/engine/hugepage"
	"github.com/millrace/millrace/engine/packet"
)

// For how many seconds a session lives without a packet: VPP's.
const (
	// IdleTimeout is that of all but TCP, and of TCP until both ends have opened.
	IdleTimeout = 30
	// OpenTimeout is that of an open TCP connection.
	OpenTimeout = 3600
	// ClosedTimeout is that of a TCP connection that one end has closed or reset.
	ClosedTimeout = 5
	// PieceTimeout is for how long the later fragments of a packet are waited for.
	PieceTimeout = 2
	// DefaultMax is how many sessions there can be. VPP has no limit but its memory.
	DefaultMax = 1 << 19

	maxSessions = 1 << 24
)

// stripes is how many parts of the table can be changed at the same time.
const stripes = 64

// Sessions are the flows that are translated, each with its answers. All workers share
// them: who finds or refreshes one takes no lock; who makes or ends one takes the short
// locks of the one or two stripes that its entries are in.
//
//	key ─ hash ─► stripe ─► one of two buckets ─► place ─► record
//
// They read no clock: callers say what time it is, in seconds since some beginning.
type Sessions struct {
	seed    uint64
	records []record // in turn of each stripe, so that few sessions lie on few pages
	buckets []bucket // stripe by stripe
	stripes [stripes]stripe
	lines   uint64 // buckets of a stripe, a power of two

	max   int64
	count atomic.Int64
	adds  atomic.Uint64
	dels  atomic.Uint64
	turn  atomic.Uint32 // of recycle
	ports [numPorts]Ports

	sweeping sync.Mutex
	hand     uint32 // of Sweep, with sweeping held
}

// stripe is what is needed to change a part of the table.
type stripe struct {
	mu   sync.Mutex
	free []uint32 // places given back; never grows beyond its capacity
	next atomic.Uint32
	_    [24]byte
}

// NewSessions returns a table for most sessions. Memory that no session needed is not
// resident.
func NewSessions(most int) *Sessions {
	most = min(maxSessions, max(most, 1))
	// Keys spread over the stripes unevenly; an eighth more is far beyond chance.
	per := most/stripes + most/stripes/8 + 64
	lines := 1
	for lines*8 < 4*per { // two entries a session, half of the places empty
		lines *= 2
	}
	s := &Sessions{
		seed: rand.Uint64() | 1, lines: uint64(lines), max: int64(most),
		records: hugepage.Advise(make([]record, per*stripes)),
		buckets: hugepage.Advise(make([]bucket, lines*stripes)),
	}
	free := make([]uint32, per*stripes)
	for i := range s.stripes {
		s.stripes[i].free = free[i*per : i*per : (i+1)*per]
		s.stripes[i].next.Store(uint32(i))
	}
	return s
}

// Flow is a session: what its packets have, and what they get.
type Flow struct {
	Key SessionKey // of the packets; answers have To's tuple reversed, at the other location
	To  Tuple      // what the packets get; answers get Key's tuple reversed
	// Translation is the id of the translation that made it, NoTranslation for none.
	Translation uint32
	// Epoch is when it was found right, as the caller counts.
	Epoch   uint32
	OneWay  bool // answers are left alone
	OwnPort bool // the source port of To is one of Ports
}

// AddPiece notes what the later fragments of a packet get, whose first one got to. Another
// packet's with the same identification is forgotten. Sessions counts it as a session.
func (s *Sessions) AddPiece(piece *SessionKey, to *Tuple, now uint32) {
	f := Flow{Key: *piece, To: *to, Translation: NoTranslation, OneWay: true}
	for range tries {
		r, how := s.Add(&f, now)
		if how != Exists || f.To == *to {
			return // if there is no room the fragments will be missing: IP is like that
		}
		s.End(r)
		f.To = *to
	}
}

// NoTranslation is no translation's id.
const NoTranslation = ^uint32(0)

// Found is a session as a packet finds it.
type Found struct {
	Ref
	Back        bool  // the packet is an answer
	To          Tuple // what the packet gets
	Translation uint32
	Epoch       uint32
}

// place is where a hash leads: its stripe and the two buckets.
func (s *Sessions) place(hash uint64) (n int, one, two *bucket) {
	n = int(hash & (stripes - 1))
	base := uint64(n) * s.lines
	one = &s.buckets[base+hash>>6&(s.lines-1)]
	two = &s.buckets[base+(hash>>32*0x9e3779b1)>>7&(s.lines-1)]
	return n, one, two
}

// Find finds the session of a packet. It takes no lock.
func (s *Sessions) Find(k *SessionKey, f *Found) bool {
	hash := k.hash(s.seed)
	_, one, two := s.place(hash)
	return s.look(one, k, hash, f) || s.look(two, k, hash, f)
}

// look searches a bucket for a key.
func (s *Sessions) look(b *bucket, k *SessionKey, hash uint64, f *Found) bool {
	for i := range b {
		slot := b[i].Load()
		if (slot^hash)>>32 != 0 || uint32(slot) == 0 {
			continue
		}
		place := uint32(slot)&^slotBack - 1
		rec := &s.records[place]
		version := rec.version.Load()
		if version&1 == 0 {
			continue
		}
		var flow Flow
		rec.read(&flow)
		back := slot&slotBack != 0
		if rec.version.Load() != version || !flow.isOf(k, back) {
			continue
		}
		*f = Found{Ref: Ref{place, version}, Back: back, To: flow.To, Translation: flow.Translation, Epoch: flow.Epoch}
		if back {
			f.To = flow.Key.Reversed(k.Kind&KeyIP6 != 0)
		}
		return true
	}
	return false
}

// isOf reports whether a packet with key k is one of the flow, or of its answers.
func (f *Flow) isOf(k *SessionKey, back bool) bool {
	if !back {
		return f.Key == *k
	}
	return f.answers() == *k
}

// Touch notes a packet of a session at the time now, with its TCP flags, 0 for none. It
// reports whether the session is still there.
func (s *Sessions) Touch(r Ref, now uint32, flags uint8) bool {
	if uint64(r.place) >= uint64(len(s.records)) {
		return false
	}
	rec := &s.records[r.place]
	if r.version&1 == 0 || rec.version.Load() != r.version {
		return false
	}
	if rec.stamp.Load() != now {
		rec.stamp.Store(now)
	}
	const opens = packet.TCPSyn | packet.TCPAck
	stage := uint32(stageNew)
	switch {
	case flags&opens == opens:
		stage = stageOpen
	case flags&(packet.TCPFin|packet.TCPRst) != 0:
		stage = stageClosed
	}
	if stage != stageNew && rec.stage.Load() != stage {
		rec.stage.Store(stage)
	}
	return true
}

// Open reports whether a session is of a TCP connection that both ends have opened and none
// has closed.
func (s *Sessions) Open(r Ref) bool { return s.records[r.place].stage.Load() == stageOpen }

// Closed reports whether one end of a session's TCP connection has closed it.
func (s *Sessions) Closed(r Ref) bool { return s.records[r.place].stage.Load() == stageClosed }

// SetEpoch notes that a session was found right, and of which translation it is.
func (s *Sessions) SetEpoch(r Ref, epoch, translation uint32) {
	rec := &s.records[r.place]
	if rec.version.Load() == r.version {
		rec.epoch.Store(epoch)
		rec.of.Store(translation)
	}
}

// Added says how Add ended.
type Added uint8

const (
	Made    Added = iota
	Exists        // another thread was quicker: find it
	Clash         // answers would be taken for those of another flow
	NoPorts       // all source ports are in use
	Full
)

// tries is how many ports are tried for a flow. A clash means that somebody outside speaks
// by one of them.
const tries = 8

// Add makes a session at the time now. With OwnPort it gets a free source port, which To
// has afterwards. If it Exists, f says what packets get by the one that does.
func (s *Sessions) Add(f *Flow, now uint32) (Ref, Added) {
	if s.count.Load() >= s.max && !s.recycle(now) {
		return Ref{}, Full
	}
	proto := f.Key.Protocol()
	ports := s.portsOf(proto)
	for range tries {
		port, ok := uint16(0), false
		if f.OwnPort {
			if ports != nil {
				port, ok = ports.Take()
			}
			if !ok {
				return Ref{}, NoPorts
			}
			f.To.setSourcePort(port, proto)
		}
		r, how := s.insert(f, now)
		if how == Made {
			return r, how
		}
		if f.OwnPort {
			ports.Put(port)
		}
		past := how == Clash && s.over(r, now)
		if past {
			s.End(r)
		}
		if how != Clash || !past && !f.OwnPort {
			return r, how
		}
	}
	return Ref{}, Clash
}

// insert is Add for a flow whose target is known; with Clash it returns the other session.
func (s *Sessions) insert(f *Flow, now uint32) (Ref, Added) {
	hash, answers := f.Key.hash(s.seed), f.answers()
	back := answers.hash(s.seed)
	n, one, two := s.place(hash)
	m, three, four := s.place(back)
	s.lock(n, m)
	defer s.unlock(n, m)
	var found Found
	if s.look(one, &f.Key, hash, &found) || s.look(two, &f.Key, hash, &found) {
		f.To, f.Translation, f.Epoch = found.To, found.Translation, found.Epoch
		return found.Ref, Exists
	}
	forth, home := empty(one, two), (*atomic.Uint64)(nil)
	if !f.OneWay {
		if s.look(three, &answers, back, &found) || s.look(four, &answers, back, &found) {
			return found.Ref, Clash
		}
		home = emptyBut(three, four, forth)
	}
	place, ok := s.stripes[n].take(len(s.records))
	if !ok || forth == nil || !f.OneWay && home == nil {
		if ok {
			s.stripes[n].free = append(s.stripes[n].free, place)
		}
		return Ref{}, Full
	}
	rec := &s.records[place]
	rec.fill(f, now)
	version := rec.version.Add(1)
	forth.Store(slotOf(place, false, hash))
	if home != nil {
		home.Store(slotOf(place, true, back))
	}
	s.count.Add(1)
	s.adds.Add(1)
	return Ref{place, version}, Made
}

// emptyBut is empty, but for a place that is spoken for.
func emptyBut(one, two *bucket, but *atomic.Uint64) *atomic.Uint64 {
	if slot := empty(one, two); slot != but {
		return slot
	}
	for _, b := range [2]*bucket{one, two} {
		for i := range b {
			if b[i].Load() == 0 && &b[i] != but {
				return &b[i]
			}
		}
	}
	return nil
}

// lock locks two stripes, which may be one, always in the same order.
func (s *Sessions) lock(n, m int) {
	s.stripes[min(n, m)].mu.Lock()
	if n != m {
		s.stripes[max(n, m)].mu.Lock()
	}
}

func (s *Sessions) unlock(n, m int) {
	s.stripes[n].mu.Unlock()
	if n != m {
		s.stripes[m].mu.Unlock()
	}
}

// take is a free place of the stripe, which is locked.
func (s *stripe) take(records int) (uint32, bool) {
	if n := len(s.free); n > 0 {
		place := s.free[n-1]
		s.free = s.free[:n-1]
		return place, true
	}
	place := s.next.Load()
	if uint64(place) >= uint64(records) {
		return 0, false
	}
	s.next.Store(place + stripes)
	return place, true
}
