package session

import "sync/atomic"

// Ref names a session that was found: its place, and which of the sessions that stand
// there one after another. The zero Ref is none.
type Ref struct{ place, version uint32 }

// record is one session, a cache line. A reader takes no lock: the version, which is odd
// while a session stands here and another for the next, tells it whether what it read
// belongs together. The fields are atomic since a writer may be at work meanwhile; on the
// machines we run on that costs a reader nothing.
type record struct {
	version    atomic.Uint32
	life       atomic.Uint32 // of its interface, when it was made
	a, b, c, d atomic.Uint64 // Key
	e          atomic.Uint64
	f          atomic.Uint32
	policy     atomic.Uint32 // of whom let it through
	stamp      atomic.Uint32 // when a packet came last
	seen       atomic.Uint32 // TCP flags: of input, above them of output; and refused
}

// refused, in record.seen, says that the lists of now forbid the flow.
const refused = 1 << 31

func (r *record) is(k *Key) bool {
	return (r.a.Load()^k.a)|(r.e.Load()^k.e)|uint64(r.f.Load()^k.f)|
		(r.b.Load()^k.b)|(r.c.Load()^k.c)|(r.d.Load()^k.d) == 0
}

func (r *record) key() Key {
	return Key{r.a.Load(), r.b.Load(), r.c.Load(), r.d.Load(), r.e.Load(), r.f.Load()}
}

// fill writes all but the version. A store that others see in order costs as much as twenty
// loads, and most words are as they should be: 0.
func (r *record) fill(k *Key, life, policy, stamp uint32) {
	put64(&r.a, k.a)
	put64(&r.b, k.b)
	put64(&r.c, k.c)
	put64(&r.d, k.d)
	put64(&r.e, k.e)
	put32(&r.f, k.f)
	put32(&r.life, life)
	put32(&r.policy, policy)
	put32(&r.stamp, stamp)
	put32(&r.seen, 0)
}

func put64(to *atomic.Uint64, v uint64) {
	if to.Load() != v {
		to.Store(v)
	}
}

func put32(to *atomic.Uint32, v uint32) {
	if to.Load() != v {
		to.Store(v)
	}
}

func (r *record) class() Class {
	seen := r.seen.Load()
	if seen&refused != 0 {
		seen = 0 // whatever it was, it is not open any more
	}
	return classOf(uint8(r.f.Load()), seen)
}

// bucket is eight places of the hash, a cache line. A place holds the number of a record
// plus 1 and the upper half of its hash; 0 is empty.
type bucket [8]atomic.Uint64

func slotOf(place uint32, hash uint64) uint64 { return hash&^0xffffffff | uint64(place+1) }

// flagsOf are the TCP flags of a packet in the place of its direction.
func flagsOf(flags uint8, input bool) uint32 {
	if input {
		return uint32(flags & TCPFlags)
	}
	return uint32(flags&TCPFlags) << 8
}
