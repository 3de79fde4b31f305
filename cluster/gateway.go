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

// NodeAddresses are those of a node's dataplane, at most one of each family: that of the
// first range of the family that is more than one address. All of the node's interfaces
// use them, so on an Ethernet link they answer ARP and neighbour discovery.
func NodeAddresses(podCIDRs []netip.Prefix) []netip.Addr {
	var all []netip.Addr
	served := map[int]bool{}
	for _, cidr := range podCIDRs {
		if family := cidr.Addr().BitLen(); !served[family] && !cidr.IsSingleIP() {
			served[family] = true
			all = append(all, NodeAddress(cidr))
		}
	}
	return all
}

// NodeAddress is the address of the dataplane itself within a range of pod addresses: the
// first one. No pod may have it. ICMP errors to pods come from it.
func NodeAddress(podCIDR netip.Prefix) netip.Addr { return podCIDR.Masked().Addr().Next() }
