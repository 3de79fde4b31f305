package scenario

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/millrace/millrace/benchmarks"
)

// TestRoundsSettle: what there are enough rounds of is compared, and all when there are
// enough of nothing.
func TestRoundsSettle(t *testing.T) {
	for _, tt := range []struct {
		n    rounds
		ok   bool
		left []string
	}{
		{rounds{"near": 5, "far": 2, "mixed": 1}, true, []string{"rate-64-near", "rate-1500-far"}},
		{rounds{"near": 4, "far": 5}, true, []string{"rate-64-far", "rate-1500-far"}},
		{rounds{"near": 4, "far": 4, "mixed": 7}, false, []string{"rate-64-near", "rate-64-far", "rate-1500-far"}},
	} {
		r := &benchmarks.Result{}
		for _, name := range []string{"rate-64-near", "rate-64-far", "rate-1500-far"} {
			r.Add(benchmarks.Measurement{Name: name, Subject: "a"}, 1)
		}
		tt.n.settle(r, "64 B", "-64", 5)
		if d := cmp.Diff(tt.left, r.Names()); d != "" || len(r.Checks) != 1 || r.Checks[0].OK != tt.ok {
			t.Errorf("%v: %s%v", tt.n, d, r.Checks)
		}
	}
}
