package uplink

import (
	"net/netip"
	"testing"

	"go.fd.io/govpp/binapi/cnat"

	"github.com/millrace/millrace/agent/compile"
	"github.com/millrace/millrace/cluster"
	"github.com/millrace/millrace/dataplane"
	"github.com/millrace/millrace/internal/netnstest"
	"github.com/millrace/millrace/internal/servicetest"
)

// serviceFacts are services with backends here, at another node, and at the node itself.
const serviceFacts = `service d/web clusterip=10.96.0.1 clusterip=fd96::1 externalip=203.0.113.77 externalip=2001:db8:f::77 port=t:80/TCP/30080 port=u:80/UDP/30080
endpointslice d/web4 service=web port=t:8080/TCP port=u:8080/UDP endpoint="10.1.0.2 node=n ready=true"
endpointslice d/web6 service=web port=t:8080/TCP port=u:8080/UDP endpoint="fd01::2 node=n ready=true"
service d/far clusterip=10.96.0.2 clusterip=fd96::2 port=t:80/TCP/30082 port=u:80/UDP/30082
endpointslice d/far4 service=far port=t:8080/TCP port=u:8080/UDP endpoint="10.2.0.2 node=peer ready=true"
endpointslice d/far6 service=far port=t:8080/TCP port=u:8080/UDP endpoint="fd02::2 node=peer ready=true"
service d/local clusterip=10.96.0.3 clusterip=fd96::3 port=t:80/TCP/30083 port=u:80/UDP/30083 external-local=true
endpointslice d/local4 service=local port=t:8080/TCP port=u:8080/UDP endpoint="10.1.0.2 node=n ready=true" endpoint="10.2.0.2 node=peer ready=true"
endpointslice d/local6 service=local port=t:8080/TCP port=u:8080/UDP endpoint="fd01::2 node=n ready=true" endpoint="fd02::2 node=peer ready=true"
service d/host clusterip=10.96.0.4 clusterip=fd96::4 port=t:80/TCP/30084 port=u:80/UDP/30084
endpointslice d/host4 service=host port=t:8080/TCP port=u:8080/UDP endpoint="192.0.2.9 node=n ready=true"
endpointslice d/host6 service=host port=t:8080/TCP port=u:8080/UDP endpoint="2001:db8::9 node=n ready=true"
pod default/pod node=n phase=Running hostport=8088:8080/TCP hostport=8088:8080/UDP
`

// serviceCase is a row for both protocols: to and from by families, whom backends see.
type serviceCase struct {
	name             string
	in               *netnstest.Namespace
	to4, to6         string
	from4, from6     string // one of the client's addresses
	at4, at6         string // the backend
	source4, source6 string
}

func (c serviceCase) cases() (list []servicetest.Case) {
	for _, f := range [][4]string{{c.to4, c.from4, c.at4, c.source4}, {c.to6, c.from6, c.at6, c.source6}} {
		for _, network := range []string{"tcp", "udp"} {
			from, _ := netip.ParseAddr(f[1]) // none: the kernel chooses
			list = append(list, servicetest.Case{
				Name: c.name, Network: network, To: f[0], In: c.in, From: from,
				Backends: []netip.Addr{netip.MustParseAddr(f[2])}, Source: netip.MustParseAddr(f[3]),
			})
		}
	}
	return list
}

// TestIntegrationServices has clients beyond an uplink, on the node and in a pod, and
// backends in a pod, at another node, and at the node itself.
func TestIntegrationServices(t *testing.T) {
	eachMachine(t, func(r *rig) {
		r.needs(&cnat.CnatTranslationUpdate{})
		facts, err := cluster.ParseSnapshot(serviceFacts)
		if err != nil {
			r.Fatal(err)
		}
		r.facts = facts
		out, pod := single(r), netnstest.New(r.T)
		for _, w := range [][2]string{{"10.1.0.0/24", "192.0.2.9"}, {"203.0.113.77", "192.0.2.9"}, {"fd01::/64", "2001:db8::9"}, {"2001:db8:f::77", "2001:db8::9"}} {
			r.ip(out, "route", "add", w[0], "via", w[1])
		}
		for _, a := range []string{"10.2.0.2/32", "fd02::2/128"} { // a pod of the other node
			r.ip(out, "addr", "add", a, "dev", "lo", "nodad")
		}
		p := r.agent(pod)
		parse := netip.MustParseAddr
		servicetest.Serve(r, pod, 8080, parse("10.1.0.2"), parse("fd01::2"))
		servicetest.Serve(r, out, 8080, parse("10.2.0.2"), parse("fd02::2"), parse("203.0.113.1"), parse("2001:db8:f::1"))
		servicetest.Serve(r, nil, 8080, parse("192.0.2.9"), parse("2001:db8::9"))
		var clients servicetest.Clients
		for _, c := range r.serviceCases(pod, out) {
			clients.Check(r.T, c.cases())
		}
		r.leave(p)
	})
}

// TestIntegrationMasquerade: what a pod sends to the outside by an uplink of the dataplane's own
// has the node's address, but to nodes, pods and ranges that are excepted its own.
func TestIntegrationMasquerade(t *testing.T) {
	eachMachine(t, func(r *rig) {
		r.needs(&cnat.CnatTranslationUpdate{})
		facts, err := cluster.ParseSnapshot(serviceFacts)
		if err != nil {
			r.Fatal(err)
		}
		r.facts, r.masquerade = facts, prefixes("198.51.100.0/24", "2001:db8:5::/48")
		out, pod := single(r), netnstest.New(r.T)
		for _, w := range [][2]string{{"10.1.0.0/24", "192.0.2.9"}, {"203.0.113.77", "192.0.2.9"}, {"fd01::/64", "2001:db8::9"}, {"2001:db8:f::77", "2001:db8::9"}} {
			r.ip(out, "route", "add", w[0], "via", w[1])
		}
		for _, a := range []string{"10.2.0.2/32", "fd02::2/128", "198.51.100.7/32", "2001:db8:5::7/128"} {
			r.ip(out, "addr", "add", a, "dev", "lo", "nodad")
		}
		p := r.agent(pod)
		parse := netip.MustParseAddr
		servicetest.Serve(r, pod, 8080, parse("10.1.0.2"), parse("fd01::2"))
		servicetest.Serve(r, out, 8080, parse("10.2.0.2"), parse("fd02::2"), parse("203.0.113.1"), parse("2001:db8:f::1"),
			parse("192.0.2.1"), parse("2001:db8::1"), parse("198.51.100.7"), parse("2001:db8:5::7"))
		servicetest.Serve(r, nil, 8080, parse("192.0.2.9"), parse("2001:db8::9"))
		var clients servicetest.Clients
		for _, c := range append(r.serviceCases(pod, out), []serviceCase{
			{"to outside", pod, "203.0.113.1:8080", "[2001:db8:f::1]:8080", "", "", "203.0.113.1", "2001:db8:f::1", "192.0.2.9", "2001:db8::9"},
			{"to another node", pod, "192.0.2.1:8080", "[2001:db8::1]:8080", "", "", "192.0.2.1", "2001:db8::1", "10.1.0.2", "fd01::2"},
			{"to its node", pod, "192.0.2.9:8080", "[2001:db8::9]:8080", "", "", "192.0.2.9", "2001:db8::9", "10.1.0.2", "fd01::2"},
			{"to another node's pod", pod, "10.2.0.2:8080", "[fd02::2]:8080", "", "", "10.2.0.2", "fd02::2", "10.1.0.2", "fd01::2"},
			{"to a range that is excepted", pod, "198.51.100.7:8080", "[2001:db8:5::7]:8080", "", "", "198.51.100.7", "2001:db8:5::7", "10.1.0.2", "fd01::2"},
		}...) {
			clients.Check(r.T, c.cases())
		}
		r.ping(pod, "203.0.113.1")
		r.ping(pod, "2001:db8:f::1")
		r.leave(p)
	})
}

// TestIntegrationServicesByTunnel has the other node's backends behind a tunnel: a client's
// packets to them are translated once, and not again on their way out in the tunnel's.
func TestIntegrationServicesByTunnel(t *testing.T) {
	eachMachine(t, func(r *rig) {
		r.needs(&cnat.CnatTranslationUpdate{})
		facts, err := cluster.ParseSnapshot(serviceFacts)
		if err != nil {
			r.Fatal(err)
		}
		r.facts, r.encapsulation, r.masquerade = facts, compile.EncapsulateAlways, prefixes("198.51.100.0/24")
		out, pod := single(r), netnstest.New(r.T)
		p := r.agent(pod)
		r.otherEnd(p, out, dataplane.IPv4, "192.0.2.1", "192.0.2.9", 1450)
		parse := netip.MustParseAddr
		servicetest.Serve(r, out, 8080, parse("10.2.0.2"), parse("fd02::2"))
		var clients servicetest.Clients
		for _, c := range r.serviceCases(pod, out) {
			if c.at4 == "10.2.0.2" {
				clients.Check(r.T, c.cases())
			}
		}
		r.ping(nil, "10.2.0.2")
		r.ping(nil, "fd02::2")
		r.leave(p)
	})
}

// serviceCases leave out what the node's own kernel has to bring about: its connections to its
// own addresses, and to services that it serves itself.
func (r *rig) serviceCases(pod, out *netnstest.Namespace) []serviceCase {
	const here4, here6, far4, far6, node4, node6 = "10.1.0.2", "fd01::2", "10.2.0.2", "fd02::2", "192.0.2.9", "2001:db8::9"
	const c4, c6 = "203.0.113.1", "2001:db8:f::1" // beyond the router
	return []serviceCase{
		{"node port from outside", out, "192.0.2.9:30080", "[2001:db8::9]:30080", c4, c6, here4, here6, c4, c6},
		{"node port from outside, policy local", out, "192.0.2.9:30083", "[2001:db8::9]:30083", c4, c6, here4, here6, c4, c6},
		{"host port from outside", out, "192.0.2.9:8088", "[2001:db8::9]:8088", c4, c6, here4, here6, c4, c6},
		{"external address from outside", out, "203.0.113.77:80", "[2001:db8:f::77]:80", c4, c6, here4, here6, c4, c6},
		{"node port from outside to another node", out, "192.0.2.9:30082", "[2001:db8::9]:30082", c4, c6, far4, far6, node4, node6},
		{"node port from outside to the node", out, "192.0.2.9:30084", "[2001:db8::9]:30084", c4, c6, node4, node6, c4, c6},
		{"cluster address from a pod to another node", pod, "10.96.0.2:80", "[fd96::2]:80", "", "", far4, far6, here4, here6},
		{"cluster address from a pod to the node", pod, "10.96.0.4:80", "[fd96::4]:80", "", "", node4, node6, here4, here6},
		{"cluster address from a pod to itself", pod, "10.96.0.1:80", "[fd96::1]:80", "", "", here4, here6, node4, node6},
		{"node port from a pod to another node", pod, "192.0.2.9:30082", "[2001:db8::9]:30082", "", "", far4, far6, here4, here6},
		{"cluster address from the node", nil, "10.96.0.1:80", "[fd96::1]:80", "", "", here4, here6, node4, node6},
		{"cluster address from the node to another node", nil, "10.96.0.2:80", "[fd96::2]:80", "", "", far4, far6, node4, node6},
		{"no service, from the node to outside", nil, "203.0.113.1:8080", "[2001:db8:f::1]:8080", "", "", c4, c6, node4, node6},
		{"no service, from outside to the node", out, "192.0.2.9:8080", "[2001:db8::9]:8080", c4, c6, node4, node6, c4, c6},
	}
}
