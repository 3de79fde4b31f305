package main

import (
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/millrace/millrace/internal/netnstest"
	"github.com/millrace/millrace/internal/nodeconfig"
	"github.com/millrace/millrace/vpp"
	"github.com/millrace/millrace/vppmanager/inventory"
	"github.com/millrace/millrace/vppmanager/startup"
	"github.com/millrace/millrace/vppmanager/uplink"
)

// twoNodesObjects are two nodes with a pod that only one of two others may talk to. Pods get
// the first addresses of their node's ranges, in the order in which they are added.
const twoNodesObjects = `
{apiVersion: v1, kind: Node, metadata: {name: n1}, spec: {podCIDRs: [10.1.0.0/24, "fd01::/64"]}, status: {addresses: [{type: InternalIP, address: %s}, {type: InternalIP, address: "%s"}]}}
---
{apiVersion: v1, kind: Node, metadata: {name: n2}, spec: {podCIDRs: [10.2.0.0/24, "fd02::/64"]}, status: {addresses: [{type: InternalIP, address: %s}, {type: InternalIP, address: "%s"}]}}
---
{apiVersion: v1, kind: Pod, metadata: {name: db, namespace: shop, labels: {app: db}}, spec: {nodeName: n2, containers: []}, status: {phase: Running, podIPs: [{ip: 10.2.0.2}, {ip: "fd02::2"}]}}
---
{apiVersion: v1, kind: Pod, metadata: {name: web, namespace: shop, labels: {app: web}}, spec: {nodeName: n1, containers: []}, status: {phase: Running, podIPs: [{ip: 10.1.0.2}, {ip: "fd01::2"}]}}
---
{apiVersion: v1, kind: Pod, metadata: {name: other, namespace: shop, labels: {app: other}}, spec: {nodeName: n1, containers: []}, status: {phase: Running, podIPs: [{ip: 10.1.0.3}, {ip: "fd01::3"}]}}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: db, namespace: shop}
spec:
  podSelector: {matchLabels: {app: db}}
  ingress: [{from: [{podSelector: {matchLabels: {app: web}}}]}]
`

// nodeAt is where a node lies: its addresses, and the router's that it goes out by.
type nodeAt struct{ v4, v6, via4, via6 string }

// TestIntegrationTwoNodes: pods of two nodes, each with a dataplane, uplink and agent of its
// own, over direct routes and over VXLAN, with the longest packets, streams, and a policy.
func TestIntegrationTwoNodes(t *testing.T) {
	binaries := buildProduct(t)
	for _, tt := range []struct {
		name, config string
		one, two     nodeAt
		mtu          int
	}{
		{
			"direct", "nodeToNode: {encapsulation: Never}\n",
			nodeAt{"192.0.2.1/24", "2001:db8::1/64", "192.0.2.254", "2001:db8::fe"}, nodeAt{"192.0.2.2/24", "2001:db8::2/64", "192.0.2.254", "2001:db8::fe"}, 1500,
		},
		{
			"always", "nodeToNode: {encapsulation: Always}\n",
			nodeAt{"192.0.2.1/24", "2001:db8::1/64", "192.0.2.254", "2001:db8::fe"}, nodeAt{"192.0.2.2/24", "2001:db8::2/64", "192.0.2.254", "2001:db8::fe"}, 1450,
		},
		{
			"cross-subnet", "",
			nodeAt{"192.0.2.1/24", "2001:db8::1/64", "192.0.2.254", "2001:db8::fe"}, nodeAt{"198.51.100.2/24", "2001:db8:2::2/64", "198.51.100.254", "2001:db8:2::fe"}, 1450,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			facts := filepath.Join(t.TempDir(), "facts")
			addr := func(p string) string { return netip.MustParsePrefix(p).Addr().String() }
			text := fmt.Sprintf(twoNodesObjects, addr(tt.one.v4), addr(tt.one.v6), addr(tt.two.v4), addr(tt.two.v6))
			if err := os.Mkdir(facts, 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(facts, "nodes.yaml"), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			router := routerBetween(t, tt.one, tt.two)
			one := startNode(t, binaries, router, "n1", facts, tt.config, tt.one)
			two := startNode(t, binaries, router, "n2", facts, tt.config, tt.two)
			db, _ := addPod(t, two.ns, two.plugin, two.cni, "db")
			web, _ := addPod(t, one.ns, one.plugin, one.cni, "web")
			other, _ := addPod(t, one.ns, one.plugin, one.cni, "other")
			for to, headers := range map[string]int{"10.2.0.2": 28, "fd02::2": 48} {
				reaches(t, web, to)
				reaches(t, web, to, "-M", "do", "-s", fmt.Sprint(tt.mtu-headers))
				transfer(t, web, db, to)
				if out, err := other.Command(t, "ping", "-c", "2", "-i", "0.2", "-W", "1", to).CombinedOutput(); err == nil {
					t.Errorf("the policy lets others through to %s:\n%s", to, out)
				}
			}
			transfer(t, db, web, "10.1.0.2")
			transfer(t, db, web, "fd01::2")
		})
	}
}

// routerBetween is a namespace that joins both nodes' networks: a bridge that routes.
func routerBetween(t *testing.T, nodes ...nodeAt) *netnstest.Namespace {
	t.Helper()
	r := netnstest.New(t)
	command(t, r, "sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1")
	command(t, r, "ip", "link", "add", "br0", "type", "bridge")
	command(t, r, "ip", "link", "set", "br0", "up")
	seen := map[string]bool{}
	for _, n := range nodes {
		for _, w := range []struct{ own, via string }{{n.v4, n.via4}, {n.v6, n.via6}} {
			if own := fmt.Sprintf("%s/%d", w.via, netip.MustParsePrefix(w.own).Bits()); !seen[own] {
				seen[own] = true
				command(t, r, "ip", "addr", "add", own, "dev", "br0", "nodad")
			}
		}
	}
	return r
}

func command(t *testing.T, n *netnstest.Namespace, name string, args ...string) {
	t.Helper()
	if out, err := n.Command(t, name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
}

// nodeRun is a node that runs.
type nodeRun struct {
	ns          *netnstest.Namespace
	plugin, cni string
}

// startNode makes a node's network card, an engine with that as its uplink, as the manager
// makes it, and an agent.
func startNode(t *testing.T, binaries string, router *netnstest.Namespace, name, facts, config string, at nodeAt) nodeRun {
	t.Helper()
	dir, ns := t.TempDir(), netnstest.New(t)
	n := nodeRun{ns: ns, plugin: filepath.Join(binaries, "millrace-cni"), cni: filepath.Join(dir, "cni.sock")}
	api, millrace := filepath.Join(dir, "api.sock"), filepath.Join(binaries, "millrace")
	mac := "02:00:00:00:01:0" + name[1:]
	command(t, ns, "ip", "link", "add", "nic", "address", mac, "type", "veth", "peer", "name", name, "netns", router.Name)
	command(t, ns, "ip", "link", "set", "nic", "up")
	command(t, router, "ip", "link", "set", name, "master", "br0", "up")
	startBeside(t, ns, millrace, "engine", "--api-socket", api, "--stats-socket", filepath.Join(dir, "stats.sock"))
	awaitSocket(t, api)
	u := startup.Uplink{
		Name: "nic", Driver: nodeconfig.DriverAFPacket, Link: "nic", Host: "eth0", MAC: mac, MTU: 1500,
		Addresses: []netip.Prefix{netip.MustParsePrefix(at.v4), netip.MustParsePrefix(at.v6)},
		Routes: []inventory.Route{
			{Dst: netip.MustParsePrefix("0.0.0.0/0"), Via: netip.MustParseAddr(at.via4)},
			{Dst: netip.MustParsePrefix("::/0"), Via: netip.MustParseAddr(at.via6)},
		},
	}
	wireNode(t, ns, api, u)
	startBeside(t, ns, millrace, "agent", "--config", writeConfig(t, config), "--node-name", name, "--facts", facts,
		"--state-dir", filepath.Join(dir, "state"), "--api-socket", api, "--cni-socket", n.cni)
	awaitSocket(t, n.cni)
	return n
}

// wireNode does for an uplink what the manager does.
func wireNode(t *testing.T, ns *netnstest.Namespace, api string, u startup.Uplink) {
	t.Helper()
	conn, err := vpp.Dial(t.Context(), vpp.Config{Socket: api})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)
	list := []startup.Uplink{u}
	ns.Run(t, func() error {
		mute, err := uplink.MuteLinks(list)
		if err != nil {
			return err
		}
		t.Cleanup(func() { mute.Close() }) // its namespace may be gone
		return uplink.Wire(t.Context(), conn, list)
	})
	command(t, ns, "sysctl", "-qw", "net.ipv6.conf.eth0.disable_ipv6=0")
	command(t, ns, "ip", "link", "set", "eth0", "up")
	for _, a := range u.Addresses {
		command(t, ns, "ip", "addr", "add", a.String(), "dev", "eth0", "nodad")
	}
	for _, r := range u.Routes {
		command(t, ns, "ip", "route", "add", r.Dst.String(), "via", r.Via.String(), "dev", "eth0")
	}
	ns.Run(t, func() error { return uplink.Dress(list) })
}

// reaches pings until an answer comes: first packets ask for neighbours.
func reaches(t *testing.T, from *netnstest.Namespace, to string, args ...string) {
	t.Helper()
	for end := time.Now().Add(time.Minute); ; {
		out, err := from.Command(t, "ping", append(args, "-c", "1", "-W", "1", to)...).CombinedOutput()
		if err == nil {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("ping %v %s: %v\n%s", args, to, err, out)
		}
	}
}

// transfer sends 4 MB by TCP.
func transfer(t *testing.T, from, to *netnstest.Namespace, address string) {
	t.Helper()
	const size = 4 << 20
	var server net.Listener
	to.Run(t, func() (err error) {
		server, err = net.Listen("tcp", net.JoinHostPort(address, "0"))
		return err
	})
	defer server.Close()
	var client net.Conn
	from.Run(t, func() (err error) {
		client, err = net.DialTimeout("tcp", server.Addr().String(), time.Minute)
		return err
	})
	defer client.Close()
	sent := make(chan error, 1)
	go func() {
		_, err := client.Write(make([]byte, size))
		sent <- err
	}()
	conn, err := server.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(time.Minute))
	client.SetDeadline(time.Now().Add(time.Minute))
	n, err := io.CopyN(io.Discard, conn, size)
	if err != nil || <-sent != nil {
		t.Fatalf("%d of %d bytes came to %s: %v", n, size, address, err)
	}
}
