package startup

import (
	"fmt"
	"slices"
	"strings"

	"github.com/millrace/millrace/internal/nodeconfig"
	"github.com/millrace/millrace/vppmanager/inventory"
)

// changes orders all changes of the host: what disturbs nobody comes first (modules, huge
// pages, saving), so that what can fail fails while every NIC still works.
func changes(inv inventory.Node, list []taken, ups []Uplink, pages []Change) []Change {
	all := append(modules(inv, list, ups), noIOMMUOn(inv, list)...)
	all = append(all, pages...)
	for _, t := range list {
		if t.share {
			continue
		}
		all = append(all, saves(t)...)
	}
	for i, t := range list {
		switch {
		case t.share:
		case t.byPCI():
			all = append(all, takeFromKernel(inv, t, ups[i])...)
		default:
			all = append(all, standBeside(t, ups[i])...)
		}
	}
	return all
}

// modules are those that are loaded first. A module that is there already, or that only
// makes something better and cannot be had, is left out.
func modules(inv inventory.Node, list []taken, ups []Uplink) []Change {
	type need struct{ name, why string }
	var needs []need
	for i, t := range list {
		name := ups[i].Name
		switch t.choice.PCIDriver {
		case nodeconfig.PCIDriverVFIO:
			needs = append(needs, need{"vfio_iommu_type1", "vfio-pci maps memory with it"}, need{"vfio-pci", name + " is handed to VPP by it"})
		case nodeconfig.PCIDriverUIO:
			needs = append(needs, need{"uio_pci_generic", name + " is handed to VPP by it"})
		}
		switch t.choice.Driver {
		case nodeconfig.DriverRDMA:
			needs = append(needs, need{"ib_uverbs", name + " is reached by verbs"}, need{"mlx5_ib", name + " is reached by verbs"})
		case nodeconfig.DriverAFPacket:
			needs = append(needs, need{"af_packet", name + " is a packet socket"})
		}
		if ups[i].Host != "" {
			needs = append(needs, need{"tun", "the host's link is a tap"}, need{"vhost_net", "taps of VPP need it"})
		}
	}
	var all []Change
	for _, n := range needs {
		known := slices.ContainsFunc(all, func(c Change) bool { return c.Module == n.name })
		if !known && !inv.ModulesLocked && inv.Module(n.name) == inventory.ModuleAvailable {
			all = append(all, Change{Kind: LoadModule, Module: n.name, Why: n.why})
		}
	}
	return all
}

// noIOMMUOn switches vfio's mode without IOMMU on where a device is taken that way.
func noIOMMUOn(inv inventory.Node, list []taken) []Change {
	for _, t := range list {
		for _, nic := range t.devices() {
			d, _ := inv.Device(nic.PCI)
			if t.choice.PCIDriver == nodeconfig.PCIDriverVFIO && d.IOMMUGroup < 0 && !inv.IOMMU.NoIOMMU {
				return []Change{{Kind: SetSysctl, Path: "/sys/module/vfio/parameters/" + noIOMMUMode, Value: "Y", Why: "there is no IOMMU, and vpp.allowNoIOMMU is set"}}
			}
		}
	}
	return nil
}

// saves records every link that is changed later.
func saves(t taken) []Change {
	var all []Change
	links := append([]inventory.NIC{t.nic}, t.vlans...)
	if t.apart() {
		links = append(links, t.members...)
	}
	for _, nic := range links {
		if nic.Name == "" {
			continue
		}
		all = append(all, Change{Kind: SaveLink, Link: nic.Name, Why: "to put back what hangs on it: " + hanging(nic)})
	}
	return all
}

// hanging says what a link has, in words.
func hanging(nic inventory.NIC) string {
	parts := []string{fmt.Sprintf("MTU %d", nic.MTU)}
	for _, p := range []struct {
		n    int
		what string
	}{{len(nic.Addresses), "address"}, {len(nic.Routes), "route"}, {len(nic.Neighbors), "permanent neighbour"}} {
		switch {
		case p.n == 1:
			parts = append(parts, "1 "+p.what)
		case strings.HasSuffix(p.what, "s") && p.n > 0:
			parts = append(parts, fmt.Sprintf("%d %ses", p.n, p.what))
		case p.n > 0:
			parts = append(parts, fmt.Sprintf("%d %ss", p.n, p.what))
		}
	}
	return strings.Join(parts, ", ")
}

// takeFromKernel hands the devices of a NIC or of a bond to the dataplane's process.
func takeFromKernel(inv inventory.Node, t taken, u Uplink) []Change {
	var all []Change
	if t.apart() {
		all = append(all, Change{Kind: LinkDown, Link: t.nic.Name, Why: "the dataplane makes this bond anew from its members"})
		name := t.nic.Name
		if u.Host != "" {
			name = t.aside[0]
			all = append(all, Change{Kind: RenameLink, Link: t.nic.Name, Name: name, Why: "the host's link gets its name"})
		}
		all = append(all, Change{Kind: FlushLink, Link: name, Why: "its addresses move"})
		for _, v := range t.vlans {
			all = append(all, asideVLAN(t, v)...)
		}
	}
	for i, nic := range t.devices() {
		name := u.Name
		if t.apart() {
			name = u.Members[i].Name
			all = append(all, Change{Kind: ReleaseMember, Link: nic.Name, Why: fmt.Sprintf("it becomes %s", name)})
		}
		all = append(all, bind(inv, t, nic, name)...)
	}
	return append(all, hostTaps(u)...)
}

// asideVLAN gets a VLAN out of the way that stays when its traffic moves: one on a bond,
// or on a link that the kernel keeps. One on a NIC that is taken goes with that.
func asideVLAN(t taken, v inventory.NIC) []Change {
	all := []Change{{Kind: LinkDown, Link: v.Name, Why: "the dataplane takes this VLAN off the link below"}}
	name := v.Name
	if !t.want.NoHostTap {
		name = t.aside[1+slices.IndexFunc(t.vlans, func(o inventory.NIC) bool { return o.Name == v.Name })]
		all = append(all, Change{Kind: RenameLink, Link: v.Name, Name: name, Why: "the host's link gets its name"})
	}
	return append(all, Change{Kind: FlushLink, Link: name, Why: "its addresses move"})
}

// bind takes one PCI device from its driver and gives it to vfio-pci or uio_pci_generic.
func bind(inv inventory.Node, t taken, nic inventory.NIC, name string) []Change {
	d, _ := inv.Device(nic.PCI)
	by := string(t.choice.PCIDriver)
	if d.Driver == by {
		return nil // as somebody left it; nothing to do and nothing to undo
	}
	var all []Change
	if nic.Name != "" {
		all = append(all, Change{Kind: LinkDown, Link: nic.Name, Why: "nothing is sent any more while it changes hands"})
	}
	all = append(all, Change{Kind: OverrideDriver, PCI: nic.PCI, Driver: by, Why: "no other driver may take the device"})
	if d.Driver != "" {
		all = append(all, Change{Kind: Unbind, PCI: nic.PCI, Why: "from " + d.Driver})
	}
	return append(all, Change{Kind: Probe, PCI: nic.PCI, Driver: by, Why: fmt.Sprintf("VPP opens it as %s", name)})
}

// standBeside prepares a NIC that the kernel keeps: the host's link gets its name. That the
// kernel's stack does not read it beside the dataplane is package uplink's (Mute).
func standBeside(t taken, u Uplink) []Change {
	name := t.nic.Name
	var all []Change
	if u.Host != "" {
		name = t.aside[0]
		all = append(all, Change{Kind: RenameLink, Link: t.nic.Name, Name: name, Why: "the host's link gets its name"})
	}
	all = append(all, Change{Kind: FlushLink, Link: name, Why: "its addresses move"})
	all = append(all, Change{Kind: SetSysctl, Path: "net/ipv6/conf/" + name + "/disable_ipv6", Value: "1", Why: "the kernel would speak there in its own name"})
	if t.choice.Driver == nodeconfig.DriverAFXDP {
		all = append(all, Change{Kind: XDPProgram, Link: name, Why: "the dataplane attaches a program that hands it the packets"})
	}
	for _, v := range t.vlans {
		all = append(all, asideVLAN(t, v)...)
	}
	return append(all, hostTaps(u)...)
}

// hostTaps announces the links that the host has in place of the NIC and of its VLANs.
func hostTaps(u Uplink) []Change {
	var all []Change
	if u.Host != "" {
		all = append(all, Change{Kind: HostTap, Link: u.Host, Why: "the host goes on over it, with the NIC's name, MAC, addresses and routes"})
	}
	for _, v := range u.VLANs {
		if v.Host != "" {
			all = append(all, Change{Kind: HostTap, Link: v.Host, Why: fmt.Sprintf("the host goes on over it for VLAN %d", v.ID)})
		}
	}
	return all
}
