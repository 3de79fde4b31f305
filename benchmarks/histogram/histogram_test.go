package histogram

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

// exact is the quantile by sorting, with the definition of Quantile.
func exact(sorted []int64, q float64) int64 {
	rank := int(math.Ceil(q * float64(len(sorted))))
	return sorted[min(max(rank, 1), len(sorted))-1]
}

// TestQuantiles compares with sorting, over distributions that latencies have.
func TestQuantiles(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 6))
	for name, draw := range map[string]func() int64{
		"uniform":     func() int64 { return 100 + rng.Int64N(1e6) },
		"exponential": func() int64 { return int64(rng.ExpFloat64() * 20_000) },
		"log-uniform": func() int64 { return int64(100 * math.Pow(1e8, rng.Float64())) }, // 100 ns to 10 s
		"two modes":   func() int64 { return []int64{3_000, 4_000_000}[rng.IntN(2)] + rng.Int64N(100) },
		"one value":   func() int64 { return 12_345 },
	} {
		var h, half Histogram
		var all []int64
		for i := range 100_000 {
			v := draw()
			all = append(all, v)
			if i%2 == 0 {
				half.Record(v)
			} else {
				h.Record(v)
			}
		}
		h.Merge(&half)
		slices.Sort(all)
		if h.Count() != uint64(len(all)) || h.Max() != all[len(all)-1] {
			t.Errorf("%s: %d values up to %d, want %d up to %d", name, h.Count(), h.Max(), len(all), all[len(all)-1])
		}
		for _, q := range []float64{0, 0.01, 0.25, 0.5, 0.9, 0.99, 0.999, 0.9999, 1} {
			got, want := h.Quantile(q), exact(all, q)
			if off := math.Abs(float64(got - want)); off > 0.01*float64(want)+1 {
				t.Errorf("%s: quantile %v is %d, want %d within 1 %%", name, q, got, want)
			}
		}
	}
}

// TestBucketsAreWhole: buckets follow each other without a hole, and each holds its middle.
func TestBucketsAreWhole(t *testing.T) {
	last := -1
	for i := range buckets {
		m := middle(i)
		if got := bucket(m); got != i {
			t.Fatalf("middle %d of bucket %d is counted in %d", m, i, got)
		}
	}
	for v := int64(0); v < 1<<20; v++ {
		i := bucket(v)
		if i != last && i != last+1 {
			t.Fatalf("%d is in bucket %d after %d", v, i, last)
		}
		last = i
	}
	for _, v := range []int64{1 << 34, 1 << 40, math.MaxInt64} {
		if bucket(v) != buckets-1 {
			t.Errorf("%d is in bucket %d, want the last", v, bucket(v))
		}
	}
}

func TestEmptyAndOddValues(t *testing.T) {
	var h Histogram
	if h.Quantile(0.5) != 0 || h.Max() != 0 {
		t.Error("an empty histogram has values")
	}
	h.Record(-5)
	if h.Quantile(0.5) != 0 || h.Count() != 1 {
		t.Errorf("a negative duration: %d values, median %d", h.Count(), h.Quantile(0.5))
	}
	h.Record(1 << 50)
	if h.Quantile(1) != 1<<50 {
		t.Errorf("the longest is %d", h.Quantile(1))
	}
	if h.Reset(); h.Count() != 0 || h.Max() != 0 {
		t.Error("a reset histogram has values")
	}
}

func TestRecordAllocatesNothing(t *testing.T) {
	h := new(Histogram)
	v := int64(1)
	if n := testing.AllocsPerRun(1000, func() { h.Record(v); v = v*7 + 1 }); n != 0 {
		t.Errorf("%v allocations per value", n)
	}
}

func BenchmarkRecord(b *testing.B) {
	h := new(Histogram)
	for i := int64(0); b.Loop(); i++ {
		h.Record(i & 0xffff)
	}
}
