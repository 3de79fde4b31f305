package worker

import (
	"math/bits"

	"github.com/millrace/millrace/engine/hugepage"
	"github.com/millrace/millrace/engine/session"
)

// A flow cache remembers where the packets of a flow go, and what access lists said of
// them. It is two fixed arrays of cache lines, for IPv4 and IPv6:
//
//	IPv4 | addresses, rx interface, ports, flowState | the same | = 2 x 32 bytes
//	IPv6 | the same with longer addresses                       | = 64 bytes
//
// An entry counts only while its generation is the State's, so that an edit of any table
// takes effect with the next batch. A flow stands in one of two places that its hash
// names. A newcomer takes a stale entry there, else displaces one.
//
// What is seldom looked at (which sessions and rules let the flow pass) stands in arrays
// of its own beside them.

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

// flowState is what an entry says about its flow.
type flowState struct {
	f          uint16 // of the key; IPv4 only
	stamp      uint16 // when its sessions were refreshed
	generation uint32
	adj        uint32 // adjacency, and below it the flow's bits
	leaf       uint32 // leaf, and below it the TCP flags that its sessions know of
}

// Bits of a flow that access lists have judged, or address translation has looked at.
const (
	flowIn         = 1 << 0 // by those of the interface it comes in by
	flowInSession  = 1 << 1 // as a session
	flowOut        = 1 << 2 // by those of the interface it goes out by
	flowOutSession = 1 << 3
	flowCounts     = 1 << 4 // by a rule that counts
	flowTCP        = 1 << 5 // with sessions that TCP flags matter to
	flowNAT        = 1 << 6 // its packets are changed
	flowWatch      = 1 << 7 // nothing translates it, but a session to come may

	flowJudged = flowIn | flowInSession | flowOut | flowOutSession | flowCounts

	flowBits = 8
	// flowLimit is above the adjacencies and leaves that fit beside a byte.
	flowLimit = 1 << (32 - flowBits)
)

type flowEntry4 struct {
	a, e uint64
	flowState
}

type flowEntry6 struct {
	key flowKey
	flowState
}

// pass is who let a flow through.
type pass struct {
	in, out         session.Ref
	inRule, outRule uint32 // place of the list in its Chain, above 24 bits of the rule
}

type flowCache struct {
	four     [][2]flowEntry4 // a power of two
	six      []flowEntry6    // a power of two
	passes4  [][2]pass
	passes6  []pass
	changes4 [][2]change4
	changes6 []change6
	nat4     [][2]crossings
	nat6     []crossings
	touched  uint32
	turn     uint32
}

// A worker remembers 2^18 flows of IPv4 and 2^16 of IPv6 in 8 and 4 MiB, and as much each
// for flows that access lists judge and for flows that are translated, resident as far as
// used.
const (
	lines4 = 1 << 17
	lines6 = 1 << 16
)

func newFlowCache() flowCache {
	return flowCache{
		four:     hugepage.Advise(make([][2]flowEntry4, lines4)),
		six:      hugepage.Advise(make([]flowEntry6, lines6)),
		passes4:  make([][2]pass, lines4),
		passes6:  make([]pass, lines6),
		changes4: hugepage.Advise(make([][2]change4, lines4)),
		changes6: hugepage.Advise(make([]change6, lines6)),
		nat4:     make([][2]crossings, lines4),
		nat6:     make([]crossings, lines6),
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

// find returns what is known of a flow, or nil.
func (c *flowCache) find(k *flowKey, hash uint64, generation uint32) *flowState {
	if k.f&keyV6 != 0 {
		return c.find6(k, hash, generation)
	}
	line := &c.four[first(hash, len(c.four))]
	if e := &line[0]; e.is(k, generation) {
		return &e.flowState
	}
	if e := &line[1]; e.is(k, generation) {
		return &e.flowState
	}
	line = &c.four[second(hash, len(c.four))]
	for i := range line {
		if e := &line[i]; e.is(k, generation) {
			return &e.flowState
		}
	}
	return nil
}

func (e *flowEntry4) is(k *flowKey, generation uint32) bool {
	return (e.a^k.a)|(e.e^k.e)|uint64((uint32(e.f)^k.f)|(e.generation^generation)) == 0
}

func (c *flowCache) find6(k *flowKey, hash uint64, generation uint32) *flowState {
	for _, at := range [2]uint64{first(hash, len(c.six)), second(hash, len(c.six))} {
		if e := &c.six[at]; e.generation == generation && e.key == *k {
			return &e.flowState
		}
	}
	return nil
}

// where is the place of s, which find or put returned: line and entry of IPv4.
func (c *flowCache) where(k *flowKey, hash uint64, s *flowState) (line uint64, entry int) {
	if k.f&keyV6 != 0 {
		if at := first(hash, len(c.six)); s == &c.six[at].flowState {
			return at, 0
		}
		return second(hash, len(c.six)), 0
	}
	for _, at := range [2]uint64{first(hash, len(c.four)), second(hash, len(c.four))} {
		for i := range c.four[at] {
			if s == &c.four[at][i].flowState {
				return at, i
			}
		}
	}
	return 0, 0 // s is of no entry: not in this program
}

// passOf returns who let the flow s, which find returned, through.
func (c *flowCache) passOf(k *flowKey, hash uint64, s *flowState) *pass {
	at, i := c.where(k, hash, s)
	if k.f&keyV6 != 0 {
		return &c.passes6[at]
	}
	return &c.passes4[at][i]
}

// put remembers a flow; s.adj and s.leaf are below flowLimit and without bits.
func (c *flowCache) put(k *flowKey, hash uint64, s flowState) *flowState {
	if k.f&keyV6 != 0 {
		e := &c.six[first(hash, len(c.six))]
		if e.generation == s.generation {
			e = &c.six[second(hash, len(c.six))]
		}
		*e = flowEntry6{key: *k, flowState: s}
		return &e.flowState
	}
	e := c.stale4(second(hash, len(c.four)), s.generation)
	if f := c.stale4(first(hash, len(c.four)), s.generation); f != nil {
		e = f
	}
	if e == nil {
		e = c.vacate(hash, s.generation)
	}
	s.f = uint16(k.f)
	*e = flowEntry4{a: k.a, e: k.e, flowState: s}
	return &e.flowState
}

// stale4 is an entry of a line that counts no more, or nil.
func (c *flowCache) stale4(line uint64, generation uint32) *flowEntry4 {
	l := &c.four[line]
	for i := range l {
		if l[i].generation != generation {
			return &l[i]
		}
	}
	return nil
}

// vacate makes room in one of the two full lines of a hash, in turn. Its entries may stand
// elsewhere, too: one that finds a stale place there moves. Else one is forgotten.
func (c *flowCache) vacate(hash uint64, generation uint32) *flowEntry4 {
	line := first(hash, len(c.four))
	if c.turn++; c.turn&1 != 0 {
		line = second(hash, len(c.four))
	}
	for i := range c.four[line] {
		e := &c.four[line][i]
		k := flowKey{a: e.a, e: e.e, f: uint32(e.f)}
		h := k.hash()
		other := first(h, len(c.four))
		if other == line {
			other = second(h, len(c.four))
		}
		if to := c.stale4(other, generation); to != nil {
			*to = *e
			at, j := c.where(&k, h, &to.flowState)
			c.passes4[at][j], c.changes4[at][j], c.nat4[at][j] = c.passes4[line][i], c.changes4[line][i], c.nat4[line][i]
			return e
		}
	}
	return &c.four[line][hash>>63]
}
