package worker

import "math/bits"

// A flow cache remembers where the packets of a flow go. It is a fixed array:
//
//	| key: addresses, ports, rx interface, protocol | generation | adjacency | leaf | spare | = 64 bytes
//
// An entry counts only while its generation is the State's, so that an edit of any table
// takes effect with the next batch. Two neighbouring slots may hold a key; a newcomer
// takes the one that is stale, else the second.

// flowKey is the 5-tuple with the receiving interface. IPv4 addresses share word a.
type flowKey struct {
	a, b, c, d uint64
	e          uint64 // rx interface, ports
	f          uint32 // protocol, version, fragment
}

func (k *flowKey) hash() uint64 {
	h, l := bits.Mul64(k.a^0x243f6a8885a308d3, k.e^0xb7e151628aed2a6b)
	h ^= l
	if k.f&keyV6 != 0 {
		h2, l2 := bits.Mul64(k.b^0x13198a2e03707345, k.c^0xa4093822299f31d1)
		h ^= h2 ^ l2 ^ bits.RotateLeft64(k.d*0x9e3779b97f4a7c15, 31)
	}
	h, l = bits.Mul64(h^uint64(k.f), 0x9e3779b97f4a7c15)
	return h ^ l
}

// Bits of flowKey.f above the protocol.
const (
	keyV6       = 1 << 8
	keyFragment = 1 << 9
)

type flowEntry struct {
	key        flowKey
	generation uint32
	adj        uint32
	leaf       uint32
	_          uint32
}

type flowCache struct {
	entries []flowEntry // a power of two
	mask    uint64
}

// flowEntries is how many flows a worker remembers: 4 MiB, resident as far as used.
const flowEntries = 1 << 16

func newFlowCache() flowCache {
	return flowCache{entries: make([]flowEntry, flowEntries), mask: flowEntries - 1}
}

// find returns the slot of the key, or nil.
func (c *flowCache) find(k *flowKey, hash uint64, generation uint32) *flowEntry {
	e := &c.entries[hash&c.mask]
	if e.is(k, generation) {
		return e
	}
	if e = &c.entries[(hash^1)&c.mask]; e.is(k, generation) {
		return e
	}
	return nil
}

func (e *flowEntry) is(k *flowKey, generation uint32) bool {
	return e.key.a == k.a && e.key.e == k.e && e.generation == generation && e.key.f == k.f &&
		(k.f&keyV6 == 0 || e.key.b == k.b && e.key.c == k.c && e.key.d == k.d)
}

func (c *flowCache) put(k *flowKey, hash uint64, generation, adj, leaf uint32) {
	e := &c.entries[hash&c.mask]
	if e.generation == generation {
		e = &c.entries[(hash^1)&c.mask]
	}
	e.key, e.generation, e.adj, e.leaf = *k, generation, adj, leaf
}
