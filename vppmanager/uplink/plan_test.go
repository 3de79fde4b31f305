package uplink

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/millrace/millrace/internal/nodeconfig"
	"github.com/millrace/millrace/vppmanager/inventory"
	"github.com/millrace/millrace/vppmanager/startup"
)

// TestPlannedUplinks checks that whatever package startup plans for a recorded node can be
// wired: each of its NICs by each driver that works for it.
func TestPlannedUplinks(t *testing.T) {
	files, err := filepath.Glob("../startup/testdata/nodes/*.json")
	if err != nil || len(files) == 0 {
		t.Fatalf("no recorded nodes: %v", err)
	}
	wired := map[nodeconfig.Driver]int{}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var inv inventory.Node
		if err := json.Unmarshal(data, &inv); err != nil {
			t.Fatal(err)
		}
		for _, nic := range append(inv.NICs, unlinked(&inv)) {
			for _, c := range startup.Drivers(inv, nic) {
				cfg := nodeconfig.Default()
				cfg.Uplinks = []nodeconfig.Uplink{{Interface: nic.Name, Driver: c.Driver}}
				if nic.Name == "" {
					cfg.Uplinks[0].PCI = nic.PCI
				}
				cfg.VPP.AllowNoIOMMU = true
				cfg.Complete("node-1")
				plan, err := startup.Make(inv, cfg)
				if err != nil {
					continue // refused, which package startup tests
				}
				if _, err := State(plan.Uplinks, Options{Tap: true}); err != nil {
					t.Errorf("%s, %s by %s: %v", filepath.Base(file), nic.Title(), c.Driver, err)
				}
				wired[c.Driver]++
			}
		}
	}
	t.Logf("wired %v", wired)
	for _, d := range []nodeconfig.Driver{nodeconfig.DriverDPDK, nodeconfig.DriverVirtio, nodeconfig.DriverAVF, nodeconfig.DriverRDMA, nodeconfig.DriverAFPacket, nodeconfig.DriverAFXDP} {
		if wired[d] == 0 {
			t.Errorf("no plan with an uplink by %s", d)
		}
	}
}

// unlinked adds a NIC on which the kernel has no link.
func unlinked(inv *inventory.Node) inventory.NIC {
	inv.Devices = append(inv.Devices, inventory.PCIDevice{Address: "0000:7f:00.0", Vendor: "8086", Device: "1572", Class: "020000", IOMMUGroup: 99})
	inv.NICs = append(inv.NICs, inventory.NIC{PCI: "0000:7f:00.0"})
	return inv.NICs[len(inv.NICs)-1]
}
