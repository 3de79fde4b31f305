package compile

import (
	"net/netip"
	"slices"

	"github.com/millrace/millrace/cluster"
	"github.com/millrace/millrace/dataplane"
	"github.com/millrace/millrace/policy"
	"github.com/millrace/millrace/service"
)

// HostOptions are what the node's own kernel is asked to do.
type HostOptions struct {
	Touch         bool           // there is one, and it may be changed
	Masquerade    bool           // what pods send to the outside by it gets the node's address
	NonMasquerade []netip.Prefix // but not to these, beside all pods and nodes
}

// hostKernel has the node's kernel carry what leaves pods by it: all that is for no pod and
// for which the dataplane has no way by an uplink of its own. There may be such also where all
// uplinks are its own: the host may have further network cards. And it has connections to the
// node's own ports, which the kernel takes for itself, go to where they are served.
func (c *compilation) hostKernel(nodes map[string]cluster.Node, served []cluster.Attachment) {
	if !c.options.Host.Touch {
		return
	}
	own := c.ownRanges(served)
	c.forwarding(own)
	c.pathFilters()
	n := dataplane.HostNAT{}
	if c.options.Host.Masquerade {
		n.Masquerade, n.Keep = own, c.unmasqueraded(nodes, own)
	}
	for _, p := range c.result.NodePorts {
		n.Ports = append(n.Ports, dataplane.HostPort(p))
		if to, ok := c.arrival(p, own); ok {
			n.Arriving = append(n.Arriving, dataplane.HostPort{At: p.At, Protocol: p.Protocol, To: to})
		}
	}
	if len(n.Masquerade) > 0 || len(n.Ports) > 0 {
		c.result.State.Put(n) // well-formed by its making
	}
}

// arrival is where a connection goes that comes to a port of the node by the kernel: to the
// only backend if that is a pod here, which so sees its client. Else to the same port of the
// dataplane's own address, which has the same backends as the node's: those of this node
// alone, if the service wants that. An uplink of the dataplane's own brings none to the kernel.
func (c *compilation) arrival(p service.NodePort, own []netip.Prefix) (netip.AddrPort, bool) {
	if !slices.Contains(c.node.Addresses, p.At.Addr()) || c.ownUplinkHas(p.At.Addr()) {
		return netip.AddrPort{}, false
	}
	o, ok := c.result.State.Object(dataplane.Translation{VIP: p.At, Protocol: p.Protocol}.Key())
	if !ok {
		return netip.AddrPort{}, false // nobody is behind it
	}
	t := o.(dataplane.Translation)
	if only := t.Backends[0].Addr(); len(t.Backends) == 1 && slices.ContainsFunc(own, func(r netip.Prefix) bool { return r.Contains(only) }) {
		return t.Backends[0], true
	}
	for _, a := range cluster.NodeAddresses(c.podCIDRs) {
		if a.Is4() != p.At.Addr().Is4() {
			continue
		}
		t.VIP = netip.AddrPortFrom(a, p.At.Port())
		if other, taken := c.result.State.Object(t.Key()); taken {
			return t.VIP, slices.Equal(other.(dataplane.Translation).Backends, t.Backends) // by another address of the node
		}
		c.result.State.Put(t)
		return t.VIP, true
	}
	return netip.AddrPort{}, false
}

func (c *compilation) ownUplinkHas(a netip.Addr) bool {
	return slices.ContainsFunc(c.options.Uplinks, func(u dataplane.Uplink) bool {
		return u.Mode == dataplane.UplinkOwn && slices.Contains(u.Addresses, a)
	})
}

// pathFilters keeps the kernel from dropping packets that come by another link than it would
// send answers by: answers of pods behind a tunnel come by the network card, those of services
// to the host by the link to it. Of a card that the dataplane owns the kernel has a link of the
// same name.
func (c *compilation) pathFilters() {
	loose := func(link, of string) {
		c.put(dataplane.HostSetting{Name: "net/ipv4/conf/" + link + "/rp_filter", Value: "2", Interface: of})
	}
	loose(c.options.HostName, hostInterface(c.options.HostName))
	for _, u := range c.options.Uplinks {
		if u.Link != "" {
			loose(u.Link, "")
		}
	}
}

// masks says whether the dataplane masquerades itself: what leaves by an uplink of its own.
func (c *compilation) masks() bool {
	return c.options.Host.Masquerade && c.options.Services && slices.ContainsFunc(c.options.Uplinks, func(u dataplane.Uplink) bool { return u.Mode == dataplane.UplinkOwn })
}

// keepSources excepts from that what the kernel excepts, and all addresses of the node. Pods
// behind a tunnel are among it, and so are the tunnels' ends.
func (c *compilation) keepSources(nodes map[string]cluster.Node, served []cluster.Attachment) {
	if !c.masks() {
		return
	}
	list := c.unmasqueraded(nodes, c.ownRanges(served))
	for _, u := range c.options.Uplinks {
		for _, a := range u.Addresses {
			list = append(list, whole(a))
		}
	}
	for _, p := range policy.Cover(list) {
		c.put(dataplane.NATKept{Prefix: p})
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
