package compile

import (
	"net/netip"

	"github.com/millrace/millrace/cluster"
	"github.com/millrace/millrace/dataplane"
	"github.com/millrace/millrace/policy"
)

// HostOptions are what the node's own kernel is asked to do.
type HostOptions struct {
	Touch         bool           // there is one, and it may be changed
	Masquerade    bool           // what pods send to the outside by it gets the node's address
	NonMasquerade []netip.Prefix // but not to these, beside all pods and nodes
}

// hostKernel has the node's kernel carry what leaves pods by it: all that is for no pod and
// for which the dataplane has no way by an uplink of its own. There may be such also where all
// uplinks are its own: the host may have further network cards.
func (c *compilation) hostKernel(nodes map[string]cluster.Node, served []cluster.Attachment) {
	if !c.options.Host.Touch {
		return
	}
	own := c.ownRanges(served)
	c.forwarding(own)
	n := dataplane.HostNAT{}
	if c.options.Host.Masquerade {
		n.Masquerade, n.Keep = own, c.unmasqueraded(nodes, own)
	}
	if len(n.Masquerade) > 0 || len(n.Ports) > 0 {
		c.put(n)
	}
}

// forwarding lets the kernel pass packets on between its links, of the families that pods have.
func (c *compilation) forwarding(own []netip.Prefix) {
	for _, p := range own {
		name := "net/ipv4/ip_forward"
		if p.Addr().Is6() {
			name = "net/ipv6/conf/all/forwarding"
		}
		c.put(dataplane.HostSetting{Name: name, Value: "1"})
	}
}

// ownRanges are where addresses of pods of this node lie.
func (c *compilation) ownRanges(served []cluster.Attachment) []netip.Prefix {
	list := append([]netip.Prefix(nil), c.podCIDRs...)
	for _, at := range served {
		for a := range at.AllAddresses() {
			list = append(list, whole(a))
		}
	}
	for i, p := range list {
		list[i] = p.Masked()
	}
	return policy.Cover(list)
}

// unmasqueraded are the destinations that see pods as they are: pods and nodes of the cluster,
// and what the configuration names.
func (c *compilation) unmasqueraded(nodes map[string]cluster.Node, own []netip.Prefix) []netip.Prefix {
	list := append(own[:len(own):len(own)], c.options.Host.NonMasquerade...)
	for _, n := range nodes {
		for _, cidr := range n.PodCIDRs {
			if cidr.IsValid() && cidr.Bits() > 0 { // a range of all would switch masquerading off
				list = append(list, cidr.Masked())
			}
		}
		for _, a := range n.Addresses {
			list = append(list, whole(a))
		}
	}
	return policy.Cover(list)
}
