package nat

import "sync/atomic"

// Ref names a session: its place, and which of the sessions that stand there one after
// another. The zero Ref is none.
type Ref struct{ place, version uint32 }

// Valid reports whether r is of a session.
func (r Ref) Valid() bool { return r.version != 0 }

// record is one session, two cache lines, of which IPv4 needs the first. A reader takes no
// lock: the version, which is odd while a session stands here and another for the next,
// tells it whether what it read belongs together.
type record struct {
	version atomic.Uint32
	kind    atomic.Uint32 // of the flow's key, and the bits below
	ports   atomic.Uint64 // of the key, above those of the target
	from0   atomic.Uint64 // of the key: addresses
	to0     atomic.Uint64 // of the target
	stamp   atomic.Uint32 // when a packet came last
	stage   atomic.Uint32 // what the packets of TCP said
	epoch   atomic.Uint32 // when it was last found right
	of      atomic.Uint32 // the translation's id
	_       [2]uint64

	from [3]atomic.Uint64 // the other words
	to   [3]atomic.Uint64
	_    [2]uint64
}

// Bits of record.kind above those of SessionKey.Kind.
const (
	kindOneWay = 1 << 11 // the answer has no entry
	kindPort   = 1 << 12 // the target's source port is one of Ports
)

// Stages of a session.
const (
	stageNew    = iota
	stageOpen   // TCP: opened by both ends
	stageClosed // TCP: one end has closed
)

// fill writes all but the version.
func (r *record) fill(f *Flow, now uint32) {
	kind := f.Key.Kind
	if f.OneWay {
		kind |= kindOneWay
	}
	if f.OwnPort {
		kind |= kindPort
	}
	r.kind.Store(kind)
	r.ports.Store(uint64(f.Key.Ports)<<32 | uint64(f.To.Ports))
	r.from0.Store(f.Key.Addrs[0])
	r.to0.Store(f.To.Addrs[0])
	if kind&KeyIP6 != 0 {
		for i := range r.from {
			r.from[i].Store(f.Key.Addrs[i+1])
			r.to[i].Store(f.To.Addrs[i+1])
		}
	}
	r.stamp.Store(now)
	r.stage.Store(stageNew)
	r.epoch.Store(f.Epoch)
	r.of.Store(f.Translation)
}

// read is fill backwards.
func (r *record) read(f *Flow) {
	kind, ports := r.kind.Load(), r.ports.Load()
	f.Key = SessionKey{Kind: kind & keyBits}
	f.Key.Ports, f.To = uint32(ports>>32), Tuple{Ports: uint32(ports)}
	f.Key.Addrs[0], f.To.Addrs[0] = r.from0.Load(), r.to0.Load()
	if kind&KeyIP6 != 0 {
		for i := range r.from {
			f.Key.Addrs[i+1], f.To.Addrs[i+1] = r.from[i].Load(), r.to[i].Load()
		}
	}
	f.OneWay, f.OwnPort = kind&kindOneWay != 0, kind&kindPort != 0
	f.Epoch, f.Translation = r.epoch.Load(), r.of.Load()
}

// answers is the key of the flow's answers.
func (f *Flow) answers() SessionKey {
	return SessionKey{Tuple: f.To.Reversed(f.Key.Kind&KeyIP6 != 0), Kind: f.Key.Kind ^ KeyOutput}
}

// lifetime is for how many seconds the session lives without a packet.
func (r *record) lifetime() uint32 {
	if r.kind.Load()&KeyPiece != 0 {
		return PieceTimeout
	}
	switch r.stage.Load() {
	case stageOpen:
		return OpenTimeout
	case stageClosed:
		return ClosedTimeout
	}
	return IdleTimeout
}

// bucket is eight places of the hash, a cache line. A place holds the number of a record
// plus 1, above it whether the entry is for the answers, and the upper half of the hash; 0
// is empty.
type bucket [8]atomic.Uint64

const slotBack = 1 << 31

func slotOf(place uint32, back bool, hash uint64) uint64 {
	slot := hash&^0xffffffff | uint64(place+1)
	if back {
		slot |= slotBack
	}
	return slot
}

func (b *bucket) free() (slot *atomic.Uint64, n int) {
	for i := range b {
		if b[i].Load() == 0 {
			slot = &b[i]
			n++
		}
	}
	return slot, n
}

// empty is a free place in the emptier of two buckets, or nil.
func empty(one, two *bucket) *atomic.Uint64 {
	a, n := one.free()
	b, m := two.free()
	if n >= m {
		return a
	}
	return b
}
