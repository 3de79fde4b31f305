package nat

import (
	"net/netip"
	"slices"
)

// Prefixes is a set of addresses: prefixes of which none is part of another, sorted.
type Prefixes []netip.Prefix

// NewPrefixes returns the addresses of sorted prefixes, which may be part of each other.
func NewPrefixes(sorted []netip.Prefix) Prefixes {
	to := make(Prefixes, 0, len(sorted))
	for _, p := range sorted {
		// What holds p stands before it, and all between is part of that, too.
		if n := len(to); n == 0 || !to[n-1].Overlaps(p) {
			to = append(to, p)
		}
	}
	return to
}

// Has reports whether an address is in the set. It neither locks nor allocates, and takes a
// dozen steps where there are some thousand prefixes.
func (s Prefixes) Has(a netip.Addr) bool {
	at, there := slices.BinarySearchFunc(s, a, func(p netip.Prefix, a netip.Addr) int { return p.Addr().Compare(a) })
	return there || at > 0 && s[at-1].Contains(a)
}
