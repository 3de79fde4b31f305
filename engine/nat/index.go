package nat

import "math/bits"

// index is a hash table that many read while one makes another of it. The new one shares
// all leaves but one with it:
//
//	index ─► 256 leaves ─► slots, at most half of them used: hash, value
type index[K comparable, V keyed[K]] struct {
	leaves []*leaf[V] // leafCount or none
	n      int
}

type keyed[K comparable] interface{ key() K }

type leaf[V any] struct {
	slots []entry[V] // a power of two
	used  int
}

// entry is empty when its hash is 0.
type entry[V any] struct {
	hash  uint64
	value V
}

const leafCount = 256

// filled is hash as entries have it.
func filled(hash uint64) uint64 { return hash | 1 }

func leafOf(hash uint64) int { return int(hash >> 56) }

// find returns the value with a key, which has the given hash, or V's zero.
func (x *index[K, V]) find(hash uint64, k K) (none V) {
	if x.leaves == nil || x.leaves[leafOf(hash)] == nil {
		return none
	}
	s := x.leaves[leafOf(hash)]
	hash = filled(hash)
	mask := uint64(len(s.slots) - 1)
	for i := hash >> 1 & mask; ; i = (i + 1) & mask {
		e := &s.slots[i]
		if e.hash == 0 {
			return none
		}
		if e.hash == hash && e.value.key() == k {
			return e.value
		}
	}
}

// with is x with v, instead of what has the same key.
func (x *index[K, V]) with(hash uint64, v V) index[K, V] {
	to, s := x.renewed(hash, v.key())
	s.add(filled(hash), v)
	to.n++
	return to
}

// without is x without a key.
func (x *index[K, V]) without(hash uint64, k K) index[K, V] {
	to, s := x.renewed(hash, k)
	if s.used == 0 {
		to.leaves[leafOf(hash)] = nil
	}
	return to
}

// renewed is x without a key, and the leaf where that would be, which is new and has room
// for one entry more.
func (x *index[K, V]) renewed(hash uint64, k K) (index[K, V], *leaf[V]) {
	to := index[K, V]{leaves: make([]*leaf[V], leafCount), n: x.n}
	copy(to.leaves, x.leaves)
	at := leafOf(hash)
	old := to.leaves[at]
	if old == nil {
		old = &leaf[V]{}
	}
	s := &leaf[V]{slots: make([]entry[V], 1<<bits.Len(uint(2*old.used+1)))}
	to.leaves[at] = s
	hash = filled(hash)
	for _, e := range old.slots {
		if e.hash != 0 && (e.hash != hash || e.value.key() != k) {
			s.add(e.hash, e.value)
		}
	}
	to.n -= old.used - s.used
	return to, s
}

// add puts an entry that is not there into a leaf that has room and no readers.
func (s *leaf[V]) add(hash uint64, v V) {
	mask := uint64(len(s.slots) - 1)
	i := hash >> 1 & mask
	for s.slots[i].hash != 0 {
		i = (i + 1) & mask
	}
	s.slots[i] = entry[V]{hash, v}
	s.used++
}
