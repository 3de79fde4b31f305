package policy_test

import (
	"fmt"
	"maps"
	"net/netip"
	"runtime"
	"testing"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/millrace/millrace/cluster"
	"github.com/millrace/millrace/policy"
)

// city is a cluster as large clusters are: namespaces of teams, ten pods in each, of which
// some serve and some ask; in every namespace one policy out of five kinds. Its nodes have
// at most 110 pods, but for the one that is compiled for.
func city(namespaces, here int) (cluster.Snapshot, []cluster.PodKey) {
	const perNamespace = 10
	s := cluster.Snapshot{
		Nodes: map[string]cluster.Node{}, Namespaces: map[string]cluster.Namespace{}, Pods: map[cluster.PodKey]cluster.Pod{},
		NetworkPolicies: map[cluster.PolicyKey]cluster.NetworkPolicy{}, ClusterPolicies: map[string]cluster.ClusterPolicy{},
	}
	var local []cluster.PodKey
	used := map[int]int{}
	for n := range namespaces {
		name := fmt.Sprintf("ns%d", n)
		s.Namespaces[name] = cluster.Namespace{Name: name, Labels: map[string]string{"team": fmt.Sprintf("t%d", n%50), corev1.LabelMetadataName: name}}
		p := cityPolicy(n)
		p.Key = cluster.PolicyKey{Namespace: name, Name: "p"}
		s.NetworkPolicies[p.Key] = p
		for i := range perNamespace {
			key := cluster.PodKey{Namespace: name, Name: fmt.Sprintf("pod%d", i)}
			serial := n*perNamespace + i
			// Pods are spread: a node has one of each few namespaces.
			node := 1 + serial*7919%max(1, namespaces*perNamespace/110)
			if k := n * here / namespaces; len(local) <= k && i == k%perNamespace {
				node, local = 0, append(local, key)
			}
			used[node]++
			if s.Nodes[fmt.Sprint("node", node)].Name == "" {
				s.Nodes[fmt.Sprint("node", node)] = cluster.Node{
					Name: fmt.Sprint("node", node), Addresses: []netip.Addr{netip.AddrFrom4([4]byte{192, 168, byte(node >> 8), byte(node)})},
				}
			}
			s.Pods[key] = cluster.Pod{
				Key: key, UID: key.String(), Node: fmt.Sprint("node", node), Phase: corev1.PodRunning,
				Labels:    map[string]string{"app": fmt.Sprintf("app%d", i/3), "tier": []string{"web", "api", "db"}[i%3], "pod-template-hash": fmt.Sprintf("%x", serial/3)},
				Addresses: []netip.Addr{netip.AddrFrom4([4]byte{10, byte(node), byte(used[node] >> 8), byte(used[node] + 1)})},
				Ports:     []cluster.Port{{Name: "http", Number: 8080, Protocol: corev1.ProtocolTCP}},
			}
		}
	}
	return s, local
}

func labelled(key, value string) *metav1.LabelSelector {
	return &metav1.LabelSelector{MatchLabels: map[string]string{key: value}}
}

func tcpPort(n int32) networkingv1.NetworkPolicyPort {
	return networkingv1.NetworkPolicyPort{Port: new(intstr.FromInt32(n))}
}

func cityPolicy(n int) cluster.NetworkPolicy {
	type peer = networkingv1.NetworkPolicyPeer
	ingress := func(ports []networkingv1.NetworkPolicyPort, from ...peer) []networkingv1.NetworkPolicyIngressRule {
		return []networkingv1.NetworkPolicyIngressRule{{From: from, Ports: ports}}
	}
	var spec networkingv1.NetworkPolicySpec
	switch n % 5 {
	case 0: // one tier of the own namespace
		spec.PodSelector = *labelled("tier", "api")
		spec.Ingress = ingress([]networkingv1.NetworkPolicyPort{tcpPort(8080)}, peer{PodSelector: labelled("tier", "web")})
	case 1: // a team
		spec.Ingress = ingress([]networkingv1.NetworkPolicyPort{tcpPort(80), tcpPort(443)}, peer{NamespaceSelector: labelled("team", fmt.Sprintf("t%d", n%50))})
	case 2: // a tier of all namespaces, by the name of the port
		spec.Ingress = ingress([]networkingv1.NetworkPolicyPort{{Port: new(intstr.FromString("http"))}}, peer{NamespaceSelector: &metav1.LabelSelector{}, PodSelector: labelled("tier", "web")})
	case 3: // the own namespace and the world, but for the cluster
		spec.Ingress = ingress(nil, peer{PodSelector: &metav1.LabelSelector{}})
		spec.Egress = []networkingv1.NetworkPolicyEgressRule{
			{To: []peer{{IPBlock: &networkingv1.IPBlock{CIDR: "0.0.0.0/0", Except: []string{"10.0.0.0/8", "192.168.0.0/16"}}}}},
			{To: []peer{{NamespaceSelector: labelled(corev1.LabelMetadataName, "ns0")}}, Ports: []networkingv1.NetworkPolicyPort{{Protocol: new(corev1.ProtocolUDP), Port: new(intstr.FromInt32(53))}, tcpPort(53)}},
		}
		spec.PolicyTypes = []networkingv1.PolicyType{networkingv1.PolicyTypeIngress, networkingv1.PolicyTypeEgress}
	case 4: // nobody
	}
	return cluster.NetworkPolicy{Spec: spec}
}

// BenchmarkCompile is the compile of a whole cluster for a node with 250 pods. kept-MB is
// what the Compiler and its Result hold in memory.
func BenchmarkCompile(b *testing.B) {
	s, local := city(1000, 250)
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
		c = policy.NewCompiler("node0", policy.Options{})
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
}

// BenchmarkChange is a change of one pod elsewhere that is a peer of rules here.
func BenchmarkChange(b *testing.B) {
	for _, namespaces := range []int{100, 1000, 5000} {
		b.Run(fmt.Sprintf("pods=%d", namespaces*10), func(b *testing.B) {
			s, local := city(namespaces, 250)
			c := policy.NewCompiler("node0", policy.Options{})
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
