package compile

import (
	"maps"
	"net/netip"
	"slices"

	"github.com/millrace/millrace/cluster"
	"github.com/millrace/millrace/dataplane"
)

// peers makes the ways to the pods of other nodes, as far as the dataplane has uplinks.
// What a node's objects are depends on that node alone, so that nodes come, go and change
// without touching each other's. Without uplink it all goes to the host.
func (c *compilation) peers(nodes map[string]cluster.Node, self string) {
	if len(c.options.Uplinks) == 0 {
		return
	}
	taken := map[netip.Prefix]bool{}
	for _, name := range slices.Sorted(maps.Keys(nodes)) {
		if name == self {
			continue
		}
		for _, cidr := range nodes[name].PodCIDRs {
			cidr = cidr.Masked()
			if taken[cidr] || !c.isElsewhere(cidr) {
				continue
			}
			taken[cidr] = true
			c.peerRoute(nodes[name], cidr)
		}
	}
}

// isElsewhere says whether a range can be another node's: it is a range, and none of ours.
func (c *compilation) isElsewhere(cidr netip.Prefix) bool {
	return cidr.IsValid() && cidr.Bits() > 0 && !slices.ContainsFunc(c.podCIDRs, cidr.Overlaps)
}

// peerRoute leads to pods of a node: by its address on a subnet of an uplink.
func (c *compilation) peerRoute(peer cluster.Node, cidr netip.Prefix) {
	if path, ok := c.direct(peer, dataplane.FamilyOf(cidr.Addr())); ok {
		c.put(dataplane.Route{Prefix: cidr, Paths: []dataplane.Path{path}})
	}
}

// direct is the way to a node that is a neighbour: its first address of the family that an
// uplink is attached to.
func (c *compilation) direct(peer cluster.Node, f dataplane.Family) (dataplane.Path, bool) {
	for _, a := range peer.Addresses {
		if dataplane.FamilyOf(a) != f || slices.Contains(c.node.Addresses, a) {
			continue
		}
		for _, u := range c.options.Uplinks {
			if u.Attached(a) && !slices.Contains(u.Addresses, a) {
				return dataplane.Path{Interface: u.Interface(), Via: a}, true
			}
		}
	}
	return dataplane.Path{}, false
}
