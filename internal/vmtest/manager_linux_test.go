package vmtest

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/millrace/millrace/internal/hoststate"
	"github.com/millrace/millrace/internal/nodeconfig"
	"github.com/millrace/millrace/vppmanager/inventory"
	"github.com/millrace/millrace/vppmanager/startup"
)

const (
	millrace   = Tools + "/millrace"
	configFile = "/etc/millrace-test.yaml"
	stateDir   = Persistent + "/state"
)

// nodeConfig is one that has the stand-in for VPP take NICs by DPDK.
func nodeConfig(more string, links ...string) string {
	return configFor(Tools+"/standin", more, links...)
}

// configFor is one that has a program take NICs by DPDK. What is more stands under vpp.
func configFor(program, more string, links ...string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "apiVersion: millrace.io/v1alpha1\nkind: NodeConfig\ndataplane: vpp\nruntimeDir: /run/millrace/vpp\nstateDir: %s\nuplinks:\n", stateDir)
	for _, l := range links {
		fmt.Fprintf(&b, "- interface: %s\n  driver: dpdk\n", l)
	}
	fmt.Fprintf(&b, "vpp:\n  binary: %s\n  buffersPerNuma: 16384\n  mainHeapSize: 256Mi\n%s", program, more)
	return b.String()
}

// step is a part of a test that shares a guest with others.
type step struct {
	name string
	run  func(*testing.T, *Guest, State)
}

// steps runs them on a furnished guest, with a configuration.
func steps(t *testing.T, g *Guest, config string, list ...step) {
	t.Helper()
	furnishes(t, g)
	g.Write(t, configFile, config)
	inTurn(t, g, g.Settled(t), list...)
}

// inTurn runs steps on a guest whose state is before, until one fails: what is left of it
// would only confuse the others.
func inTurn(t *testing.T, g *Guest, before State, list ...step) {
	t.Helper()
	for _, s := range list {
		if !t.Run(s.name, func(t *testing.T) { s.run(t, g, before) }) {
			return
		}
	}
}

// TestIntegrationVMManager has the manager look at real NICs, plan for them, and refuse.
func TestIntegrationVMManager(t *testing.T) {
	cards := append(Standard(), Card{Link: "b0", Model: E1000, Wire: 2, Place: Bridge}, Card{Link: "b1", Model: E1000, Wire: 2, Place: Bridge})
	g := Boot(t, Machine{IOMMU: true, Cards: cards, Tools: []string{"./cmd/millrace", "./internal/vmtest/standin"}})
	steps(t, g, nodeConfig("", "e0", "v0"), step{"inspect", inspects}, step{"dry run", dryRun}, step{"refused", refuses})
}

// inspects compares what the manager sees with what was put there.
func inspects(t *testing.T, g *Guest, _ State) {
	var node struct {
		inventory.Node
		Drivers map[string][]startup.DriverChoice
	}
	if err := json.Unmarshal([]byte(g.Run(t, millrace, "node", "inspect", "--config", configFile, "--output", "json")), &node); err != nil {
		t.Fatal(err)
	}
	if !node.IOMMU.On || node.IOMMU.Passthrough {
		t.Errorf("IOMMU %+v", node.IOMMU)
	}
	for _, want := range []struct {
		link, pci, driver string
		mtu, addresses    int
		route             string
		dpdk              bool
		why               string
	}{
		{"e0", "0000:01:00.0", "e1000e", 1400, 6, "0.0.0.0/0", true, ""},
		{"v0", "0000:02:00.0", "virtio_net", 1500, 3, "198.18.0.0/15", true, ""},
		{"b0", "", "e1000", 1500, 0, "", false, "IOMMU group"},
	} {
		nic, found := node.NIC(want.link)
		if !found || want.pci != "" && nic.PCI != want.pci || nic.Driver != want.driver || nic.MTU != want.mtu || len(nic.Addresses) != want.addresses {
			t.Errorf("%s is inspected as %+v", want.link, nic)
		}
		if want.route != "" && !slices.ContainsFunc(nic.Routes, func(r inventory.Route) bool { return r.Dst.String() == want.route }) {
			t.Errorf("%s has no route %s: %+v", want.link, want.route, nic.Routes)
		}
		choices := node.Drivers[want.link]
		i := slices.IndexFunc(choices, func(c startup.DriverChoice) bool { return c.Driver == nodeconfig.DriverDPDK })
		if i < 0 || choices[i].Works != want.dpdk || !strings.Contains(choices[i].Why, want.why) {
			t.Errorf("drivers of %s: %+v", want.link, choices)
		}
	}
	if wan, found := node.NIC("wan0"); !found || wan.Name != "e0" {
		t.Errorf("by its other name e0 is %+v", wan)
	}
	g.Run(t, millrace, "node", "inspect", "--config", configFile)
}

func dryRun(t *testing.T, g *Guest, before State) {
	plan := g.Run(t, millrace, "manager", "--dry-run", "--config", configFile)
	for _, want := range []string{"0000:01:00.0", "0000:02:00.0", "vfio-pci", "uplink0", "uplink1"} {
		if !strings.Contains(plan, want) {
			t.Errorf("the plan does not name %s:\n%s", want, plan)
		}
	}
	untouched(t, g, before)
}

// untouched wants a host on which nothing was changed or left.
func untouched(t *testing.T, g *Guest, before State) {
	t.Helper()
	if diff := hoststate.Difference(before, g.HostState(t)); diff != "" {
		t.Errorf("the host was changed (- was, + is):\n%s", diff)
	}
	if left := g.Shell(t, "for d in /run/millrace "+stateDir+"; do [ ! -e $d ] || find $d; done"); left != "" {
		t.Errorf("files are left: %s", left)
	}
}
