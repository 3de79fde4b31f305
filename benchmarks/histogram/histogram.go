// Package histogram owns the distribution of many durations in memory of fixed size.
//
// It never reads a clock, never allocates while it records, and is not safe for several
// goroutines at once: each keeps its own, and they are merged.
package histogram

import (
	"math"
	"math/bits"
)

// Buckets are log-linear, as in HdrHistogram: each power of two is cut into 64 equal
// parts, so that a value differs from its bucket's middle by less than 1 %. Values below
// 128 ns have a bucket each.
const (
	partBits = 6
	parts    = 1 << partBits
	topBits  = 34 // values from 2^34 ns (17 s) on share the last bucket
	buckets  = (topBits-partBits-1)*parts + 2*parts
)

// Histogram counts durations in ns. The zero value is empty and ready.
type Histogram struct {
	counts [buckets]uint64
	count  uint64
	max    int64
}

// bucket is where a value is counted.
func bucket(ns int64) int {
	v := uint64(ns)
	shift := max(bits.Len64(v)-partBits-1, 0)
	return min(shift*parts+int(v>>shift), buckets-1)
}

// middle is the value that stands for a bucket.
func middle(i int) int64 {
	if i < 2*parts {
		return int64(i)
	}
	shift := i/parts - 1
	low := int64(i-shift*parts) << shift
	return low + (int64(1)<<shift)/2
}

// Record counts one duration; a negative one counts as 0.
func (h *Histogram) Record(ns int64) {
	ns = max(ns, 0)
	h.counts[bucket(ns)]++
	h.count++
	h.max = max(h.max, ns)
}

// Count is how many durations were recorded.
func (h *Histogram) Count() uint64 { return h.count }

// Max is the longest duration in ns, exactly; 0 when there is none.
func (h *Histogram) Max() int64 { return h.max }

// Quantile is the smallest duration in ns that at least the share q (0 to 1) of all do not
// exceed, within 1 % for durations up to 17 s; 0 when there is none.
func (h *Histogram) Quantile(q float64) int64 {
	if h.count == 0 {
		return 0
	}
	rank := uint64(math.Ceil(min(max(q, 0), 1) * float64(h.count)))
	rank = min(max(rank, 1), h.count)
	if rank == h.count {
		return h.max
	}
	seen := uint64(0)
	for i, n := range h.counts {
		if seen += n; seen >= rank {
			return min(middle(i), h.max)
		}
	}
	return h.max
}

// Merge adds what another histogram has counted.
func (h *Histogram) Merge(other *Histogram) {
	for i, n := range other.counts {
		h.counts[i] += n
	}
	h.count += other.count
	h.max = max(h.max, other.max)
}

// Reset empties it.
func (h *Histogram) Reset() { *h = Histogram{} }
