package main

import (
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	"go.fd.io/govpp/binapi/cnat"

	"github.com/millrace/millrace/internal/netnstest"
	"github.com/millrace/millrace/internal/servicetest"
	"github.com/millrace/millrace/vpp"
)

// serviceObjects are two nodes with a pod each, and services: of the second's pod, of the
// first's, and of the second node itself.
const serviceObjects = `
{apiVersion: v1, kind: Node, metadata: {name: n1}, spec: {podCIDRs: [10.1.0.0/24, "fd01::/64"]}, status: {addresses: [{type: InternalIP, address: 192.0.2.1}, {type: InternalIP, address: "2001:db8::1"}]}}
---
{apiVersion: v1, kind: Node, metadata: {name: n2}, spec: {podCIDRs: [10.2.0.0/24, "fd02::/64"]}, status: {addresses: [{type: InternalIP, address: 192.0.2.2}, {type: InternalIP, address: "2001:db8::2"}]}}
---
{apiVersion: v1, kind: Pod, metadata: {name: a, namespace: shop}, spec: {nodeName: n1, containers: []}, status: {phase: Running, podIPs: [{ip: 10.1.0.2}, {ip: "fd01::2"}]}}
---
{apiVersion: v1, kind: Pod, metadata: {name: b, namespace: shop}, spec: {nodeName: n2, containers: []}, status: {phase: Running, podIPs: [{ip: 10.2.0.2}, {ip: "fd02::2"}]}}
---
{apiVersion: v1, kind: Service, metadata: {name: far, namespace: shop}, spec: {clusterIPs: [10.96.0.1, "fd96::1"], externalIPs: [203.0.113.77, "2001:db8:f::77"], ports: [{name: t, port: 80}, {name: u, port: 80, protocol: UDP}]}}
---
{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {name: far4, namespace: shop, labels: {kubernetes.io/service-name: far}}, addressType: IPv4, ports: [{name: t, port: 8080}, {name: u, port: 8080, protocol: UDP}], endpoints: [{addresses: [10.2.0.2], nodeName: n2}]}
---
{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {name: far6, namespace: shop, labels: {kubernetes.io/service-name: far}}, addressType: IPv6, ports: [{name: t, port: 8080}, {name: u, port: 8080, protocol: UDP}], endpoints: [{addresses: ["fd02::2"], nodeName: n2}]}
---
{apiVersion: v1, kind: Service, metadata: {name: near, namespace: shop}, spec: {clusterIPs: [10.96.0.2, "fd96::2"], externalIPs: [203.0.113.78, "2001:db8:f::78"], ports: [{name: t, port: 80}, {name: u, port: 80, protocol: UDP}]}}
---
{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {name: near4, namespace: shop, labels: {kubernetes.io/service-name: near}}, addressType: IPv4, ports: [{name: t, port: 8080}, {name: u, port: 8080, protocol: UDP}], endpoints: [{addresses: [10.1.0.2], nodeName: n1}]}
---
{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {name: near6, namespace: shop, labels: {kubernetes.io/service-name: near}}, addressType: IPv6, ports: [{name: t, port: 8080}, {name: u, port: 8080, protocol: UDP}], endpoints: [{addresses: ["fd01::2"], nodeName: n1}]}
---
{apiVersion: v1, kind: Service, metadata: {name: node, namespace: shop}, spec: {clusterIPs: [10.96.0.3, "fd96::3"], ports: [{name: t, port: 80}, {name: u, port: 80, protocol: UDP}]}}
---
{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {name: node4, namespace: shop, labels: {kubernetes.io/service-name: node}}, addressType: IPv4, ports: [{name: t, port: 8080}, {name: u, port: 8080, protocol: UDP}], endpoints: [{addresses: [192.0.2.2], nodeName: n2}]}
---
{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {name: node6, namespace: shop, labels: {kubernetes.io/service-name: node}}, addressType: IPv6, ports: [{name: t, port: 8080}, {name: u, port: 8080, protocol: UDP}], endpoints: [{addresses: ["2001:db8::2"], nodeName: n2}]}
`

// TestIntegrationShareServices: two nodes that share their cards, and clients in a pod, on a
// node and outside, by services and without.
func TestIntegrationShareServices(t *testing.T) {
	binaries := buildProduct(t)
	for _, encapsulation := range []string{"Never", "Always"} {
		t.Run(encapsulation, func(t *testing.T) {
			facts := filepath.Join(t.TempDir(), "facts")
			if err := os.Mkdir(facts, 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(facts, "objects.yaml"), []byte(serviceObjects), 0o600); err != nil {
				t.Fatal(err)
			}
			router := routerBetween(t, sharedAt[0], sharedAt[1])
			config := "nodeToNode: {encapsulation: " + encapsulation + "}\n"
			one := newSharedNode(t, binaries, router, "n1", facts, config, sharedAt[0])
			two := newSharedNode(t, binaries, router, "n2", facts, config, sharedAt[1])
			for _, n := range []*sharedNode{one, two} {
				n.startManager(t)
				n.needsServices(t)
				n.startAgent(t)
			}
			for _, w := range [][2]string{{"203.0.113.0/24", "192.0.2.1"}, {"2001:db8:f::/64", "2001:db8::1"}} {
				command(t, router, "ip", "route", "add", w[0], "via", w[1])
			}
			for _, own := range []string{"198.51.100.9", "2001:db8:9::9"} { // behind the router
				command(t, router, "ip", "addr", "add", own, "dev", "lo")
			}
			a, _ := addPod(t, one.ns, one.plugin, one.cni, "a")
			b, _ := addPod(t, two.ns, two.plugin, two.cni, "b")
			parse := netip.MustParseAddr
			servicetest.Serve(t, a, 8080, parse("10.1.0.2"), parse("fd01::2"))
			servicetest.Serve(t, b, 8080, parse("10.2.0.2"), parse("fd02::2"))
			servicetest.Serve(t, two.ns, 8080, parse("192.0.2.2"), parse("2001:db8::2"))
			for _, to := range []string{"10.2.0.2", "fd02::2"} {
				reaches(t, a, to) // and so the neighbours are known
			}
			var clients servicetest.Clients
			clients.Check(t, shareCases(a, one.ns, router))
		})
	}
}

func shareCases(pod, node, outside *netnstest.Namespace) (list []servicetest.Case) {
	for _, c := range []struct {
		name     string
		in       *netnstest.Namespace
		to       [2]string
		backends [2]string
		sources  [2]string
	}{
		{"no service, a pod to the other node", pod, [2]string{"192.0.2.2:8080", "[2001:db8::2]:8080"}, [2]string{"192.0.2.2", "2001:db8::2"}, [2]string{"10.1.0.2", "fd01::2"}},
		{"no service, the node to the other's pod", node, [2]string{"10.2.0.2:8080", "[fd02::2]:8080"}, [2]string{"10.2.0.2", "fd02::2"}, [2]string{"192.0.2.1", "2001:db8::1"}},
		{"a pod to the other node's", pod, [2]string{"10.96.0.1:80", "[fd96::1]:80"}, [2]string{"10.2.0.2", "fd02::2"}, [2]string{"10.1.0.2", "fd01::2"}},
		{"a pod to the other node", pod, [2]string{"10.96.0.3:80", "[fd96::3]:80"}, [2]string{"192.0.2.2", "2001:db8::2"}, [2]string{"10.1.0.2", "fd01::2"}},
		{"the node to its pod", node, [2]string{"10.96.0.2:80", "[fd96::2]:80"}, [2]string{"10.1.0.2", "fd01::2"}, [2]string{"192.0.2.1", "2001:db8::1"}},
		{"the node to the other's pod", node, [2]string{"10.96.0.1:80", "[fd96::1]:80"}, [2]string{"10.2.0.2", "fd02::2"}, [2]string{"10.1.0.1", "fd01::1"}},
		{"the node to the other node", node, [2]string{"10.96.0.3:80", "[fd96::3]:80"}, [2]string{"192.0.2.2", "2001:db8::2"}, [2]string{"10.1.0.1", "fd01::1"}},
		{"outside to a pod here", outside, [2]string{"203.0.113.78:80", "[2001:db8:f::78]:80"}, [2]string{"10.1.0.2", "fd01::2"}, [2]string{"198.51.100.9", "2001:db8:9::9"}},
		{"outside to a pod there", outside, [2]string{"203.0.113.77:80", "[2001:db8:f::77]:80"}, [2]string{"10.2.0.2", "fd02::2"}, [2]string{"10.1.0.1", "fd01::1"}},
	} {
		for i, beyond := range []string{"198.51.100.9", "2001:db8:9::9"} {
			var from netip.Addr
			if c.in == outside {
				from = netip.MustParseAddr(beyond)
			}
			for _, network := range []string{"tcp", "udp"} {
				list = append(list, servicetest.Case{
					Name: c.name, Network: network, To: c.to[i], In: c.in, From: from,
					Backends: []netip.Addr{netip.MustParseAddr(c.backends[i])}, Source: netip.MustParseAddr(c.sources[i]),
				})
			}
		}
	}
	return list
}

// needsServices skips the test where the node's dataplane does not translate.
func (n *sharedNode) needsServices(t *testing.T) {
	t.Helper()
	conn, err := vpp.Dial(t.Context(), vpp.Config{Socket: filepath.Join(n.dir, "run/api.sock")})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if missing := conn.Supports(&cnat.CnatTranslationUpdate{}); len(missing) > 0 {
		t.Skipf("needs a dataplane with %v", missing)
	}
}
