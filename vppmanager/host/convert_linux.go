package host

import (
	"cmp"
	"fmt"
	"math"
	"net"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/millrace/millrace/vppmanager/inventory"
)

// value turns rtnetlink's answer into links with what hangs on each. Links are kept that
// carry Ethernet frames; the loopback is none.
func (d *dump) value() Links {
	names, kinds := map[int]string{}, map[int]string{}
	for _, l := range d.links {
		names[l.Attrs().Index], kinds[l.Attrs().Index] = l.Attrs().Name, kind(l)
	}
	out := Links{Rules: rules(d.rules)}
	for _, l := range d.links {
		if a := l.Attrs(); a.EncapType == "ether" {
			out.Links = append(out.Links, d.link(l, names, kinds))
		}
	}
	slices.SortFunc(out.Links, func(a, b Link) int { return cmp.Compare(a.Name, b.Name) })
	return out
}

func kind(l netlink.Link) string {
	if l.Type() == "device" {
		return ""
	}
	return l.Type()
}

func (d *dump) link(l netlink.Link, names, kinds map[int]string) Link {
	a := l.Attrs()
	n := inventory.NIC{
		Name: a.Name, AltNames: a.AltNames, Index: a.Index, Kind: kind(l), MTU: a.MTU, Bus: a.ParentDevBus,
		MAC: a.HardwareAddr.String(), Permanent: a.PermHWAddr.String(), XDP: d.xdp(a.Xdp),
		Up: a.RawFlags&unix.IFF_UP != 0, Carrier: a.RawFlags&unix.IFF_LOWER_UP != 0,
		Master: names[a.MasterIndex], MasterIs: kinds[a.MasterIndex],
	}
	switch l := l.(type) {
	case *netlink.Bond:
		n.Bond = d.bond(l, names)
	case *netlink.Vlan:
		n.VLAN = &inventory.VLAN{Parent: names[a.ParentIndex], ID: l.VlanId}
		if l.VlanProtocol == netlink.VLAN_PROTOCOL_8021AD {
			n.VLAN.Tag = "802.1ad"
		}
	}
	for _, other := range d.links {
		o := other.Attrs()
		// A veth names its peer so, whose index may be of another namespace.
		if o.ParentIndex == a.Index && o.NetNsID < 0 && kind(other) != "veth" && o.Index != a.Index {
			n.Uppers = append(n.Uppers, o.Name)
		}
	}
	slices.Sort(n.Uppers)
	d.hang(&n)
	return Link{NIC: n, Parent: a.ParentDev}
}

// hang puts addresses, routes and permanent neighbours on their link.
func (d *dump) hang(n *inventory.NIC) {
	for _, a := range d.addresses {
		if a.LinkIndex == n.Index {
			n.Addresses = append(n.Addresses, address(a))
		}
	}
	for _, r := range d.routes {
		if r.Table == unix.RT_TABLE_LOCAL && r.Protocol == unix.RTPROT_KERNEL {
			continue
		}
		n.Routes = append(n.Routes, routesThrough(r, n.Index)...)
	}
	for _, e := range d.neighbors {
		addr, ok := netip.AddrFromSlice(e.IP)
		if e.LinkIndex == n.Index && e.State&netlink.NUD_PERMANENT != 0 && ok {
			n.Neighbors = append(n.Neighbors, inventory.Neighbor{Addr: addr.Unmap(), MAC: e.HardwareAddr.String()})
		}
	}
}

func (d *dump) xdp(x *netlink.LinkXdp) string {
	if x == nil || !x.Attached {
		return ""
	}
	mode := map[uint32]string{
		nl.XDP_ATTACHED_DRV: "in the driver", nl.XDP_ATTACHED_SKB: "generic", nl.XDP_ATTACHED_HW: "on the NIC",
	}[x.AttachMode]
	if mode == "" {
		mode = "in several ways"
	}
	where := fmt.Sprintf("id %d %s", x.ProgId, mode)
	if name := d.programs[x.ProgId]; name != "" {
		return fmt.Sprintf("%s (%s)", name, where)
	}
	return where
}

func (d *dump) bond(b *netlink.Bond, names map[int]string) *inventory.Bond {
	out := &inventory.Bond{
		Mode: b.Mode.String(), LACPFast: b.Mode == netlink.BOND_MODE_802_3AD && b.LacpRate == netlink.BOND_LACP_RATE_FAST,
		Active: names[b.ActiveSlave], Members: []string{},
	}
	if b.Mode == netlink.BOND_MODE_802_3AD || b.Mode == netlink.BOND_MODE_BALANCE_XOR || b.Mode == netlink.BOND_MODE_BALANCE_TLB {
		out.XmitHash = b.XmitHashPolicy.String()
	}
	for _, l := range d.links {
		if l.Attrs().MasterIndex == b.Index {
			out.Members = append(out.Members, l.Attrs().Name)
		}
	}
	slices.Sort(out.Members)
	return out
}

// addressFlags are those of linux/if_addr.h that a person asks for, as ip names them.
var addressFlags = []struct {
	bit  int
	name string
}{
	{unix.IFA_F_SECONDARY, "secondary"}, {unix.IFA_F_NODAD, "nodad"}, {unix.IFA_F_OPTIMISTIC, "optimistic"},
	{unix.IFA_F_DADFAILED, "dadfailed"}, {unix.IFA_F_HOMEADDRESS, "home"}, {unix.IFA_F_DEPRECATED, "deprecated"},
	{unix.IFA_F_TENTATIVE, "tentative"}, {unix.IFA_F_MANAGETEMPADDR, "mngtmpaddr"},
	{unix.IFA_F_NOPREFIXROUTE, "noprefixroute"}, {unix.IFA_F_MCAUTOJOIN, "autojoin"}, {unix.IFA_F_STABLE_PRIVACY, "stable-privacy"},
}

func address(a netlink.Addr) inventory.Address {
	out := inventory.Address{
		Prefix: prefix(a.IPNet), Scope: scope(netlink.Scope(a.Scope)), Permanent: a.Flags&unix.IFA_F_PERMANENT != 0,
	}
	if a.Peer != nil && !a.Peer.IP.Equal(a.IP) {
		out.Peer = prefix(a.Peer)
	}
	if !out.Permanent {
		out.Flags = append(out.Flags, "dynamic")
	}
	if a.ValidLft > 0 && a.ValidLft < math.MaxUint32 {
		out.ValidFor = a.ValidLft
	}
	for _, f := range addressFlags {
		switch {
		case a.Flags&f.bit == 0:
		case f.bit == unix.IFA_F_SECONDARY && out.Prefix.Addr().Is6():
			out.Flags = append(out.Flags, "temporary") // the same bit
		default:
			out.Flags = append(out.Flags, f.name)
		}
	}
	return out
}

func scope(s netlink.Scope) string {
	if s == netlink.SCOPE_UNIVERSE {
		return "global"
	}
	return s.String()
}

func prefix(n *net.IPNet) netip.Prefix {
	if n == nil {
		return netip.Prefix{}
	}
	addr, _ := netip.AddrFromSlice(n.IP)
	bits, _ := n.Mask.Size()
	return netip.PrefixFrom(addr.Unmap(), bits)
}
