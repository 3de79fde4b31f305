package inventory

import (
	"cmp"
	"fmt"
	"strings"
	"text/tabwriter"
)

// table is a line for each NIC.
func (n Node) table(b *strings.Builder) {
	if len(n.NICs) == 0 {
		return
	}
	b.WriteString("\n")
	t := tabwriter.NewWriter(b, 0, 8, 2, ' ', 0)
	fmt.Fprintln(t, "NIC\tPCI\tIDS\tDRIVER\tLINK\tQUEUES\tRINGS\tNUMA\tGROUP\tPART OF\tMANAGED BY")
	for _, nic := range n.NICs {
		d, _ := n.Device(nic.PCI)
		ids, numa, group := "-", "-", "-"
		if d.Address != "" {
			ids = d.Vendor + ":" + d.Device
			numa, group = orDash(d.NUMA), orDash(d.IOMMUGroup)
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", nic.Title(), cmp.Or(nic.PCI, "-"), ids,
			clean(nic.driver(d)), nic.state(), pair(nic.RxQueues, nic.TxQueues), pair(nic.RxRing, nic.TxRing),
			numa, group, cmp.Or(clean(nic.Master), "-"), cmp.Or(clean(nic.ManagedBy), "-"))
	}
	t.Flush()
}

func orDash(v int) string {
	if v < 0 {
		return "-"
	}
	return fmt.Sprint(v)
}

func pair(rx, tx int) string {
	if rx == 0 && tx == 0 {
		return "-"
	}
	return fmt.Sprintf("%d/%d", rx, tx)
}

// driver is the link's, with that of the bus where it has another name (vfio-pci).
func (n NIC) driver(d PCIDevice) string {
	return cmp.Or(n.Driver, d.Driver, n.Kind, "none")
}

// state is up, down or "no carrier", with the speed.
func (n NIC) state() string {
	switch {
	case n.Name == "":
		return "no link"
	case !n.Up:
		return "down"
	case !n.Carrier:
		return "no carrier"
	case n.Speed > 0:
		return fmt.Sprintf("up, %d Mbit/s", n.Speed)
	}
	return "up"
}

// details are what hangs on a NIC; one that carries nothing has none.
func (n Node) details(b *strings.Builder, nic NIC, remarks []string) {
	var lines []string
	add := func(name, format string, args ...any) {
		lines = append(lines, fmt.Sprintf("  %s\t"+format, append([]any{name}, args...)...))
	}
	nic.describe(add)
	n.describeDevice(nic.PCI, add)
	for _, a := range nic.Addresses {
		add("address", "%s", a)
	}
	for _, r := range nic.Routes {
		add("route", "%s", r)
	}
	for _, e := range nic.Neighbors {
		add("neighbour", "%v %s", e.Addr, e.MAC)
	}
	for _, s := range nic.Sessions {
		add("ssh", "%s", clean(s))
	}
	for _, r := range remarks {
		add("driver", "%s", clean(r))
	}
	if !nic.Candidate() && len(nic.Addresses)+len(nic.Routes)+len(nic.Sessions) == 0 {
		return
	}
	fmt.Fprintf(b, "\n%s\n", nic.Title())
	t := tabwriter.NewWriter(b, 0, 8, 2, ' ', 0)
	fmt.Fprintln(t, strings.Join(lines, "\n"))
	t.Flush()
}

// describe is the link itself.
func (n NIC) describe(add func(name, format string, args ...any)) {
	if n.MAC != "" {
		permanent := ""
		if n.Permanent != "" && n.Permanent != n.MAC {
			permanent = " (permanent " + n.Permanent + ")"
		}
		add("link", "mac %s%s, mtu %d", n.MAC, permanent, n.MTU)
	}
	if len(n.AltNames) > 0 {
		add("also", "%s", clean(strings.Join(n.AltNames, " ")))
	}
	if n.Port != "" {
		add("port", "%s", clean(n.Port))
	}
	if n.Wireless {
		add("wireless", "yes")
	}
	if b := n.Bond; b != nil {
		add("bond", "%s of %s%s", clean(b.Mode), clean(strings.Join(b.Members, ", ")), b.extras())
	}
	if v := n.VLAN; v != nil {
		add("vlan", "%s%d on %s", prefixed(v.Tag), v.ID, clean(v.Parent))
	}
	if n.Master != "" {
		add("part of", "%s %s", clean(n.MasterIs), clean(n.Master))
	}
	if len(n.Uppers) > 0 {
		add("under", "%s", clean(strings.Join(n.Uppers, ", ")))
	}
	if n.XDP != "" {
		add("xdp", "%s", clean(n.XDP))
	}
	if n.ManagedBy != "" || n.DHCP {
		text := cmp.Or(clean(n.ManagedBy), "nobody that was found")
		if n.DHCP {
			text += ", DHCP"
		}
		if n.Lease != "" {
			text += " (" + clean(n.Lease) + ")"
		}
		add("managed by", "%s", text)
	}
	if len(n.Offloads) > 0 {
		add("offloads", "%s", clean(strings.Join(n.Offloads, " ")))
	}
}

// prefixed is a word with a space behind it, where there is one.
func prefixed(word string) string {
	if word == "" {
		return ""
	}
	return clean(word) + " "
}

func (b Bond) extras() string {
	s := ""
	if b.XmitHash != "" {
		s += ", hash " + clean(b.XmitHash)
	}
	if b.LACPFast {
		s += ", LACP fast"
	}
	if b.Active != "" {
		s += ", active " + clean(b.Active)
	}
	return s
}

// describeDevice is the PCI device under a link, as far as the table has no room for it.
func (n Node) describeDevice(address string, add func(name, format string, args ...any)) {
	d, found := n.Device(address)
	if !found {
		return
	}
	if d.PF != "" {
		add("sr-iov", "virtual function of %s", d.PF)
	}
	if d.MaxVFs > 0 {
		add("sr-iov", "%d virtual functions of %d", d.VFs, d.MaxVFs)
	}
	if d.Override != "" {
		add("override", "only the driver %s may take it", clean(d.Override))
	}
	if d.User != "" {
		add("open in", "%s", clean(d.User))
	}
	if len(d.RDMA) > 0 {
		add("rdma", "%s", clean(strings.Join(d.RDMA, " ")))
	}
}

// String is the address as ip prints it.
func (a Address) String() string {
	s := a.Prefix.String()
	if a.Peer.IsValid() {
		s += " peer " + a.Peer.String()
	}
	s += " scope " + clean(a.Scope)
	if len(a.Flags) > 0 {
		s += " " + clean(strings.Join(a.Flags, " "))
	}
	if a.ValidFor > 0 {
		s += fmt.Sprintf(" valid %ds", a.ValidFor)
	}
	return s
}

// String is the route as ip prints it.
func (r Route) String() string {
	s := r.Dst.String()
	if r.Dst.Bits() == 0 {
		s = "default"
		if r.Dst.Addr().Is6() {
			s = "default (IPv6)"
		}
	}
	if r.Type != "" {
		s = clean(r.Type) + " " + s
	}
	if r.Via.IsValid() {
		s += " via " + r.Via.String()
	}
	if r.Source.IsValid() {
		s += " src " + r.Source.String()
	}
	if r.Table != mainTable {
		s += fmt.Sprintf(" table %d", r.Table)
	}
	if r.Metric != 0 {
		s += fmt.Sprintf(" metric %d", r.Metric)
	}
	if r.Weight != 0 {
		s += fmt.Sprintf(" weight %d", r.Weight)
	}
	if r.Protocol != "" {
		s += " proto " + clean(r.Protocol)
	}
	if r.OnLink {
		s += " onlink"
	}
	if r.MTU != 0 {
		s += fmt.Sprintf(" mtu %d", r.MTU)
	}
	return s
}

// mainTable is the kernel's routing table that needs no rule to be named.
const mainTable = 254
