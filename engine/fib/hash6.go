package fib

import (
	"encoding/binary"
	"math/bits"
	"slices"
	"sync/atomic"
)

// Hash6 is one IPv6 table: an open-addressing hash per prefix length in use, probed from
// the longest length down. A node has few lengths (/128 of pods, /64 of links, some
// blocks), so a lookup is a few independent loads.
type Hash6 struct {
	lengths atomic.Pointer[[]*lengthTable] // longest first
	def     atomic.Uint32                  // leaf of ::/0
}

// lengthTable holds the prefixes of one length. Slots are only ever filled, or emptied in
// place (leaf Miss, key kept); when too many are dead or the table is crowded a new slots
// slice replaces it. So a reader never sees one prefix's key with another's leaf.
type lengthTable struct {
	n      int
	mask   addr6
	slots  atomic.Pointer[[]slot6]
	filled int // slots with a key, dead ones included
	live   int
}

type addr6 struct{ hi, lo uint64 }

// slot6 is filled key first, leaf last; used tells an empty slot from a dead one.
type slot6 struct {
	hi, lo uint64
	leaf   uint32
	used   uint32
}

// NewHash6 returns an empty table.
func NewHash6() *Hash6 {
	h := &Hash6{}
	h.lengths.Store(&[]*lengthTable{})
	return h
}

func load6(a []byte) addr6 {
	_ = a[15]
	return addr6{binary.BigEndian.Uint64(a), binary.BigEndian.Uint64(a[8:])}
}

func mask6(n int) addr6 {
	switch {
	case n <= 0:
		return addr6{}
	case n <= 64:
		return addr6{^uint64(0) << (64 - n), 0}
	default:
		return addr6{^uint64(0), ^uint64(0) << (128 - n)}
	}
}

// The multipliers are odd fractional bits of pi and e: any will do.
func hash6(hi, lo uint64) uint64 {
	h, l := bits.Mul64(hi^0x243f6a8885a308d3, lo^0xb7e151628aed2a6b|1)
	h ^= l + hi*0x9e3779b97f4a7c15 + lo*0xc2b2ae3d27d4eb4f
	return h ^ h>>29
}

// Lookup returns the leaf of the longest prefix that covers the 16-byte addr, or Miss.
func (h *Hash6) Lookup(addr []byte) uint32 {
	a := load6(addr)
	return h.LookupWords(a.hi, a.lo)
}

// LookupWords is Lookup of an address given as two big-endian words.
func (h *Hash6) LookupWords(hi, lo uint64) uint32 {
	for _, t := range *h.lengths.Load() {
		if leaf := t.find(hi&t.mask.hi, lo&t.mask.lo); leaf != Miss {
			return leaf
		}
	}
	return h.def.Load()
}

func (t *lengthTable) find(hi, lo uint64) uint32 {
	s := *t.slots.Load()
	m := uint64(len(s) - 1)
	for i := hash6(hi, lo) & m; ; i = (i + 1) & m {
		e := &s[i]
		if atomic.LoadUint32(&e.used) == 0 {
			return Miss
		}
		if e.hi == hi && e.lo == lo {
			return atomic.LoadUint32(&e.leaf)
		}
	}
}

// Insert maps the prefix addr/n to leaf, whether it is new or not.
func (h *Hash6) Insert(addr [16]byte, n int, leaf uint32) {
	if n == 0 {
		h.def.Store(leaf)
		return
	}
	t := h.length(n)
	a := load6(addr[:])
	a = addr6{a.hi & t.mask.hi, a.lo & t.mask.lo}
	s := *t.slots.Load()
	if t.put(s, a, leaf) {
		return
	}
	// No slot with this key: one must be filled, at most 3 of 4 are.
	if (t.filled+1)*4 > len(s)*3 {
		s = t.rebuilt()
		t.fillSlot(s, a, leaf)
		t.slots.Store(&s)
		return
	}
	t.fillSlot(s, a, leaf)
}

// put stores leaf in the slot that has the key already.
func (t *lengthTable) put(s []slot6, a addr6, leaf uint32) bool {
	m := uint64(len(s) - 1)
	for i := hash6(a.hi, a.lo) & m; s[i].used != 0; i = (i + 1) & m {
		if s[i].hi != a.hi || s[i].lo != a.lo {
			continue
		}
		if s[i].leaf == Miss {
			t.live++
		}
		if leaf == Miss {
			t.live--
		}
		atomic.StoreUint32(&s[i].leaf, leaf)
		return true
	}
	return false
}

func (t *lengthTable) fillSlot(s []slot6, a addr6, leaf uint32) {
	m := uint64(len(s) - 1)
	i := hash6(a.hi, a.lo) & m
	for s[i].used != 0 {
		i = (i + 1) & m
	}
	s[i].hi, s[i].lo = a.hi, a.lo
	atomic.StoreUint32(&s[i].leaf, leaf)
	atomic.StoreUint32(&s[i].used, 1)
	t.filled++
	t.live++
}

// rebuilt returns the live slots in a slice with room for twice as many.
func (t *lengthTable) rebuilt() []slot6 {
	size := 8
	for size < (t.live+1)*2 {
		size *= 2
	}
	old := *t.slots.Load()
	s := make([]slot6, size)
	t.filled, t.live = 0, 0
	for i := range old {
		if old[i].used != 0 && old[i].leaf != Miss {
			t.fillSlot(s, addr6{old[i].hi, old[i].lo}, old[i].leaf)
		}
	}
	return s
}

// Delete removes the prefix addr/n, if it is there.
func (h *Hash6) Delete(addr [16]byte, n int) {
	if n == 0 {
		h.def.Store(Miss)
		return
	}
	lengths := *h.lengths.Load()
	i := slices.IndexFunc(lengths, func(t *lengthTable) bool { return t.n == n })
	if i < 0 {
		return
	}
	t := lengths[i]
	a := load6(addr[:])
	a = addr6{a.hi & t.mask.hi, a.lo & t.mask.lo}
	if s := *t.slots.Load(); t.has(s, a) {
		t.put(s, a, Miss)
	}
	if t.live == 0 {
		rest := slices.Delete(slices.Clone(lengths), i, i+1)
		h.lengths.Store(&rest)
	}
}

func (t *lengthTable) has(s []slot6, a addr6) bool { return t.find(a.hi, a.lo) != Miss && len(s) > 0 }

func (h *Hash6) length(n int) *lengthTable {
	lengths := *h.lengths.Load()
	i, found := slices.BinarySearchFunc(lengths, n, func(t *lengthTable, n int) int { return n - t.n })
	if found {
		return lengths[i]
	}
	t := &lengthTable{n: n, mask: mask6(n)}
	s := make([]slot6, 8)
	t.slots.Store(&s)
	more := slices.Insert(slices.Clone(lengths), i, t)
	h.lengths.Store(&more)
	return t
}
