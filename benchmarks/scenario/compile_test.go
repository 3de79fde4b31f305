package scenario

import (
	"testing"

	"github.com/millrace/millrace/benchmarks"
	"github.com/millrace/millrace/benchmarks/rig"
	"github.com/millrace/millrace/dataplane"
	"github.com/millrace/millrace/internal/policytest"
	"github.com/millrace/millrace/policy"
)

// TestCompile: each figure is there, rules are as few as they can be, and the work of a
// change does not grow with the cluster.
func TestCompile(t *testing.T) {
	r, err := Compile{Title: "test", Version: "test", Namespaces: 60, Local: 20, Repetitions: 2, Changes: 3, Sizes: []int{60, 120}, Progress: func(Progress) {}}.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if failed := r.Failed(); len(failed) > 0 || len(r.Checks) == 0 || !r.Complete {
		t.Errorf("checks %+v, failed %+v", r.Checks, failed)
	}
	one := func(name string, samples int) float64 {
		t.Helper()
		m, ok := r.Find(name, compiler)
		if !ok || len(m.Samples) != samples {
			t.Errorf("%s has samples %v, want %d", name, m.Samples, samples)
		}
		return m.Median()
	}
	for _, name := range []string{"full-time", "full-allocs", "full-bytes", "full-peak"} {
		if v := one(name, 2); !(v > 0) {
			t.Errorf("%s is %v", name, v)
		}
	}
	if rules, least := one("rules", 1), one("rules-bound", 1); rules < 100 || rules != least {
		t.Errorf("%v rules, lower bound %v", rules, least)
	}
	one("change-time-60", 3)
	one("change-time-120", 3)
	if small, large := one("change-work-60", 1), one("change-work-120", 1); small == 0 || large > 2*small {
		t.Errorf("work of a change is %v in the small cluster, %v in the large one", small, large)
	}
}

// TestStates: every pod has its interface in both, and is bound only in the second, to ACLs
// that are there.
func TestStates(t *testing.T) {
	s := policytest.City(60, 20)
	interfaces, all := states(policy.Compile(s, policytest.CityNode, localPods(s), policy.Options{}))
	if interfaces.Len() != 20 {
		t.Errorf("%d interfaces, want 20", interfaces.Len())
	}
	bindings := 0
	for o := range all.All() {
		if o.Key().Kind != dataplane.KindACLBinding {
			continue
		}
		bindings++
		for _, k := range dataplane.Requires(o) {
			if _, ok := all.Object(k); !ok {
				t.Errorf("%s requires %s, which is not there", o.Key(), k)
			}
		}
	}
	if bindings != 20 {
		t.Errorf("%d bindings, want 20", bindings)
	}
}

// TestIntegrationApply gives an engine the ACLs of a few pods.
func TestIntegrationApply(t *testing.T) {
	binary := engineRouter(t)
	r, err := Apply{Title: "test", Routers: func() []*rig.Router {
		again := *binary
		again.Core = -1
		return []*rig.Router{&again}
	}, Namespaces: 60, Local: 20, Repetitions: 2, Progress: func(Progress) {}}.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	city := policytest.City(60, 20)
	interfaces, all := states(policy.Compile(city, policytest.CityNode, localPods(city), policy.Options{}))
	want := float64(all.Len() - interfaces.Len())
	m, _ := r.Find("apply-messages", "engine")
	if len(m.Samples) != 2 || m.Samples[0] != want || m.Samples[1] != want {
		t.Errorf("messages: %v, want twice %v: one a pod and one an ACL", m.Samples, want)
	}
	if took, _ := r.Find("apply-time", "engine"); !(benchmarks.Quantile(took.Samples, 0) > 0) {
		t.Errorf("time: %v", took.Samples)
	}
}
