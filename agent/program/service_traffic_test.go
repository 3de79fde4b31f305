package program

import (
	"errors"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/millrace/millrace/agent/compile"
	"github.com/millrace/millrace/cluster"
	"github.com/millrace/millrace/dataplane"
	"github.com/millrace/millrace/internal/machinetest"
	"github.com/millrace/millrace/internal/netnstest"
	"github.com/millrace/millrace/internal/servicetest"
)

// serviceFacts are a service of each kind. Those called local have an endpoint on another
// node, too, that is not there: nobody may come to it.
const serviceFacts = `node n address=10.0.0.1 address=fd00::1 podcidr=10.1.0.0/24 podcidr=fd01::/64
service d/both clusterip=10.96.0.1 clusterip=fd96::1 externalip=203.0.113.1 externalip=2001:db8:f::1 loadbalancerip=203.0.113.2 loadbalancerip=2001:db8:f::2 port=t:80/TCP/30080 port=u:80/UDP/30080 port=none:81/TCP
endpointslice d/both4 service=both port=t:8080/TCP port=u:8080/UDP endpoint="10.1.0.2 node=n ready=true" endpoint="10.1.0.3 node=n ready=true"
endpointslice d/both6 service=both port=t:8080/TCP port=u:8080/UDP endpoint="fd01::2 node=n ready=true" endpoint="fd01::3 node=n ready=true"
service d/first clusterip=10.96.0.2 clusterip=fd96::2 port=t:80/TCP port=u:80/UDP
endpointslice d/first4 service=first port=t:8080/TCP port=u:8080/UDP endpoint="10.1.0.2 node=n ready=true"
endpointslice d/first6 service=first port=t:8080/TCP port=u:8080/UDP endpoint="fd01::2 node=n ready=true"
service d/local clusterip=10.96.0.3 clusterip=fd96::3 externalip=203.0.113.3 externalip=2001:db8:f::3 loadbalancerip=203.0.113.4 loadbalancerip=2001:db8:f::4 port=t:80/TCP/30083 port=u:80/UDP/30083 internal-local=true external-local=true
endpointslice d/local4 service=local port=t:8080/TCP port=u:8080/UDP endpoint="10.1.0.3 node=n ready=true" endpoint="10.1.9.9 node=m ready=true"
endpointslice d/local6 service=local port=t:8080/TCP port=u:8080/UDP endpoint="fd01::3 node=n ready=true" endpoint="fd01:0:0:9::9 node=m ready=true"
service d/draining clusterip=10.96.0.4 clusterip=fd96::4 port=t:80/TCP port=u:80/UDP
endpointslice d/draining4 service=draining port=t:8080/TCP port=u:8080/UDP endpoint="10.1.0.3 node=n serving=true terminating=true" endpoint="10.1.9.9 node=m"
endpointslice d/draining6 service=draining port=t:8080/TCP port=u:8080/UDP endpoint="fd01::3 node=n serving=true terminating=true" endpoint="fd01:0:0:9::9 node=m"
service d/host clusterip=10.96.0.5 clusterip=fd96::5 port=t:80/TCP port=u:80/UDP
endpointslice d/host4 service=host port=t:8080/TCP port=u:8080/UDP endpoint="10.0.0.1 node=n ready=true"
endpointslice d/host6 service=host port=t:8080/TCP port=u:8080/UDP endpoint="fd00::1 node=n ready=true"
pod default/pod-1 node=n phase=Running hostport=8088:8080/TCP hostport=8088:8080/UDP
`

// front is one way to be found by clients.
type front struct {
	name, v4, v6 string
	only         int  // the number of the pod behind it, if it is one
	ofNode       bool // at the node's own address, which its kernel keeps for itself
}

var fronts = []front{
	{name: "cluster address", v4: "10.96.0.1:80", v6: "[fd96::1]:80"},
	{name: "external address", v4: "203.0.113.1:80", v6: "[2001:db8:f::1]:80"},
	{name: "load balancer", v4: "203.0.113.2:80", v6: "[2001:db8:f::2]:80"},
	{name: "node port", v4: "10.0.0.1:30080", v6: "[fd00::1]:30080", ofNode: true},
	{name: "cluster address, internal policy local", v4: "10.96.0.3:80", v6: "[fd96::3]:80", only: 1},
	{name: "external address, policy local", v4: "203.0.113.3:80", v6: "[2001:db8:f::3]:80", only: 1},
	{name: "load balancer, policy local", v4: "203.0.113.4:80", v6: "[2001:db8:f::4]:80", only: 1},
	{name: "node port, policy local", v4: "10.0.0.1:30083", v6: "[fd00::1]:30083", only: 1, ofNode: true},
	{name: "host port", v4: "10.0.0.1:8088", v6: "[fd00::1]:8088", only: 1, ofNode: true},
	{name: "nobody but one that ends", v4: "10.96.0.4:80", v6: "[fd96::4]:80", only: 1},
}

// place is where a client is, and whom backends see then.
type place struct {
	name   string
	ns     *netnstest.Namespace
	v4, v6 netip.Addr
}

// matrix are the connections that Kubernetes promises: kind of address and policy x family x
// protocol x place of the client. Those of the node itself to its own addresses, and those
// from outside where that is behind the host, are the kernel's to bring here.
func matrix(pods []*netnstest.Namespace, places ...place) (cases []servicetest.Case) {
	own4, own6 := cluster.NodeAddress(netip.MustParsePrefix("10.1.0.0/24")), cluster.NodeAddress(netip.MustParsePrefix("fd01::/64"))
	add := func(name, to string, in *netnstest.Namespace, source netip.Addr, backends ...netip.Addr) {
		for _, network := range []string{"tcp", "udp"} {
			cases = append(cases, servicetest.Case{Name: name, Network: network, To: to, In: in, Backends: backends, Source: source})
		}
	}
	for _, f := range fronts {
		behind4, behind6 := []netip.Addr{podAddr4(0), podAddr4(1)}, []netip.Addr{podAddr6(0), podAddr6(1)}
		if f.only > 0 {
			behind4, behind6 = behind4[f.only:], behind6[f.only:]
		}
		for _, p := range places {
			if p.name == "a pod" || !f.ofNode {
				add(f.name+" from "+p.name, f.v4, p.ns, p.v4, behind4...)
				add(f.name+" from "+p.name, f.v6, p.ns, p.v6, behind6...)
			}
		}
	}
	add("itself, by a service", "10.96.0.2:80", pods[0], own4, podAddr4(0))
	add("itself, by a service", "[fd96::2]:80", pods[0], own6, podAddr6(0))
	add("another backend, by a service", "10.96.0.2:80", pods[1], podAddr4(1), podAddr4(0))
	add("another backend, by a service", "[fd96::2]:80", pods[1], podAddr6(1), podAddr6(0))
	for _, p := range places {
		source4, source6 := own4, own6 // else the answer would not come here
		if p.name == "a pod" {
			source4, source6 = p.v4, p.v6
		}
		add("the node is the backend, from "+p.name, "10.96.0.5:80", p.ns, source4, netip.MustParseAddr("10.0.0.1"))
		add("the node is the backend, from "+p.name, "[fd96::5]:80", p.ns, source6, netip.MustParseAddr("fd00::1"))
	}
	return cases
}

// beyond is a network behind the host, with a client that reaches services by it.
func beyond(t *testing.T) place {
	t.Helper()
	ns := netnstest.New(t)
	for _, args := range [][]string{
		{"link", "add", "beyond", "type", "veth", "peer", "name", "eth0", "netns", ns.Name},
		{"link", "set", "beyond", "up"}, {"addr", "add", "198.51.100.1/24", "dev", "beyond"}, {"addr", "add", "2001:db8:5::1/64", "dev", "beyond", "nodad"},
		{"-n", ns.Name, "link", "set", "eth0", "up"}, {"-n", ns.Name, "addr", "add", "198.51.100.7/24", "dev", "eth0"}, {"-n", ns.Name, "addr", "add", "2001:db8:5::7/64", "dev", "eth0", "nodad"},
		{"-n", ns.Name, "route", "add", "default", "via", "198.51.100.1"}, {"-n", ns.Name, "route", "add", "default", "via", "2001:db8:5::1"},
	} {
		if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
			t.Fatalf("ip %s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
	t.Cleanup(func() { _ = exec.Command("ip", "link", "del", "beyond").Run() }) // gone when the namespace is
	for _, name := range []string{"net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"} {
		if err := os.WriteFile("/proc/sys/"+name, []byte("1"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return place{"behind the host", ns, netip.MustParseAddr("198.51.100.7"), netip.MustParseAddr("2001:db8:5::7")}
}

// starting starts a machine, and says what pods on it are made of.
func starting(t *testing.T, m machinetest.Machine) (p *Program, o compile.Options) {
	t.Helper()
	m.Start(t)
	p = program(t, m.Connect(t))
	o = compile.Defaults()
	o.Services = true
	if tun, err := p.CanTun(t.Context()); err != nil {
		t.Fatal(err)
	} else if !tun {
		o.Device = compile.DeviceVeth
	}
	nodeAddresses(t)
	return p, o
}

// withFacts adds the services of a text, and the pods by their names.
func withFacts(t *testing.T, s cluster.Snapshot, text string) cluster.Snapshot {
	t.Helper()
	facts, err := cluster.ParseSnapshot(text)
	if err != nil {
		t.Fatal(err)
	}
	s.Services, s.EndpointSlices, s.Pods = facts.Services, facts.EndpointSlices, facts.Pods
	return s
}

// TestIntegrationServiceMatrix makes real connections, and wants the backends and the source
// that Kubernetes promises.
func TestIntegrationServiceMatrix(t *testing.T) {
	natMachines(t, func(t *testing.T, m machinetest.Machine) {
		p, o := starting(t, m)
		pods := []*netnstest.Namespace{netnstest.New(t), netnstest.New(t), netnstest.New(t)}
		reach(t, p, wish(t, withFacts(t, node(pods...), serviceFacts), o))
		servicetest.Serve(t, pods[0], 8080, podAddr4(0), podAddr6(0))
		servicetest.Serve(t, pods[1], 8080, podAddr4(1), podAddr6(1))
		servicetest.Serve(t, nil, 8080, netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("fd00::1"))
		var clients servicetest.Clients
		clients.Check(t, matrix(pods,
			place{"a pod", pods[2], podAddr4(2), podAddr6(2)},
			place{"the node", nil, netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("fd00::1")},
			beyond(t),
		))
		// VPP gives the ICMP error to the node itself another source, and the node drops it.
		for _, to := range []string{"10.96.0.1:81", "[fd96::1]:81"} {
			_, err := clients.Ask(t, pods[2], netip.Addr{}, "tcp", netip.MustParseAddrPort(to))
			if !errors.Is(err, syscall.EHOSTUNREACH) && !errors.Is(err, syscall.ENETUNREACH) {
				t.Errorf("a port without endpoints: %v, want to be told that nobody is there", err)
			}
		}
		reach(t, p, dataplane.State{})
	})
}
