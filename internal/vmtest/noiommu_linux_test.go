package vmtest

import "testing"

// byUIO stands under vpp in a configuration for a machine without IOMMU.
const byUIO = "  pciDriver: uio_pci_generic\n  allowNoIOMMU: true\n"

// TestIntegrationVMNoIOMMU has the manager take NICs by uio_pci_generic where there is no
// IOMMU, if that is allowed: with the stand-in, and with real VPP where VPP_BIN names one
// that has the dpdk plugin.
func TestIntegrationVMNoIOMMU(t *testing.T) {
	g := Boot(t, Machine{Cards: Standard(), MemoryMiB: 3072, Tools: []string{"./cmd/millrace", "./internal/vmtest/standin"}})
	w := ways{config: nodeConfig(byUIO, "e0", "v0"), driver: "uio_pci_generic", says: "RX-packets:"}
	steps(t, g, w.config, step{"refused", refusesNoIOMMU}, step{"stop", w.stops}, step{"VPP", func(t *testing.T, g *Guest, before State) {
		v := ways{config: configFor(realVPP(t, "dpdk"), byUIO, "e0", "v0"), driver: w.driver}
		g.Write(t, configFile, v.config)
		v.stops(t, g, before)
	}})
}

// refusesNoIOMMU: what is not allowed is not done, whichever driver is asked for.
func refusesNoIOMMU(t *testing.T, g *Guest, before State) {
	for _, driver := range []string{"auto", "uio_pci_generic", "vfio-pci"} {
		refused(t, g, before, nodeConfig("  pciDriver: "+driver+"\n", "e0", "v0"), "e0", "v0", "there is no IOMMU")
	}
	refused(t, g, before, nodeConfig("  pciDriver: uio_pci_generic\n", "e0"), "vpp.allowNoIOMMU: true")
}
