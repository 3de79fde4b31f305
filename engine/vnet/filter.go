package vnet

import (
	"net/netip"

	"go.fd.io/govpp/api"
)

type pmtuKey struct {
	table uint32
	nh    netip.Addr
}

// SetURPF sets the source check of an interface and family: input or output, by the
// interface's table or, unless NoIndex, by another.
func (p *Plane) SetURPF(index uint32, f Family, input bool, m URPFMode, id uint32) error {
	return p.withInterface(index, func(i *iface) error {
		var t *table
		if id != NoIndex {
			if t = p.tables[slot(f)][id]; t == nil {
				return api.INVALID_VALUE
			}
		}
		if m > URPFStrict {
			return api.INVALID_VALUE
		}
		u := i.urpf[slot(f)]
		if input {
			u.mode, u.table = m, t
		} else if m != URPFOff {
			return api.UNIMPLEMENTED
		}
		p.setURPF(i, slot(f), u)
		return nil
	})
}

func (p *Plane) setURPF(i *iface, f int, u urpf) {
	old := i.urpf[f].table
	i.urpf[f] = u
	if u.table != nil {
		u.table.locks++
	}
	if old != nil {
		old.locks--
		p.releaseTable(old)
	}
	i.dirty = true
	p.bump = true
}

// SetPuntRedirect sends what is for this node and has no listener here out by paths,
// for packets that came in by rx, or by any interface for NoIndex. Nil paths end it.
func (p *Plane) SetPuntRedirect(rx uint32, f Family, paths []Path) error {
	return p.edit(func() error {
		if rx != NoIndex && p.iface(rx) == nil {
			return api.INVALID_SW_IF_INDEX
		}
		decoded, err := p.decode(netip.Prefix{}, paths, SourceAPI)
		if err != nil {
			return err
		}
		p.setPunt(rx, slot(f), decoded)
		return nil
	})
}

func (p *Plane) setPunt(rx uint32, f int, paths []path) {
	old := p.punts[f][rx]
	if len(paths) > 0 {
		p.punts[f][rx] = p.takeList(p.tables[f][0], paths, NoIndex)
	} else {
		delete(p.punts[f], rx)
	}
	if old != nil {
		p.releaseList(old)
	}
	for _, i := range p.ifs {
		if i != nil {
			i.dirty = true
		}
	}
	p.bump = true
}

// SetPuntUDP says whether UDP to ports that nobody here listens to is punted like other
// protocols, instead of answered with "port unreachable": VPP's set_punt for all ports.
func (p *Plane) SetPuntUDP(f Family, on bool) error {
	return p.edit(func() error {
		p.puntUDP[slot(f)] = on
		for _, i := range p.ifs {
			if i != nil {
				i.dirty = true
			}
		}
		return nil
	})
}

// puntOf is the adjacency that takes what interface index punts, or NoIndex.
func (p *Plane) puntOf(index uint32, f int) uint32 {
	l := p.punts[f][index]
	if l == nil {
		l = p.punts[f][NoIndex]
	}
	if l == nil || l.dropped {
		return NoIndex
	}
	return l.targets[0].Target
}

// SetPathMTU bounds the packets to a next hop of the table's interfaces, in bytes of L3;
// 0 ends it.
func (p *Plane) SetPathMTU(id uint32, nh netip.Addr, mtu uint16) error {
	return p.edit(func() error {
		if p.tables[slot(familyOf(nh))][id] == nil {
			return api.NO_SUCH_TABLE
		}
		k := pmtuKey{id, nh}
		if mtu == 0 || mtu == 0xffff {
			delete(p.pmtu, k)
		} else {
			p.pmtu[k] = mtu
		}
		for key, a := range p.adjs {
			if key.nh == nh {
				p.publishAdj(a)
			}
		}
		return nil
	})
}
