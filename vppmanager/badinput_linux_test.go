package vppmanager

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/millrace/millrace/internal/netnstest"
)

// TestIntegrationBadInput gives the manager what cannot work, on a node with a NIC that has
// an address and a way out: each time it says what to do, and the node is as before.
func TestIntegrationBadInput(t *testing.T) {
	netnstest.NeedTun(t)
	binary, self := build(t), "/proc/self/exe"
	self, err := os.Readlink(self)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name, config string
		program      string // shell text that stands for VPP; RUN is its runtime directory
		want         []string
	}{
		{"exits at once", "", "echo 'vlib_plugin_early_init: no such plugin' >&2; exit 1",
			[]string{"3 starts, none became ready", "exited with code 1", "| vlib_plugin_early_init: no such plugin", "what to do"}},
		{"another API version", "", "exec " + self + " as-dataplane RUN acl_add_replace",
			[]string{"VPP 24.06 lacks acl_add_replace_", "and without access lists no pod is connected", "install VPP 25.10"}},
		{"needs a library", "", "echo 'vpp: error while loading shared libraries: libvppinfra.so.24.06: cannot open' >&2; exit 127",
			[]string{"libvppinfra.so.24.06", "what to do: install the libraries"}},
		{"malformed", "uplinks: [{interface: eth0, driver: dpkd}]\n", "exit 1", []string{"uplinks[0].driver", `"dpkd" is not one of`}},
		{"no such field", "uplink: eth0\n", "exit 1", []string{"uplink: unknown field"}},
		{"no such NIC", "uplinks: [{pci: \"0000:ff:1f.7\"}]\n", "exit 1", []string{"0000:ff:1f.7"}},
		{"no such link", "uplinks: [{interface: eth7}]\n", "exit 1", []string{"eth7"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			n := newNode(t, binary, "vpp")
			furnishNode(t, n.ns)
			program := filepath.Join(n.dir, "vpp")
			write(t, program, "#!/bin/sh\n"+strings.ReplaceAll(tt.program, "RUN", n.runtimeDir())+"\n", 0o755)
			config := filepath.Join(n.dir, "node.yaml")
			write(t, config, "apiVersion: millrace.io/v1alpha1\nkind: NodeConfig\n"+tt.config, 0o644)
			before := snapshot(t, n.ns)
			out, err := n.ns.Command(t, binary, "manager", "--config", config, "--dataplane", "vpp", "--vpp-bin", program,
				"--runtime-dir", n.runtimeDir(), "--state-dir", filepath.Join(n.dir, "state")).CombinedOutput()
			if err == nil {
				t.Errorf("no error:\n%s", out)
			}
			for _, want := range tt.want {
				if !strings.Contains(string(out), want) {
					t.Errorf("it does not say %q:\n%s", want, out)
				}
			}
			if after := snapshot(t, n.ns); after != before {
				t.Errorf("the host was\n%s\nand is\n%s", before, after)
			}
			n.checkNothingLeft(t)
		})
	}
}

func write(t *testing.T, path, text string, mode os.FileMode) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
}

// furnishNode gives a namespace a link with addresses and routes of both families.
func furnishNode(t *testing.T, ns *netnstest.Namespace) {
	t.Helper()
	// Nothing may come by itself later: no link-local addresses, nothing of IPv6 beyond the wire.
	for _, args := range []string{
		"ip link add eth0 type veth peer name wire0", "ip link set eth0 addrgenmode none", "sysctl -w net.ipv6.conf.wire0.disable_ipv6=1",
		"ip link set wire0 up", "ip link set eth0 up mtu 1450",
		"ip addr add 192.0.2.4/24 dev eth0", "ip addr add 2001:db8::4/64 dev eth0 nodad",
		"ip route add default via 192.0.2.1", "ip route add default via 2001:db8::1", "ip rule add from 192.0.2.4 table 100 priority 99",
	} {
		argv := strings.Fields(args)
		if out, err := ns.Command(t, argv[0], argv[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", args, err, out)
		}
	}
	// The kernel tells its routing tables of a link's carrier when it gets to it.
	for end := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		now := snapshot(t, ns)
		if !strings.Contains(now, "LOWERLAYERDOWN") && !strings.Contains(now, "linkdown") && strings.Contains(now, "local 2001:db8::4 dev eth0") {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("the node's link is not up after a minute:\n%s", now)
		}
	}
}

// snapshot is what the host has of links, addresses, routes and rules.
func snapshot(t *testing.T, ns *netnstest.Namespace) string {
	t.Helper()
	var all strings.Builder
	for _, args := range []string{"-d link show", "-4 addr show", "-6 addr show scope global", "-4 route show table all", "-6 route show table all", "-4 rule show", "-6 rule show"} {
		out, err := ns.Command(t, "ip", strings.Fields(args)...).CombinedOutput()
		if err != nil {
			t.Fatalf("ip %s: %v\n%s", args, err, out)
		}
		all.Write(out)
	}
	return all.String()
}
