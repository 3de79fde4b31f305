package vnet

import (
	"cmp"
	"net/netip"
	"slices"
	"time"

	"go.fd.io/govpp/api"

	"github.com/millrace/millrace/engine/packet"
	"github.com/millrace/millrace/engine/port"
	"github.com/millrace/millrace/engine/worker"
)

// maxProbes is how often a neighbour that reached its age is asked before it is forgotten.
const maxProbes = 3

type nbrKey struct {
	iface uint32
	addr  netip.Addr
}

type neighbor struct {
	key     nbrKey
	mac     packet.MAC
	static  bool
	noFIB   bool
	updated time.Time
	probes  int
}

func (n *neighbor) event(removed bool, now time.Time) event {
	return event{nbr: &NeighborEvent{Neighbor: n.copy(now), Removed: removed}}
}

func (n *neighbor) copy(now time.Time) Neighbor {
	c := Neighbor{Interface: n.key.iface, Addr: n.key.addr, MAC: n.mac, Static: n.static, NoFIBEntry: n.noFIB}
	if !n.static {
		c.Age = now.Sub(n.updated).Seconds()
	}
	return c
}

// AddNeighbor sets a neighbour. A static one is not overwritten by a dynamic one, a
// dynamic one may become static.
func (p *Plane) AddNeighbor(n Neighbor) error {
	return p.edit(func() error {
		if p.iface(n.Interface) == nil {
			return api.INVALID_SW_IF_INDEX
		}
		if !n.Addr.IsValid() || n.Addr.Is4In6() {
			return api.INVALID_VALUE
		}
		return p.setNeighbor(n)
	})
}

func (p *Plane) setNeighbor(n Neighbor) error {
	k := nbrKey{n.Interface, n.Addr}
	have := p.neighbors[k]
	if have == nil {
		f := familyOf(n.Addr)
		if !p.roomFor(f) {
			return api.LIMIT_EXCEEDED
		}
		have = &neighbor{key: k, mac: n.MAC, static: n.Static, noFIB: n.NoFIBEntry, updated: p.now()}
		p.neighbors[k] = have
		p.nbrCount[slot(f)]++
		p.addAdjFIB(have)
		p.neighborChanged(have)
		return nil
	}
	if have.static && !n.Static {
		if have.mac == n.MAC {
			return nil
		}
		return api.VPPApiError(-2) // what VPP answers
	}
	have.static = have.static || n.Static
	have.updated, have.probes = p.now(), 0
	if have.mac == n.MAC {
		p.events.add(have.event(false, p.now()))
		return nil
	}
	have.mac = n.MAC
	p.neighborChanged(have)
	return nil
}

// roomFor makes room for one more neighbour, by forgetting the oldest learned one when
// the configuration says so.
func (p *Plane) roomFor(f Family) bool {
	c := p.nbrConfig[slot(f)]
	if c.MaxNumber == 0 || p.nbrCount[slot(f)] < c.MaxNumber {
		return true
	}
	if !c.Recycle {
		return false
	}
	var oldest *neighbor
	for _, n := range p.neighbors {
		if !n.static && familyOf(n.key.addr) == f && (oldest == nil || n.updated.Before(oldest.updated)) {
			oldest = n
		}
	}
	if oldest == nil {
		return false
	}
	p.removeNeighbor(oldest)
	return true
}

// adjTable is where a neighbour's host route belongs.
func (p *Plane) adjTable(n *neighbor) *table {
	i := p.iface(n.key.iface)
	if i == nil {
		return nil
	}
	if n.key.addr.Is6() && n.key.addr.IsLinkLocalUnicast() {
		return i.linkLocals
	}
	return i.tables[slot(familyOf(n.key.addr))]
}

func (p *Plane) addAdjFIB(n *neighbor) {
	t := p.adjTable(n)
	if n.noFIB || t == nil {
		return
	}
	prefix := netip.PrefixFrom(n.key.addr, n.key.addr.BitLen())
	q := path{Path: Path{Interface: n.key.iface, NextHop: n.key.addr, Weight: 1}}
	var have []path
	if e := t.entries[prefix]; e != nil {
		if k := e.find(SourceAdjacency); k >= 0 {
			have = e.sources[k].paths
		}
	}
	paths := merge(have, []path{q})
	slices.SortFunc(paths, func(a, b path) int { return cmp.Compare(a.Interface, b.Interface) })
	if err := p.setSource(t, prefix, SourceAdjacency, paths); err != nil {
		p.log.Warn("no room for a neighbour's route", "neighbor", n.key.addr, "err", err)
	}
}

func (p *Plane) dropAdjFIB(n *neighbor) {
	t := p.adjTable(n)
	if t == nil {
		return
	}
	prefix := netip.PrefixFrom(n.key.addr, n.key.addr.BitLen())
	e := t.entries[prefix]
	if e == nil {
		return
	}
	k := e.find(SourceAdjacency)
	if k < 0 {
		return
	}
	left := slices.DeleteFunc(slices.Clone(e.sources[k].paths), func(q path) bool { return q.Interface == n.key.iface })
	if len(left) == 0 {
		p.dropSource(t, prefix, SourceAdjacency)
		return
	}
	if err := p.setSource(t, prefix, SourceAdjacency, left); err != nil {
		p.log.Warn("neighbour's route not updated", "neighbor", n.key.addr, "err", err)
	}
}

// neighborChanged publishes the adjacencies towards n and tells the watchers.
func (p *Plane) neighborChanged(n *neighbor) {
	p.publishNeighbor(n)
	p.events.add(n.event(false, p.now()))
}

func (p *Plane) publishNeighbor(n *neighbor) {
	for _, f := range []Family{IPv4, IPv6} {
		k := adjKey{kind: worker.KindUnresolved, family: f, iface: n.key.iface, nh: n.key.addr}
		if a := p.adjs[k]; a != nil {
			p.publishAdj(a)
		}
	}
}

// DelNeighbor forgets a neighbour, static or not.
func (p *Plane) DelNeighbor(n Neighbor) error {
	return p.edit(func() error {
		if p.iface(n.Interface) == nil {
			return api.INVALID_SW_IF_INDEX
		}
		have := p.neighbors[nbrKey{n.Interface, n.Addr}]
		if have == nil {
			return api.NO_SUCH_ENTRY
		}
		p.removeNeighbor(have)
		return nil
	})
}

func (p *Plane) removeNeighbor(n *neighbor) {
	delete(p.neighbors, n.key)
	p.nbrCount[slot(familyOf(n.key.addr))]--
	p.publishNeighbor(n)
	p.dropAdjFIB(n)
	p.events.add(n.event(true, p.now()))
}

// FlushNeighbors forgets the neighbours of a family on an interface, NoIndex for all.
func (p *Plane) FlushNeighbors(f Family, index uint32) error {
	return p.edit(func() error {
		if index != NoIndex && p.iface(index) == nil {
			return api.INVALID_SW_IF_INDEX
		}
		for k, n := range p.neighbors {
			if familyOf(k.addr) == f && (index == NoIndex || k.iface == index) {
				p.removeNeighbor(n)
			}
		}
		return nil
	})
}

// flushNeighbors forgets what was learned on an interface, static entries only if asked.
func (p *Plane) flushNeighbors(index uint32, static bool) {
	for k, n := range p.neighbors {
		if k.iface == index && (static || !n.static) {
			p.removeNeighbor(n)
		}
	}
}

// reviewNeighbors looks again at the host routes of an interface's neighbours, after its
// lender or its link-local table changed.
func (p *Plane) reviewNeighbors(index uint32) {
	for k, n := range p.neighbors {
		if k.iface == index {
			p.addAdjFIB(n)
			if t := p.adjTable(n); t != nil {
				if e := t.entries[netip.PrefixFrom(k.addr, k.addr.BitLen())]; e != nil {
					p.refresh(e)
				}
			}
		}
	}
}

// Neighbors returns the neighbours of a family on an interface, NoIndex for all, by
// interface and address.
func (p *Plane) Neighbors(f Family, index uint32) []Neighbor {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.now()
	var out []Neighbor
	for k, n := range p.neighbors {
		if familyOf(k.addr) == f && (index == NoIndex || k.iface == index) {
			out = append(out, n.copy(now))
		}
	}
	slices.SortFunc(out, func(a, b Neighbor) int {
		return cmp.Or(cmp.Compare(a.Interface, b.Interface), a.Addr.Compare(b.Addr))
	})
	return out
}

// SetNeighborConfig sets limit and age of a family's neighbours.
func (p *Plane) SetNeighborConfig(f Family, c NeighborConfig) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.nbrConfig[slot(f)] = c
	return nil
}

// NeighborConfig returns what SetNeighborConfig set; at first 50000, no age, no recycling.
func (p *Plane) NeighborConfig(f Family) NeighborConfig {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.nbrConfig[slot(f)]
}

// learned takes over what a worker saw.
func (p *Plane) learned(l worker.Learned) {
	err := p.edit(func() error {
		i := p.iface(l.Interface)
		if i == nil || !i.admin || i.link != port.Ethernet || i.users[slot(familyOf(l.Addr))] == 0 {
			return nil
		}
		return p.setNeighbor(Neighbor{Interface: l.Interface, Addr: l.Addr, MAC: l.MAC})
	})
	if err != nil {
		p.log.Debug("neighbour not learned", "neighbor", l.Addr, "sw_if_index", l.Interface, "err", err)
	}
}

// age asks for the neighbours that are older than their family's limit and forgets those
// that were asked often enough.
func (p *Plane) age() {
	err := p.edit(func() error {
		now := p.now()
		for _, n := range p.neighbors {
			limit := p.nbrConfig[slot(familyOf(n.key.addr))].MaxAge
			if n.static || limit == 0 || now.Sub(n.updated) < time.Duration(limit)*time.Second {
				continue
			}
			if n.probes >= maxProbes {
				p.removeNeighbor(n)
				continue
			}
			n.probes++
			p.asks = append(p.asks, ask{n.key.iface, n.key.addr})
		}
		return nil
	})
	if err != nil {
		p.log.Error("neighbours not aged", "err", err)
	}
}

// ask is a request to be sent once an edit is published.
type ask struct {
	iface uint32
	addr  netip.Addr
}

// askFor asks for the neighbour of a new adjacency: a route by it will soon have traffic.
func (p *Plane) askFor(a *adjacency) {
	k := a.key
	i := p.iface(k.iface)
	if k.kind != worker.KindUnresolved || i == nil || !i.admin || p.neighbors[nbrKey{k.iface, k.nh}] != nil {
		return
	}
	p.asks = append(p.asks, ask{k.iface, k.nh})
}

// sendAsks has the first worker send requests.
func (p *Plane) sendAsks(asks []ask) {
	for _, a := range asks {
		p.workers[0].Ask(a.iface, a.addr)
	}
}
