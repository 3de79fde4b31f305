package acl

import (
	"math/bits"
	"slices"
)

// Longest prefix match to classes: one hash per length of prefix, searched by halves. A
// list has few lengths (/32 of pods, some blocks), so a lookup is one or two probes, each
// a cache line; with all 128 lengths of IPv6 it is eight.
//
// IPv4 with more lengths than maxLevels, or so dense that an array is as small, is a node
// of intervals instead.

// level is where the slots of one length are.
type level struct {
	mask  Addr
	at    uint32 // the first of its slots
	last  uint32 // number of its slots, a power of two, less 1
	shift uint8  // 64 less the binary logarithm of that number
}

// A slot's tag is its class shifted left, with the lowest bit set; 0 is an empty slot.
type slot4 struct{ addr, tag uint32 }

type slot6 struct {
	hi, lo uint64
	tag    uint32
}

// table4 is the match for IPv4.
type table4 struct {
	def    uint32
	levels []level
	slots  []slot4
	seed   uint64
	steps  tree // not empty: used instead
}

// maxLevels is how many lengths are searched by halves where there is another way.
const maxLevels = 3

func hash4(addr uint32, seed uint64) uint64 { return uint64(addr) * seed }

// lookup returns the class of addr.
func (t *table4) lookup(addr uint32) uint32 {
	if len(t.steps.nodes) > 0 {
		return uint32(t.steps.child(&t.steps.nodes[0], addr))
	}
	class := t.def
	low, high := 0, len(t.levels)
search:
	for low < high {
		m := int(uint(low+high) / 2)
		v := &t.levels[m]
		a := addr & uint32(v.mask.Lo)
		for i := uint32(hash4(a, t.seed) >> (v.shift & 63)); ; i++ {
			s := &t.slots[v.at+i&v.last]
			if s.tag == 0 {
				high = m
				continue search
			}
			if s.addr == a {
				class, low = s.tag>>1, m+1
				continue search
			}
		}
	}
	return class
}

// table6 is the match for IPv6.
type table6 struct {
	def    uint32
	levels []level
	slots  []slot6
	seed   uint64
}

func hash6(hi, lo, seed uint64) uint64 {
	h := (hi ^ seed) * 0x9e3779b97f4a7c15
	h = (h ^ h>>32 ^ lo) * seed
	return h ^ h<<32
}

// lookup returns the class of the address hi, lo.
func (t *table6) lookup(hi, lo uint64) uint32 {
	class := t.def
	low, high := 0, len(t.levels)
search:
	for low < high {
		m := int(uint(low+high) / 2)
		v := &t.levels[m]
		h, l := hi&v.mask.Hi, lo&v.mask.Lo
		for i := uint32(hash6(h, l, t.seed) >> (v.shift & 63)); ; i++ {
			s := &t.slots[v.at+i&v.last]
			if s.tag == 0 {
				high = m
				continue search
			}
			if s.lo == l && s.hi == h {
				class, low = s.tag>>1, m+1
				continue search
			}
		}
	}
	return class
}

// layout returns where the levels are, with grow times as many slots doubled, and the
// number of all slots.
func (l *levels) layout(six bool, grow int) ([]level, int) {
	out, n := make([]level, len(l.bits)), 0
	for m, bits := range l.bits {
		size := sizeFor(len(l.entries[m])) + grow
		out[m] = level{mask: mask(bits, six), at: uint32(n), last: 1<<size - 1, shift: uint8(64 - size)}
		n += 1 << size
	}
	return out, n
}

// A table is filled with another seed, then with more slots, until no entry is further than
// maxProbe from its place: whoever chooses the prefixes does not choose how long lookups
// take.
const (
	maxProbe = 256
	tries    = 4 // seeds for one size
	maxGrow  = 3
)

// seeds returns the k-th of a row of odd numbers with well mixed bits.
func seeds(k int) uint64 {
	x := uint64(k+1) * 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31 | 1
}

// newTable4 returns the match for prefixes of IPv4, in order, whose numbers are their
// classes.
func newTable4(ps []prefix, parents []uint32) table4 {
	lengths := uint64(0)
	for i := range ps {
		lengths |= 1 << ps[i].bits
	}
	if bits.OnesCount64(lengths&^1) > 0 {
		c := cutsOf(ps)
		if c.dense() || bits.OnesCount64(lengths&^1) > maxLevels {
			var t table4
			t.steps.addCuts(0, c, 0)
			t.steps.nodes, t.steps.words = slices.Clip(t.steps.nodes), slices.Clip(slices.Clone(t.steps.words))
			return t
		}
	}
	l := plan(ps, parents, 0, len(ps))
	for k := 0; ; k++ {
		t := table4{def: l.def, seed: seeds(k)}
		var n int
		t.levels, n = l.layout(false, k/tries)
		t.slots = make([]slot4, n)
		if t.fill(&l) || k/tries == maxGrow {
			return t
		}
	}
}

// cutsOf returns the classes of all addresses of IPv4.
func cutsOf(ps []prefix) cuts {
	var c cuts
	c.add(0, noClass)
	around := []uint32{noClass}
	leave := func(before uint64) {
		for n := len(around); n > 1; n = len(around) {
			p := &ps[around[n-1]-1]
			end := p.Lo + 1<<(32-p.bits)
			if end > before {
				return
			}
			around = around[:n-1]
			if end < 1<<32 {
				c.add(uint32(end), ref(around[n-2]))
			}
		}
	}
	for i := range ps {
		leave(ps[i].Lo)
		c.add(uint32(ps[i].Lo), ref(i+1))
		around = append(around, uint32(i)+1)
	}
	leave(1 << 32)
	return c
}

// fill enters all of l and reports whether it did so within maxProbe.
func (t *table4) fill(l *levels) bool {
	ok := true
	for m := range l.entries {
		v := &t.levels[m]
		for _, e := range l.entries[m] {
			a, d := uint32(e.Lo), uint32(0)
			i := uint32(hash4(a, t.seed) >> v.shift)
			for t.slots[v.at+(i+d)&v.last].tag != 0 {
				d++
			}
			ok = ok && d <= maxProbe
			t.slots[v.at+(i+d)&v.last] = slot4{a, e.class<<1 | 1}
		}
	}
	return ok
}

// newTable6 returns the match for the prefixes of ps from first on, which are IPv6.
func newTable6(ps []prefix, parents []uint32, first int) table6 {
	l := plan(ps, parents, first, len(ps))
	for k := 0; ; k++ {
		t := table6{def: l.def, seed: seeds(k)}
		var n int
		t.levels, n = l.layout(true, k/tries)
		t.slots = make([]slot6, n)
		if t.fill(&l) || k/tries == maxGrow {
			return t
		}
	}
}

func (t *table6) fill(l *levels) bool {
	ok := true
	for m := range l.entries {
		v := &t.levels[m]
		for _, e := range l.entries[m] {
			d := uint32(0)
			i := uint32(hash6(e.Hi, e.Lo, t.seed) >> v.shift)
			for t.slots[v.at+(i+d)&v.last].tag != 0 {
				d++
			}
			ok = ok && d <= maxProbe
			t.slots[v.at+(i+d)&v.last] = slot6{e.Hi, e.Lo, e.class<<1 | 1}
		}
	}
	return ok
}
