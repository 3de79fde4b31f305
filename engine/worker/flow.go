package worker

import (
	"math/bits"

	"github.com/millrace/millrace/engine/hugepage"
)

// A flow cache remembers where the packets of a flow go. It is two fixed arrays of cache
// lines, for IPv4 and IPv6:
//
//	IPv4 | addresses, rx interface, ports, protocol, generation, adjacency, leaf | the same | = 2 x 32 bytes
//	IPv6 | the same with longer addresses                                                   | = 64 bytes
//
// An entry counts only while its generation is the State's, so that an edit of any table
// takes effect with the next batch. A flow stands in one of two places that its hash
// names. A newcomer takes a stale entry there, else displaces one.

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

type flowEntry4 struct {
	a, e       uint64
	f          uint32
	generation uint32
	adj, leaf  uint32
}

type flowEntry6 struct {
	key        flowKey
	generation uint32
	adj, leaf  uint32
	_          uint32
}

type flowCache struct {
	four    [][2]flowEntry4 // a power of two
	six     []flowEntry6    // a power of two
	touched uint32
}

// A worker remembers 2^18 flows of IPv4 and 2^16 of IPv6 in 8 and 4 MiB, resident as far
// as used.
const (
	lines4 = 1 << 17
	lines6 = 1 << 16
)

func newFlowCache() flowCache {
	return flowCache{
		four: hugepage.Advise(make([][2]flowEntry4, lines4)),
		six:  hugepage.Advise(make([]flowEntry6, lines6)),
	}
}

// The two places of a hash.
func first(hash uint64, lines int) uint64  { return hash & uint64(lines-1) }
func second(hash uint64, lines int) uint64 { return hash >> 32 & uint64(lines-1) }

// touch loads the places where IPv4 flows of these hashes probably are, and does nothing
// else: the fewer instructions between two loads, the more of them are on their way
// together.
func (c *flowCache) touch(hashes []uint64) {
	four := c.four
	touched := uint32(0)
	for _, h := range hashes {
		if at := first(h, len(four)); at < uint64(len(four)) {
			touched += four[at][0].generation
		}
	}
	c.touched += touched
}

// find returns the adjacency and the leaf of a flow.
func (c *flowCache) find(k *flowKey, hash uint64, generation uint32) (adj, leaf uint32, ok bool) {
	if k.f&keyV6 != 0 {
		return c.find6(k, hash, generation)
	}
	line := &c.four[first(hash, len(c.four))]
	if e := &line[0]; e.is(k, generation) {
		return e.adj, e.leaf, true
	}
	if e := &line[1]; e.is(k, generation) {
		return e.adj, e.leaf, true
	}
	line = &c.four[second(hash, len(c.four))]
	for i := range line {
		if e := &line[i]; e.is(k, generation) {
			return e.adj, e.leaf, true
		}
	}
	return 0, 0, false
}

func (e *flowEntry4) is(k *flowKey, generation uint32) bool {
	return (e.a^k.a)|(e.e^k.e)|uint64((e.f^k.f)|(e.generation^generation)) == 0
}

func (c *flowCache) find6(k *flowKey, hash uint64, generation uint32) (adj, leaf uint32, ok bool) {
	for _, at := range [2]uint64{first(hash, len(c.six)), second(hash, len(c.six))} {
		if e := &c.six[at]; e.generation == generation && e.key == *k {
			return e.adj, e.leaf, true
		}
	}
	return 0, 0, false
}

func (c *flowCache) put(k *flowKey, hash uint64, generation, adj, leaf uint32) {
	if k.f&keyV6 != 0 {
		e := &c.six[first(hash, len(c.six))]
		if e.generation == generation {
			e = &c.six[second(hash, len(c.six))]
		}
		*e = flowEntry6{key: *k, generation: generation, adj: adj, leaf: leaf}
		return
	}
	line := &c.four[first(hash, len(c.four))]
	e := &line[hash>>63] // displaced when nobody is stale
	for _, l := range [2]*[2]flowEntry4{&c.four[second(hash, len(c.four))], line} {
		for i := range l {
			if l[i].generation != generation {
				e = &l[i]
			}
		}
	}
	*e = flowEntry4{a: k.a, e: k.e, f: k.f, generation: generation, adj: adj, leaf: leaf}
}
