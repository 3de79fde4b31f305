package startup

import (
	"slices"
	"strings"
	"testing"

	"github.com/millrace/millrace/vppmanager/inventory"
)

// hostState is what changes do to a host, told from the changes alone.
type hostState struct {
	t        testing.TB
	links    map[string]bool   // names that are in use
	saved    map[string]bool   // by former name
	former   map[string]string // name before renames, by the name now
	down     map[string]bool
	bound    map[string]string // driver, by PCI address
	override map[string]string
	released map[string]bool
	gone     map[string]bool // devices that left the kernel's drivers
}

// wellFormed walks through a plan's changes and checks that each is legal where it stands,
// and that none touches what no uplink is or stands on.
func wellFormed(t testing.TB, inv inventory.Node, p Plan) {
	t.Helper()
	h := hostState{
		t: t, links: map[string]bool{}, saved: map[string]bool{}, former: map[string]string{}, down: map[string]bool{},
		bound: map[string]string{}, override: map[string]string{}, released: map[string]bool{}, gone: map[string]bool{},
	}
	for _, nic := range inv.NICs {
		h.links[nic.Name], h.former[nic.Name], h.down[nic.Name] = true, nic.Name, !nic.Up
	}
	for _, d := range inv.Devices {
		h.bound[d.Address] = d.Driver
	}
	links, devices := named(inv, p)
	disturbed := false
	for i, c := range p.Changes {
		if c.Why == "" {
			t.Errorf("change %d (%s) gives no reason", i+1, c)
		}
		switch {
		case c.Kind == LoadModule, c.Kind == AddHugePages, c.Kind == SaveLink, strings.HasPrefix(c.Path, "/"):
			if disturbed {
				t.Errorf("change %d (%s) comes after a change that disturbs a NIC", i+1, c)
			}
		default:
			disturbed = true
		}
		if c.PCI != "" && !slices.Contains(devices, c.PCI) {
			t.Errorf("change %d (%s) touches a device that no uplink has", i+1, c)
		}
		if c.Link != "" && c.Kind != HostTap && !slices.Contains(links, h.former[c.Link]) {
			t.Errorf("change %d (%s) touches a link that no uplink has", i+1, c)
		}
		h.step(inv, c)
	}
	h.end(p)
}

// named are the links and devices that a plan's uplinks are made of.
func named(inv inventory.Node, p Plan) (links, devices []string) {
	for _, c := range p.Choices {
		nic, _ := inv.NIC(strings.Fields(c.NIC)[0])
		all := []inventory.NIC{nic}
		if nic.Bond != nil {
			for _, m := range nic.Bond.Members {
				member, _ := inv.NIC(m)
				all = append(all, member)
			}
		}
		for _, o := range inv.NICs {
			if o.VLAN != nil && o.VLAN.Parent == nic.Name && nic.Name != "" {
				all = append(all, o)
			}
		}
		for _, n := range all {
			links, devices = append(links, n.Name), append(devices, n.PCI)
		}
		if nic.Name == "" { // named by an address, without a link
			devices = append(devices, strings.Fields(c.NIC)[0])
		}
	}
	return slices.DeleteFunc(links, func(s string) bool { return s == "" }), slices.DeleteFunc(devices, func(s string) bool { return s == "" })
}

// step carries one change out on the state.
func (h *hostState) step(inv inventory.Node, c Change) {
	bad := func(why string) { h.t.Errorf("%s: %s", c, why) }
	switch c.Kind {
	case SaveLink:
		if h.saved[c.Link] {
			bad("is saved twice")
		}
		h.saved[c.Link] = true
	case LinkDown, FlushLink, RenameLink, ReleaseMember, XDPProgram:
		h.link(c, bad)
	case SetSysctl:
		if c.Path == "/sys/module/vfio/parameters/enable_unsafe_noiommu_mode" {
			if inv.IOMMU.On {
				bad("there is an IOMMU")
			}
			return
		}
		part := strings.Split(c.Path, "/")
		if len(part) != 5 || !h.links[part[3]] || !h.saved[h.former[part[3]]] {
			bad("no saved link has this sysctl")
		}
	case OverrideDriver:
		if nic, found := inv.NIC(c.PCI); found && nic.Name != "" && (!h.down[nic.Name] || !h.saved[nic.Name]) {
			bad("its link is not saved and down")
		}
		h.override[c.PCI] = c.Driver
	case Unbind:
		if h.override[c.PCI] == "" || h.bound[c.PCI] == "" {
			bad("is not under an override, or has no driver")
		}
		h.bound[c.PCI], h.gone[c.PCI] = "", true
		h.drop(inv, c.PCI)
	case Probe:
		if h.bound[c.PCI] != "" || h.override[c.PCI] != c.Driver {
			bad("has a driver still, or another override")
		}
		h.bound[c.PCI] = c.Driver
	case HostTap:
		if h.links[c.Link] {
			bad("the name is in use")
		}
		h.links[c.Link] = true
	}
}

func (h *hostState) link(c Change, bad func(string)) {
	if !h.links[c.Link] {
		bad("there is no such link at this point")
	}
	if !h.saved[h.former[c.Link]] {
		bad("was not saved before")
	}
	switch c.Kind {
	case LinkDown:
		h.down[c.Link] = true
	case ReleaseMember:
		h.released[c.Link] = true
	case RenameLink:
		if h.links[c.Name] || len(c.Name) > 15 || c.Name == "" {
			bad("the new name is in use, too long or empty")
		}
		h.links[c.Name], h.former[c.Name], h.down[c.Name] = true, h.former[c.Link], h.down[c.Link]
		delete(h.links, c.Link)
	}
}

// drop removes the links of a device that its driver left, and the VLANs on them.
func (h *hostState) drop(inv inventory.Node, pci string) {
	for _, nic := range inv.NICs {
		if nic.PCI == pci && nic.Name != "" {
			if nic.Master != "" && !h.released[nic.Name] {
				h.t.Errorf("unbind %s: %s is still in %s", pci, nic.Name, nic.Master)
			}
			delete(h.links, nic.Name)
			for _, v := range inv.NICs {
				if v.VLAN != nil && v.VLAN.Parent == nic.Name {
					if !h.saved[v.Name] {
						h.t.Errorf("unbind %s: the VLAN %s goes with it and was not saved", pci, v.Name)
					}
					delete(h.links, v.Name)
				}
			}
		}
	}
}

// end checks that what the dataplane is told fits what the changes left.
func (h *hostState) end(p Plan) {
	hosts := map[string]bool{}
	for _, u := range p.Uplinks {
		for _, d := range append([]Uplink{u}, u.Members...) {
			if d.PCI != "" && h.bound[d.PCI] != "vfio-pci" && h.bound[d.PCI] != "uio_pci_generic" {
				h.t.Errorf("%s: %s is bound to %q at the end", d.Name, d.PCI, h.bound[d.PCI])
			}
			if d.Link != "" && !h.links[d.Link] {
				h.t.Errorf("%s: there is no link %s at the end", d.Name, d.Link)
			}
			if d.PCI == "" && d.Link == "" && u.Bond == nil {
				h.t.Errorf("%s: neither a device nor a link", d.Name)
			}
		}
		for _, host := range append([]string{u.Host}, subHosts(u)...) {
			if host != "" && (hosts[host] || !h.links[host]) {
				h.t.Errorf("%s: the host's link %s is not announced, or twice", u.Name, host)
			}
			hosts[host] = true
		}
	}
}

func subHosts(u Uplink) []string {
	var list []string
	for _, v := range u.VLANs {
		list = append(list, v.Host)
	}
	return list
}
