package compile

import (
	"net/netip"
	"slices"

	"github.com/millrace/millrace/cluster"
	"github.com/millrace/millrace/dataplane"
	"github.com/millrace/millrace/service"
)

// services has pods and the host translated.
func (c *compilation) services(served []cluster.Attachment, r service.Result) {
	if !c.options.Services {
		return
	}
	c.result.Services, c.result.HealthChecks = slices.Clip(r.Problems), r.HealthChecks
	c.serviceNodePorts, c.result.NodePorts = r.NodePorts, slices.Clip(r.NodePorts)
	podSide := dataplane.NATPod
	if c.masks() {
		podSide = dataplane.NATMasked
	}
	for _, a := range served {
		for _, name := range interfaces(a) {
			n := dataplane.NATInterface{Interface: name, Side: podSide}
			c.put(n)
			c.result.Owners[n.Key()] = a.ID
		}
	}
	c.outerSides()
	if source := c.sourceNAT(); source != (dataplane.SourceNAT{}) {
		c.put(source)
	}
}

// sourceNAT is the source of connections whose answers would else not come here. Where all
// that is for the node comes here, it is the node's address: then that stays as it is in the
// packets of tunnels, too, which VPP looks at once more when they leave. Else it is the
// dataplane's own in the pods' range.
func (c *compilation) sourceNAT() (n dataplane.SourceNAT) {
	choices := cluster.NodeAddresses(c.podCIDRs)
	for _, u := range c.options.Uplinks {
		if u.Mode == dataplane.UplinkOwn {
			choices = append(only(c.node.Addresses, u.Addresses), choices...)
		}
	}
	for _, a := range choices {
		switch {
		case a.Is4() && !n.IPv4.IsValid():
			n.IPv4 = a
		case a.Is6() && !n.IPv6.IsValid():
			n.IPv6 = a
		}
	}
	return n
}

// only leaves the addresses that are among others, in their order.
func only(list, others []netip.Addr) (both []netip.Addr) {
	for _, a := range list {
		if slices.Contains(others, a) {
			both = append(both, a)
		}
	}
	return both
}

// outerSides has translated what comes from, and goes to, the host and other nodes. The way
// back of a connection of theirs that goes on to neither of this node's pods has to lead
// through here, and so it gets another source. Not so the host's own by an uplink's link: what
// is for the host comes by that uplink, and from there by that link.
func (c *compilation) outerSides() {
	side := dataplane.NATOuter
	if c.masks() {
		side = dataplane.NATHost // what leaves by the kernel is masqueraded there
	}
	c.put(dataplane.NATInterface{Interface: hostInterface(c.options.HostName), Side: side})
	for _, u := range c.options.Uplinks {
		c.put(dataplane.NATInterface{Interface: u.Interface(), Side: dataplane.NATOuter})
		if u.HostLink {
			c.put(dataplane.NATInterface{Interface: u.HostInterface(), Side: dataplane.NATPod})
		}
	}
	for o := range c.result.State.AllOf(dataplane.KindInterface) {
		if i := o.(dataplane.Interface); isTunnel(i) {
			c.put(dataplane.NATInterface{Interface: i.Name, Side: dataplane.NATOuter})
		}
	}
}

func isTunnel(i dataplane.Interface) bool {
	_, ok := i.Device.(dataplane.VXLAN)
	return ok
}

// ownServices are the addresses of services that nobody else has here. The wish begins with
// what services come to; a pod's route has taken the place of theirs, and where an address
// is the dataplane's own, it goes.
func (c *compilation) ownServices(r service.Result) []netip.Addr {
	if !c.options.Services {
		return nil
	}
	own := make([]netip.Addr, 0, len(r.Addresses))
	for _, a := range r.Addresses {
		switch c.owner[a] {
		case "":
			own = append(own, a)
		case itself:
			c.result.State.Remove(dataplane.Route{Prefix: whole(a)}.Key())
		}
	}
	return own
}
