package policy

import (
	"net/netip"
	"slices"
)

// A cover is a list of prefixes in rising order, none of which holds another and no two of
// which are the halves of a third: the fewest that hold their addresses. There is but one
// cover of a set of addresses.
type cover []netip.Prefix

// everyone is the cover of all addresses.
func everyone() cover {
	return cover{netip.PrefixFrom(netip.IPv4Unspecified(), 0), netip.PrefixFrom(netip.IPv6Unspecified(), 0)}
}

// minimise makes a cover of prefixes in any order; it uses their memory.
func minimise(list []netip.Prefix) cover {
	slices.SortFunc(list, netip.Prefix.Compare)
	c := cover(list[:0])
	for _, p := range list {
		c = c.push(p)
	}
	return c
}

// Cover returns the fewest prefixes that hold the addresses of those given, in rising order.
func Cover(list []netip.Prefix) []netip.Prefix { return minimise(slices.Clone(list)) }

// push adds a prefix that does not come before those that are there.
func (c cover) push(p netip.Prefix) cover {
	if n := len(c); n > 0 && holds(c[n-1], p) {
		return c
	}
	c = append(c, p)
	for n := len(c); n >= 2 && halves(c[n-2], c[n-1]); n-- {
		c[n-2] = parent(c[n-2])
		c = c[:n-1]
	}
	return c
}

// union is the cover of what either holds.
func union(a, b cover) cover {
	if len(a) == 0 {
		return b
	}
	if len(b) == 0 {
		return a
	}
	c := make(cover, 0, len(a)+len(b))
	for len(a) > 0 || len(b) > 0 {
		if len(b) == 0 || len(a) > 0 && a[0].Compare(b[0]) <= 0 {
			c, a = c.push(a[0]), a[1:]
		} else {
			c, b = c.push(b[0]), b[1:]
		}
	}
	return c
}

// intersect is the cover of what both hold.
func intersect(a, b cover) cover {
	var c cover
	for len(a) > 0 && len(b) > 0 {
		switch {
		case holds(a[0], b[0]):
			c, b = append(c, b[0]), b[1:]
		case holds(b[0], a[0]):
			c, a = append(c, a[0]), a[1:]
		case a[0].Compare(b[0]) < 0:
			a = a[1:]
		default:
			b = b[1:]
		}
	}
	return c
}

// overlaps says whether some address is in both.
func (c cover) overlaps(o cover) bool {
	for len(c) > 0 && len(o) > 0 {
		switch {
		case c[0].Overlaps(o[0]):
			return true
		case c[0].Compare(o[0]) < 0:
			c = c[1:]
		default:
			o = o[1:]
		}
	}
	return false
}

// without is the cover of a prefix but for holes.
func without(p netip.Prefix, holes []netip.Prefix) cover {
	inside := false
	for _, h := range holes {
		if holds(h, p) {
			return nil
		}
		inside = inside || holds(p, h)
	}
	if !inside {
		return cover{p}
	}
	low, high := split(p)
	return append(without(low, holes), without(high, holes)...)
}

func holds(p, q netip.Prefix) bool { return p.Bits() <= q.Bits() && p.Contains(q.Addr()) }

// halves says whether both are the halves of one prefix.
func halves(p, q netip.Prefix) bool {
	return p.Bits() == q.Bits() && p.Bits() > 0 && parent(p).Contains(q.Addr())
}

func parent(p netip.Prefix) netip.Prefix {
	return netip.PrefixFrom(p.Addr(), p.Bits()-1).Masked()
}

// split returns the halves of a prefix that is not a single address.
func split(p netip.Prefix) (low, high netip.Prefix) {
	bits := p.Bits() + 1
	raw := p.Addr().AsSlice()
	raw[(bits-1)/8] |= 0x80 >> ((bits - 1) % 8)
	a, _ := netip.AddrFromSlice(raw)
	return netip.PrefixFrom(p.Addr(), bits), netip.PrefixFrom(a, bits)
}

func single(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, a.BitLen()) }

// addresses is a sorted multiset: two pods may have one address for a moment.
type addresses struct {
	sorted []netip.Addr
	loose  []netip.Addr // added, not yet in place
}

func (s *addresses) add(list []netip.Addr) { s.loose = append(s.loose, list...) }

func (s *addresses) remove(list []netip.Addr) {
	s.settle()
	for _, a := range list {
		if i, ok := slices.BinarySearchFunc(s.sorted, a, netip.Addr.Compare); ok {
			s.sorted = slices.Delete(s.sorted, i, i+1)
		}
	}
}

func (s *addresses) settle() {
	const few = 16
	if len(s.loose) > few {
		s.sorted = append(s.sorted, s.loose...)
		slices.SortFunc(s.sorted, netip.Addr.Compare)
	} else {
		for _, a := range s.loose {
			i, _ := slices.BinarySearchFunc(s.sorted, a, netip.Addr.Compare)
			s.sorted = slices.Insert(s.sorted, i, a)
		}
	}
	s.loose = nil
}

func (s *addresses) empty() bool { return len(s.sorted)+len(s.loose) == 0 }

func (s *addresses) cover() cover {
	s.settle()
	c := make(cover, 0, len(s.sorted))
	for _, a := range s.sorted {
		c = c.push(single(a))
	}
	return slices.Clip(c)
}
