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
	for _, a := range served {
		for _, name := range interfaces(a) {
			n := dataplane.NATInterface{Interface: name, Side: dataplane.NATPod}
			c.put(n)
			c.result.Owners[n.Key()] = a.ID
		}
	}
	// Without uplinks, what is outside is behind the host: the way back of connections that
	// come from there, or from the host itself, has to lead through here.
	side := dataplane.NATOuter
	if len(c.options.Uplinks) > 0 {
		side = dataplane.NATHost
	}
	c.put(dataplane.NATInterface{Interface: hostInterface(c.options.HostName), Side: side})
	var source dataplane.SourceNAT
	for _, a := range cluster.NodeAddresses(c.podCIDRs) {
		if a.Is4() {
			source.IPv4 = a
		} else {
			source.IPv6 = a
		}
	}
	if source != (dataplane.SourceNAT{}) {
		c.put(source)
	}
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
