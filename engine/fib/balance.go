package fib

import "math"

// Weighted is one target of a route with its share of the flows.
type Weighted struct {
	Target uint32
	Weight uint32 // at least 1
}

// maxBuckets bounds the memory of one Balance; it is also the finest share.
const maxBuckets = 256

// Balance spreads flows over targets. It is immutable. The zero Balance has no target.
type Balance struct {
	buckets []uint32 // a power of two of them
	first   uint32   // of buckets: without a way through memory when it is the only one
}

// NewBalance returns a Balance over paths, the buckets of one target side by side. With
// several weights it takes the smallest power of two of buckets that keeps each share
// within 2 % of the whole of what its weight asks for.
func NewBalance(paths []Weighted) Balance {
	if len(paths) == 0 {
		return Balance{}
	}
	if len(paths) > maxBuckets {
		paths = paths[:maxBuckets]
	}
	var total uint64
	for _, p := range paths {
		total += uint64(max(1, p.Weight))
	}
	n := 1
	for n < len(paths) {
		n *= 2
	}
	counts := share(paths, total, n)
	for n < maxBuckets && worst(paths, counts, total, n) > 0.02 {
		n *= 2
		counts = share(paths, total, n)
	}
	b := make([]uint32, 0, n)
	for i, p := range paths {
		for range counts[i] {
			b = append(b, p.Target)
		}
	}
	return Balance{buckets: b, first: b[0]}
}

// share gives n buckets to paths by largest remainder, at least one to each.
func share(paths []Weighted, total uint64, n int) []int {
	counts := make([]int, len(paths))
	rest := n
	for i, p := range paths {
		counts[i] = max(1, int(uint64(max(1, p.Weight))*uint64(n)/total))
		rest -= counts[i]
	}
	for rest != 0 {
		pick, best := -1, math.Inf(-1)
		for i, p := range paths {
			want := float64(max(1, p.Weight)) * float64(n) / float64(total)
			lack := want - float64(counts[i])
			if rest < 0 {
				if counts[i] == 1 {
					continue
				}
				lack = -lack
			}
			if lack > best {
				pick, best = i, lack
			}
		}
		if rest > 0 {
			counts[pick]++
			rest--
		} else {
			counts[pick]--
			rest++
		}
	}
	return counts
}

func worst(paths []Weighted, counts []int, total uint64, n int) float64 {
	w := 0.0
	for i, p := range paths {
		want := float64(max(1, p.Weight)) / float64(total)
		w = max(w, math.Abs(want-float64(counts[i])/float64(n)))
	}
	return w
}

// Len is the number of buckets.
func (b *Balance) Len() int { return len(b.buckets) }

// Targets are the buckets; not to be changed.
func (b *Balance) Targets() []uint32 { return b.buckets }

// Pick returns the target for a flow. The Balance has at least one.
func (b *Balance) Pick(hash uint32) uint32 {
	if len(b.buckets) == 1 {
		return b.first
	}
	return b.buckets[hash&uint32(len(b.buckets)-1)]
}
