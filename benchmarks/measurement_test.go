package benchmarks

import (
	"math"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestQuantile(t *testing.T) {
	tests := []struct {
		xs   []float64
		q    float64
		want float64
	}{
		{[]float64{3, 1, 2}, 0.5, 2},
		{[]float64{4, 1, 2, 3}, 0.5, 2.5},
		{[]float64{1, 2, 3, 4, 5}, 0.99, 4.96},
		{[]float64{7}, 0.99, 7},
		{[]float64{1, 2}, 0, 1},
		{[]float64{1, 2}, 1, 2},
	}
	for _, tt := range tests {
		if got := Quantile(tt.xs, tt.q); math.Abs(got-tt.want) > 1e-9 {
			t.Errorf("Quantile(%v, %v) = %v, want %v", tt.xs, tt.q, got, tt.want)
		}
	}
	if !math.IsNaN(Quantile(nil, 0.5)) {
		t.Error("Quantile of nothing is a number")
	}
}

// TestMedianIntervalCovers draws samples of a known median and counts how often the
// interval holds it: at least as often as it claims.
func TestMedianIntervalCovers(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for _, n := range []int{3, 5, 9, 20} {
		const runs = 4000
		hits, claimed := 0, 0.0
		for range runs {
			xs := make([]float64, n)
			for i := range xs {
				xs[i] = math.Exp(rng.NormFloat64()) // median 1, skewed as latencies are
			}
			low, high, coverage := MedianInterval(xs)
			claimed = coverage
			if low <= 1 && 1 <= high {
				hits++
			}
		}
		if got := float64(hits) / runs; got < claimed-0.02 {
			t.Errorf("n=%d: interval covers %.3f, claims %.3f", n, got, claimed)
		}
	}
}

func TestRatioPairsSamples(t *testing.T) {
	a := Measurement{Name: "tcp", Unit: "Gbit/s", Subject: "engine", Samples: []float64{10, 1, 20}}
	b := Measurement{Name: "tcp", Unit: "Gbit/s", Subject: "kernel", Samples: []float64{20, 2, 40}}
	got, err := Ratio(a, b)
	if err != nil || got != 0.5 {
		t.Errorf("Ratio = %v, %v; want 0.5: each repetition is compared with its neighbour", got, err)
	}
	b.Name = "udp"
	if _, err := Ratio(a, b); err == nil {
		t.Error("Ratio of different quantities is no error")
	}
	b = Measurement{Name: "tcp", Unit: "Gbit/s", Subject: "kernel", Samples: []float64{0}}
	if _, err := Ratio(a, b); err == nil || !strings.Contains(err.Error(), "zero") {
		t.Errorf("Ratio to zero: %v", err)
	}
}

func TestResultSaveLoad(t *testing.T) {
	want := &Result{Schema: Schema, Title: "t", Subjects: []Subject{{Name: "engine"}}, Checks: []Check{{Subject: "engine", Name: "ping", OK: true}}}
	want.Add(Measurement{Name: "tcp", Subject: "engine", Unit: "Gbit/s", Better: Higher}, 1)
	want.Add(Measurement{Name: "tcp", Subject: "engine", Unit: "Gbit/s", Better: Higher}, 2)
	path := filepath.Join(t.TempDir(), "deep", "r.json")
	if err := want.Save(path); err != nil {
		t.Fatal(err)
	}
	got, err := Load(path)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	if m, ok := got.Find("tcp", "engine"); !ok || m.Median() != 1.5 {
		t.Errorf("Find = %v, %v", m, ok)
	}
}

// TestSetAside: what is not compared is not lost.
func TestSetAside(t *testing.T) {
	r := &Result{}
	near, far := Condition{Distance: "near"}, Condition{Distance: "far"}
	r.AddUnder(Measurement{Name: "rate-64-near", Subject: "a"}, 1, near)
	r.AddUnder(Measurement{Name: "rate-64-far", Subject: "a"}, 2, far)
	r.AddUnder(Measurement{Name: "rate-64-far", Subject: "a"}, 3, far)
	r.Add(Measurement{Name: "time-64-far", Subject: "a"}, 4)
	r.SetAside("-64-far", "too few")
	if d := cmp.Diff([]string{"rate-64-near"}, r.Names()); d != "" {
		t.Error(d)
	}
	want := []Discarded{
		{Name: "rate-64-far", Subject: "a", Sample: 2, Condition: far, Why: "too few"},
		{Name: "rate-64-far", Subject: "a", Sample: 3, Condition: far, Why: "too few"},
		{Name: "time-64-far", Subject: "a", Sample: 4, Why: "too few"},
	}
	if d := cmp.Diff(want, r.Discarded); d != "" {
		t.Error(d)
	}
}

func TestLoadRefuses(t *testing.T) {
	for _, text := range []string{`{"schema":"other"}`, `{"schema":"` + Schema + `","sbjects":[]}`, `{`} {
		if _, err := decode(strings.NewReader(text)); err == nil {
			t.Errorf("decode(%s) is no error", text)
		}
	}
}

func TestThisMachine(t *testing.T) {
	m, err := ThisMachine()
	if err != nil {
		t.Fatal(err)
	}
	if m.Kernel == "" || m.Cores < 1 || m.MemoryMB < 1 || m.CPU == "" {
		t.Errorf("stamp has holes: %+v", m)
	}
}
