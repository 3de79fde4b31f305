package scenario

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/millrace/millrace/benchmarks"
	"github.com/millrace/millrace/benchmarks/generator"
	"github.com/millrace/millrace/benchmarks/rig"
	"github.com/millrace/millrace/benchmarks/search"
)

// TestIntegrationRate runs the search with the engine alone: rates and latencies are in
// their order, and the search tells its trials.
func TestIntegrationRate(t *testing.T) {
	router := engineRouter(t)
	r, err := Rate{Title: "test", Routers: []*rig.Router{router}, Routes: 1000, Sizes: []int{64}, Repetitions: 1,
		Timing: rig.Timing{Settle: 20 * time.Millisecond, Warm: 20 * time.Millisecond, Window: 50 * time.Millisecond},
		Cores:  [2]int{1, 0}, Progress: func(Progress) {}}.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if !r.Complete {
		t.Errorf("result: %q", r.Problem)
	}
	found := 0
	for _, distance := range []string{"near", "far"} {
		of := func(name string) []float64 {
			m, _ := r.Find(fmt.Sprintf("%s-64-%s", name, distance), "engine")
			if len(m.Samples) != len(m.Conditions) {
				t.Errorf("%s: %d samples with %d conditions", name, len(m.Samples), len(m.Conditions))
			}
			return m.Samples
		}
		ndr, pdr := of("ndr"), of("pdr")
		if len(ndr) != len(pdr) {
			t.Fatalf("%d NDR and %d PDR", len(ndr), len(pdr))
		}
		found += len(ndr)
		for i := range ndr {
			if ndr[i] > pdr[i] {
				t.Errorf("NDR %v is above PDR %v", ndr[i], pdr[i])
			}
		}
		for _, share := range latencyShares {
			last := []float64(nil)
			for _, q := range latencyQuantiles {
				now := of(fmt.Sprintf("latency-%d-%s", share, q.name))
				for i := range last {
					if last[i] > now[i] || now[i] <= 0 {
						t.Errorf("latency %s at %d %%: %v after %v", q.name, share, now[i], last[i])
					}
				}
				last = now
			}
		}
	}
	if found != len(r.Checks)-1 { // one of the machine
		t.Errorf("%d searches, checks %+v", found, r.Checks)
	}
}

// TestWorse: of two windows the worse of each, from the first to the last.
func TestWorse(t *testing.T) {
	a := benchmarks.Condition{Distance: "near", RoundTrip: [2]float64{1, 2}, Waited: 0.1, Stolen: 0.2, Raised: true}
	b := benchmarks.Condition{Distance: "near", RoundTrip: [2]float64{3, 4}, Waited: 0.2, Stolen: 0.1}
	want := benchmarks.Condition{Distance: "near", RoundTrip: [2]float64{1, 4}, Waited: 0.2, Stolen: 0.2}
	if got := worse(a, b); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if got := worse(benchmarks.Condition{}, b); got != b {
		t.Errorf("the first is %+v, want %+v", got, b)
	}
}

// TestHarvest: searches are samples once they have ended for all routers at one distance,
// and the others stay open.
func TestHarvest(t *testing.T) {
	ended := func(name, distance string, complete bool) *searched {
		return &searched{router: &rig.Router{About: benchmarks.Subject{Name: name}}, size: 64, complete: complete, cond: benchmarks.Condition{Distance: distance},
			full:   generator.Count{Received: 5, Took: time.Second},
			result: search.Result{Found: []search.Found{{Rate: 4e6, Outcome: search.Settled}, {Ratio: search.PDR, Rate: 5e6, Outcome: search.Generator}}}}
	}
	r := &rate{result: &benchmarks.Result{}}
	open := []map[string]*searched{
		{"near": ended("engine", "near", true), "far": ended("engine", "far", true)},
		{"near": ended("vpp", "near", false), "far": ended("vpp", "far", true)},
	}
	kept := map[string]int{}
	r.harvest(open, kept)
	r.harvest(open, kept)
	if kept["near"] != 0 || kept["far"] != 1 || len(open[0]) != 1 || len(open[1]) != 1 || open[0]["near"] == nil {
		t.Errorf("kept %v, open %v", kept, open)
	}
	for _, subject := range []string{"engine", "vpp"} {
		m, _ := r.result.Find("ndr-64-far", subject)
		if !slices.Equal(m.Samples, []float64{4}) || len(m.Conditions) != 1 {
			t.Errorf("NDR of %s: %+v", subject, m)
		}
	}
	if len(r.result.Failed()) != 2 { // neither PDR is settled
		t.Errorf("checks %+v", r.result.Checks)
	}
}
