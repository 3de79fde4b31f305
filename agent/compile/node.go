package compile

import (
	"net/netip"
	"slices"

	"github.com/millrace/millrace/cluster"
	"github.com/millrace/millrace/dataplane"
)

const (
	// lender is the loopback whose addresses all interfaces use.
	lender    = "node/gateway"
	lenderMTU = 9000
)

// gateway makes the loopback with the dataplane's own address of each family, and ends
// what goes to a pod address that no pod has: without it such a packet would circle
// between host and dataplane.
func (c *compilation) gateway() {
	c.put(dataplane.Interface{Name: lender, Device: dataplane.Loopback{}, MTU: lenderMTU}, dataplane.Up{Interface: lender})
	for _, cidr := range c.podCIDRs {
		c.put(dataplane.Route{Prefix: cidr.Masked(), Paths: []dataplane.Path{{End: dataplane.EndUnreachable}}})
	}
	own := cluster.NodeAddresses(c.podCIDRs)
	if !slices.ContainsFunc(own, netip.Addr.Is4) {
		own = append(own, cluster.Gateway(netip.IPv4Unspecified()))
	}
	for _, a := range own {
		c.lend(a)
	}
}

// itself is who has the addresses of the dataplane, in words.
const itself = "the dataplane itself"

func (c *compilation) lend(a netip.Addr) {
	c.owner[a] = itself
	c.put(dataplane.Address{Interface: lender, Prefix: whole(a)})
}

// host makes the interface that carries node to pod, and all that leaves the node as long
// as the dataplane has no uplink of its own.
func (c *compilation) host(served []cluster.Attachment) {
	name := hostInterface(c.options.HostName)
	device, link := c.device("", c.options.HostName, "host")
	i := dataplane.Interface{
		Name: name, Device: device, MTU: c.options.MTU,
		Host: dataplane.HostSide{MTU: c.options.MTU, MaxSegments: c.maxSegments(), Neighbors: link.hostNeighbors(both()...)},
	}
	destinations := c.hostDestinations(served)
	i.Host.Routes = make([]dataplane.HostRoute, 0, len(destinations))
	for _, cidr := range destinations {
		r := dataplane.HostRoute{Dst: cidr, Source: c.nodeAddress(dataplane.FamilyOf(cidr.Addr()))}
		if link.ethernet {
			r.Via = cluster.Gateway(cidr.Addr())
		}
		i.Host.Routes = append(i.Host.Routes, r)
	}
	c.put(i, dataplane.Unnumbered{Interface: name, Lender: lender}, dataplane.Up{Interface: name})
	for _, any := range both() {
		hop := hostHop(any)
		if link.ethernet {
			c.put(dataplane.Neighbor{Interface: name, Addr: hop, MAC: link.hostMAC})
		}
		c.put(dataplane.Route{Prefix: netip.PrefixFrom(any, 0), Paths: link.paths(name, hop)})
	}
	for _, a := range c.node.Addresses {
		c.put(dataplane.Route{Prefix: whole(a), Paths: link.paths(name, hostHop(a))})
	}
}

// hostDestinations are what the host reaches through the dataplane: the ranges of the
// node, those of nodes that only the dataplane knows the way to, each attached
// address that lies in none of them, and services.
func (c *compilation) hostDestinations(served []cluster.Attachment) []netip.Prefix {
	dst := make([]netip.Prefix, 0, len(c.podCIDRs)+len(c.remote)+len(c.serviceAddresses))
	for _, cidr := range c.podCIDRs {
		dst = append(dst, cidr.Masked())
	}
	for cidr, through := range c.remote {
		if through {
			dst = append(dst, cidr)
		}
	}
	for _, at := range served {
		for a := range at.AllAddresses() {
			if !slices.ContainsFunc(c.podCIDRs, func(p netip.Prefix) bool { return p.Contains(a) }) {
				dst = append(dst, whole(a))
			}
		}
	}
	for _, a := range c.serviceAddresses {
		dst = append(dst, whole(a))
	}
	return dst
}

// nodeAddress is the node's first address of a family, the zero Addr when it has none.
func (c *compilation) nodeAddress(f dataplane.Family) netip.Addr {
	for _, a := range c.node.Addresses {
		if dataplane.FamilyOf(a) == f {
			return a
		}
	}
	return netip.Addr{}
}

// hostHop is the address that stands for the host on an Ethernet link to it.
func hostHop(a netip.Addr) netip.Addr { return cluster.Gateway(a).Next() }

func whole(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, a.BitLen()) }

// both is the unspecified address of each family.
func both() []netip.Addr { return []netip.Addr{netip.IPv4Unspecified(), netip.IPv6Unspecified()} }
