package compile

import (
	"github.com/millrace/millrace/dataplane"
)

// udp is the protocol that VXLAN goes by.
const udp = 17

// steer takes out of shared uplinks what is the dataplane's: all that is for pods of this
// node, and tunnels that end at the node. What else is for the node stays with the kernel.
func (c *compilation) steer() {
	for _, u := range c.options.Uplinks {
		if u.Mode != dataplane.UplinkShare {
			continue
		}
		for _, cidr := range c.podCIDRs {
			c.put(dataplane.Steering{Interface: u.Interface(), Prefix: cidr.Masked()})
		}
		if c.options.Encapsulation == EncapsulateNever {
			continue
		}
		for _, a := range u.Addresses {
			c.put(dataplane.SteerPort(u.Interface(), a, udp, tunnelPort))
		}
	}
}

// nextHops are the neighbours of shared uplinks that the kernel knows and routes or tunnels
// lead to. They count as attached, for the tunnels, which look for them in the uplink's table.
func (c *compilation) nextHops() {
	for _, hop := range dataplane.NextHops(c.result.State, c.options.Uplinks) {
		if mac, known := c.options.NextHops[hop]; known {
			c.put(dataplane.Neighbor{Interface: hop.Uplink, Addr: hop.Addr, MAC: mac, Attached: true})
		}
	}
}
