package attach

import (
	"fmt"
	"net/netip"
	"slices"
)

// Link is an interface as its container sees it.
type Link struct {
	MAC       string // empty for an interface that has none
	MTU       uint32 // bytes at L3
	Up        bool
	Addresses []netip.Prefix
	Routes    []LinkRoute // of the main table through this interface, those the kernel made itself left out
}

// LinkRoute is one of a Link's routes.
type LinkRoute struct {
	Destination netip.Prefix
	Gateway     netip.Addr // invalid for a route on the link
	MTU         uint32     // bytes; 0 = the interface's
}

// lacks says what keeps a container from using its addresses, "" when nothing does.
func (l Link) lacks(addresses []netip.Addr) string {
	if !l.Up {
		return "the interface is down"
	}
	for _, a := range addresses {
		if !l.has(a) {
			return fmt.Sprintf("address %s is not on the interface, which has %v", a, l.Addresses)
		}
	}
	return ""
}

// lacksRoutes names a promised route that is not there, "" when none is missing. Who made
// it may have set its MTU: that is not compared.
func (l Link) lacksRoutes(promised []LinkRoute) string {
	for _, p := range promised {
		if !slices.ContainsFunc(l.Routes, func(r LinkRoute) bool { return r.Destination == p.Destination && r.Gateway == p.Gateway }) {
			return fmt.Sprintf("route %s via %s does not lead out of the interface", p.Destination, p.Gateway)
		}
	}
	return ""
}

func (l Link) has(a netip.Addr) bool {
	for _, p := range l.Addresses {
		if p.Addr() == a {
			return true
		}
	}
	return false
}

// prefixOf is an address with the length it has on the interface.
func (l Link) prefixOf(a netip.Addr) netip.Prefix {
	for _, p := range l.Addresses {
		if p.Addr() == a {
			return p
		}
	}
	return netip.PrefixFrom(a, a.BitLen())
}

// gatewayOf is the next hop of the default route of an address's family; invalid when
// there is none.
func (l Link) gatewayOf(a netip.Addr) netip.Addr {
	for _, r := range l.Routes {
		if r.Destination.Bits() == 0 && familyOf(r.Destination.Addr()) == familyOf(a) {
			return r.Gateway
		}
	}
	return netip.Addr{}
}
