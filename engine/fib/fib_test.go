package fib_test

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"

	"github.com/millrace/millrace/engine/fib"
)

// slow is the obvious router: a list of prefixes, the longest match wins.
type slow map[netip.Prefix]uint32

func (s slow) lookup(a netip.Addr) uint32 {
	for n := a.BitLen(); n >= 0; n-- {
		p, _ := a.Prefix(n)
		if leaf, ok := s[p]; ok {
			return leaf
		}
	}
	return fib.Miss
}

// cover is the longest other prefix above p.
func (s slow) cover(p netip.Prefix) (int, uint32) {
	for n := p.Bits() - 1; n > 0; n-- {
		q, _ := p.Addr().Prefix(n)
		if leaf, ok := s[q]; ok {
			return n, leaf
		}
	}
	return 0, fib.Miss
}

func u32(a netip.Addr) uint32 { b := a.As4(); return binary.BigEndian.Uint32(b[:]) }

// crowded addresses share their high bits, so that prefixes nest.
func crowded4(r *rand.Rand) netip.Addr {
	a := r.Uint32()
	if r.IntN(4) > 0 {
		a = 10<<24 | a&0x000303ff
	}
	var b [4]byte
	binary.BigEndian.PutUint32(b[:], a)
	return netip.AddrFrom4(b)
}

func crowded6(r *rand.Rand) netip.Addr {
	var b [16]byte
	binary.BigEndian.PutUint64(b[:], 0xfd00<<48|uint64(r.Uint32()&0x3))
	binary.BigEndian.PutUint64(b[8:], uint64(r.Uint32()&0x3ff)<<uint(r.IntN(50)))
	return netip.AddrFrom16(b)
}

func TestTrie4AgainstSlowRouter(t *testing.T) {
	for seed := range uint64(3) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 1))
			blocks := fib.NewBlocks()
			trie, other, want := fib.NewTrie4(blocks), fib.NewTrie4(blocks), slow{}
			for step := range 3000 {
				p, _ := crowded4(r).Prefix(r.IntN(33))
				// Grow for a while, then shrink, then grow again.
				if r.IntN(10) < 3+4*(step/1000%2) {
					for q := range want {
						p = q
						break
					}
					if _, ok := want[p]; ok {
						delete(want, p)
						n, leaf := want.cover(p)
						trie.Delete(u32(p.Addr()), p.Bits(), n, leaf)
					}
				} else {
					leaf := uint32(step + 1)
					want[p] = leaf
					trie.Insert(u32(p.Addr()), p.Bits(), leaf)
				}
				if r.IntN(8) == 0 {
					blocks.Reclaim()
				}
				for range 8 {
					a := crowded4(r)
					if got, w := trie.Lookup(u32(a)), want.lookup(a); got != w {
						t.Fatalf("step %d: lookup %v = %d, want %d", step, a, got, w)
					}
				}
				if step%50 == 0 {
					checkMany(t, trie, r)
				}
				if step%500 == 0 {
					other.Insert(r.Uint32(), 1+r.IntN(32), uint32(step+1))
				}
			}
			for p := range want {
				delete(want, p)
				n, leaf := want.cover(p)
				trie.Delete(u32(p.Addr()), p.Bits(), n, leaf)
			}
			other.Free()
			if blocks.Used() != 0 {
				t.Errorf("%d blocks in use after the last prefix went", blocks.Used())
			}
		})
	}
}

// checkMany compares LookupAll with one lookup after the other.
func checkMany(t *testing.T, trie *fib.Trie4, r *rand.Rand) {
	t.Helper()
	addrs := make([]uint32, r.IntN(600))
	leaves := make([]uint32, len(addrs))
	for i := range addrs {
		addrs[i] = u32(crowded4(r))
	}
	view := trie.Reader()
	view.LookupAll(addrs, leaves, new(fib.Scratch))
	for i, a := range addrs {
		if want := trie.Lookup(a); leaves[i] != want {
			t.Fatalf("LookupAll of %#x = %d, want %d", a, leaves[i], want)
		}
	}
}

func TestHash6AgainstSlowRouter(t *testing.T) {
	for seed := range uint64(3) {
		r := rand.New(rand.NewPCG(seed, 2))
		h, want := fib.NewHash6(), slow{}
		for step := range 3000 {
			p, _ := crowded6(r).Prefix([]int{0, 1, 16, 48, 56, 63, 64, 65, 96, 127, 128}[r.IntN(11)])
			if r.IntN(10) < 3+4*(step/1000%2) {
				for q := range want {
					p = q
					break
				}
				delete(want, p)
				h.Delete(p.Addr().As16(), p.Bits())
			} else {
				want[p] = uint32(step + 1)
				h.Insert(p.Addr().As16(), p.Bits(), uint32(step+1))
			}
			for range 8 {
				a := crowded6(r)
				b := a.As16()
				if got, w := h.Lookup(b[:]), want.lookup(a); got != w {
					t.Fatalf("seed %d step %d: lookup %v = %d, want %d", seed, step, a, got, w)
				}
			}
		}
	}
}

// One writer edits while readers look up addresses whose answer never changes.
func TestReadersBesideWriter(t *testing.T) {
	blocks := fib.NewBlocks()
	trie, h := fib.NewTrie4(blocks), fib.NewHash6()
	steady := netip.MustParsePrefix("10.0.1.0/24")
	steady6 := netip.MustParsePrefix("fd00::/64")
	trie.Insert(u32(steady.Addr()), 24, 7)
	h.Insert(steady6.Addr().As16(), 64, 7)
	stop := make(chan struct{})
	done := make(chan error)
	for range 2 {
		go func() {
			r := rand.New(rand.NewPCG(1, 1))
			a6 := netip.MustParseAddr("fd00::1234").As16()
			for {
				select {
				case <-stop:
					done <- nil
					return
				default:
				}
				view := trie.Reader()
				var addrs, leaves [64]uint32
				for i := range addrs {
					addrs[i] = 10<<24 | 1<<8 | r.Uint32()&0xff
				}
				view.LookupAll(addrs[:], leaves[:], new(fib.Scratch))
				for _, got := range leaves {
					if got != 7 {
						done <- fmt.Errorf("one of many IPv4 lookups = %d, want 7", got)
						return
					}
				}
				for range 64 {
					if got := view.Lookup(10<<24 | 1<<8 | r.Uint32()&0xff); got != 7 {
						done <- fmt.Errorf("IPv4 lookup = %d, want 7", got)
						return
					}
				}
				if got := h.Lookup(a6[:]); got != 7 {
					done <- fmt.Errorf("IPv6 lookup = %d, want 7", got)
					return
				}
			}
		}()
	}
	r := rand.New(rand.NewPCG(9, 9))
	for i := range 1000 {
		// Neighbours of the steady prefixes, shorter ones above them, unrelated ones.
		a := uint32(10<<24 | 2<<8 | r.Uint32()&0x3ff<<8)
		if a>>8 == 10<<16|1 {
			continue
		}
		trie.Insert(a, 24+r.IntN(9), uint32(i+10))
		trie.Insert(10<<24, 8, uint32(i+10))
		trie.Delete(10<<24, 8, 0, fib.Miss)
		var b [16]byte
		b[0], b[15] = 0xfe, byte(r.Uint32())
		h.Insert(b, 128, uint32(i+10))
		if i%3 == 0 {
			h.Delete(b, 128)
		}
	}
	close(stop)
	for range 2 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

func TestBalanceShares(t *testing.T) {
	tests := []struct {
		name    string
		weights []uint32
		buckets int
	}{
		{"one", []uint32{1}, 1},
		{"equal two", []uint32{1, 1}, 2},
		{"equal four", []uint32{3, 3, 3, 3}, 4},
		{"one to three", []uint32{1, 3}, 4},
		{"three", []uint32{1, 1, 1}, 64},
		{"zero counts as one", []uint32{0, 1}, 2},
		{"tiny share", []uint32{1, 255}, 0},
		{"many", make([]uint32, 300), 256},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var paths []fib.Weighted
			total := 0.0
			for i, w := range tt.weights {
				paths = append(paths, fib.Weighted{Target: uint32(i), Weight: w})
				total += float64(max(1, w))
			}
			b := fib.NewBalance(paths)
			n := b.Len()
			if n&(n-1) != 0 {
				t.Fatalf("%d buckets, want a power of two", n)
			}
			if tt.buckets != 0 && n > tt.buckets {
				t.Errorf("%d buckets, want at most %d", n, tt.buckets)
			}
			if len(tt.weights) > 256 {
				return
			}
			counts := map[uint32]int{}
			for i := range n {
				counts[b.Pick(uint32(i))]++
			}
			for i, w := range tt.weights {
				want, got := float64(max(1, w))/total, float64(counts[uint32(i)])/float64(n)
				if got == 0 || got-want > 0.02 || want-got > 0.02 {
					t.Errorf("path %d has share %.3f, want %.3f", i, got, want)
				}
			}
		})
	}
	if none := fib.NewBalance(nil); none.Len() != 0 {
		t.Error("no paths give buckets")
	}
}

func TestLookupsDoNotAllocate(t *testing.T) {
	trie, h := fib.NewTrie4(fib.NewBlocks()), fib.NewHash6()
	trie.Insert(10<<24, 27, 1)
	a := netip.MustParseAddr("fd00::1").As16()
	h.Insert(a, 128, 1)
	addrs, leaves, s := make([]uint32, 32), make([]uint32, 32), fib.Scratch{}
	if n := testing.AllocsPerRun(100, func() {
		r := trie.Reader()
		r.Lookup(10 << 24)
		r.LookupAll(addrs, leaves, &s)
		h.Lookup(a[:])
	}); n != 0 {
		t.Errorf("%v allocations per lookup", n)
	}
}

func BenchmarkTrie4(b *testing.B) {
	r := rand.New(rand.NewPCG(1, 1))
	trie := fib.NewTrie4(fib.NewBlocks())
	for i := range 100000 {
		trie.Insert(r.Uint32(), 16+r.IntN(9), uint32(i+1))
	}
	addrs := make([]uint32, 1<<18)
	for i := range addrs {
		addrs[i] = r.Uint32()
	}
	leaves, scratch := make([]uint32, 256), new(fib.Scratch)
	b.Run("one by one", func(b *testing.B) {
		for at := 0; b.Loop(); at = (at + 256) % len(addrs) {
			view := trie.Reader()
			for i, a := range addrs[at : at+256] {
				leaves[i] = view.Lookup(a)
			}
		}
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/256, "ns/lookup")
	})
	b.Run("many", func(b *testing.B) {
		for at := 0; b.Loop(); at = (at + 256) % len(addrs) {
			view := trie.Reader()
			view.LookupAll(addrs[at:at+256], leaves, scratch)
		}
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/256, "ns/lookup")
	})
}

func BenchmarkHash6(b *testing.B) {
	r := rand.New(rand.NewPCG(1, 1))
	h := fib.NewHash6()
	addrs := make([][16]byte, 1<<14)
	for i := range addrs {
		addrs[i] = crowded6(r).As16()
		addrs[i][1] = byte(i)
		h.Insert(addrs[i], []int{128, 64, 48}[i%3], uint32(i+1))
	}
	var sum uint32
	i := 0
	for b.Loop() {
		sum += h.Lookup(addrs[i&(len(addrs)-1)][:])
		i++
	}
	_ = sum
}
