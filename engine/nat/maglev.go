package nat

import (
	"cmp"
	"encoding/binary"
	"hash/fnv"
	"net/netip"
	"slices"
)

// MaglevSize is VPP's number of places: a prime, and good for a tenth of it of backends.
const MaglevSize = 1009

// maglevSize is a prime, about ten times as much as there are backends, or more; the last
// is as many places as fit.
func maglevSize(backends int) int {
	for _, size := range [...]int{MaglevSize, 10007} {
		if backends <= size/10 {
			return size
		}
	}
	return 65521
}

// Maglev spreads backends over size places, which must be a prime below 65536: place i
// belongs to backends[result[i]]. All have about as many, whoever makes the table from the
// same backends in whatever order makes the same one, and when a backend comes or goes few
// places change hands between the others (Eisenbud et al., NSDI 2016, 3.4). Backends that
// are listed twice have twice as many; of more than size, the last have none. Nil for no
// backend.
func Maglev(backends []netip.AddrPort, size int) []uint16 {
	if len(backends) == 0 {
		return nil
	}
	turns := make([]turn, len(backends))
	for i, b := range backends {
		turns[i] = turnOf(b, uint32(i), uint64(size))
	}
	slices.SortStableFunc(turns, func(a, b turn) int {
		return cmp.Or(cmp.Compare(a.at, b.at), cmp.Compare(a.skip, b.skip), backends[a.backend].Compare(backends[b.backend]))
	})
	turns = turns[:min(len(turns), size)]
	places := make([]uint16, size)
	taken := make([]bool, size)
	for left := size; ; {
		for i := range turns {
			t := &turns[i]
			for taken[t.at] {
				if t.at += t.skip; t.at >= uint32(size) {
					t.at -= uint32(size)
				}
			}
			places[t.at], taken[t.at] = uint16(t.backend), true
			if left--; left == 0 {
				return places
			}
		}
	}
}

// turn is the order in which a backend asks for places.
type turn struct {
	at, skip, backend uint32
}

func turnOf(b netip.AddrPort, index uint32, size uint64) turn {
	h := fnv.New128a()
	a := b.Addr().As16()
	h.Write(a[:])
	h.Write(binary.BigEndian.AppendUint16(nil, b.Port()))
	sum := h.Sum(nil)
	return turn{
		at:      uint32(binary.BigEndian.Uint64(sum) % size),
		skip:    uint32(binary.BigEndian.Uint64(sum[8:])%(size-1)) + 1,
		backend: index,
	}
}
