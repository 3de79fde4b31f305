package vppmanager

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

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
			n.plug(t)
			program := filepath.Join(n.dir, "vpp")
			write(t, program, "#!/bin/sh\n"+strings.ReplaceAll(tt.program, "RUN", n.runtimeDir())+"\n", 0o755)
			config := filepath.Join(n.dir, "node.yaml")
			write(t, config, "apiVersion: millrace.io/v1alpha1\nkind: NodeConfig\n"+tt.config, 0o644)
			before := n.look(t)
			out, err := n.ns.Command(t, binary, "manager", "--config", config, "--dataplane", "vpp", "--vpp-bin", program,
				"--runtime-dir", n.runtimeDir(), "--state-dir", n.stateDir()).CombinedOutput()
			if err == nil {
				t.Errorf("no error:\n%s", out)
			}
			for _, want := range tt.want {
				if !strings.Contains(string(out), want) {
					t.Errorf("it does not say %q:\n%s", want, out)
				}
			}
			n.unchanged(t, before)
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
