package startup

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/millrace/millrace/internal/nodeconfig"
	"github.com/millrace/millrace/vppmanager/inventory"
)

// DriverChoice is one way to drive a NIC, and whether and why it works on this node.
type DriverChoice struct {
	Driver    nodeconfig.Driver    `json:"driver"`
	PCIDriver nodeconfig.PCIDriver `json:"pciDriver,omitempty"` // the kernel's driver under it; "" where the kernel keeps the NIC
	Works     bool                 `json:"works"`
	Why       string               `json:"why"` // it works, or what stands in the way and what to do
}

// Drivers judges all drivers for one NIC, the best first: auto takes the first that
// works. It knows nothing of a configuration, so it assumes the default one and that this
// NIC alone is taken.
func Drivers(node inventory.Node, nic inventory.NIC) []DriverChoice {
	return judge{node: node, cfg: nodeconfig.Default().VPP, mine: []string{nic.PCI}}.drivers(nic)
}

// judge weighs drivers on one node under one configuration.
type judge struct {
	node   inventory.Node
	cfg    nodeconfig.VPP
	mine   []string // PCI addresses that the plan takes
	engine bool     // the dataplane is the engine, which has sockets only
}

func (j judge) drivers(nic inventory.NIC) []DriverChoice {
	// af_xdp comes last although it is faster than af_packet: whether the kernel's driver
	// gives a program its queues is known only when it is tried.
	choices := []DriverChoice{j.dpdk(nic), j.virtio(nic), j.avf(nic), j.rdma(nic), j.afPacket(nic), j.afXDP(nic)}
	if j.engine {
		for i := range choices {
			if c := &choices[i]; c.Driver != nodeconfig.DriverAFPacket && c.Driver != nodeconfig.DriverAFXDP {
				c.PCIDriver, c.Works, c.Why = "", false, "the engine takes uplinks by af_packet and af_xdp only: choose --dataplane vpp"
			}
		}
	}
	if why := j.programmed(nic); why != "" {
		for i := range choices {
			choices[i].PCIDriver, choices[i].Works, choices[i].Why = "", false, why
		}
	}
	return choices
}

// programmed is why a NIC with an XDP program is not taken, or "". With another driver the
// program would be lost, and beside a socket it would decide what arrives.
func (j judge) programmed(nic inventory.NIC) string {
	all := []inventory.NIC{nic}
	if nic.Bond != nil {
		for _, name := range nic.Bond.Members {
			member, _ := j.node.NIC(name)
			all = append(all, member)
		}
	}
	for _, n := range all {
		if n.XDP != "" {
			return fmt.Sprintf("%s has the XDP program %s: end what has put it there, or detach it (ip link set %s xdp off)", n.Name, n.XDP, n.Name)
		}
	}
	return ""
}

// fits is why a driver is nothing for a device, or "".
type fits func(inventory.PCIDevice) string

// taking judges a driver that takes PCI devices from the kernel: on a bond each member.
func (j judge) taking(driver nodeconfig.Driver, nic inventory.NIC, unfit fits) DriverChoice {
	c := DriverChoice{Driver: driver}
	if nic.Kind == "bond" {
		return j.members(c, nic, func(member inventory.NIC) DriverChoice { return j.taking(driver, member, unfit) })
	}
	d, why := j.device(nic)
	if why == "" {
		why = unfit(d)
	}
	if why != "" {
		c.Why = why
		return c
	}
	c.PCIDriver, c.Works, c.Why = j.hold(d)
	return c
}

// dpdk is VPP's dpdk plugin.
func (j judge) dpdk(nic inventory.NIC) DriverChoice {
	return j.taking(nodeconfig.DriverDPDK, nic, func(d inventory.PCIDevice) string {
		switch {
		case !j.plugin("dpdk"):
			return j.noPlugin("dpdk")
		case d.Vendor == mellanox:
			return "VPP's dpdk plugin leaves Mellanox NICs to rdma"
		case !dpdkKnows(d):
			return fmt.Sprintf("VPP's dpdk plugin does not know the device %s:%s", d.Vendor, d.Device)
		}
		return ""
	})
}

// virtio is VPP's own driver of virtio-net.
func (j judge) virtio(nic inventory.NIC) DriverChoice {
	return j.taking(nodeconfig.DriverVirtio, nic, func(d inventory.PCIDevice) string {
		if !isVirtio(d) {
			return "not a virtio-net device"
		}
		if by, works, _ := j.hold(d); works {
			return virtioLimits(d, by)
		}
		return "" // why it cannot be held is said by taking
	})
}

// virtioLimits is what VPP 25.10's driver was seen to fail on (vnet/devices/virtio/pci.c):
// it does not offer VIRTIO_F_ACCESS_PLATFORM, without which a device behind an IOMMU
// refuses or misses memory, and it opens BAR 0, which only transitional devices have.
func virtioLimits(d inventory.PCIDevice, by nodeconfig.PCIDriver) string {
	switch {
	case by == nodeconfig.PCIDriverVFIO && d.IOMMUGroup >= 0:
		return "VPP's own virtio driver does not know devices behind an IOMMU (VIRTIO_F_ACCESS_PLATFORM): use dpdk"
	case by == nodeconfig.PCIDriverUIO && d.Device == "1041":
		return "VPP's own virtio driver cannot open a device of virtio 1.0 under uio_pci_generic: use dpdk"
	}
	return ""
}

// avf is VPP's own driver of the virtual functions of Intel's 700 and 800 series.
func (j judge) avf(nic inventory.NIC) DriverChoice {
	return j.taking(nodeconfig.DriverAVF, nic, func(d inventory.PCIDevice) string {
		switch {
		case d.Vendor != intel || !slices.Contains([]string{"1889", "154c", "37cd"}, d.Device):
			return "not a virtual function of Intel's 700 or 800 series"
		case !j.plugin("avf"):
			return j.noPlugin("avf")
		}
		return ""
	})
}

// rdma is VPP's own driver of Mellanox NICs, beside the kernel's.
func (j judge) rdma(nic inventory.NIC) DriverChoice {
	c := DriverChoice{Driver: nodeconfig.DriverRDMA}
	if nic.Kind == "bond" {
		c.Why = "members that the kernel keeps stay in its bond"
		return c
	}
	missing := j.missing("mlx5_ib", "ib_uverbs")
	switch d, why := j.device(nic); {
	case why != "":
		c.Why = why
	case d.Vendor != mellanox || d.Driver != "" && d.Driver != "mlx5_core":
		c.Why = "not a Mellanox NIC that mlx5_core drives"
	case nic.Name == "":
		c.Why = "the kernel has no link on it: bind it to mlx5_core"
	case !j.plugin("rdma"):
		c.Why = j.noPlugin("rdma")
	case missing != "":
		c.Why = missing
	default:
		c.Works, c.Why = true, "the kernel's mlx5_core keeps the NIC"
	}
	return c
}

// maxXDPFrame is what the kernel can put into VPP's buffer: 2048 bytes and VPP's header,
// less that header and XDP's head room (linux/if_xdp.h, plugins/af_xdp/device.c), less the
// Ethernet header with a VLAN tag.
const maxXDPFrame = 2048 - 256 - 18

// afXDP is an AF_XDP socket on a link of the kernel.
func (j judge) afXDP(nic inventory.NIC) DriverChoice {
	c := DriverChoice{Driver: nodeconfig.DriverAFXDP}
	switch {
	case nic.Name == "":
		c.Why = "the kernel has no link on it"
	case nic.Kind != "" && nic.Kind != "veth":
		c.Why = "a " + nic.Kind + " hands no packets to AF_XDP"
	case nic.MTU > maxXDPFrame:
		c.Why = fmt.Sprintf("its MTU of %d is above %d, which is what fits into a buffer of VPP: lower it (ip link set %s mtu %d) if the network allows", nic.MTU, maxXDPFrame, nic.Name, maxXDPFrame)
	case !kernelAtLeast(j.node.Kernel, 5, 4):
		c.Why = "the kernel " + j.node.Kernel + " is older than 5.4"
	case !j.engine && !j.plugin("af_xdp"):
		c.Why = j.noPlugin("af_xdp")
	case nic.Kind == "veth":
		c.Works, c.Why = true, "the kernel keeps the link; checksums that the other end leaves to the NIC are lost: switch tx-checksumming off there"
	default:
		c.Works, c.Why = true, "the kernel's "+orDevice(nic.Driver)+" keeps the NIC"
	}
	return c
}

// afPacket is a packet socket on any link of the kernel.
func (j judge) afPacket(nic inventory.NIC) DriverChoice {
	c := DriverChoice{Driver: nodeconfig.DriverAFPacket}
	switch {
	case nic.Name == "":
		c.Why = "the kernel has no link on it"
	case nic.Kind == "bridge":
		c.Why = "a bridge forwards by itself: name its port"
	case !j.engine && !j.plugin("af_packet"):
		c.Why = j.noPlugin("af_packet")
	default:
		c.Works, c.Why = true, "any link works, by copies through the kernel's "+orDevice(nic.Driver)
	}
	return c
}

// members judges a driver for a bond: every member has to work by itself.
func (j judge) members(c DriverChoice, bond inventory.NIC, one func(inventory.NIC) DriverChoice) DriverChoice {
	if bond.Bond == nil || len(bond.Bond.Members) == 0 {
		c.Why = "the bond has no members"
		return c
	}
	if why := bondMode(*bond.Bond); why != "" {
		c.Why = why
		return c
	}
	for _, name := range bond.Bond.Members {
		nic, found := j.node.NIC(name)
		if !found {
			c.Why = "its member " + name + " is not known"
			return c
		}
		m := one(nic)
		if !m.Works {
			c.Why = "its member " + name + ": " + m.Why
			return c
		}
		c.PCIDriver = m.PCIDriver
	}
	c.Works, c.Why = true, "works for every member ("+strings.Join(bond.Bond.Members, ", ")+")"
	return c
}

func orDevice(driver string) string {
	if driver == "" {
		return "driver"
	}
	return driver
}

// kernelAtLeast compares a release such as 6.1.0-32-amd64; an unknown one passes.
func kernelAtLeast(release string, major, minor int) bool {
	parts := strings.FieldsFunc(release, func(r rune) bool { return r < '0' || r > '9' })
	if len(parts) < 2 {
		return true
	}
	a, errA := strconv.Atoi(parts[0])
	b, errB := strconv.Atoi(parts[1])
	return errA != nil || errB != nil || a > major || a == major && b >= minor
}
