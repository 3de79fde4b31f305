package acl

import (
	"cmp"
	"encoding/binary"
	"math/bits"
	"net/netip"
	"slices"
)

// A prefix is a netip.Prefix as words, without the pointer. IPv4 is as in Addr.
type prefix struct {
	Addr
	bits uint8
	six  bool
}

func prefixOf(p netip.Prefix) prefix {
	return prefix{AddrOf(p.Addr()), uint8(p.Bits()), !p.Addr().Is4()}
}

// mask returns the mask of the first n bits of an address.
func mask(n uint8, six bool) Addr {
	switch {
	case !six:
		return Addr{Lo: uint64(^uint32(0)) << (32 - n) & uint64(^uint32(0))}
	case n <= 64:
		return Addr{Hi: ^uint64(0) << (64 - n)}
	default:
		return Addr{^uint64(0), ^uint64(0) << (128 - n)}
	}
}

func (a Addr) and(m Addr) Addr { return Addr{a.Hi & m.Hi, a.Lo & m.Lo} }

// covers reports whether q is in p.
func (p *prefix) covers(q *prefix) bool {
	return p.six == q.six && p.bits <= q.bits && q.and(mask(p.bits, p.six)) == p.Addr
}

// order puts IPv4 before IPv6, and a prefix right before those in it.
func order(p, q prefix) int {
	if p.six != q.six {
		if q.six {
			return -1
		}
		return 1
	}
	if c := cmp.Compare(p.Hi, q.Hi); c != 0 {
		return c
	}
	if c := cmp.Compare(p.Lo, q.Lo); c != 0 {
		return c
	}
	return cmp.Compare(p.bits, q.bits)
}

// A class is the number of a prefix among all that the rules of a list have at one side,
// in that order, from 1. An address is of the class of the longest prefix that it is in, or
// of noClass. As all prefixes in p come right behind it, "in p" is a range of classes: for
// the rules an address is a small number, and a prefix a range, as if it were a port.
const noClass = 0

// classes are the prefixes of one side of a list.
type classes struct {
	four []prefix4 // class 1 and up
	six  []prefix6 // the classes after these
	lpm4 table4
	lpm6 table6
}

type prefix4 struct {
	addr uint32
	bits uint8
}

type prefix6 struct {
	Addr
	bits uint8
}

// prefix returns the prefix of class c.
func (s *classes) prefix(c uint32) netip.Prefix {
	i := int(c) - 1
	if i < len(s.four) {
		var b [4]byte
		binary.BigEndian.PutUint32(b[:], s.four[i].addr)
		return netip.PrefixFrom(netip.AddrFrom4(b), int(s.four[i].bits))
	}
	p := &s.six[i-len(s.four)]
	var b [16]byte
	binary.BigEndian.PutUint64(b[:8], p.Hi)
	binary.BigEndian.PutUint64(b[8:], p.Lo)
	return netip.PrefixFrom(netip.AddrFrom16(b), int(p.bits))
}

// of returns the class of an address.
func (s *classes) of(a *Addr, six bool) uint32 {
	if six {
		return s.lpm6.lookup(a.Hi, a.Lo)
	}
	return s.lpm4.lookup(uint32(a.Lo))
}

// ranges says for each class, by number, which the last class in its prefix is.
type ranges []uint32

// classify numbers the prefixes that side returns of each of n rules. It sets nums[i] to
// the class of rule i's.
func classify(n int, side func(i int) netip.Prefix, nums []uint32) (classes, ranges) {
	all, seen := []prefix{}, map[prefix]uint32{}
	var last prefix
	for i := range n {
		p := prefixOf(side(i))
		if i > 0 && p == last {
			nums[i] = nums[i-1]
			continue
		}
		k, ok := seen[p]
		if !ok {
			k = uint32(len(all))
			seen[p], all = k, append(all, p)
		}
		nums[i], last = k, p
	}
	sorted := make([]uint32, len(all))
	for i := range sorted {
		sorted[i] = uint32(i)
	}
	slices.SortFunc(sorted, func(i, j uint32) int { return order(all[i], all[j]) })
	ps, rank := make([]prefix, len(all)), make([]uint32, len(all))
	for class, i := range sorted {
		ps[class], rank[i] = all[i], uint32(class)+1
	}
	for i, k := range nums {
		nums[i] = rank[k]
	}
	return newClasses(ps)
}

// newClasses returns the classes of prefixes that are in order and different.
func newClasses(ps []prefix) (classes, ranges) {
	parents, last := nest(ps)
	fours := 0
	for fours < len(ps) && !ps[fours].six {
		fours++
	}
	s := classes{four: make([]prefix4, fours), six: make([]prefix6, len(ps)-fours)}
	for i, p := range ps[:fours] {
		s.four[i] = prefix4{uint32(p.Lo), p.bits}
	}
	for i, p := range ps[fours:] {
		s.six[i] = prefix6{p.Addr, p.bits}
	}
	s.lpm4 = newTable4(ps[:fours], parents)
	s.lpm6 = newTable6(ps, parents, fours)
	return s, last
}

// nest returns for each class, by number, the class of the next shorter prefix around it,
// and the last class in it.
func nest(ps []prefix) (parents []uint32, last ranges) {
	parents, last = make([]uint32, len(ps)+1), make(ranges, len(ps)+1)
	open := []uint32{}
	closeAt := func(class int) {
		last[open[len(open)-1]] = uint32(class)
		open = open[:len(open)-1]
	}
	for i := range ps {
		for len(open) > 0 && !ps[open[len(open)-1]-1].covers(&ps[i]) {
			closeAt(i)
		}
		if len(open) > 0 {
			parents[i+1] = open[len(open)-1]
		}
		open = append(open, uint32(i)+1)
	}
	for len(open) > 0 {
		closeAt(len(ps))
	}
	return parents, last
}

// entry is what a table has at one length: the class of addresses that begin so and are in
// no longer prefix.
type entry struct {
	Addr
	class uint32
}

// levels are the entries by length of prefix, shortest first, and the class of addresses
// that begin like none of them.
type levels struct {
	bits    []uint8
	entries [][]entry
	def     uint32
}

// plan returns the levels for prefixes first to last of ps. Lookups do a binary search over
// the lengths (Waldvogel and others, SIGCOMM 1997): each prefix leaves markers at the
// lengths where a search for it has to turn to longer ones. A marker has the class of what
// is around it, so that no search goes back.
func plan(ps []prefix, parents []uint32, first, last int) levels {
	var l levels
	var at [129]int // bits -> level
	for i := range ps[first:last] {
		at[ps[first+i].bits] = 1
	}
	for bits := 1; bits < len(at); bits++ { // /0 is the default
		if at[bits] != 0 {
			at[bits] = len(l.bits)
			l.bits = append(l.bits, uint8(bits))
		}
	}
	l.entries = make([][]entry, len(l.bits))
	for i := first; i < last; i++ {
		if ps[i].bits == 0 {
			l.def = uint32(i) + 1
			continue
		}
		l.mark(ps, parents, uint32(i)+1, at[ps[i].bits])
	}
	return l
}

// mark enters class, whose prefix is of level to, and its markers. Entries of a level come
// in the order of their addresses, so that a double is the last.
func (l *levels) mark(ps []prefix, parents []uint32, class uint32, to int) {
	p := &ps[class-1]
	low, high := 0, len(l.bits)
	for {
		m := (low + high) / 2
		if m > to {
			high = m
			continue
		}
		best := class
		for best != noClass && ps[best-1].bits > l.bits[m] {
			best = parents[best]
		}
		e := entry{p.and(mask(l.bits[m], p.six)), best}
		if k := len(l.entries[m]); k == 0 || l.entries[m][k-1].Addr != e.Addr {
			l.entries[m] = append(l.entries[m], e)
		}
		if m == to {
			return
		}
		low = m + 1
	}
}

// sizeFor returns the binary logarithm of the number of slots for n entries: at most 2 of 3
// are taken.
func sizeFor(n int) int { return bits.Len(uint(n + n/2)) }
