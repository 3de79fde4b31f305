package vnet

import (
	"net/netip"
	"slices"

	"go.fd.io/govpp/api"
)

// AddAddress gives an interface an address with its subnet. Overlapping subnets on two
// interfaces of a table are refused, as is the same address twice.
func (p *Plane) AddAddress(index uint32, a netip.Prefix) error {
	return p.withInterface(index, func(i *iface) error {
		if err := p.addressable(i, a); err != nil {
			return err
		}
		if a.Addr().Is6() && a.Addr().IsLinkLocalUnicast() {
			if a.Bits() != 128 {
				return api.ADDRESS_LENGTH_MISMATCH
			}
			if i.ip6Locks == 0 {
				p.lockIP6(i, a.Addr())
				return nil
			}
			p.setLinkLocal(i, a.Addr())
			return nil
		}
		if err := p.conflict(i, a); err != nil {
			return err
		}
		f := slot(familyOf(a.Addr()))
		i.addrs[f] = append(i.addrs[f], a)
		i.users[f]++
		if f == 1 {
			p.lockIP6(i, netip.Addr{})
		}
		p.addressesChanged(i)
		if i.admin {
			p.connect(i, a)
		}
		return nil
	})
}

func (p *Plane) addressable(i *iface, a netip.Prefix) error {
	switch {
	case i.index == 0:
		return api.UNSUPPORTED
	case !a.IsValid() || a.Addr().Is4In6():
		return api.INVALID_VALUE
	}
	return nil
}

// conflict says what forbids a on i: VPP's -127 and -105.
func (p *Plane) conflict(i *iface, a netip.Prefix) error {
	f := slot(familyOf(a.Addr()))
	overlap := api.ADDRESS_IN_USE
	if f == 1 {
		overlap = api.DUPLICATE_IF_ADDRESS
	}
	for _, other := range p.ifs {
		if other == nil || other.tables[f] != i.tables[f] {
			continue
		}
		for _, b := range other.addrs[f] {
			if !a.Overlaps(b) {
				continue
			}
			if other == i && a.Bits() == b.Bits() && a.Addr() != b.Addr() {
				continue // one more of the same subnet
			}
			return overlap
		}
	}
	return nil
}

// DelAddress takes an address away.
func (p *Plane) DelAddress(index uint32, a netip.Prefix) error {
	return p.withInterface(index, func(i *iface) error {
		if err := p.addressable(i, a); err != nil {
			return err
		}
		if a.Addr().Is6() && a.Addr().IsLinkLocalUnicast() {
			switch {
			case a.Bits() != 128:
				return api.ADDRESS_LENGTH_MISMATCH
			case a.Addr() == i.linkLocal:
				return api.ADDRESS_NOT_DELETABLE
			}
			return api.ADDRESS_NOT_FOUND_FOR_INTERFACE
		}
		f := slot(familyOf(a.Addr()))
		k := slices.Index(i.addrs[f], a)
		if k < 0 {
			return api.ADDRESS_NOT_FOUND_FOR_INTERFACE
		}
		p.dropAddress(i, f, k)
		return nil
	})
}

func (p *Plane) dropAddress(i *iface, f, k int) {
	a := i.addrs[f][k]
	i.addrs[f] = slices.Delete(i.addrs[f], k, k+1)
	if i.admin {
		p.disconnect(i, a)
	}
	i.users[f]--
	p.addressesChanged(i)
	for k, n := range p.neighbors { // those of the subnet were learned by it
		if k.iface == i.index && !n.static && a.Contains(k.addr) {
			p.removeNeighbor(n)
		}
	}
	if f == 1 {
		p.unlockIP6(i)
	}
}

// FlushAddresses takes all addresses away, but for the link-local one.
func (p *Plane) FlushAddresses(index uint32) error {
	return p.withInterface(index, func(i *iface) error {
		for f := range i.addrs {
			for len(i.addrs[f]) > 0 {
				p.dropAddress(i, f, 0)
			}
		}
		return nil
	})
}

// Addresses returns the addresses of a family in the order in which they came; those of
// the lender for an unnumbered interface, as VPP dumps them.
func (p *Plane) Addresses(index uint32, f Family) ([]netip.Prefix, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	i := p.iface(index)
	if i == nil {
		return nil, api.INVALID_SW_IF_INDEX
	}
	if l := p.iface(i.lender); l != nil {
		i = l
	}
	return slices.Clone(i.addrs[slot(f)]), nil
}

// addressesChanged marks i and those who borrow from it.
func (p *Plane) addressesChanged(i *iface) {
	i.dirty = true
	for _, b := range p.ifs {
		if b != nil && b.lender == i.index {
			b.dirty = true
		}
	}
	p.nat.stale = true
	p.bump = true
}

// connect installs the routes of an address of an interface that is up:
//
//	the address itself     local
//	its subnet             glean: ask for the destination
//	first and last of it   drop (IPv4, /30 and shorter), or the peer's (/31)
func (p *Plane) connect(i *iface, a netip.Prefix) {
	t := i.tables[slot(familyOf(a.Addr()))]
	p.mustSet(t, netip.PrefixFrom(a.Addr(), a.Addr().BitLen()), SourceInterface, localPath(i.index, a.Addr()))
	p.connectSubnet(i, t, a)
}

// disconnect takes back what connect did. The address is no longer among i's, or i is
// down.
func (p *Plane) disconnect(i *iface, a netip.Prefix) {
	t := i.tables[slot(familyOf(a.Addr()))]
	p.dropSource(t, netip.PrefixFrom(a.Addr(), a.Addr().BitLen()), SourceInterface)
	p.connectSubnet(i, t, a)
}

// connectSubnet brings the routes of a's subnet in line with the addresses that i has in
// it.
func (p *Plane) connectSubnet(i *iface, t *table, a netip.Prefix) {
	if a.IsSingleIP() {
		return
	}
	subnet := a.Masked()
	var mine []netip.Addr
	for _, b := range i.addrs[slot(t.Family)] {
		if i.admin && b.Masked() == subnet {
			mine = append(mine, b.Addr())
		}
	}
	if len(mine) == 0 {
		p.dropSource(t, subnet, SourceInterface)
	} else {
		p.mustSet(t, subnet, SourceInterface, path{
			Path: Path{Interface: i.index, Weight: 1}, source: mine[0], connected: true,
		})
	}
	if t.Family == IPv6 {
		return
	}
	for _, s := range ends(subnet) {
		host := netip.PrefixFrom(s, 32)
		switch {
		case slices.Contains(mine, s):
		case len(mine) == 0:
			p.dropSource(t, host, SourceInterface)
		case a.Bits() == 31:
			p.mustSet(t, host, SourceInterface, path{Path: Path{Interface: i.index, NextHop: s, Weight: 1}})
		default:
			p.mustSet(t, host, SourceInterface, path{Path: Path{Type: PathDrop, Interface: NoIndex, Weight: 1}})
		}
	}
}

// ends are the first and the last address of an IPv4 subnet.
func ends(subnet netip.Prefix) [2]netip.Addr {
	first := subnet.Masked().Addr()
	return [2]netip.Addr{first, addrOf(word(first) | ^uint32(0)>>subnet.Bits())}
}

func addrOf(w uint32) netip.Addr {
	return netip.AddrFrom4([4]byte{byte(w >> 24), byte(w >> 16), byte(w >> 8), byte(w)})
}
