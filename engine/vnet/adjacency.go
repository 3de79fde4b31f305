package vnet

import (
	"net/netip"

	"github.com/millrace/millrace/engine/packet"
	"github.com/millrace/millrace/engine/port"
	"github.com/millrace/millrace/engine/worker"
)

// An adjacency is one way off this machine, or one thing to do instead: worker.Adjacency,
// kept in line with its interface and its neighbour.

type adjKey struct {
	kind   worker.Kind
	family Family // of the packets
	iface  uint32
	nh     netip.Addr
	source netip.Addr
	table  *table
}

type adjacency struct {
	key   adjKey
	index uint32
	refs  int
}

// pathAdj is the adjacency of a path that needs no other route, without a reference of
// its own; false when its interface is down.
func (p *Plane) pathAdj(f Family, q path) (*adjacency, bool) {
	k := adjKey{family: f}
	switch q.Type {
	case PathDrop:
		return nil, false
	case PathLocal:
		k.kind, k.iface = worker.KindLocal, q.Interface
	case PathUnreachable:
		k.kind = worker.KindUnreachable
	case PathProhibit:
		k.kind = worker.KindProhibit
	case PathNormal:
		switch {
		case q.linkLocal:
			k.kind = worker.KindLinkLocal
		case q.Interface == NoIndex:
			k.kind, k.table = worker.KindLookup, p.tables[slot(f)][q.Table]
			if k.table == nil {
				return nil, false
			}
		default:
			i := p.iface(q.Interface)
			if i == nil || !i.admin || !i.linkUp {
				return nil, false
			}
			k.kind, k.iface, k.nh = worker.KindGlean, q.Interface, q.NextHop
			switch {
			case i.link == port.IP:
				k.kind = worker.KindRewrite
			case q.NextHop.IsValid():
				k.kind = worker.KindUnresolved
			default:
				k.source = q.source
			}
		}
	default:
		return nil, false
	}
	return p.findAdj(k), true
}

// findAdj returns the adjacency of k, with no reference when it is new.
func (p *Plane) findAdj(k adjKey) *adjacency {
	a := p.adjs[k]
	if a == nil {
		i, ok := p.adjIndexes.take()
		if !ok {
			panic("vnet: four thousand million adjacencies")
		}
		a = &adjacency{key: k, index: i}
		p.adjs[k] = a
		if k.table != nil {
			k.table.locks++
		}
		p.publishAdj(a)
		p.askFor(a)
	}
	return a
}

func (p *Plane) takeAdj(k adjKey) *adjacency {
	a := p.findAdj(k)
	a.refs++
	return a
}

func (p *Plane) releaseAdj(a *adjacency) {
	if a.refs--; a.refs > 0 {
		return
	}
	delete(p.adjs, a.key)
	p.adjIndexes.put(a.index) // as with routes
	if a.key.table != nil {
		a.key.table.locks--
		p.releaseTable(a.key.table)
	}
}

// publishAdj tells the workers what a is now.
func (p *Plane) publishAdj(a *adjacency) {
	k := a.key
	w := &worker.Adjacency{Kind: k.kind, Interface: k.iface, NextHop: k.nh, Source: k.source, MTU: 65535}
	if k.table != nil {
		w.Table4, w.Table6 = k.table.t4, k.table.t6
	}
	i := p.iface(k.iface)
	if i != nil && (k.kind == worker.KindRewrite || k.kind == worker.KindUnresolved || k.kind == worker.KindGlean) {
		w.MTU = p.mtuTo(i, k)
		if n := p.neighbors[nbrKey{k.iface, k.nh}]; k.kind == worker.KindUnresolved && n != nil {
			w.Kind, w.HeaderLen = worker.KindRewrite, packet.EthLen
			e := packet.Ethernet(w.Header[:])
			e.SetDst(n.mac)
			e.SetSrc(i.mac)
			e.SetType(packet.EtherTypeIPv4)
			if k.family == IPv6 {
				e.SetType(packet.EtherTypeIPv6)
			}
		}
	}
	p.state.SetAdjacency(a.index, w)
	p.bump = true
}

// mtuTo is the L3 MTU towards the next hop of k.
func (p *Plane) mtuTo(i *iface, k adjKey) int {
	mtu := i.mtuOf(k.family)
	if k.nh.IsValid() {
		if t := i.tables[slot(familyOf(k.nh))]; t != nil {
			if m, ok := p.pmtu[pmtuKey{t.ID, k.nh}]; ok {
				mtu = min(mtu, int(m))
			}
		}
	}
	return mtu
}

// touchInterface publishes again whatever depends on an interface's state.
func (p *Plane) touchInterface(i *iface) {
	i.dirty = true
	for k, a := range p.adjs {
		if k.iface == i.index && k.kind != worker.KindLocal && k.kind != worker.KindDrop {
			p.publishAdj(a)
		}
	}
	p.bump = true
}
