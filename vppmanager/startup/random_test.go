package startup

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/millrace/millrace/internal/nodeconfig"
	"github.com/millrace/millrace/vppmanager/inventory"
)

// TestRandomNodes checks of plans for random nodes and configurations that they touch only
// what is named, that their changes are legal in their order, and that equal input gives
// equal output. A refused configuration gives no plan at all.
func TestRandomNodes(t *testing.T) {
	plans := map[nodeconfig.Driver]int{}
	refused := 0
	for seed := range uint64(6000) {
		r := rand.New(rand.NewPCG(seed, 5))
		inv := randomNode(r)
		cfg := randomConfig(r, inv)
		p, err := Make(inv, cfg)
		again, errAgain := Make(inv, cfg)
		if diff := cmp.Diff(p.String(), again.String()); diff != "" || fmt.Sprint(err) != fmt.Sprint(errAgain) {
			t.Fatalf("seed %d: two plans of equal input differ: %s", seed, diff)
		}
		if err != nil {
			refused++
			if len(p.Changes) > 0 || len(p.Uplinks) > 0 {
				t.Errorf("seed %d: a plan beside the error %v", seed, err)
			}
			continue
		}
		for _, u := range p.Uplinks {
			plans[u.Driver]++
		}
		wellFormed(t, inv, p)
		if t.Failed() {
			t.Fatalf("seed %d:\n%v", seed, p)
		}
	}
	t.Logf("uplinks by driver %v, %d refused", plans, refused)
	for _, d := range []nodeconfig.Driver{nodeconfig.DriverDPDK, nodeconfig.DriverVirtio, nodeconfig.DriverAVF, nodeconfig.DriverRDMA, nodeconfig.DriverAFPacket, nodeconfig.DriverAFXDP} {
		if plans[d] < 20 {
			t.Errorf("%d uplinks by %s: the random nodes do not reach it", plans[d], d)
		}
	}
}

// devices that random nodes are made of.
var kinds = []struct{ vendor, device, driver string }{
	{"8086", "1572", "i40e"}, {"8086", "10d3", "e1000e"}, {"1af4", "1041", "virtio-pci"}, {"1af4", "1000", "virtio-pci"}, {"8086", "1889", "iavf"},
	{"15b3", "101d", "mlx5_core"}, {"10ec", "8168", "r8169"}, {"1d0f", "ec20", "ena"}, {"14e4", "16d7", "bnxt_en"},
}

func pick[T any](r *rand.Rand, list ...T) T { return list[r.IntN(len(list))] }

func randomNode(r *rand.Rand) inventory.Node {
	inv := server()
	inv.Kernel = "6.1.0-32-amd64"
	inv.Cores = nil
	nodes := 1 + r.IntN(2)
	inv.CPUs = nil
	for i := range 2 + r.IntN(14) {
		inv.CPUs = append(inv.CPUs, i)
		inv.Cores = append(inv.Cores, inventory.CPU{ID: i, NUMA: i % nodes, Siblings: []int{i ^ 1}, Isolated: r.IntN(4) == 0})
	}
	inv.NUMA = inv.NUMA[:nodes]
	for i := range inv.NUMA {
		inv.NUMA[i].HugePagesFree = r.IntN(600)
	}
	inv.IOMMU = inventory.IOMMU{On: r.IntN(3) > 0, Passthrough: r.IntN(3) == 0, NoIOMMU: r.IntN(3) == 0}
	for _, m := range []string{"vfio-pci", "vfio_iommu_type1", "uio_pci_generic", "ib_uverbs", "mlx5_ib", "tun", "vhost_net", "af_packet"} {
		inv.Modules = append(inv.Modules, inventory.Module{Name: m, State: pick(r, inventory.ModuleLoaded, inventory.ModuleAvailable, inventory.ModuleAvailable, inventory.ModuleBuiltin)})
	}
	inv.VhostNet.Missing = r.IntN(3) == 0
	for i := range 1 + r.IntN(5) {
		randomNIC(r, &inv, i, nodes)
	}
	randomBond(r, &inv)
	for _, nic := range inv.NICs {
		if nic.Name != "" && nic.Master == "" && r.IntN(3) == 0 {
			randomVLAN(r, &inv, nic.Name)
		}
	}
	return inv
}

func randomNIC(r *rand.Rand, inv *inventory.Node, i, nodes int) {
	k := pick(r, kinds...)
	d := inventory.PCIDevice{
		Address: fmt.Sprintf("0000:%02x:00.0", i+1), Vendor: k.vendor, Device: k.device, Class: "020000", Driver: k.driver,
		IOMMUGroup: -1, NUMA: r.IntN(nodes+1) - 1, NoIRQ: k.driver == "iavf" || k.driver == "ena",
	}
	if inv.IOMMU.On {
		d.IOMMUGroup = i/(1+r.IntN(2)) + 10
	}
	nic := inventory.NIC{
		PCI: d.Address, Driver: k.driver, MAC: fmt.Sprintf("02:00:00:00:00:%02x", i), MTU: pick(r, 1500, 9000), Up: r.IntN(5) > 0,
		Carrier: true, RxQueues: 1 + r.IntN(4), MaxQueues: r.IntN(9), RxRing: 256, TxRing: 256, MaxRxRing: 4096, MaxTxRing: 4096,
	}
	switch r.IntN(12) {
	case 0: // bound by hand, as somebody left it
		d.Driver = pick(r, "vfio-pci", "uio_pci_generic", "")
		nic = inventory.NIC{PCI: d.Address, Driver: d.Driver}
	case 1:
		d.User = "dpdk-testpmd (pid 12)"
	}
	if nic.Up {
		nic.Name = pick(r, fmt.Sprintf("eth%d", i), fmt.Sprintf("enP13p1s0f%dnp0", i), fmt.Sprintf("p-eth%d", i+1))
		for _, o := range inv.NICs {
			if o.Name == nic.Name {
				nic.Name = fmt.Sprintf("eth%d", i)
			}
		}
		d.Interfaces = []string{nic.Name}
		nic.Addresses = []inventory.Address{{Prefix: netip.PrefixFrom(netip.AddrFrom4([4]byte{192, 0, byte(i), 1}), 24), Scope: "global"}}
	}
	inv.Devices, inv.NICs = append(inv.Devices, d), append(inv.NICs, nic)
}

// randomBond joins some NICs.
func randomBond(r *rand.Rand, inv *inventory.Node) {
	if r.IntN(2) == 0 {
		return
	}
	bond := inventory.NIC{Name: "bond0", Kind: "bond", Driver: "bonding", MTU: 1500, Up: true, Carrier: true, Bond: &inventory.Bond{Mode: pick(r, "802.3ad", "active-backup", "balance-alb")}}
	for i := range inv.NICs {
		if nic := &inv.NICs[i]; nic.Name != "" && r.IntN(2) == 0 {
			nic.Master, nic.MasterIs, nic.Uppers = "bond0", "bond", []string{"bond0"}
			bond.Bond.Members = append(bond.Bond.Members, nic.Name)
		}
	}
	inv.NICs = append(inv.NICs, bond)
}

func randomVLAN(r *rand.Rand, inv *inventory.Node, parent string) {
	id := 2 + r.IntN(4000)
	name := fmt.Sprintf("vlan%d", id)
	for i := range inv.NICs {
		if inv.NICs[i].Name == name {
			return
		}
		if inv.NICs[i].Name == parent {
			inv.NICs[i].Uppers = append(inv.NICs[i].Uppers, name)
		}
	}
	inv.NICs = append(inv.NICs, inventory.NIC{Name: name, Kind: "vlan", MTU: 1500, Up: true, VLAN: &inventory.VLAN{Parent: parent, ID: id}})
}

func randomConfig(r *rand.Rand, inv inventory.Node) nodeconfig.Config {
	c := nodeconfig.Default()
	for range 1 + r.IntN(2) {
		nic := pick(r, inv.NICs...)
		u := nodeconfig.Uplink{Interface: nic.Name, Driver: nodeconfig.DriverAuto, NoHostTap: r.IntN(5) == 0}
		if nic.Name == "" || nic.PCI != "" && r.IntN(4) == 0 {
			u.Interface, u.PCI = "", nic.PCI
		}
		if own := map[string]nodeconfig.Driver{"virtio-pci": nodeconfig.DriverVirtio, "iavf": nodeconfig.DriverAVF}[nic.Driver]; own != "" && r.IntN(2) == 0 {
			u.Driver = own
		} else if r.IntN(4) == 0 {
			u.Driver = pick(r, nodeconfig.DriverDPDK, nodeconfig.DriverVirtio, nodeconfig.DriverAVF, nodeconfig.DriverRDMA, nodeconfig.DriverAFXDP, nodeconfig.DriverAFPacket)
		}
		c.Uplinks = append(c.Uplinks, u)
	}
	c.VPP.Workers = r.IntN(4)
	c.VPP.AllowNoIOMMU = r.IntN(2) == 0
	c.VPP.PCIDriver = pick(r, nodeconfig.PCIDriverAuto, nodeconfig.PCIDriverAuto, nodeconfig.PCIDriverVFIO, nodeconfig.PCIDriverUIO)
	if r.IntN(8) == 0 {
		c.Dataplane = nodeconfig.UseEngine
	}
	c.Complete("node-1")
	return c
}
