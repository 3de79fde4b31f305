package startup

import (
	"slices"
	"strings"
	"testing"

	"github.com/millrace/millrace/internal/nodeconfig"
	"github.com/millrace/millrace/vppmanager/inventory"
)

// driven is a server with an IOMMU, all modules and one NIC of the given IDs in a group of
// its own.
func driven(vendor, device, driver string) inventory.Node {
	inv := server()
	inv.Kernel = "6.1.0-32-amd64"
	inv.IOMMU = inventory.IOMMU{On: true}
	for _, m := range []string{"vfio_pci", "uio_pci_generic", "mlx5_ib", "ib_uverbs", "vhost_net"} {
		inv.Modules = append(inv.Modules, inventory.Module{Name: m, State: inventory.ModuleAvailable})
	}
	inv.Devices = []inventory.PCIDevice{
		{Address: "0000:00:01.0", Vendor: "8086", Device: "1901", Class: "060400", Driver: "pcieport", IOMMUGroup: 7},
		{Address: "0000:01:00.0", Vendor: vendor, Device: device, Class: "020000", Driver: driver, IOMMUGroup: 7, Interfaces: []string{"eth0"}},
	}
	inv.NICs = []inventory.NIC{{Name: "eth0", PCI: "0000:01:00.0", Driver: driver, MAC: "02:00:00:00:00:01", MTU: 1500, Up: true, MaxQueues: 8}}
	return inv
}

func TestDrivers(t *testing.T) {
	const dpdk, virtio, avf, rdma, xdp, packet = "dpdk", "virtio", "avf", "rdma", "af_xdp", "af_packet"
	type n = inventory.Node
	for _, tt := range []struct {
		name  string
		node  inventory.Node
		edit  func(*n)
		works []string          // in order
		why   map[string]string // part of the reason
	}{
		{"X710", driven("8086", "1572", "i40e"), nil, []string{dpdk, packet, xdp}, map[string]string{dpdk: "vfio-pci, IOMMU group 7", virtio: "not a virtio-net device", avf: "not a virtual function"}},
		{"virtio-net", driven("1af4", "1041", "virtio_net"), nil, []string{dpdk, packet, xdp}, map[string]string{virtio: "VIRTIO_F_ACCESS_PLATFORM"}},
		{"AVF", driven("8086", "154c", "iavf"), func(i *n) { i.Devices[1].PF = "0000:02:00.0" }, []string{dpdk, avf, packet, xdp}, nil},
		{"ConnectX", driven("15b3", "101d", "mlx5_core"), nil, []string{rdma, packet, xdp}, map[string]string{dpdk: "leaves Mellanox NICs to rdma", rdma: "keeps the NIC"}},
		{"ConnectX without verbs", driven("15b3", "101d", "mlx5_core"), func(i *n) { i.Modules = i.Modules[:2] }, []string{packet, xdp}, map[string]string{rdma: "no module mlx5_ib"}},
		{"Realtek", driven("10ec", "8168", "r8169"), nil, []string{packet, xdp}, map[string]string{dpdk: "does not know the device 10ec:8168"}},
		{"tg3", driven("14e4", "1657", "tg3"), nil, []string{packet, xdp}, map[string]string{dpdk: "14e4:1657"}},
		{"bnxt", driven("14e4", "16d7", "bnxt_en"), nil, []string{dpdk, packet, xdp}, nil},
		{"ENA", driven("1d0f", "ec20", "ena"), nil, []string{dpdk, packet, xdp}, nil},
		{"no IOMMU", driven("8086", "1572", "i40e"), func(i *n) { i.IOMMU.On, i.Devices[1].IOMMUGroup = false, -1 }, []string{packet, xdp}, map[string]string{dpdk: "vpp.allowNoIOMMU"}},
		{"group shared", driven("8086", "1572", "i40e"), func(i *n) {
			i.Devices = append(i.Devices, inventory.PCIDevice{Address: "0000:01:00.1", Class: "010802", Driver: "nvme", IOMMUGroup: 7})
		}, []string{packet, xdp}, map[string]string{dpdk: "IOMMU group 7 also has 0000:01:00.1 (nvme)"}},
		{"no vfio-pci", driven("8086", "1572", "i40e"), func(i *n) { i.Modules = nil }, []string{packet, xdp}, map[string]string{dpdk: "neither vfio-pci nor uio_pci_generic"}},
		{"vfio refused", driven("8086", "1572", "i40e"), func(i *n) {
			i.VFIO = inventory.File{Path: "/dev/vfio/vfio", Problem: "operation not permitted"}
		}, []string{packet, xdp}, map[string]string{dpdk: "/dev/vfio/vfio (operation not permitted)"}},
		{"VPP without dpdk", driven("8086", "1572", "i40e"), func(i *n) { i.Plugins = []string{"af_packet"} }, []string{packet}, map[string]string{dpdk: "no dpdk plugin", xdp: "no af_xdp plugin"}},
		{"jumbo", driven("8086", "1572", "i40e"), func(i *n) { i.NICs[0].MTU = 9000 }, []string{dpdk, packet}, map[string]string{xdp: "MTU of 9000"}},
		{"XDP in use", driven("8086", "1572", "i40e"), func(i *n) { i.NICs[0].XDP = "cil (id 12 in the driver)" }, nil, map[string]string{
			dpdk: "eth0 has the XDP program cil (id 12 in the driver)", packet: "ip link set eth0 xdp off",
		}},
		{"old kernel", driven("8086", "1572", "i40e"), func(i *n) { i.Kernel = "4.19.0-27-amd64" }, []string{dpdk, packet}, map[string]string{xdp: "older than 5.4"}},
		{"PF with VFs", driven("8086", "1572", "i40e"), func(i *n) { i.Devices[1].VFs = 4 }, []string{packet, xdp}, map[string]string{dpdk: "4 virtual functions"}},
		{"unbound", driven("8086", "1572", ""), func(i *n) { i.NICs[0].Name = "" }, []string{dpdk}, map[string]string{packet: "no link"}},
		{"veth", server(), func(i *n) {
			i.NICs = []inventory.NIC{{Name: "eth0", Kind: "veth", Driver: "veth", MTU: 1500}}
		}, []string{packet, xdp}, map[string]string{dpdk: "no PCI device", xdp: "tx-checksumming"}},
		{"bridge", server(), func(i *n) { i.NICs = []inventory.NIC{{Name: "br0", Kind: "bridge"}} }, nil, map[string]string{packet: "name its port"}},
		{"bond", driven("8086", "1572", "i40e"), func(i *n) {
			i.NICs = []inventory.NIC{{Name: "bond0", Kind: "bond", MTU: 1500, Bond: &inventory.Bond{Mode: "802.3ad", XmitHash: "layer3+4", Members: []string{"eth0"}}}, i.NICs[0]}
		}, []string{dpdk, packet}, map[string]string{dpdk: "works for every member (eth0)", virtio: "its member eth0: not a virtio-net device"}},
		{"bond of a mode VPP lacks", driven("8086", "1572", "i40e"), func(i *n) {
			i.NICs = []inventory.NIC{{Name: "bond0", Kind: "bond", MTU: 1500, Bond: &inventory.Bond{Mode: "balance-alb", Members: []string{"eth0"}}}, i.NICs[0]}
		}, []string{packet}, map[string]string{dpdk: "no bonds of mode balance-alb"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if tt.edit != nil {
				tt.edit(&tt.node)
			}
			var works []string
			for _, c := range Drivers(tt.node, tt.node.NICs[0]) {
				if c.Works {
					works = append(works, string(c.Driver))
				}
				if c.Why == "" {
					t.Errorf("%s: no reason", c.Driver)
				}
				if want := tt.why[string(c.Driver)]; !strings.Contains(c.Why, want) {
					t.Errorf("%s: %q does not say %q", c.Driver, c.Why, want)
				}
			}
			if !slices.Equal(works, tt.works) {
				t.Errorf("works %v, want %v", works, tt.works)
			}
		})
	}
}

// TestPCIDriver checks under which driver of the kernel a device is taken.
func TestPCIDriver(t *testing.T) {
	type cfg = nodeconfig.VPP
	noIOMMU := func(i *inventory.Node) { i.IOMMU.On, i.Devices[1].IOMMUGroup = false, -1 }
	for _, tt := range []struct {
		name string
		node func(*inventory.Node)
		cfg  cfg
		want nodeconfig.PCIDriver // "" = none
		why  string
	}{
		{"IOMMU", nil, cfg{PCIDriver: "auto"}, "vfio-pci", "group 7"},
		{"IOMMU and uio", nil, cfg{PCIDriver: "uio_pci_generic", AllowNoIOMMU: true}, "", "iommu=pt"},
		{"pass-through and uio", func(i *inventory.Node) { i.IOMMU.Passthrough = true }, cfg{PCIDriver: "uio_pci_generic", AllowNoIOMMU: true}, "uio_pci_generic", ""},
		{"pass-through and uio, not allowed", func(i *inventory.Node) { i.IOMMU.Passthrough = true }, cfg{PCIDriver: "uio_pci_generic"}, "", "vpp.allowNoIOMMU"},
		{"no IOMMU, not allowed", noIOMMU, cfg{PCIDriver: "auto"}, "", "vpp.allowNoIOMMU"},
		{"no IOMMU, allowed", noIOMMU, cfg{PCIDriver: "auto", AllowNoIOMMU: true}, "uio_pci_generic", "as vpp.allowNoIOMMU says"},
		{"no IOMMU, allowed, vfio wanted", noIOMMU, cfg{PCIDriver: "vfio-pci", AllowNoIOMMU: true}, "vfio-pci", "enable_unsafe_noiommu_mode"},
		{"no IOMMU, vfio wanted, not allowed", noIOMMU, cfg{PCIDriver: "vfio-pci"}, "", "no IOMMU"},
		{"vfio's own way", func(i *inventory.Node) { noIOMMU(i); i.IOMMU.NoIOMMU = true }, cfg{PCIDriver: "auto", AllowNoIOMMU: true}, "vfio-pci", "enable_unsafe_noiommu_mode"},
		{"vfio's own way, not allowed", func(i *inventory.Node) { noIOMMU(i); i.IOMMU.NoIOMMU = true }, cfg{PCIDriver: "auto"}, "", "vpp.allowNoIOMMU"},
		{"locked down", func(i *inventory.Node) { noIOMMU(i); i.Lockdown = "integrity" }, cfg{PCIDriver: "auto", AllowNoIOMMU: true}, "", "locked down (integrity)"},
		{"modules locked", func(i *inventory.Node) { i.ModulesLocked = true }, cfg{PCIDriver: "auto"}, "", "kernel.modules_disabled"},
		{"VF by uio", func(i *inventory.Node) { noIOMMU(i); i.Devices[1].PF = "0000:02:00.0" }, cfg{PCIDriver: "auto", AllowNoIOMMU: true}, "", "vpp.pciDriver: vfio-pci switches it on"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inv := driven("8086", "1572", "i40e")
			if tt.node != nil {
				tt.node(&inv)
			}
			got := judge{node: inv, cfg: tt.cfg}.dpdk(inv.NICs[0])
			if got.PCIDriver != tt.want || got.Works != (tt.want != "") || !strings.Contains(got.Why, tt.why) {
				t.Errorf("got %+v, want %q because of %q", got, tt.want, tt.why)
			}
		})
	}
}

// TestVirtioLimits checks where VPP's own driver of virtio is held to fail.
func TestVirtioLimits(t *testing.T) {
	for _, tt := range []struct {
		name, device string
		by           nodeconfig.PCIDriver
		works        bool
		why          string
	}{
		{"transitional by uio", "1000", "uio_pci_generic", true, ""},
		{"virtio 1.0 by uio", "1041", "uio_pci_generic", false, "cannot open a device of virtio 1.0"},
		{"transitional by vfio", "1000", "vfio-pci", true, ""},
		{"virtio 1.0 by vfio", "1041", "vfio-pci", true, ""},
	} {
		inv := driven("1af4", tt.device, "virtio_net")
		inv.IOMMU, inv.Devices[1].IOMMUGroup = inventory.IOMMU{NoIOMMU: true}, -1
		got := judge{node: inv, cfg: nodeconfig.VPP{PCIDriver: tt.by, AllowNoIOMMU: true}}.virtio(inv.NICs[0])
		if got.Works != tt.works || !strings.Contains(got.Why, tt.why) {
			t.Errorf("%s: got %+v", tt.name, got)
		}
	}
}
