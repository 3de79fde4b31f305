package policy_test

import (
	"maps"
	"net/netip"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/millrace/millrace/cluster"
	"github.com/millrace/millrace/policy"
)

// TestWorkIsLocal: what a change has to look at does not grow with the cluster, only with
// what the node's pods are concerned by.
func TestWorkIsLocal(t *testing.T) {
	type change struct {
		name string
		key  cluster.PodKey
		edit func(*cluster.Pod)
	}
	move := func(p *cluster.Pod) { p.Addresses = []netip.Addr{netip.MustParseAddr("10.99.0.1")} }
	changes := []change{
		{"nothing", cluster.PodKey{}, nil},
		{"an address of a peer", cluster.PodKey{Namespace: "ns3", Name: "pod5"}, move},
		{"the labels of a peer", cluster.PodKey{Namespace: "ns3", Name: "pod5"}, func(p *cluster.Pod) { p.Labels = map[string]string{"tier": "other"} }},
		{"the end of a peer", cluster.PodKey{Namespace: "ns3", Name: "pod5"}, func(p *cluster.Pod) { p.Phase = corev1.PodSucceeded }},
		{"an address of a stranger", cluster.PodKey{Namespace: "ns59", Name: "pod5"}, move},
		{"the labels of a pod here", cluster.PodKey{Namespace: "ns3", Name: "pod3"}, func(p *cluster.Pod) { p.Labels = map[string]string{"tier": "web"} }},
	}
	measure := func(namespaces int) map[string]policy.Work {
		s, _ := city(namespaces, 1)
		// Kinds 0, 3 and 4 of policies: others are about peers all over the cluster.
		local := []cluster.PodKey{{Namespace: "ns0", Name: "pod1"}, {Namespace: "ns3", Name: "pod3"}, {Namespace: "ns4", Name: "pod4"}, {Namespace: "ns3", Name: "pod0"}}
		c := policy.NewCompiler("node0", policy.Options{})
		c.Update(s, cluster.Compare(cluster.Snapshot{}, s), local)
		work := map[string]policy.Work{}
		for _, ch := range changes {
			var changed cluster.Changes
			if ch.edit != nil {
				s.Pods = maps.Clone(s.Pods)
				p := s.Pods[ch.key]
				ch.edit(&p)
				s.Pods[ch.key] = p
				changed.Pods.Add(ch.key)
			}
			got := print(c.Update(s, changed, local))
			work[ch.name] = c.Work()
			if fresh := print(policy.Compile(s, "node0", local, policy.Options{})); got != fresh {
				t.Fatalf("%s: another result than of a fresh compile", ch.name)
			}
		}
		return work
	}
	small, large := measure(60), measure(600)
	for _, ch := range changes {
		a, b := small[ch.name], large[ch.name]
		t.Logf("%s: %+v", ch.name, b)
		if a != b {
			t.Errorf("%s: %+v among 600 pods, %+v among 6000", ch.name, a, b)
		}
		if ch.edit == nil && b != (policy.Work{}) {
			t.Errorf("nothing changed, and was worked on: %+v", b)
		}
	}
	if w := large["an address of a peer"]; w.Terms != 1 || w.ACLs != 1 || w.Pods != 1 {
		t.Errorf("one peer of one rule has another address: %+v", w)
	}
}
