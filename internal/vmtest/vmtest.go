// Package vmtest boots a virtual machine for tests of what a machine's own hardware and
// kernel cannot give: PCI NICs that may be taken from their drivers, an IOMMU, vfio, a
// reboot.
//
// The guest is QEMU's software emulation of a PC with Debian's kernel; its root is the
// machine's own, read-only, under a layer in memory, so that every program here is there
// too. It reaches no network: its NICs are wired to each other. It ends with the test,
// also when the test is killed. What of the guest has to outlive a reboot lies in
// Persistent. The package never touches the machine's own devices.
//
// scripts/vm.sh gets QEMU and the kernel; without them tests skip.
package vmtest

import (
	"fmt"
	"strings"
)

// Persistent is the guest's directory on a disk, which outlives Reboot with what was synced.
const Persistent = "/persist"

// Tools is the guest's directory of the programs that Machine.Tools names.
const Tools = "/run/vm"

// Far is the network namespace in the guest that plays the other end of the wires.
const Far = "far"

// Machine is the hardware of a guest.
type Machine struct {
	IOMMU     bool
	Cards     []Card
	MemoryMiB int      // 0: 2048
	Tools     []string // packages of this module whose programs stand in Tools, as ./cmd/millrace
	Tests     []string // packages of this module whose compiled tests stand in Tools, as change.test
}

// Card is a NIC of the guest.
type Card struct {
	Link  string // the kernel name it is given after boot
	Model Model
	Wire  int // cards of one wire reach each other
	Place Place
	Far   bool // its link is moved to the namespace Far
}

// Model is what the card is.
type Model string

// The models.
const (
	E1000E Model = "e1000e"
	E1000  Model = "e1000" // conventional PCI
	Virtio Model = "virtio-net-pci"
)

// Place is where on the PCI bus a card sits, and with it who shares its IOMMU group.
type Place int

// The places.
const (
	Alone  Place = iota // behind a root port of its own: a group of its own
	Bridge              // behind the conventional PCI bridge, whose cards share one group
)

// MAC is the address of the card at an index of Machine.Cards.
func MAC(index int) string { return fmt.Sprintf("52:54:00:6d:72:%02x", index+1) }

// Standard are two near cards, each with a far end: e0 of e1000e with far address link e0far,
// v0 of virtio with v0far.
func Standard() []Card {
	return []Card{
		{Link: "e0", Model: E1000E, Wire: 0},
		{Link: "v0", Model: Virtio, Wire: 1},
		{Link: "e0far", Model: E1000E, Wire: 0, Far: true},
		{Link: "v0far", Model: Virtio, Wire: 1, Far: true},
	}
}

// hardware is the part of QEMU's command line that describes the cards and the IOMMU.
func (m Machine) hardware() []string {
	var args []string
	if m.IOMMU {
		args = append(args, "-device", "intel-iommu,intremap=on,device-iotlb=on")
	}
	bridged := 0
	for i, c := range m.Cards {
		bus := fmt.Sprintf("port%d", i)
		if c.Place == Alone {
			// One slot of the root complex a port; those below 8 are the chipset's and ours.
			args = append(args, "-device", fmt.Sprintf("pcie-root-port,id=%s,bus=pcie.0,addr=%#x,chassis=%d", bus, 8+i, i+1))
		} else {
			if bridged == 0 {
				args = append(args, "-device", "pcie-root-port,id=bridgeport,bus=pcie.0,addr=0x1e,chassis=100",
					"-device", "pcie-pci-bridge,id=bridge,bus=bridgeport")
			}
			bridged++
			bus = fmt.Sprintf("bridge,addr=%#x", bridged)
		}
		device := fmt.Sprintf("%s,netdev=net%d,bus=%s,mac=%s", c.Model, i, bus, MAC(i))
		if c.Model == Virtio {
			device += ",disable-legacy=on,iommu_platform=on"
		}
		args = append(args, "-netdev", fmt.Sprintf("hubport,id=net%d,hubid=%d", i, c.Wire), "-device", device)
	}
	return args
}

// setup is the script that gives the links their names and places, and mounts the disk.
func (m Machine) setup() string {
	var b strings.Builder
	b.WriteString("set -e\nip link set lo up\nmodprobe -a e1000e e1000 virtio_net virtio_blk ext4\n")
	fmt.Fprintf(&b, "mkdir -p %s\nmount /dev/vda %s\nip netns add %s\nip -n %s link set lo up\n", Persistent, Persistent, Far, Far)
	b.WriteString("byMAC() { for l in /sys/class/net/*; do [ \"$(cat $l/address)\" = $1 ] && basename $l && return; done; echo no link $1 >&2; exit 1; }\n")
	for i, c := range m.Cards {
		fmt.Fprintf(&b, "ip link set $(byMAC %s) name %s\n", MAC(i), c.Link)
		if c.Far {
			fmt.Fprintf(&b, "ip link set %s netns %s\n", c.Link, Far)
		}
	}
	return b.String()
}
