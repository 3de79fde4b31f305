package startup

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/millrace/millrace/vppmanager/inventory"
)

// checkOnTop refuses a NIC that is a part of something else, or that carries links which
// the dataplane cannot stand in for.
func checkOnTop(inv inventory.Node, t taken) []error {
	var errs []error
	refuse := func(format string, args ...any) {
		errs = append(errs, fmt.Errorf("%s: %w", t.at, fmt.Errorf(format, args...)))
	}
	if t.nic.Master != "" {
		errs = append(errs, fmt.Errorf("%s: %s", t.at, inUse(t.nic)))
	}
	for _, m := range t.members {
		for _, upper := range m.Uppers {
			if upper != t.nic.Name {
				refuse("%s stands on %s, a member of the bond %s: remove it", upper, m.Name, t.nic.Name)
			}
		}
	}
	for _, upper := range t.nic.Uppers {
		known := slices.ContainsFunc(t.vlans, func(v inventory.NIC) bool { return v.Name == upper })
		if !known && upper != t.nic.Master {
			refuse("%s stands on %s and is no VLAN: remove it, the dataplane has no such link", upper, t.nic.Name)
		}
	}
	for _, v := range t.vlans {
		switch {
		case v.VLAN.Tag != "" && v.VLAN.Tag != "802.1Q":
			refuse("%s is a VLAN of %s: the dataplane takes over those of 802.1Q only", v.Name, v.VLAN.Tag)
		case v.Master != "":
			refuse("%s", inUse(v))
		case len(v.Uppers) > 0:
			refuse("%s stands on the VLAN %s: remove it, the dataplane has no such link", strings.Join(v.Uppers, ", "), v.Name)
		}
	}
	if t.nic.Kind == "vlan" && t.nic.VLAN != nil {
		if parent, found := inv.NIC(t.nic.VLAN.Parent); found && parent.Kind == "vlan" {
			refuse("%s is a VLAN in a VLAN: name %s", t.nic.Name, parent.Name)
		}
	}
	return errs
}

func inUse(nic inventory.NIC) string {
	kind := nic.MasterIs
	if kind == "" {
		kind = "link"
	}
	if kind == "bond" {
		return fmt.Sprintf("%s is in the bond %s: name %s", nic.Name, nic.Master, nic.Master)
	}
	return fmt.Sprintf("%s is in the %s %s: take it out first (ip link set %s nomaster)", nic.Name, kind, nic.Master, nic.Name)
}

// checkDevices refuses devices that another process holds.
func checkDevices(inv inventory.Node, t taken) []error {
	var errs []error
	for _, nic := range t.devices() {
		if d, found := inv.Device(nic.PCI); found && d.User != "" {
			errs = append(errs, fmt.Errorf("%s: %s is held by %s: stop that first", t.at, nameNIC(nic), d.User))
		}
	}
	return errs
}

// checkWayOut refuses to cut the host off: an uplink without a host link may carry neither
// an SSH session nor the only default route nor the way to the API server.
func checkWayOut(inv inventory.Node, list []taken, t taken) []error {
	if !t.want.NoHostTap {
		return nil
	}
	var errs []error
	refuse := func(format string, args ...any) {
		errs = append(errs, fmt.Errorf("%s.noHostTap: %s: set noHostTap: false, or take another NIC", t.at, fmt.Sprintf(format, args...)))
	}
	lost := map[string]bool{} // links the host will not have, of all uplinks
	for _, o := range list {
		if o.want.NoHostTap {
			lost[o.nic.Name] = true
			for _, v := range o.vlans {
				lost[v.Name] = true
			}
		}
	}
	for _, nic := range append([]inventory.NIC{t.nic}, t.vlans...) {
		if len(nic.Sessions) > 0 {
			refuse("the SSH session from %s runs over %s and would break", strings.Join(nic.Sessions, ", "), nic.Name)
		}
		for _, r := range nic.Routes {
			if isDefault(r) && !slices.ContainsFunc(inv.NICs, func(o inventory.NIC) bool {
				return !lost[o.Name] && slices.ContainsFunc(o.Routes, func(q inventory.Route) bool {
					return isDefault(q) && q.Dst.Addr().Is4() == r.Dst.Addr().Is4()
				})
			}) {
				refuse("the host's only default route (%v via %v) goes over %s", r.Dst, r.Via, nic.Name)
			}
		}
		for _, server := range inv.APIServers {
			if wayTo(inv, server) == nic.Name {
				refuse("the way to the API server %v goes over %s", server, nic.Name)
			}
		}
	}
	return errs
}

const mainTable = 254

func isDefault(r inventory.Route) bool {
	return r.Table == mainTable && r.Dst.Bits() == 0 && r.Type == ""
}

// wayTo is the link over which the main table sends packets to an address; "" = none.
func wayTo(inv inventory.Node, addr netip.Addr) string {
	var best inventory.Route
	var link string
	for _, nic := range inv.NICs {
		for _, r := range nic.Routes {
			if r.Table != mainTable || r.Type != "" || !r.Dst.Contains(addr) {
				continue
			}
			if link == "" || r.Dst.Bits() > best.Dst.Bits() || r.Dst.Bits() == best.Dst.Bits() && r.Metric < best.Metric {
				best, link = r, nic.Name
			}
		}
	}
	return link
}
