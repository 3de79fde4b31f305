package compile

import (
	"encoding/hex"
	"maps"
	"net/netip"
	"slices"

	"github.com/millrace/millrace/cluster"
	"github.com/millrace/millrace/dataplane"
)

// Encapsulation says when packets to another node's pods go in a tunnel.
type Encapsulation uint8

const (
	EncapsulateCrossSubnet Encapsulation = iota // to nodes that are on no subnet of an uplink
	EncapsulateAlways
	EncapsulateNever
)

// The tunnels' network and UDP port, the same on all nodes.
const (
	tunnelVNI  = 4096
	tunnelPort = 4789
	leastMTU   = 1280 // of a tunnel, as IPv6 wants it
)

// peers makes the ways to the pods of other nodes, as far as the dataplane has uplinks.
// What a node's objects are depends on that node alone, so that nodes come, go and change
// without touching each other's; only the host's routes to them stand together. Without
// uplink it all goes to the host.
func (c *compilation) peers(nodes map[string]cluster.Node, self string) {
	if len(c.options.Uplinks) == 0 {
		return
	}
	for _, name := range slices.Sorted(maps.Keys(nodes)) {
		if name == self {
			continue
		}
		for _, cidr := range nodes[name].PodCIDRs {
			cidr = cidr.Masked()
			if _, taken := c.remote[cidr]; !taken && c.isElsewhere(cidr) {
				c.peerRoute(nodes[name], cidr)
			}
		}
	}
	if c.options.Encapsulation == EncapsulateNever {
		return
	}
	for _, u := range c.options.Uplinks {
		for _, f := range []dataplane.Family{dataplane.IPv4, dataplane.IPv6} {
			if slices.ContainsFunc(u.Addresses, func(a netip.Addr) bool { return dataplane.FamilyOf(a) == f }) {
				c.put(dataplane.TunnelBypass{Uplink: u.Interface(), Family: f})
			}
		}
	}
}

// isElsewhere says whether a range can be another node's: it is a range, and none of ours.
func (c *compilation) isElsewhere(cidr netip.Prefix) bool {
	return cidr.IsValid() && cidr.Bits() > 0 && !slices.ContainsFunc(c.podCIDRs, cidr.Overlaps)
}

// peerRoute leads to pods of a node: by its address on a subnet of an uplink, or by a tunnel.
// The host's own packets to a tunnel's pods go through the dataplane, too, as do those to a
// node on a shared uplink; else its own routes lead there.
func (c *compilation) peerRoute(peer cluster.Node, cidr netip.Prefix) {
	f := dataplane.FamilyOf(cidr.Addr())
	if c.options.Encapsulation != EncapsulateAlways {
		if u, hop, ok := c.direct(peer, f); ok {
			c.remote[cidr] = u.Mode == dataplane.UplinkShare
			c.put(dataplane.Route{Prefix: cidr, Paths: []dataplane.Path{{Interface: u.Interface(), Via: hop}}})
			return
		}
	}
	if c.options.Encapsulation == EncapsulateNever {
		return
	}
	if name, ok := c.tunnel(peer); ok {
		c.remote[cidr] = true
		c.put(dataplane.Route{Prefix: cidr, Paths: []dataplane.Path{{Interface: name, Via: hostHop(cidr.Addr())}}})
	}
}

// direct is the way to a node that is a neighbour: its first address of the family that an
// uplink is attached to.
func (c *compilation) direct(peer cluster.Node, f dataplane.Family) (dataplane.Uplink, netip.Addr, bool) {
	for _, a := range peer.Addresses {
		if dataplane.FamilyOf(a) != f || slices.Contains(c.node.Addresses, a) {
			continue
		}
		for _, u := range c.options.Uplinks {
			if u.Attached(a) && !slices.Contains(u.Addresses, a) {
				return u, a, true
			}
		}
	}
	return dataplane.Uplink{}, netip.Addr{}, false
}

// tunnel makes the tunnel to a node, which carries packets of both families, and returns its
// name. It runs between the first addresses of both nodes: both ends choose alike. Those of
// IPv4 come first: VPP 25.10 reads the VXLAN header of what it should bypass at the place that
// it has over IPv4, and finds none over IPv6.
func (c *compilation) tunnel(peer cluster.Node) (string, bool) {
	for _, under := range []dataplane.Family{dataplane.IPv4, dataplane.IPv6} {
		src, dst := firstAddress(c.node, under), firstAddress(peer, under)
		i := slices.IndexFunc(c.options.Uplinks, func(u dataplane.Uplink) bool { return slices.Contains(u.Addresses, src) })
		if i < 0 || !dst.IsValid() || dst == src {
			continue
		}
		u, name := c.options.Uplinks[i], tunnelName(peer.Name, under)
		if u.MTU < leastMTU+dataplane.VXLANOverhead(under) {
			continue
		}
		c.put(dataplane.Interface{
			Name: name, MTU: u.MTU - dataplane.VXLANOverhead(under),
			Device: dataplane.VXLAN{Src: src, Dst: dst, Port: tunnelPort, VNI: tunnelVNI, MAC: tunnelMAC(src), Uplink: u.Interface()},
		}, dataplane.Unnumbered{Interface: name, Lender: lender}, dataplane.Up{Interface: name})
		for _, any := range both() {
			c.put(dataplane.Neighbor{Interface: name, Addr: hostHop(any), MAC: tunnelMAC(dst)})
		}
		return name, true
	}
	return "", false
}

func firstAddress(n cluster.Node, f dataplane.Family) netip.Addr {
	for _, a := range n.Addresses {
		if dataplane.FamilyOf(a) == f {
			return a
		}
	}
	return netip.Addr{}
}

// tunnelMAC is that of a node's end of its tunnels; its peers know it by its address.
func tunnelMAC(a netip.Addr) dataplane.MAC { return mac("vxlan " + a.String()) }

// tunnelName is tunnel/node/family; the hash of what is too long keeps it unique.
func tunnelName(node string, f dataplane.Family) string {
	full := "tunnel/" + dataplane.CleanName(node) + "/" + f.String()
	if len(full) <= dataplane.NameMax && dataplane.CleanName(node) == node {
		return full
	}
	tail := ":" + hex.EncodeToString(hash(node))[:16] + "/" + f.String()
	return full[:min(len(full), dataplane.NameMax-len(tail))] + tail
}

// podMTU is what interfaces to pods and to the host have at most: what leaves by the uplinks
// in one piece, with a tunnel's headers where there may be tunnels. Nodes that join or leave
// do not change it.
func podMTU(o Options) uint32 {
	mtu := o.MTU
	for _, u := range o.Uplinks {
		if len(u.Addresses) == 0 {
			continue
		}
		overhead := uint32(0)
		if o.Encapsulation != EncapsulateNever {
			overhead = dataplane.VXLANOverhead(dataplane.FamilyOf(u.Addresses[0])) // IPv4 comes first
		}
		if u.MTU >= overhead+leastMTU {
			mtu = min(mtu, u.MTU-overhead)
		}
	}
	return mtu
}
