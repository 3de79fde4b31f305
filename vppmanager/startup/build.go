package startup

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/millrace/millrace/vppmanager/inventory"
)

// buildUplinks turns what is taken into what the dataplane is told, in the same order.
func buildUplinks(inv inventory.Node, list []taken, th threads) ([]Uplink, error) {
	var ups []Uplink
	var errs []error
	for i, t := range list {
		q, workers, err := planQueues(inv, t, th)
		errs = append(errs, err)
		u := Uplink{Name: fmt.Sprintf("uplink%d", i), Host: t.host(), MAC: t.nic.MAC, MTU: t.nic.MTU}
		u.Addresses, u.Routes = hostSettings(t.nic)
		if t.share {
			u.Share, u.Routes = true, nil
		}
		if t.apart() {
			u.Driver, u.Bond = t.choice.Driver, t.nic.Bond
			for n, m := range t.members {
				member := device(t, m, q, workers)
				member.Name = fmt.Sprintf("%s-%d", u.Name, n)
				if m.Permanent != "" { // a kernel's bond gives its own address to the members
					member.MAC = m.Permanent
				}
				u.Members = append(u.Members, member)
			}
		} else {
			d := device(t, t.nic, q, workers)
			u.Driver, u.PCI, u.Link = d.Driver, d.PCI, d.Link
			u.RxQueues, u.TxQueues, u.RxRing, u.TxRing, u.Workers = d.RxQueues, d.TxQueues, d.RxRing, d.TxRing, d.Workers
		}
		for _, v := range t.standIns() {
			sub := SubUplink{ID: v.VLAN.ID, MTU: v.MTU}
			if !t.want.NoHostTap {
				sub.Host = v.Name
			}
			sub.Addresses, sub.Routes = hostSettings(v)
			u.VLANs = append(u.VLANs, sub)
		}
		ups = append(ups, u)
	}
	return ups, errors.Join(errs...)
}

// device is the part of an uplink that is one NIC.
func device(t taken, nic inventory.NIC, q queues, workers []int) Uplink {
	u := Uplink{Driver: t.choice.Driver, MAC: nic.MAC, MTU: nic.MTU, RxQueues: q.rx, TxQueues: q.tx, RxRing: q.rxRing, TxRing: q.txRing, Workers: workers}
	switch {
	case t.byPCI():
		u.PCI = nic.PCI
	case t.host() != "":
		u.Link = t.aside[0]
	default:
		u.Link = nic.Name
	}
	return u
}

// hostSettings are a link's addresses and routes as far as the dataplane has to know them.
// It forwards by the main table, and its connected routes come with the addresses.
func hostSettings(nic inventory.NIC) ([]netip.Prefix, []inventory.Route) {
	var addresses []netip.Prefix
	for _, a := range nic.Addresses {
		if !a.Prefix.Addr().IsLinkLocalUnicast() {
			addresses = append(addresses, a.Prefix)
		}
	}
	var routes []inventory.Route
	for _, r := range nic.Routes {
		connected := !r.Via.IsValid() && r.Protocol == "kernel"
		if r.Table != mainTable || r.Type != "" || connected || r.Dst.Addr().IsLinkLocalUnicast() || r.Dst.Addr().IsMulticast() {
			continue
		}
		routes = append(routes, r)
	}
	return addresses, routes
}

// uplinkNotes says what a person should know about the uplinks before saying yes.
func uplinkNotes(inv inventory.Node, list []taken, ups []Uplink) []string {
	var notes []string
	note := func(format string, args ...any) { notes = append(notes, fmt.Sprintf(format, args...)) }
	for i, t := range list {
		if t.share {
			notes = append(notes, shareNote(t))
			continue
		}
		name := ups[i].Name
		links := append([]inventory.NIC{t.nic}, t.vlans...)
		for _, nic := range links {
			if len(nic.Sessions) > 0 {
				note("the SSH session from %s runs over %s: it stalls until the dataplane is ready", nic.Sessions[0], nic.Name)
			}
			if nic.DHCP {
				note("an address of %s came by DHCP (%s): it is renewed over the host's link of that name", nic.Name, orUnknown(nic.ManagedBy))
			}
			for _, r := range nic.Routes {
				if r.Table != mainTable && r.Table != 0 {
					note("%s has routes in table %d: the host goes on using them, but the dataplane forwards by the main table", nic.Name, r.Table)
					break
				}
			}
		}
		if t.want.NoHostTap && (len(ups[i].Addresses) > 0 || len(ups[i].VLANs) > 0) {
			note("the host gives up %s with its addresses while the dataplane runs (noHostTap)", t.nic.Name)
		}
		if t.nic.Name != "" && !t.nic.Carrier && t.nic.Up {
			note("%s has no carrier: is its cable in?", t.nic.Name)
		}
		if t.nic.Kind == "vlan" {
			note("%s is one VLAN, which only a packet socket can have: name %s, and all VLANs on it become parts of %s", t.nic.Name, t.nic.VLAN.Parent, name)
		}
		for _, nic := range t.devices() {
			d, found := inv.Device(nic.PCI)
			if pf, known := inv.NIC(d.PF); known && !pf.Up {
				note("%s is a virtual function of %s, which is down: set that up, or nothing comes in", nameNIC(nic), nameNIC(pf))
			}
			if found && t.byPCI() && d.IOMMUGroup < 0 {
				note("%s can write to all memory of this node: there is no IOMMU (vpp.allowNoIOMMU)", nic.PCI)
			}
		}
	}
	return notes
}

func orUnknown(s string) string {
	if s == "" {
		return "its client is not known"
	}
	return s
}
