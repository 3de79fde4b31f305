package cluster

import "net/netip"

// Gateway is the next hop that every pod is told for destinations of a's family: a
// link-local address that is the same everywhere, since the pod's link has only one other
// end. Nothing answers at it.
func Gateway(a netip.Addr) netip.Addr {
	if a.Is4() {
		return netip.AddrFrom4([4]byte{169, 254, 1, 1})
	}
	return netip.AddrFrom16([16]byte{0: 0xfe, 1: 0x80, 15: 1})
}

// NodeAddress is the address of the dataplane itself within a range of pod addresses: the
// first one. No pod may have it. ICMP errors to pods come from it.
func NodeAddress(podCIDR netip.Prefix) netip.Addr { return podCIDR.Masked().Addr().Next() }
