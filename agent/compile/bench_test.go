package compile_test

import (
	"maps"
	"net/netip"
	"testing"

	"github.com/millrace/millrace/agent/compile"
	"github.com/millrace/millrace/cluster"
	"github.com/millrace/millrace/dataplane"
	"github.com/millrace/millrace/internal/policytest"
)

// BenchmarkRound is what the agent does but for talking to the machine when a pod of
// another node changes, which is a peer of rules here: 250 pods here, 10,000 in the
// cluster.
func BenchmarkRound(b *testing.B) {
	s := policytest.City(1000, 250)
	c := compile.NewCompiler(policytest.CityNode, compile.Defaults())
	r, err := c.Update(s, cluster.Compare(cluster.Snapshot{}, s))
	if err != nil || len(r.Problems) > 0 {
		b.Fatal(err, r.Problems)
	}
	have := r.State
	key := cluster.PodKey{Namespace: "ns1", Name: "pod3"}
	var changed cluster.Changes
	changed.Pods.Add(key)
	s.Pods = maps.Clone(s.Pods)
	steps, i := 0, 0
	b.ReportAllocs()
	for b.Loop() {
		i++
		pod := s.Pods[key]
		pod.Addresses = []netip.Addr{netip.AddrFrom4([4]byte{10, 200, byte(i >> 8), byte(i)})}
		s.Pods[key] = pod
		r, err := c.Update(s, changed)
		if err != nil {
			b.Fatal(err)
		}
		plan := dataplane.Diff(have, r.State)
		steps, have = len(plan), r.State
	}
	b.ReportMetric(float64(steps), "steps")
}
