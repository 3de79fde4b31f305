package compile_test

import (
	"fmt"
	"maps"
	"net/netip"
	"testing"

	corev1 "k8s.io/api/core/v1"

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

// manyServices are n services of 10 endpoints each, on other nodes, beside the pods of a node.
func manyServices(s *cluster.Snapshot, n int) {
	s.Services, s.EndpointSlices = map[cluster.ServiceKey]cluster.Service{}, map[cluster.ServiceKey]cluster.EndpointSlice{}
	for i := range n {
		key := cluster.ServiceKey{Namespace: "d", Name: fmt.Sprint("s", i)}
		s.Services[key] = cluster.Service{
			Key: key, ClusterIPs: []netip.Addr{netip.AddrFrom4([4]byte{10, 96, byte(i >> 8), byte(i)})},
			Ports: []cluster.ServicePort{{Protocol: corev1.ProtocolTCP, Port: 80, NodePort: uint16(30000 + i)}},
		}
		s.EndpointSlices[key] = endpoints(key, i, 0)
	}
}

// endpoints are ten of a service; generation tells the last of them.
func endpoints(key cluster.ServiceKey, i, generation int) cluster.EndpointSlice {
	e := cluster.EndpointSlice{Key: key, Service: key.Name, Ports: []cluster.Port{{Number: 8080, Protocol: corev1.ProtocolTCP}}}
	for n := range 10 {
		a := netip.AddrFrom4([4]byte{10, 128 + byte(i>>8), byte(i), byte(n)})
		if n == 9 {
			a = netip.AddrFrom4([4]byte{10, 127, byte(generation >> 8), byte(generation)})
		}
		e.Endpoints = append(e.Endpoints, cluster.Endpoint{Address: a, Node: "elsewhere", Ready: true, Serving: true})
	}
	return e
}

// BenchmarkEndpoints is what the agent does but for talking to the machine when one endpoint
// of one service changes, with few services and many: 110 pods here, 1,000 in the cluster.
func BenchmarkEndpoints(b *testing.B) {
	for _, n := range []int{10, 1000, 10000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			s := policytest.City(100, 110)
			manyServices(&s, n)
			o := compile.Defaults()
			o.Services = true
			c := compile.NewCompiler(policytest.CityNode, o)
			r, err := c.Update(s, cluster.Compare(cluster.Snapshot{}, s))
			if err != nil || len(r.Problems) > 0 {
				b.Fatal(err, r.Problems)
			}
			have := r.State
			key := cluster.ServiceKey{Namespace: "d", Name: "s7"}
			var changed cluster.Changes
			changed.EndpointSlices.Add(key)
			steps, generation := 0, 0
			b.ReportAllocs()
			for b.Loop() {
				generation++
				s.EndpointSlices[key] = endpoints(key, 7, generation)
				r, err := c.Update(s, changed)
				if err != nil {
					b.Fatal(err)
				}
				plan := dataplane.Diff(have, r.State)
				steps, have = len(plan), r.State
			}
			b.ReportMetric(float64(steps), "steps")
		})
	}
}
