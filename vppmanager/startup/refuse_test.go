package startup

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/millrace/millrace/internal/nodeconfig"
	"github.com/millrace/millrace/vppmanager/inventory"
)

// TestRefusals checks that what cannot or must not be done is refused before the first
// change, by an error that names it and says what to do.
func TestRefusals(t *testing.T) {
	type n = inventory.Node
	type c = nodeconfig.Config
	nic := func(i *n, name string) *inventory.NIC {
		for j := range i.NICs {
			if i.NICs[j].Name == name {
				return &i.NICs[j]
			}
		}
		t.Fatalf("no NIC %s", name)
		return nil
	}
	first := func(edit func(*nodeconfig.Uplink), names ...string) func(*c) {
		return func(cfg *c) {
			cfg.Uplinks = uplinks(names...)
			if edit != nil {
				edit(&cfg.Uplinks[0])
			}
		}
	}
	driver := func(d nodeconfig.Driver) func(*nodeconfig.Uplink) { return func(u *nodeconfig.Uplink) { u.Driver = d } }
	share := func(edit func(*nodeconfig.Uplink), name string) func(*c) {
		return func(cfg *c) {
			first(edit, name)(cfg)
			cfg.Dataplane, cfg.Uplinks[0].Mode = nodeconfig.UseEngine, nodeconfig.ModeShare
		}
	}
	noTap := func(u *nodeconfig.Uplink) { u.NoHostTap = true }
	for _, tt := range []struct {
		name, node string
		inv        func(*n)
		cfg        func(*c)
		want       []string
	}{
		{"no such interface", "no-iommu", nil, first(nil, "eth9"), []string{"uplinks[0].interface: there is no NIC eth9", "enp2s0 (0000:02:00.0), enp3s0"}},
		{"no such address", "no-iommu", nil, first(nil, "0000:99:00.0"), []string{"uplinks[0].pci: there is no device 0000:99:00.0", "enp2s0 (0000:02:00.0)"}},
		{"a disk's address", "metal-2socket", nil, first(driver("dpdk"), "0000:d8:00.0"), []string{"uplinks[0].driver: dpdk", "no Ethernet controller (class 010802)"}},
		{"shared by VPP", "no-iommu", nil, first(func(u *nodeconfig.Uplink) { u.Mode = nodeconfig.ModeShare }, "enp3s0"), []string{"uplinks[0].mode: enp3s0", "leaves its own on the NIC when it is killed"}},
		{"shared bond", "bond-vlan", nil, share(nil, "bond0"), []string{"uplinks[0].mode: bond0 cannot be shared: it is a bond"}},
		{"shared while down", "no-iommu", func(i *n) { nic(i, "enp3s0").Up = false }, share(nil, "enp3s0"), []string{"it is down", "ip link set enp3s0 up"}},
		{"shared jumbo", "no-iommu", func(i *n) { nic(i, "enp3s0").MTU = 9000 }, share(nil, "enp3s0"), []string{"its MTU of 9000 is above 3822"}},
		{"shared on an old kernel", "no-iommu", func(i *n) { i.Kernel = "5.4.0-200-generic" }, share(nil, "enp3s0"), []string{"older than 5.9"}},
		{"shared with a program", "no-iommu", func(i *n) { nic(i, "enp3s0").XDP = "xdp_pass (id 12 in the driver)" }, share(nil, "enp3s0"), []string{"enp3s0 has the XDP program xdp_pass (id 12 in the driver)"}},
		{"member of a bond", "bond-vlan", nil, first(nil, "enp4s0f0"), []string{"uplinks[0]: enp4s0f0 is in the bond bond0: name bond0"}},
		{"port of a bridge", "no-iommu", func(i *n) { p := nic(i, "enp3s0"); p.Master, p.MasterIs = "br0", "bridge" }, first(nil, "enp3s0"),
			[]string{"enp3s0 is in the bridge br0: take it out first (ip link set enp3s0 nomaster)"}},
		{"VLAN in a bridge", "bond-vlan", func(i *n) { p := nic(i, "bond0.200"); p.Master, p.MasterIs = "br200", "bridge" }, first(nil, "bond0"), []string{"bond0.200 is in the bridge br200"}},
		{"macvlan on it", "no-iommu", func(i *n) { nic(i, "enp3s0").Uppers = []string{"macvlan0"} }, first(nil, "enp3s0"), []string{"macvlan0 stands on enp3s0 and is no VLAN: remove it"}},
		{"802.1ad", "bond-vlan", func(i *n) { nic(i, "bond0.100").VLAN.Tag = "802.1ad" }, first(nil, "bond0"), []string{"bond0.100 is a VLAN of 802.1ad"}},
		{"VLAN in a VLAN", "bond-vlan", func(i *n) { nic(i, "bond0.100").Uppers = []string{"bond0.100.7"} }, first(nil, "bond0"), []string{"bond0.100.7 stands on the VLAN bond0.100"}},
		{"bond mode", "bond-vlan", func(i *n) { nic(i, "bond0").Bond.Mode = "balance-tlb" }, first(driver("dpdk"), "bond0"), []string{"uplinks[0].driver: dpdk", "no bonds of mode balance-tlb"}},
		{"bond hash", "bond-vlan", func(i *n) { nic(i, "bond0").Bond.XmitHash = "encap3+4" }, first(driver("dpdk"), "bond0"), []string{"no transmit hash encap3+4"}},
		{"bond and its VLAN", "bond-vlan", nil, first(nil, "bond0", "bond0.100"), []string{"uplinks[1]: bond0.100 is a part of uplinks[0] already"}},
		{"twice by name and address", "metal-2socket", nil, first(nil, "ens1f0", "0000:18:00.0"), []string{"uplinks[1]: ens1f0 (0000:18:00.0) is a part of uplinks[0] already"}},
		{"group shared", "metal-2socket", func(i *n) { i.Devices[3].IOMMUGroup = 23 }, first(driver("dpdk"), "ens1f0"), []string{"uplinks[0].driver: dpdk does not work", "IOMMU group 23 also has 0000:18:00.1 (ens1f1)"}},
		{"group shared with one that the kernel keeps", "metal-2socket", func(i *n) { i.Devices[3].IOMMUGroup = 23 },
			func(cfg *c) {
				cfg.Uplinks = uplinks("ens1f0", "ens1f1")
				cfg.Uplinks[0].Driver, cfg.Uplinks[1].Driver = "dpdk", "af_packet"
			},
			[]string{"IOMMU group 23 also has 0000:18:00.1 (ens1f1)"}},
		{"group under two drivers", "vm-avf", func(i *n) { i.Devices[3].IOMMUGroup = 2 },
			func(cfg *c) {
				cfg.Uplinks = uplinks("enp1s0", "ens6")
				cfg.Uplinks[0].Driver, cfg.Uplinks[1].Driver = "dpdk", "avf"
			},
			[]string{"uplinks[1]: ens6", "IOMMU group 2 with uplinks[0]"}},
		{"no IOMMU", "no-iommu", nil, first(driver("dpdk"), "enp3s0"), []string{"there is no IOMMU", "vpp.allowNoIOMMU: true"}},
		{"no modules", "cloud-virtio", nil, first(driver("dpdk"), "eth0"), []string{"neither vfio-pci nor uio_pci_generic"}},
		{"device held", "metal-2socket", func(i *n) { i.Devices[2].User = "dpdk-testpmd (pid 12)" }, first(nil, "ens1f0"), []string{"is held by dpdk-testpmd (pid 12): stop that first"}},
		{"PF with VFs", "metal-2socket", func(i *n) { i.Devices[2].VFs = 2 }, first(driver("dpdk"), "ens1f0"), []string{"2 virtual functions", "sriov_numvfs"}},
		{"VF whose PF is under vfio-pci", "vm-avf", func(i *n) {
			i.Devices[3].PF = "0000:00:1f.0"
			i.Devices = append(i.Devices, inventory.PCIDevice{Address: "0000:00:1f.0", Vendor: "8086", Device: "1572", Class: "020000", Driver: "vfio-pci", VFs: 1, IOMMUGroup: 40})
		}, first(driver("dpdk"), "ens6"), []string{"its physical function 0000:00:1f.0 is under vfio-pci"}},
		{"VF by uio", "vm-avf", func(i *n) { i.IOMMU.On, i.Devices[3].IOMMUGroup = false, -1 }, func(cfg *c) {
			cfg.Uplinks, cfg.VPP.AllowNoIOMMU = uplinks("ens6"), true
			cfg.Uplinks[0].Driver = "avf"
		}, []string{"no line interrupt"}},
		{"driver of other devices", "metal-2socket", nil, first(driver("virtio"), "ens1f0"), []string{"not a virtio-net device"}},
		{"nothing works", "laptop-2core", func(i *n) { i.Plugins = []string{"acl"} }, first(nil, "enp3s0"), []string{"uplinks[0]: no driver works for enp3s0", "af_packet: this VPP", "dpdk: this VPP"}},
		{"no lacp plugin", "bond-vlan", func(i *n) { i.Plugins = []string{"dpdk", "af_packet"} }, first(nil, "bond0"), []string{"no lacp plugin"}},
		{"the engine and dpdk", "metal-2socket", nil, func(cfg *c) {
			cfg.Uplinks, cfg.Dataplane = uplinks("ens1f0"), nodeconfig.UseEngine
			cfg.Uplinks[0].Driver = "dpdk"
		}, []string{"the engine takes uplinks by af_packet and af_xdp only"}},
		{"the SSH session, without a host tap", "metal-2socket", nil, first(noTap, "eno1"), []string{"uplinks[0].noHostTap: the SSH session from 192.0.2.250:51214 runs over eno1", "set noHostTap: false"}},
		{"the SSH session on a VLAN", "bond-vlan", nil, first(noTap, "bond0"), []string{"runs over bond0.100"}},
		{"the only default route", "no-iommu", nil, first(noTap, "enp2s0"), []string{"the host's only default route (0.0.0.0/0 via 192.168.1.1) goes over enp2s0"}},
		{"the only default route of IPv6", "metal-2socket", nil, first(noTap, "ens1f0"), []string{"(::/0 via fe80::1) goes over ens1f0"}},
		{"both default routes", "laptop-2core", nil, func(cfg *c) {
			cfg.Uplinks = uplinks("enp3s0", "wlp2s0")
			cfg.Uplinks[0].NoHostTap, cfg.Uplinks[1].NoHostTap = true, true
		}, []string{"goes over enp3s0", "goes over wlp2s0"}},
		{"the API server", "metal-2socket", func(i *n) { i.APIServers = []netip.Addr{netip.MustParseAddr("203.0.113.5")} }, first(noTap, "ens8f0"),
			[]string{"the way to the API server 203.0.113.5 goes over ens8f0"}},
		{"huge pages off", "metal-2socket", nil, func(cfg *c) { cfg.Uplinks, cfg.VPP.HugePages = uplinks("ens1f0"), nodeconfig.HugePagesOff },
			[]string{"vpp.hugepages: off, but uplink0 by dpdk needs huge pages"}},
		{"none in the kernel", "metal-2socket", func(i *n) { i.HugePageSize = 0 }, first(nil, "ens1f0"), []string{"uplink0 by dpdk needs huge pages", "the kernel has no huge pages", "CONFIG_HUGETLBFS"}},
		{"none may be added", "no-iommu", nil, func(cfg *c) {
			cfg.Uplinks, cfg.VPP.AllowNoIOMMU, cfg.VPP.AddHugePages = uplinks("enp3s0"), true, false
		}, []string{"vm.nr_hugepages", "vpp.addHugePages: true"}},
		{"no memory for them", "no-iommu", func(i *n) { i.MemoryAvailable = 1300 << 20 }, func(cfg *c) { cfg.Uplinks, cfg.VPP.AllowNoIOMMU = uplinks("enp3s0"), true },
			[]string{"176 MiB of huge pages would have to be added, 20 MiB of memory are available beside VPP's heap"}},
		{"a container's limit of them", "metal-2socket", func(i *n) { i.HugePageLimits = []inventory.HugePageLimit{{Size: 2 << 20, Max: 64 << 20}} }, first(nil, "ens1f0"),
			[]string{"this container may use 64 MiB: raise its limit hugepages-2Mi"}},
		{"a container's limit of memory", "metal-2socket", func(i *n) { i.MemoryLimit = 512 << 20 }, first(nil, "ens1f0"), []string{"this container may use 512 MiB: raise its memory limit"}},
		{"more queues than there are", "no-iommu", nil, func(cfg *c) {
			cfg.Uplinks, cfg.VPP.AllowNoIOMMU = uplinks("enp3s0"), true
			cfg.Uplinks[0].RxQueues, cfg.Uplinks[0].TxRing = 8, 8192
		}, []string{"uplinks[0].rxQueues: 8 is more than enp3s0 (0000:03:00.0) has (4)", "uplinks[0].txRing: 8192 is more than enp3s0 (0000:03:00.0) has (4096)"}},
		{"virtio behind an IOMMU", "vm-avf", nil, first(driver("virtio"), "enp1s0"), []string{"VIRTIO_F_ACCESS_PLATFORM", "use dpdk"}},
		{"queues of virtio", "vm-virtio", nil, func(cfg *c) {
			cfg.Uplinks, cfg.VPP.AllowNoIOMMU = uplinks("ens3"), true
			cfg.Uplinks[0].Driver, cfg.Uplinks[0].RxQueues = "virtio", 1
		}, []string{"leave rxQueues, txQueues, rxRing and txRing at 0"}},
		{"rings of af_packet", "no-iommu", nil, func(cfg *c) {
			cfg.Uplinks = uplinks("enp3s0")
			cfg.Uplinks[0].Driver, cfg.Uplinks[0].RxRing = "af_packet", 1024
		}, []string{"leave rxRing and txRing at 0"}},
		{"queues of af_xdp", "no-iommu", nil, func(cfg *c) {
			cfg.Uplinks = uplinks("enp3s0")
			cfg.Uplinks[0].Driver, cfg.Uplinks[0].RxQueues = "af_xdp", 2
		}, []string{"all of the NIC's 4 receive queues", "ethtool -L enp3s0 combined 2"}},
		{"rings of af_xdp", "no-iommu", nil, func(cfg *c) {
			cfg.Uplinks = uplinks("enp3s0")
			cfg.Uplinks[0].Driver, cfg.Uplinks[0].RxRing, cfg.Uplinks[0].TxRing = "af_xdp", 1000, 128
		}, []string{"uplinks[0].rxRing: af_xdp takes a power of two from 256 to 32768, not 1000", "uplinks[0].txRing: af_xdp takes"}},
		{"MTU of af_xdp", "no-iommu", func(i *n) { nic(i, "enp3s0").MTU = 9000 }, first(driver("af_xdp"), "enp3s0"),
			[]string{"af_xdp does not work for enp3s0 (0000:03:00.0): its MTU of 9000 is above 1774", "ip link set enp3s0 mtu 1774"}},
		{"another's XDP program", "no-iommu", func(i *n) { nic(i, "enp3s0").XDP = "cil_xdp_entry (id 12 in the driver)" }, first(nil, "enp3s0"),
			[]string{"uplinks[0]: enp3s0 has the XDP program cil_xdp_entry (id 12 in the driver)"}},
		{"queues of rdma", "arm64", nil, func(cfg *c) { cfg.Uplinks = uplinks("enP13p1s0f0np0"); cfg.Uplinks[0].RxQueues = 3 }, []string{"rdma takes a power of two, not 3"}},
		{"workers beyond the cpuset", "metal-2socket", func(i *n) { i.Cpuset = []int{0, 1} }, func(cfg *c) { cfg.Uplinks, cfg.VPP.Workers = uplinks("ens1f0"), 2 },
			[]string{"2 workers and the main thread need 3 CPUs, this process may use 2 (0-1)"}},
		{"CPU level", "metal-2socket", func(i *n) { i.CPULevel = "x86-64-v1" }, first(nil, "ens1f0"), []string{"no SSE4.2"}},
		{"several at once", "no-iommu", nil, first(noTap, "enp2s0", "eth9"), []string{"uplinks[0].noHostTap", "uplinks[1].interface"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inv := recorded(t, tt.node)
			if tt.inv != nil {
				tt.inv(&inv)
			}
			p, err := Make(inv, config(tt.cfg))
			if err == nil {
				t.Fatalf("no error, but the plan\n%v", p)
			}
			if len(p.Changes) > 0 {
				t.Errorf("a plan with changes beside the error: %v", p.Changes)
			}
			for _, w := range tt.want {
				if !strings.Contains(err.Error(), w) {
					t.Errorf("error does not say %q:\n%v", w, err)
				}
			}
		})
	}
}
