package vmtest

import (
	"strings"
	"testing"
)

// refuses has the manager refuse plans: each by a word on why, and nothing is changed.
func refuses(t *testing.T, g *Guest, base State) {
	for _, tt := range []struct {
		name         string
		before, then string // scripts around it
		config       string
		want         []string
	}{
		{name: "shared IOMMU group", config: nodeConfig("", "b0"), want: []string{"b0", "IOMMU group"}},
		{name: "only default route", config: strings.Replace(nodeConfig("", "e0"), "driver: dpdk", "driver: dpdk\n  noHostTap: true", 1), want: []string{"noHostTap", "default route", "e0"}},
		{name: "API server", config: strings.Replace(nodeConfig("", "v0"), "driver: dpdk", "driver: dpdk\n  noHostTap: true", 1), want: []string{"noHostTap", "API server", "198.18.0.1", "v0"},
			before: "mkdir -p /etc/kubernetes; echo '{apiVersion: v1, kind: Config, clusters: [{name: c, cluster: {server: \"https://198.18.0.1:6443\"}}]}' >/etc/kubernetes/kubelet.conf",
			then:   "rm -r /etc/kubernetes"},
		{name: "no huge pages", config: nodeConfig("  addHugePages: false\n", "e0"), want: []string{"huge pages", "addHugePages"}},
		{name: "in a bond", config: nodeConfig("", "b0"), want: []string{"b0", "bond"},
			before: "ip link add bond0 type bond mode active-backup; ip link set b0 master bond0; ip link set bond0 up",
			then:   "ip link del bond0; rmmod bonding"},
		{name: "no such device", config: strings.Replace(nodeConfig("", "e0"), "interface: e0", "pci: 0000:77:00.0", 1), want: []string{"0000:77:00.0", "e0"}},
		{name: "no such link", config: nodeConfig("", "eth7"), want: []string{"eth7", "e0"}},
		{name: "unknown field", config: nodeConfig("  bufers: 7\n", "e0"), want: []string{"bufers"}},
		{name: "no program", config: strings.Replace(nodeConfig("", "e0"), "/standin", "/vpp", 1), want: []string{Tools + "/vpp"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			before := base
			if tt.before != "" {
				g.Shell(t, "set -e\n"+tt.before)
				before = g.Settled(t)
			}
			refused(t, g, before, tt.config, tt.want...)
			if tt.then != "" {
				g.Shell(t, "set -e\n"+tt.then)
				base = g.Settled(t) // a bond leaves traces on its members
			}
		})
	}
}

// refused has a manager start, and wants it to end by a refusal that says what is in want.
func refused(t *testing.T, g *Guest, before State, config string, want ...string) {
	t.Helper()
	const file = "/etc/refused.yaml"
	g.Write(t, file, config)
	r := g.Try(t, millrace, "manager", "--config", file)
	if r.OK() || r.Signal != 0 {
		t.Fatalf("it was not refused: %v", r)
	}
	for _, text := range want {
		if !strings.Contains(r.Errors, text) {
			t.Errorf("the refusal does not say %q: %s", text, r.Errors)
		}
	}
	untouched(t, g, before)
}
