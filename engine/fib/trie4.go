package fib

import (
	"sync/atomic"

	"github.com/millrace/millrace/engine/hugepage"
)

// A Trie4 is a 16-8-8 trie:
//
//	address  | 16 bits     | 8 bits      | 8 bits      |
//	           root[65536]   block[256]    block[256]
//
// A slot holds a leaf, or with the top bit the number of a block one level down. Beside
// each slot stands the length of the prefix that owns it, for the writer only. A slot of
// value Miss falls back to the default route's leaf, so that 0.0.0.0/0 costs one word
// and an empty table's root is memory that was never touched.
const (
	rootBits  = 16
	rootSize  = 1 << rootBits
	blockSize = 256
	isBlock   = uint32(1) << 31
)

// Blocks is the memory of the lower levels, shared by many tables. One writer.
type Blocks struct {
	slots atomic.Pointer[[]uint32] // replaced when it grows; readers keep the old one

	lens []uint8  // prefix length of each slot
	free []uint32 // numbers of free blocks
	// limbo holds blocks that are unlinked but that a reader may still be walking.
	limbo []uint32
	used  int
}

// NewBlocks returns an empty Blocks.
func NewBlocks() *Blocks {
	b := &Blocks{}
	s := []uint32{}
	b.slots.Store(&s)
	return b
}

// Used is the number of blocks linked into tables.
func (b *Blocks) Used() int { return b.used }

// Limbo is the number of blocks that wait for Reclaim.
func (b *Blocks) Limbo() int { return len(b.limbo) }

// Reclaim makes unlinked blocks usable again. The caller knows that no reader that began
// before the unlinking is still at work.
func (b *Blocks) Reclaim() {
	b.free = append(b.free, b.limbo...)
	b.limbo = b.limbo[:0]
}

// alloc returns a block whose slots all hold leaf, owned by a prefix of length n.
func (b *Blocks) alloc(leaf uint32, n uint8) uint32 {
	if len(b.free) == 0 {
		b.grow()
	}
	k := b.free[len(b.free)-1]
	b.free = b.free[:len(b.free)-1]
	b.used++
	s := *b.slots.Load()
	at := int(k) * blockSize
	for i := at; i < at+blockSize; i++ {
		atomic.StoreUint32(&s[i], leaf)
		b.lens[i] = n
	}
	return k
}

// grow doubles the memory. Readers go on in the old slots, which see no later edit; they
// load the new ones with their next batch.
func (b *Blocks) grow() {
	old := *b.slots.Load()
	n := max(len(old)*2, 8*blockSize)
	s := hugepage.Advise(make([]uint32, n))
	copy(s, old)
	lens := make([]uint8, n)
	copy(lens, b.lens)
	b.lens = lens
	for k := n/blockSize - 1; k >= len(old)/blockSize; k-- {
		b.free = append(b.free, uint32(k))
	}
	b.slots.Store(&s)
}

func (b *Blocks) unlink(k uint32) {
	b.limbo = append(b.limbo, k)
	b.used--
}

// Trie4 is one IPv4 table.
type Trie4 struct {
	blocks *Blocks
	root   []uint32
	lens   []uint8
	def    atomic.Uint32 // leaf of 0.0.0.0/0
}

// NewTrie4 returns an empty table whose lower levels live in b.
func NewTrie4(b *Blocks) *Trie4 {
	return &Trie4{blocks: b, root: make([]uint32, rootSize), lens: make([]uint8, rootSize)}
}

// Reader is a view of a Trie4 for one batch of lookups.
type Reader struct {
	root   []uint32
	slots  []uint32
	def    uint32
	blocks *Blocks
}

// Reader returns the view of this moment. It stays safe to use, but misses edits that
// came after it; take a new one for each batch.
func (t *Trie4) Reader() Reader {
	return Reader{root: t.root, slots: *t.blocks.slots.Load(), def: t.def.Load(), blocks: t.blocks}
}

// Lookup returns the leaf of the longest prefix that covers addr, or Miss.
func (r *Reader) Lookup(addr uint32) uint32 {
	v := atomic.LoadUint32(&r.root[addr>>16])
	if v&isBlock != 0 {
		v = r.at(v, addr>>8&0xff)
		if v&isBlock != 0 {
			v = r.at(v, addr&0xff)
		}
	}
	if v == Miss {
		return r.def
	}
	return v
}

// Scratch is memory that LookupAll works in.
type Scratch struct {
	deep [chunk]uint8  // the addresses, by number, that go on to the next level
	slot [chunk]uint32 // where each of deep goes on, then what is found there
}

// chunk is how many addresses go through a level at once; a number in it is an uint8.
const chunk = 256

// LookupAll looks many addresses up: leaves[i] becomes Lookup(addrs[i]). leaves is as long
// as addrs.
//
// It goes level by level over all of them, and loads in loops that do nothing else: the
// fewer instructions between two loads, the more of them are on their way together.
func (r *Reader) LookupAll(addrs, leaves []uint32, s *Scratch) {
	leaves = leaves[:len(addrs)]
	for len(addrs) > chunk {
		r.lookupChunk(addrs[:chunk], leaves[:chunk], s)
		addrs, leaves = addrs[chunk:], leaves[chunk:]
	}
	r.lookupChunk(addrs, leaves, s)
}

func (r *Reader) lookupChunk(addrs, leaves []uint32, s *Scratch) {
	root := (*[rootSize]uint32)(r.root)
	leaves = leaves[:len(addrs)]
	for i, a := range addrs {
		leaves[i] = atomic.LoadUint32(&root[a>>16])
	}
	n := 0
	for i, v := range leaves {
		s.deep[uint8(n)], s.slot[uint8(n)] = uint8(i), v<<8|addrs[i]>>8&0xff
		n += int(v >> 31)
		if v == Miss {
			leaves[i] = r.def
		}
	}
	if n = r.level(addrs, leaves, n, s); n > 0 {
		r.level(addrs, leaves, n, s)
	}
}

// level looks into the n slots that s names. It returns how many addresses go on by their
// last 8 bits, and leaves these and their slots in s.
func (r *Reader) level(addrs, leaves []uint32, n int, s *Scratch) int {
	slots := r.slots
	names := s.slot[:n]
	for j, k := range names {
		if uint64(k) >= uint64(len(slots)) { // a block that came after the view
			slots = *r.blocks.slots.Load()
			r.slots = slots
		}
		names[j] = atomic.LoadUint32(&slots[k])
	}
	next := 0
	for j, v := range names {
		i := s.deep[uint8(j)]
		s.deep[uint8(next)], s.slot[uint8(next)] = i, v<<8|addrs[i]&0xff
		next += int(v >> 31)
		if v == Miss {
			v = r.def
		}
		leaves[i] = v
	}
	return next
}

// at reads a slot of a block. A block beyond the view came after it: the view is renewed.
func (r *Reader) at(v, i uint32) uint32 {
	k := (v&^isBlock)*blockSize + i
	if k >= uint32(len(r.slots)) {
		r.slots = *r.blocks.slots.Load()
	}
	return atomic.LoadUint32(&r.slots[k])
}

// Lookup is Reader().Lookup, for the writer and for single packets.
func (t *Trie4) Lookup(addr uint32) uint32 {
	r := t.Reader()
	return r.Lookup(addr)
}

// Insert maps the prefix addr/n to leaf, whether it is new or not. Host bits of addr are
// ignored; leaf is above Miss.
func (t *Trie4) Insert(addr uint32, n int, leaf uint32) {
	if n == 0 {
		t.def.Store(leaf)
		return
	}
	t.set(addr, uint8(n), uint8(n), leaf)
}

// Delete removes the prefix addr/n. cover is the longest other prefix of the table that
// covers it, with its length and leaf; length 0 when there is none or only the default.
func (t *Trie4) Delete(addr uint32, n int, coverLen int, coverLeaf uint32) {
	if n == 0 {
		t.def.Store(Miss)
		return
	}
	if coverLen == 0 {
		coverLeaf = Miss
	}
	t.set(addr, uint8(n), uint8(coverLen), coverLeaf)
}

// set writes leaf, owned by length own, into each slot under addr/n that a prefix of
// length n or shorter owns now.
func (t *Trie4) set(addr uint32, n, own uint8, leaf uint32) {
	if n <= rootBits {
		first := addr >> 16 &^ (1<<(rootBits-n) - 1)
		t.fill(t.root, t.lens, int(first), 1<<(rootBits-n), n, own, leaf)
		return
	}
	i := int(addr >> 16)
	k := t.down(t.root, t.lens, i)
	s, lens := *t.blocks.slots.Load(), t.blocks.lens
	at := int(k) * blockSize
	if n <= 24 {
		first := addr >> 8 & 0xff &^ (1<<(24-n) - 1)
		t.fill(s, lens, at+int(first), 1<<(24-n), n, own, leaf)
	} else {
		j := at + int(addr>>8&0xff)
		k2 := t.down(s, lens, j)
		s, lens = *t.blocks.slots.Load(), t.blocks.lens
		first := addr & 0xff &^ (1<<(32-n) - 1)
		t.fill(s, lens, int(k2)*blockSize+int(first), 1<<(32-n), n, own, leaf)
		t.collapse(s, lens, j, k2, 24)
	}
	t.collapse(t.root, t.lens, i, k, rootBits)
}

// down returns the block under slot i, making one when the slot holds a leaf. Making one
// may replace the blocks' memory: then slot i of the new memory is the one to link.
func (t *Trie4) down(s []uint32, lens []uint8, i int) uint32 {
	if v := s[i]; v&isBlock != 0 {
		return v &^ isBlock
	}
	inBlocks := len(s) != rootSize || &s[0] != &t.root[0]
	k := t.blocks.alloc(s[i], lens[i])
	if inBlocks {
		s = *t.blocks.slots.Load()
	}
	atomic.StoreUint32(&s[i], k|isBlock)
	return k
}

// fill writes count slots from first on, and the blocks below them.
func (t *Trie4) fill(s []uint32, lens []uint8, first, count int, n, own uint8, leaf uint32) {
	for i := first; i < first+count; i++ {
		if v := s[i]; v&isBlock != 0 {
			at := int(v&^isBlock) * blockSize
			t.fill(*t.blocks.slots.Load(), t.blocks.lens, at, blockSize, n, own, leaf)
			continue
		}
		if lens[i] <= n {
			lens[i] = own
			atomic.StoreUint32(&s[i], leaf)
		}
	}
}

// collapse replaces block k under slot i by a leaf when all its slots are equal and none
// belongs to a prefix longer than the slot can hold.
func (t *Trie4) collapse(s []uint32, lens []uint8, i int, k uint32, bits uint8) {
	slots, blens := *t.blocks.slots.Load(), t.blocks.lens
	at := int(k) * blockSize
	v, n := slots[at], blens[at]
	if n > bits || v&isBlock != 0 {
		return
	}
	for j := at + 1; j < at+blockSize; j++ {
		if slots[j] != v || blens[j] != n {
			return
		}
	}
	lens[i] = n
	atomic.StoreUint32(&s[i], v)
	t.blocks.unlink(k)
}

// Free unlinks all blocks of the table, which must not be edited afterwards.
func (t *Trie4) Free() {
	s := *t.blocks.slots.Load()
	for i := range t.root {
		v := t.root[i]
		if v&isBlock == 0 {
			continue
		}
		k := v &^ isBlock
		for j := int(k) * blockSize; j < int(k+1)*blockSize; j++ {
			if s[j]&isBlock != 0 {
				t.blocks.unlink(s[j] &^ isBlock)
			}
		}
		t.blocks.unlink(k)
		atomic.StoreUint32(&t.root[i], Miss)
	}
	t.def.Store(Miss)
}
