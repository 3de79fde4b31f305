package vnet

import (
	"cmp"
	"net"

	"go.fd.io/govpp/api"

	"github.com/millrace/millrace/engine/port"
)

// SetAdminUp switches an interface on or off. Its addresses' routes exist only while it
// is up; its learned neighbours are forgotten when it goes down.
func (p *Plane) SetAdminUp(index uint32, up bool) error {
	return p.withInterface(index, func(i *iface) error {
		p.setAdmin(i, up)
		return nil
	})
}

// withInterface runs f as one edit of interface index.
func (p *Plane) withInterface(index uint32, f func(*iface) error) error {
	return p.edit(func() error {
		i := p.iface(index)
		if i == nil {
			return api.INVALID_SW_IF_INDEX
		}
		return f(i)
	})
}

func (p *Plane) setAdmin(i *iface, up bool) {
	if i.admin == up {
		return
	}
	had := i.linkUp
	p.switchAdmin(i, up)
	p.events.add(event{iface: &InterfaceEvent{Index: i.index, AdminUp: up, LinkUp: i.linkUp && !had}})
}

// down is setAdmin for an interface that is going: only its deletion is an event.
func (p *Plane) down(i *iface) {
	if i.admin {
		p.switchAdmin(i, false)
	}
}

func (p *Plane) switchAdmin(i *iface, up bool) {
	i.admin = up
	if i.port == nil && i.index != 0 {
		i.carrier = up // a loopback's carrier is its switch
	}
	i.linkUp = up && i.carrier
	if s, ok := i.port.(adminSetter); ok {
		s.SetAdminUp(up)
	}
	if !up {
		p.detach(i)
		p.flushNeighbors(i.index, false)
	}
	for f := range i.addrs {
		for _, a := range i.addrs[f] {
			if up {
				p.connect(i, a)
			} else {
				p.disconnect(i, a)
			}
		}
	}
	p.touchInterface(i)
	p.resolvePaths(i.index)
	if up {
		p.publishInterfaces()
		p.attach(i)
	}
}

// adminSetter is a port that acts on being set up or down. It may not call the Plane.
type adminSetter interface{ SetAdminUp(bool) }

// SetLinkUp notes the carrier; paths by an interface without one do not forward. As in
// VPP, setting an interface down takes its link down, and a carrier that comes meanwhile
// shows again.
func (p *Plane) SetLinkUp(index uint32, up bool) error {
	return p.withInterface(index, func(i *iface) error {
		i.carrier = up
		if i.linkUp == up {
			return nil
		}
		i.linkUp = up
		p.touchInterface(i)
		p.resolvePaths(i.index)
		p.events.add(event{iface: &InterfaceEvent{Index: i.index, LinkUp: up}})
		return nil
	})
}

// SetMTU sets the MTUs of L3, IPv4, IPv6 and MPLS in bytes; 0 inherits that of L3.
func (p *Plane) SetMTU(index uint32, mtu [4]uint32) error {
	return p.withInterface(index, func(i *iface) error {
		i.mtu = mtu
		p.touchInterface(i)
		return nil
	})
}

// SetLinkMTU sets the hardware's MTU in bytes. Only Ethernet interfaces have one.
func (p *Plane) SetLinkMTU(index uint32, mtu uint16) error {
	return p.withInterface(index, func(i *iface) error {
		if i.link != port.Ethernet {
			return api.FEATURE_DISABLED
		}
		if mtu < 64 || mtu > cmp.Or(i.spec.MaxLinkMTU, 9216) {
			return api.INVALID_VALUE
		}
		i.linkMTU, i.mtu[0] = mtu, uint32(mtu)
		p.touchInterface(i)
		return nil
	})
}

// hardwareAddrSetter is a port that must be told of a new Ethernet address.
type hardwareAddrSetter interface {
	SetHardwareAddr(net.HardwareAddr) error
}

// SetMAC changes the Ethernet address.
func (p *Plane) SetMAC(index uint32, mac net.HardwareAddr) error {
	return p.withInterface(index, func(i *iface) error {
		if i.link != port.Ethernet || len(mac) != 6 || mac[0]&1 != 0 {
			return api.UNIMPLEMENTED
		}
		if s, ok := i.port.(hardwareAddrSetter); ok {
			if err := s.SetHardwareAddr(mac); err != nil {
				p.log.Warn("device refused its new address", "sw_if_index", index, "err", err)
				return api.UNIMPLEMENTED
			}
		}
		copy(i.mac[:], mac)
		p.touchInterface(i)
		return nil
	})
}

// SetTag sets the operator's mark, at most 63 bytes; "" takes it off.
func (p *Plane) SetTag(index uint32, tag string) error {
	return p.withInterface(index, func(i *iface) error {
		i.tag = tag[:min(len(tag), 63)]
		return nil
	})
}

// SetName renames an interface.
func (p *Plane) SetName(index uint32, name string) error {
	return p.withInterface(index, func(i *iface) error {
		if name == "" {
			return api.INVALID_VALUE
		}
		if other := p.byName(name); len(name) > 63 || other != nil && other != i {
			return api.INVALID_SW_IF_INDEX // VPP's answer to a failed rename
		}
		i.spec.Name = name
		return nil
	})
}

// promiscuousSetter is a port that filters by address unless told not to.
type promiscuousSetter interface {
	SetPromiscuous(bool) error
}

// SetPromisc lets an Ethernet device deliver frames for other addresses too. IP packets
// among them are still dropped.
func (p *Plane) SetPromisc(index uint32, on bool) error {
	return p.withInterface(index, func(i *iface) error {
		if i.link != port.Ethernet {
			return api.INVALID_VALUE
		}
		if s, ok := i.port.(promiscuousSetter); ok {
			if err := s.SetPromiscuous(on); err != nil {
				p.log.Warn("device refused promiscuous mode", "sw_if_index", index, "err", err)
				return api.UNIMPLEMENTED
			}
		}
		return nil
	})
}

// bindTable moves an interface into a table.
func (p *Plane) bindTable(i *iface, f int, t *table) {
	old := i.tables[f]
	if old == t {
		return
	}
	i.tables[f] = t
	t.locks++
	old.locks--
	i.dirty = true
	p.bump = true
	p.releaseTable(old)
}

// SetTable moves an interface that has no address of the family, its own or a lender's,
// into a table.
func (p *Plane) SetTable(index uint32, f Family, id uint32) error {
	return p.withInterface(index, func(i *iface) error {
		t := p.tables[slot(f)][id]
		if t == nil {
			return api.NO_SUCH_FIB
		}
		owner := i
		if l := p.iface(i.lender); l != nil {
			owner = l
		}
		if len(owner.addrs[slot(f)]) > 0 {
			return api.ADDRESS_FOUND_FOR_INTERFACE
		}
		p.bindTable(i, slot(f), t)
		return nil
	})
}

// SetUnnumbered lets borrower speak from lender's addresses, or ends that.
func (p *Plane) SetUnnumbered(borrower, lender uint32, add bool) error {
	return p.edit(func() error {
		b := p.iface(borrower)
		if b == nil {
			return api.INVALID_SW_IF_INDEX
		}
		if !add {
			p.setLender(b, NoIndex)
			return nil
		}
		l := p.iface(lender)
		if l == nil {
			return api.INVALID_SW_IF_INDEX_2
		}
		if b.tables != l.tables {
			return api.UNEXPECTED_INTF_STATE
		}
		p.setLender(b, lender)
		return nil
	})
}

func (p *Plane) setLender(i *iface, lender uint32) {
	was := i.lender != NoIndex
	i.lender = lender
	i.dirty = true
	if now := lender != NoIndex; now != was {
		for f := range i.users {
			if now {
				i.users[f]++
			} else {
				i.users[f]--
			}
		}
	}
	p.nat.stale = true
	p.bump = true
	p.reviewNeighbors(i.index)
}

// lenderOf is the interface whose addresses i speaks from, or NoIndex.
func (p *Plane) lenderOf(index uint32) uint32 {
	if i := p.iface(index); i != nil {
		return i.lender
	}
	return NoIndex
}
