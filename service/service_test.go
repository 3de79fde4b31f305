package service

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"

	"github.com/millrace/millrace/cluster"
	"github.com/millrace/millrace/dataplane"
)

const nodes = `node n1 address=192.0.2.1 address=2001:db8::1 podcidr=10.1.0.0/24 label=topology.kubernetes.io/zone=a
node n2 address=192.0.2.2 podcidr=10.1.1.0/24 label=topology.kubernetes.io/zone=a
node n3 address=192.0.2.3 podcidr=10.1.2.0/24 label=topology.kubernetes.io/zone=b
`

// three is a slice with a ready endpoint on each node.
const three = `endpointslice d/s service=web port=http:8080/TCP endpoint="10.1.0.5 node=n1 ready=true serving=true" endpoint="10.1.1.5 node=n2 ready=true serving=true" endpoint="10.1.2.5 node=n3 ready=true serving=true"
`

func text(r Result) string {
	var b strings.Builder
	for o := range r.State.AllOf(dataplane.KindTranslation) {
		fmt.Fprintln(&b, o)
	}
	for _, h := range r.HealthChecks {
		fmt.Fprintf(&b, "check %d %s: %d\n", h.Port, h.About, h.Local)
	}
	for _, p := range r.Problems {
		fmt.Fprintf(&b, "%s: %s: %v\n", p.About, p.Reason, p.Err)
	}
	return b.String()
}

// whole is all of a Result.
func whole(r Result) string { return fmt.Sprint(r.State, r.Addresses, r.NodePorts, text(r)) }

func TestServices(t *testing.T) {
	tests := []struct{ name, facts, want string }{
		{"cluster address", three + "service d/web clusterip=10.96.0.1 port=http:80/TCP",
			"translation tcp 10.96.0.1:80 backend=10.1.0.5:8080 backend=10.1.1.5:8080 backend=10.1.2.5:8080\n"},
		{"internal policy local, external not", three + "service d/web clusterip=10.96.0.1 externalip=203.0.113.1 port=http:80/TCP internal-local=true",
			"translation tcp 10.96.0.1:80 backend=10.1.0.5:8080\ntranslation tcp 203.0.113.1:80 backend=10.1.0.5:8080 backend=10.1.1.5:8080 backend=10.1.2.5:8080\n"},
		{"node port, external policy local", three + "service d/web clusterip=10.96.0.1 port=http:80/TCP/30080 external-local=true loadbalancerip=203.0.113.2",
			"translation tcp 10.96.0.1:80 backend=10.1.0.5:8080 backend=10.1.1.5:8080 backend=10.1.2.5:8080\ntranslation tcp 192.0.2.1:30080 backend=10.1.0.5:8080\ntranslation tcp 203.0.113.2:80 backend=10.1.0.5:8080\n"},
		{"no endpoints", "service d/web clusterip=10.96.0.1 port=http:80/TCP/30080", ""},
		{"another port's name", three + "service d/web clusterip=10.96.0.1 port=https:80/TCP", ""},
		{"another protocol", three + "service d/web clusterip=10.96.0.1 port=http:80/UDP", ""},
		{"only a terminating one serves", `endpointslice d/s service=web port=http:8080/TCP endpoint="10.1.0.5 node=n1 serving=true terminating=true" endpoint="10.1.0.6 node=n1 terminating=true" endpoint=10.1.0.7
service d/web clusterip=10.96.0.1 port=http:80/TCP`, "translation tcp 10.96.0.1:80 backend=10.1.0.5:8080\n"},
		{"a terminating one drains", `endpointslice d/s service=web port=http:8080/TCP endpoint="10.1.0.5 node=n1 serving=true terminating=true" endpoint="10.1.0.6 node=n2 ready=true serving=true"
service d/web clusterip=10.96.0.1 port=http:80/TCP`, "translation tcp 10.96.0.1:80 backend=10.1.0.6:8080\n"},
		{"two slices, two ports, two families", three + `endpointslice d/s2 service=web port=http:8081/TCP port=dns:53/UDP endpoint="10.1.0.5 node=n1 ready=true" endpoint="10.1.0.5 node=n1 ready=true"
endpointslice d/s6 service=web port=http:8080/TCP endpoint="fd01::5 node=n1 ready=true"
service d/web clusterip=10.96.0.1 clusterip=fd96::1 port=http:80/TCP/30080 port=dns:53/UDP`,
			`translation tcp 10.96.0.1:80 backend=10.1.0.5:8080 backend=10.1.0.5:8081 backend=10.1.1.5:8080 backend=10.1.2.5:8080
translation tcp 192.0.2.1:30080 backend=10.1.0.5:8080 backend=10.1.0.5:8081 backend=10.1.1.5:8080 backend=10.1.2.5:8080
translation tcp [2001:db8::1]:30080 backend=[fd01::5]:8080
translation tcp [fd96::1]:80 backend=[fd01::5]:8080
translation udp 10.96.0.1:53 backend=10.1.0.5:53
`},
		{"close ones", three + "service d/web clusterip=10.96.0.1 port=http:80/TCP prefer=PreferClose",
			"translation tcp 10.96.0.1:80 backend=10.1.0.5:8080 backend=10.1.1.5:8080\n"},
		{"on the same node", three + "service d/web clusterip=10.96.0.1 port=http:80/TCP prefer=PreferSameNode",
			"translation tcp 10.96.0.1:80 backend=10.1.0.5:8080\n"},
		{"affinity", three + "service d/web clusterip=10.96.0.1 port=http:80/TCP internal-local=true affinity=10800",
			"translation tcp 10.96.0.1:80 backend=10.1.0.5:8080 by-client=true\nService d/web: AffinityTimeoutUnsupported: session affinity holds as long as the endpoints stay: the timeout of 10800 s cannot be had\n"},
		{"source ranges", three + "service d/web clusterip=10.96.0.1 loadbalancerip=203.0.113.2 source=198.51.100.0/24 port=http:80/TCP internal-local=true",
			"translation tcp 10.96.0.1:80 backend=10.1.0.5:8080\nService d/web: SourceRangesUnsupported: load balancer address 203.0.113.2 is not served: spec.loadBalancerSourceRanges cannot be enforced, and without them everybody could connect\n"},
		{"source ranges that bound nothing", three + "service d/web clusterip=10.96.0.1 loadbalancerip=203.0.113.2 source=0.0.0.0/0 port=http:80/TCP internal-local=true external-local=true",
			"translation tcp 10.96.0.1:80 backend=10.1.0.5:8080\ntranslation tcp 203.0.113.2:80 backend=10.1.0.5:8080\n"},
		{"a load balancer asks", `endpointslice d/s service=web port=http:8080/TCP port=x:81/TCP endpoint="10.1.0.5 node=n1 ready=true" endpoint="10.1.0.6 node=n1 serving=true terminating=true" endpoint="10.1.1.5 node=n2 ready=true"
endpointslice d/t service=web port=http:8081/TCP endpoint="10.1.0.5 node=n1 ready=true"
service d/web clusterip=10.96.0.1 external-local=true healthcheck=32000
service d/other clusterip=10.96.0.2 external-local=true healthcheck=31000
service d/everywhere clusterip=10.96.0.3 healthcheck=33000`, "check 31000 Service d/other: 0\ncheck 32000 Service d/web: 1\n"},
		{"SCTP", `endpointslice d/s service=web port=:9/SCTP endpoint="10.1.0.5 node=n1 ready=true" endpoint="fd01::5 node=n1 ready=true"
service d/web clusterip=10.96.0.1 clusterip=fd96::1 port=:9/SCTP`,
			"translation sctp 10.96.0.1:9 backend=10.1.0.5:9\nService d/web: SCTPOverIPv6Unsupported: port 9: SCTP to fd96::1 is not translated: cnat knows it over IPv4 only\n"},
		{"nothing in a family that a service does not have", three + "service d/web clusterip=10.96.0.1 externalip=2001:db8::9 port=http:80/TCP/30080 internal-local=true external-local=true",
			"translation tcp 10.96.0.1:80 backend=10.1.0.5:8080\ntranslation tcp 192.0.2.1:30080 backend=10.1.0.5:8080\n"},
		{"two want one address", three + `service d/web clusterip=10.96.0.1 externalip=203.0.113.1 port=http:80/TCP internal-local=true external-local=true
endpointslice d/s9 service=zeb port=http:9/TCP endpoint="10.1.0.9 node=n1 ready=true"
service d/zeb clusterip=10.96.0.2 externalip=203.0.113.1 port=http:80/TCP`,
			"translation tcp 10.96.0.1:80 backend=10.1.0.5:8080\ntranslation tcp 10.96.0.2:80 backend=10.1.0.9:9\ntranslation tcp 203.0.113.1:80 backend=10.1.0.5:8080\nService d/zeb: ServiceAddressTaken: 203.0.113.1 port 80 is service d/web's, which comes first by name\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s, err := cluster.ParseSnapshot(nodes + tt.facts)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, text(Compile(s, "n1"))); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestNodePorts: the node is told of its own addresses' ports, and of what it serves itself.
func TestNodePorts(t *testing.T) {
	s, err := cluster.ParseSnapshot(nodes + three + `service d/web clusterip=10.96.0.1 port=http:80/TCP/30080
service d/api clusterip=10.96.0.2 externalip=203.0.113.1 port=:443/TCP/30443
endpointslice d/api service=api port=:6443/TCP endpoint="192.0.2.1 node=n1 ready=true" endpoint="192.0.2.2 node=n2 ready=true"`)
	if err != nil {
		t.Fatal(err)
	}
	want := `{10.96.0.2:443 6 192.0.2.1:6443}
{192.0.2.1:30080 6 10.96.0.1:80}
{192.0.2.1:30443 6 192.0.2.1:6443}
{203.0.113.1:443 6 192.0.2.1:6443}
`
	var got strings.Builder
	for _, p := range Compile(s, "n1").NodePorts {
		fmt.Fprintln(&got, p)
	}
	if diff := cmp.Diff(want, got.String()); diff != "" {
		t.Error(diff)
	}
}

func TestAddressesWithoutEndpointsAreKnown(t *testing.T) {
	s, err := cluster.ParseSnapshot(nodes + "service d/web clusterip=10.96.0.1 externalip=192.0.2.1 loadbalancerip=203.0.113.2 port=http:80/TCP/30080")
	if err != nil {
		t.Fatal(err)
	}
	want := []netip.Addr{netip.MustParseAddr("10.96.0.1"), netip.MustParseAddr("203.0.113.2")}
	if got := Compile(s, "n1").Addresses; !slices.Equal(got, want) {
		t.Errorf("addresses %v, want %v: those of the services, and not the node's", got, want)
	}
}

// reaches is Kubernetes' rule, written down once more and straight: may a client that
// connects to a and port get to an endpoint?
func reaches(s cluster.Snapshot, svc cluster.Service, p cluster.ServicePort, a netip.Addr, local bool, to netip.AddrPort) bool {
	type state struct{ ready, ending bool }
	all := map[netip.AddrPort]state{}
	for _, slice := range s.EndpointSlices {
		for _, sp := range slice.Ports {
			for _, e := range slice.Endpoints {
				if slice.Key.Namespace != svc.Key.Namespace || slice.Service != svc.Key.Name || sp.Name != p.Name || sp.Protocol != p.Protocol {
					continue
				}
				if e.Address.Is4() != a.Is4() || local && e.Node != "n1" {
					continue
				}
				at := netip.AddrPortFrom(e.Address, sp.Number)
				was := all[at]
				all[at] = state{was.ready || e.Ready, was.ending || e.Serving && e.Terminating}
			}
		}
	}
	for _, st := range all {
		if st.ready {
			return all[to].ready
		}
	}
	return all[to].ending
}

// city makes services and slices of few names, so that they meet.
func city(r *rand.Rand) cluster.Snapshot {
	s, err := cluster.ParseSnapshot(nodes)
	if err != nil {
		panic(err)
	}
	flip := func() bool { return r.IntN(2) == 0 }
	if r.IntN(10) == 0 { // an address of services is the node's for a while
		n := s.Nodes["n1"]
		n.Addresses = []netip.Addr{n.Addresses[0], netip.AddrFrom4([4]byte{203, 0, 113, byte(r.IntN(3))})}
		s.Nodes["n1"] = n
	}
	for i := range 6 {
		key := cluster.ServiceKey{Namespace: "d", Name: fmt.Sprint("s", i)}
		svc := cluster.Service{Key: key, InternalLocal: flip(), ExternalLocal: flip(), AffinitySeconds: uint32(r.IntN(2)), HealthCheckPort: uint16(30000 + i*r.IntN(2)), ClusterIPs: []netip.Addr{netip.AddrFrom4([4]byte{10, 96, 0, byte(i)})}}
		if flip() {
			svc.ExternalIPs = []netip.Addr{netip.AddrFrom4([4]byte{203, 0, 113, byte(r.IntN(3))})}
		}
		svc.Ports = []cluster.ServicePort{{Name: "a", Protocol: corev1.ProtocolTCP, Port: 80, NodePort: uint16(30000+i) * uint16(r.IntN(2))}, {Name: "b", Protocol: corev1.ProtocolUDP, Port: 80}}
		if r.IntN(5) > 0 {
			s.Services[key] = svc
		}
	}
	for i := range 10 {
		key := cluster.ServiceKey{Namespace: "d", Name: fmt.Sprint("e", i)}
		slice := cluster.EndpointSlice{Key: key, Service: fmt.Sprint("s", r.IntN(6)), Ports: []cluster.Port{{Name: "a", Number: 8080 + uint16(r.IntN(2)), Protocol: corev1.ProtocolTCP}, {Name: "b", Number: 53, Protocol: corev1.ProtocolUDP}}}
		for range r.IntN(4) {
			last := r.IntN(8)
			if r.IntN(9) == 0 {
				slice.Endpoints = append(slice.Endpoints, cluster.Endpoint{Address: netip.MustParseAddr("192.0.2.1"), Node: "n1", Ready: flip(), Serving: flip(), Terminating: flip()})
			}
			slice.Endpoints = append(slice.Endpoints, cluster.Endpoint{
				Address: netip.AddrFrom4([4]byte{10, 1, 0, byte(last)}), Node: fmt.Sprint("n", 1+last%3), Ready: r.IntN(3) == 0, Serving: flip(), Terminating: flip(),
			})
		}
		if flip() {
			s.EndpointSlices[key] = slice
		}
	}
	return s
}

// TestOracle asks for every front and every endpoint there could be, and goes through many
// snapshots with one Compiler: it comes to the same as one that begins anew.
func TestOracle(t *testing.T) {
	r := rand.New(rand.NewPCG(6, 1))
	c, before := NewCompiler("n1"), cluster.Snapshot{}
	reached := 0
	for range 300 {
		s := city(r)
		got := c.Update(s, cluster.Compare(before, s))
		if diff := cmp.Diff(whole(Compile(s, "n1")), whole(got)); diff != "" {
			t.Fatalf("another road, another result:\n%s", diff)
		}
		before = s
		behind := map[front][]netip.AddrPort{}
		for o := range got.State.AllOf(dataplane.KindTranslation) {
			tr := o.(dataplane.Translation)
			behind[front{tr.VIP, tr.Protocol}] = tr.Backends
		}
		for _, svc := range s.Services {
			reached += judge(t, s, svc, got, behind)
		}
		if t.Failed() {
			t.Fatalf("facts:\n%s\nresult:\n%s", s, text(got))
		}
	}
	if reached < 1000 {
		t.Errorf("only %d endpoints were reached: the test tells little", reached)
	}
}

func judge(t *testing.T, s cluster.Snapshot, svc cluster.Service, got Result, behind map[front][]netip.AddrPort) (reached int) {
	t.Helper()
	for _, p := range svc.Ports {
		fronts := map[netip.AddrPort]bool{} // with whether only local ones count
		for _, a := range svc.ClusterIPs {
			fronts[netip.AddrPortFrom(a, p.Port)] = svc.InternalLocal
		}
		for _, a := range svc.ExternalIPs {
			if !slices.ContainsFunc(got.Problems, func(q Problem) bool { return q.About.Name == svc.Key.Name && q.Reason == AddressTaken }) {
				fronts[netip.AddrPortFrom(a, p.Port)] = svc.ExternalLocal
			}
		}
		if p.NodePort != 0 {
			fronts[netip.AddrPortFrom(netip.MustParseAddr("192.0.2.1"), p.NodePort)] = svc.ExternalLocal
		}
		for at, local := range fronts {
			for last := range byte(8) {
				for _, port := range []uint16{53, 8080, 8081} {
					to := netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 1, 0, last}), port)
					want := reaches(s, svc, p, at.Addr(), local, to)
					if has := slices.Contains(behind[front{at, protocols[p.Protocol]}], to); has != want {
						t.Errorf("%s by %s to %s: %v, want %v", svc.Key, at, to, has, want)
					}
					if want {
						reached++
					}
				}
			}
		}
	}
	return reached
}

// many is a cluster of n services of three endpoints each.
func many(n int) cluster.Snapshot {
	s, err := cluster.ParseSnapshot(nodes)
	if err != nil {
		panic(err)
	}
	for i := range n {
		key := cluster.ServiceKey{Namespace: "d", Name: fmt.Sprint("s", i)}
		s.Services[key] = cluster.Service{
			Key: key, ClusterIPs: []netip.Addr{netip.AddrFrom4([4]byte{10, 96, byte(i >> 8), byte(i)})},
			Ports: []cluster.ServicePort{{Protocol: corev1.ProtocolTCP, Port: 80}},
		}
		s.EndpointSlices[key] = slice(key, 0)
	}
	return s
}

func slice(key cluster.ServiceKey, i int) cluster.EndpointSlice {
	e := cluster.EndpointSlice{Key: key, Service: key.Name, Ports: []cluster.Port{{Number: 8080, Protocol: corev1.ProtocolTCP}}}
	for n := range 3 {
		e.Endpoints = append(e.Endpoints, cluster.Endpoint{Address: netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i + n)}), Node: "n2", Ready: true})
	}
	return e
}

// TestChangesCostWhatTheyTouch: one slice of ten thousand is one service looked at.
func TestChangesCostWhatTheyTouch(t *testing.T) {
	s := many(10000)
	c := NewCompiler("n1")
	c.Update(s, cluster.Compare(cluster.Snapshot{}, s))
	key := cluster.ServiceKey{Namespace: "d", Name: "s77"}
	s.EndpointSlices[key] = slice(key, 9)
	var changed cluster.Changes
	changed.EndpointSlices.Add(key)
	r := c.Update(s, changed)
	if n := r.State.Count(dataplane.KindTranslation); c.Worked() != 1 || n != 10000 {
		t.Errorf("%d services worked out, want 1; %d translations", c.Worked(), n)
	}
	if n := testing.AllocsPerRun(100, func() { c.Update(s, cluster.Changes{}) }); n != 0 {
		t.Errorf("nothing changed, and it costs %v allocations", n)
	}
}

func BenchmarkChange(b *testing.B) {
	for _, n := range []int{10, 10000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			s := many(n)
			c := NewCompiler("n1")
			c.Update(s, cluster.Compare(cluster.Snapshot{}, s))
			key := cluster.ServiceKey{Namespace: "d", Name: "s7"}
			var changed cluster.Changes
			changed.EndpointSlices.Add(key)
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				s.EndpointSlices[key] = slice(key, i)
				c.Update(s, changed)
			}
		})
	}
}
