package policy_test

import (
	"fmt"
	"maps"
	"net/netip"
	"runtime"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	policyv1alpha2 "sigs.k8s.io/network-policy-api/apis/v1alpha2"

	"github.com/millrace/millrace/cluster"
	"github.com/millrace/millrace/internal/policytest"
	"github.com/millrace/millrace/policy"
)

// city is a large cluster as policies see it.
func city(namespaces, here int) (cluster.Snapshot, []cluster.PodKey) {
	s := policytest.City(namespaces, here)
	pods := local(s)
	s.Attachments = nil
	return s, pods
}

// BenchmarkCompile is the compile of a whole cluster, of 10,000 pods and of as many as
// Kubernetes allows. kept-MB is what the Compiler and its Result hold in memory beside the
// facts.
func BenchmarkCompile(b *testing.B) {
	b.Run("pods=10000/here=250", func(b *testing.B) { compileCity(b, 1000, 250) })
	b.Run("pods=150000/here=110", func(b *testing.B) { compileCity(b, 15000, 110) })
}

func compileCity(b *testing.B, namespaces, here int) {
	s, local := city(namespaces, here)
	changed := cluster.Compare(cluster.Snapshot{}, s)
	heap := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := heap()
	var c *policy.Compiler
	var r policy.Result
	b.ReportAllocs()
	for b.Loop() {
		c = policy.NewCompiler(policytest.CityNode, policy.Options{})
		r = c.Update(s, changed, local)
	}
	b.ReportMetric(float64(heap()-before)/1e6, "kept-MB")
	runtime.KeepAlive(c)
	rules, least := r.Bound()
	applied := 0
	size := map[string]int{}
	for _, a := range r.ACLs {
		size[a.Name] = len(a.Rules)
	}
	for _, l := range r.Lists {
		for _, name := range append(append([]string{}, l.Input...), l.Output...) {
			applied += size[name]
		}
	}
	b.ReportMetric(float64(rules), "rules")
	b.ReportMetric(float64(least), "least-rules")
	b.ReportMetric(float64(len(r.ACLs)), "acls")
	b.ReportMetric(float64(applied), "applied")
	runtime.KeepAlive(s)
	runtime.KeepAlive(changed)
}

// BenchmarkChange is a change of one pod elsewhere that is a peer of rules here.
func BenchmarkChange(b *testing.B) {
	for _, namespaces := range []int{100, 1000, 5000} {
		b.Run(fmt.Sprintf("pods=%d", namespaces*10), func(b *testing.B) {
			s, local := city(namespaces, 250)
			c := policy.NewCompiler(policytest.CityNode, policy.Options{})
			c.Update(s, cluster.Compare(cluster.Snapshot{}, s), local)
			key := cluster.PodKey{Namespace: "ns1", Name: "pod3"}
			pod := s.Pods[key]
			s.Pods = maps.Clone(s.Pods)
			var changed cluster.Changes
			changed.Pods.Add(key)
			i := 0
			b.ReportAllocs()
			for b.Loop() {
				i++
				pod.Addresses = []netip.Addr{netip.AddrFrom4([4]byte{10, 200, byte(i >> 8), byte(i)})}
				s.Pods[key] = pod
				c.Update(s, changed, local)
			}
			w := c.Work()
			b.ReportMetric(float64(w.Pods+w.Matches+w.Terms+w.ACLs), "work")
		})
	}
}

// BenchmarkTiers is the same change where ClusterNetworkPolicies stand around: five about all
// pods, with six rules each, every third of which passes.
func BenchmarkTiers(b *testing.B) {
	s, local := city(1000, 250)
	s.ClusterPolicies = map[string]cluster.ClusterPolicy{}
	for n := range 5 {
		var spec policyv1alpha2.ClusterNetworkPolicySpec
		spec.Tier, spec.Priority = policyv1alpha2.AdminTier, int32(n)
		spec.Subject.Namespaces = &metav1.LabelSelector{}
		for i := range 6 {
			r := policyv1alpha2.ClusterNetworkPolicyIngressRule{
				Action:    []policyv1alpha2.ClusterNetworkPolicyRuleAction{policyv1alpha2.ClusterNetworkPolicyRuleActionAccept, policyv1alpha2.ClusterNetworkPolicyRuleActionDeny, policyv1alpha2.ClusterNetworkPolicyRuleActionPass}[i%3],
				From:      []policyv1alpha2.ClusterNetworkPolicyIngressPeer{{Namespaces: &metav1.LabelSelector{MatchLabels: map[string]string{"team": fmt.Sprintf("t%d", (n*6+i)%50)}}}},
				Protocols: []policyv1alpha2.ClusterNetworkPolicyProtocol{{TCP: &policyv1alpha2.ClusterNetworkPolicyProtocolTCP{DestinationPort: &policyv1alpha2.Port{Number: int32(1000 + i)}}}},
			}
			spec.Ingress = append(spec.Ingress, r)
		}
		name := fmt.Sprintf("cnp%d", n)
		s.ClusterPolicies[name] = cluster.ClusterPolicy{Name: name, Spec: spec}
	}
	c := policy.NewCompiler(policytest.CityNode, policy.Options{})
	r := c.Update(s, cluster.Compare(cluster.Snapshot{}, s), local)
	if len(r.Problems) > 0 {
		b.Fatal(r.Problems)
	}
	key := cluster.PodKey{Namespace: "ns1", Name: "pod3"}
	pod := s.Pods[key]
	s.Pods = maps.Clone(s.Pods)
	var changed cluster.Changes
	changed.Pods.Add(key)
	i := 0
	b.ReportAllocs()
	for b.Loop() {
		i++
		pod.Addresses = []netip.Addr{netip.AddrFrom4([4]byte{10, 200, byte(i >> 8), byte(i)})}
		s.Pods[key] = pod
		r = c.Update(s, changed, local)
	}
	w := c.Work()
	b.ReportMetric(float64(w.Pods+w.Matches+w.Terms+w.ACLs), "work")
	b.ReportMetric(float64(len(r.ACLs)), "acls")
}
