package startup

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/millrace/millrace/internal/nodeconfig"
	"github.com/millrace/millrace/vppmanager/inventory"
)

// recorded reads a node of testdata/nodes. They are in the form that `millrace node
// inspect --output json` prints; what stands in them was written by hand after machines of
// these kinds.
func recorded(t testing.TB, name string) inventory.Node {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", "nodes", name+".json"))
	if err != nil {
		t.Fatal(err)
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	var inv inventory.Node
	if err := dec.Decode(&inv); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return inv
}

// uplinks names NICs, by kernel name or PCI address, with the driver auto.
func uplinks(names ...string) []nodeconfig.Uplink {
	var list []nodeconfig.Uplink
	for _, name := range names {
		u := nodeconfig.Uplink{Interface: name, Driver: nodeconfig.DriverAuto}
		if strings.Contains(name, ":") {
			u.Interface, u.PCI = "", name
		}
		list = append(list, u)
	}
	return list
}

// library is one plan or more for each node of testdata/nodes, by the golden file's name.
var library = []struct {
	name, node string
	edit       func(*nodeconfig.Config)
}{
	{"metal-2socket", "metal-2socket", func(c *nodeconfig.Config) {
		c.Uplinks, c.VPP.Workers, c.MaxPods = uplinks("ens1f0", "ens8f0"), 8, 250
	}},
	{"metal-2socket-afpacket", "metal-2socket", func(c *nodeconfig.Config) {
		c.Uplinks = uplinks("ens8f0")
		c.Uplinks[0].Driver = nodeconfig.DriverAFPacket
	}},
	{"metal-2socket-idle", "metal-2socket", func(c *nodeconfig.Config) {
		c.Uplinks, c.VPP.Workers = uplinks("0000:18:00.1"), 2
		c.Uplinks[0].NoHostTap, c.Uplinks[0].RxRing = true, 4096
	}},
	{"cloud-virtio", "cloud-virtio", func(c *nodeconfig.Config) { c.Uplinks = uplinks("enp0s3") }},
	{"cloud-ena", "cloud-ena", func(c *nodeconfig.Config) {
		c.Uplinks, c.VPP.Workers, c.VPP.AllowNoIOMMU = uplinks("ens6"), 3, true
	}},
	{"no-iommu-vfio", "no-iommu", func(c *nodeconfig.Config) {
		c.Uplinks, c.VPP.AllowNoIOMMU, c.VPP.PCIDriver = uplinks("enp3s0"), true, nodeconfig.PCIDriverVFIO
	}},
	{"vm-avf", "vm-avf", func(c *nodeconfig.Config) {
		c.Uplinks, c.VPP.Workers = uplinks("ens6"), 2
		c.Uplinks[0].Driver = nodeconfig.DriverAVF
	}},
	{"vm-virtio", "vm-virtio", func(c *nodeconfig.Config) {
		c.Uplinks, c.VPP.AllowNoIOMMU = uplinks("ens3"), true
		c.Uplinks[0].Driver = nodeconfig.DriverVirtio
	}},
	{"vm-virtio-dpdk", "vm-virtio", func(c *nodeconfig.Config) { c.Uplinks, c.VPP.AllowNoIOMMU = uplinks("ens3"), true }},
	{"bond-vlan", "bond-vlan", func(c *nodeconfig.Config) { c.Uplinks, c.VPP.Workers = uplinks("bond0"), 2 }},
	{"bond-vlan-afpacket", "bond-vlan", func(c *nodeconfig.Config) {
		c.Uplinks = uplinks("bond0")
		c.Uplinks[0].Driver = nodeconfig.DriverAFPacket
	}},
	{"vlan-only", "bond-vlan", func(c *nodeconfig.Config) { c.Uplinks = uplinks("bond0.200") }},
	{"no-iommu", "no-iommu", func(c *nodeconfig.Config) { c.Uplinks, c.VPP.AllowNoIOMMU = uplinks("enp3s0"), true }},
	{"no-iommu-kept", "no-iommu", func(c *nodeconfig.Config) { c.Uplinks = uplinks("enp3s0", "enp2s0") }},
	{"no-iommu-afxdp", "no-iommu", func(c *nodeconfig.Config) {
		c.Uplinks = uplinks("enp3s0")
		c.Uplinks[0].Driver = nodeconfig.DriverAFXDP
	}},
	{"arm64", "arm64", func(c *nodeconfig.Config) { c.Uplinks, c.VPP.Workers = uplinks("enP13p1s0f0np0"), 3 }},
	{"laptop-2core", "laptop-2core", func(c *nodeconfig.Config) { c.Uplinks = uplinks("enp3s0") }},
	{"laptop-2core-engine", "laptop-2core", func(c *nodeconfig.Config) {
		c.Uplinks, c.Dataplane = uplinks("enp3s0"), nodeconfig.UseEngine
	}},
	{"laptop-2core-engine-own", "laptop-2core", func(c *nodeconfig.Config) {
		c.Uplinks, c.Dataplane = uplinks("enp3s0"), nodeconfig.UseEngine
		c.Uplinks[0].Mode = nodeconfig.ModeOwn
	}},
}

func TestRecordedNodes(t *testing.T) {
	for _, tt := range library {
		t.Run(tt.name, func(t *testing.T) {
			inv := recorded(t, tt.node)
			p, err := Make(inv, config(tt.edit))
			if err != nil {
				t.Fatal(err)
			}
			wellFormed(t, inv, p)
			golden(t, "node-"+tt.name, p.String())
		})
	}
}

// TestNotes checks what is said of a plan that is carried out all the same.
func TestNotes(t *testing.T) {
	for _, tt := range []struct {
		name, node string
		inv        func(*inventory.Node)
		cfg        func(*nodeconfig.Config)
		want       string
	}{
		{"PF down", "vm-avf", func(i *inventory.Node) { i.Devices[3].PF, i.NICs[0].Up = "0000:01:00.0", false }, func(c *nodeconfig.Config) { c.Uplinks = uplinks("ens6") },
			"ens6 (0000:06:00.0) is a virtual function of enp1s0 (0000:01:00.0), which is down"},
		{"no carrier", "metal-2socket", func(i *inventory.Node) { i.NICs[1].Carrier = false }, func(c *nodeconfig.Config) { c.Uplinks = uplinks("ens1f0") }, "ens1f0 has no carrier"},
		{"given up", "metal-2socket", nil, func(c *nodeconfig.Config) { c.Uplinks = uplinks("ens8f0"); c.Uplinks[0].NoHostTap = true }, "the host gives up ens8f0"},
		{"SMT", "laptop-2core", nil, func(c *nodeconfig.Config) { c.Uplinks, c.VPP.Workers = uplinks("enp3s0"), 1 }, "threads of VPP share a core (CPUs 0 and 1)"},
		{"far worker", "metal-2socket", func(i *inventory.Node) { i.Cpuset = []int{0, 1, 4} }, func(c *nodeconfig.Config) { c.Uplinks, c.VPP.Workers = uplinks("ens8f0"), 1 },
			"the worker on CPU 4 is on NUMA node 0, the NICs are on 1"},
		{"not read", "no-iommu", func(i *inventory.Node) { i.Unread = []string{"read /proc/iomem: permission denied"} }, func(c *nodeconfig.Config) { c.Uplinks = uplinks("enp3s0") },
			"not known: read /proc/iomem: permission denied"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inv := recorded(t, tt.node)
			if tt.inv != nil {
				tt.inv(&inv)
			}
			p, err := Make(inv, config(tt.cfg))
			if err != nil {
				t.Fatal(err)
			}
			if notes := strings.Join(p.Notes, "\n"); !strings.Contains(notes, tt.want) {
				t.Errorf("no note says %q:\n%s", tt.want, notes)
			}
		})
	}
}

// TestPlanJSON checks that the plan for programs holds the whole plan.
func TestPlanJSON(t *testing.T) {
	for _, tt := range library {
		p, err := Make(recorded(t, tt.node), config(tt.edit))
		if err != nil {
			t.Fatal(err)
		}
		text, err := p.JSON()
		if err != nil {
			t.Fatal(err)
		}
		var again Plan
		dec := json.NewDecoder(bytes.NewReader(text))
		dec.DisallowUnknownFields()
		if err := dec.Decode(&again); err != nil {
			t.Fatalf("%s: %v", tt.name, err)
		}
		if a, b := p.String(), again.String(); a != b {
			t.Errorf("%s, printed from its JSON (-want +got):\n%s", tt.name, cmp.Diff(a, b))
		}
	}
}
