package nat

import "math/bits"

// index is a hash table that many read while one makes another of it. The new one shares
// all shards but one with it:
//
//	index ─► 256 shards ─► slots, at most half of them used: hash, value
type index[K comparable, V keyed[K]] struct {
	shards []*shard[V] // shardCount or none
	n      int
}

type keyed[K comparable] interface{ key() K }

type shard[V any] struct {
	slots []entry[V] // a power of two
	used  int
}

// entry is empty when its hash is 0.
type entry[V any] struct {
	hash  uint64
	value V
}

const shardCount = 256

// filled is hash as entries have it.
func filled(hash uint64) uint64 { return hash | 1 }

func shardOf(hash uint64) int { return int(hash >> 56) }

// find returns the value with a key, which has the given hash, or V's zero.
func (x *index[K, V]) find(hash uint64, k K) (none V) {
	if x.shards == nil || x.shards[shardOf(hash)] == nil {
		return none
	}
	s := x.shards[shardOf(hash)]
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
	to, s := x.reshard(hash, v.key())
	s.add(filled(hash), v)
	to.n++
	return to
}

// without is x without a key.
func (x *index[K, V]) without(hash uint64, k K) index[K, V] {
	to, s := x.reshard(hash, k)
	if s.used == 0 {
		to.shards[shardOf(hash)] = nil
	}
	return to
}

// reshard is x without a key, and the shard where that would be, which is new and has room
// for one entry more.
func (x *index[K, V]) reshard(hash uint64, k K) (index[K, V], *shard[V]) {
	to := index[K, V]{shards: make([]*shard[V], shardCount), n: x.n}
	copy(to.shards, x.shards)
	at := shardOf(hash)
	old := to.shards[at]
	if old == nil {
		old = &shard[V]{}
	}
	s := &shard[V]{slots: make([]entry[V], 1<<bits.Len(uint(2*old.used+1)))}
	to.shards[at] = s
	hash = filled(hash)
	for _, e := range old.slots {
		if e.hash != 0 && (e.hash != hash || e.value.key() != k) {
			s.add(e.hash, e.value)
		}
	}
	to.n -= old.used - s.used
	return to, s
}

// add puts an entry that is not there into a shard that has room and no readers.
func (s *shard[V]) add(hash uint64, v V) {
	mask := uint64(len(s.slots) - 1)
	i := hash >> 1 & mask
	for s.slots[i].hash != 0 {
		i = (i + 1) & mask
	}
	s.slots[i] = entry[V]{hash, v}
	s.used++
}
