package vnet

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"

	"github.com/millrace/millrace/engine/fib"
	"github.com/millrace/millrace/engine/packet"
	"github.com/millrace/millrace/engine/port"
	"github.com/millrace/millrace/engine/worker"
)

// From paths to what workers read:
//
//	entry ─► pathList (shared by all entries with equal paths) ─► worker.Route
//	            │ each path: an adjacency, or the route of the next hop's own route (via)
//	            ▼
//	         adjacency (interface, next hop) ─► worker.Adjacency
//
// A pathList, an adjacency and a via are counted by their users.

// pathList is one set of paths. Entries of one table or of many share it.
type pathList struct {
	key     string
	index   uint32
	refs    int
	family  Family
	hash    uint32
	paths   []path
	vias    []*via
	adjs    []*adjacency
	targets []fib.Weighted
	rpf     []uint32
	dropped bool // no path is usable
}

// via is the next hop of recursive paths: an address to be reached by another route.
type via struct {
	key     viaKey
	refs    int
	cover   *pathList // of the route that leads to it; nil: none, or a loop
	targets []fib.Weighted
	rpf     []uint32
}

type viaKey struct {
	table *table
	addr  netip.Addr
}

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

func decimal(n uint32) string { return strconv.FormatUint(uint64(n), 10) }

// takeList returns the list for paths as routes of t use them, with a reference.
func (p *Plane) takeList(t *table, paths []path) *pathList {
	key := fmt.Sprint(t.Family, t.hash, paths)
	l := p.lists[key]
	if l == nil {
		i, ok := p.routes.take()
		if !ok {
			panic("vnet: four thousand million path lists")
		}
		l = &pathList{key: key, index: i, family: t.Family, hash: t.hash, paths: paths}
		p.lists[key] = l
		for _, q := range paths {
			if q.recursive() && !q.dead {
				l.vias = append(l.vias, p.takeVia(q))
			}
		}
		p.resolveList(l)
	}
	l.refs++
	return l
}

func (p *Plane) releaseList(l *pathList) {
	if l.refs--; l.refs > 0 {
		return
	}
	delete(p.lists, l.key)
	for _, v := range l.vias {
		p.releaseVia(v)
	}
	for _, a := range l.adjs {
		p.releaseAdj(a)
	}
	p.routes.put(l.index) // what stands there serves batches at work until it is used again
}

func (q *path) recursive() bool {
	return q.Type == PathNormal && q.Interface == NoIndex && q.NextHop.IsValid()
}

func (p *Plane) takeVia(q path) *via {
	f := IPv4
	if q.NextHop.Is6() {
		f = IPv6
	}
	k := viaKey{p.tables[slot(f)][q.Table], q.NextHop}
	v := p.vias[k]
	if v == nil {
		v = &via{key: k}
		p.vias[k] = v
		if k.table != nil {
			k.table.locks++
		}
		p.lookVia(v)
	}
	v.refs++
	return v
}

func (p *Plane) releaseVia(v *via) {
	if v.refs--; v.refs > 0 {
		return
	}
	delete(p.vias, v.key)
	if v.key.table != nil {
		v.key.table.locks--
		p.releaseTable(v.key.table)
	}
}

// lookVia finds the route that leads to v. A route that leads back to v does not count.
func (p *Plane) lookVia(v *via) {
	v.cover, v.targets, v.rpf = nil, nil, nil
	if v.key.table == nil {
		return
	}
	e := v.key.table.match(v.key.addr)
	if e == nil || e.list == nil || dependsOn(e.list, v, 0) {
		return
	}
	v.cover = e.list
	v.rpf = e.list.rpf
	if !e.list.dropped {
		v.targets = e.list.targets
	}
}

// dependsOn reports whether l is resolved through v.
func dependsOn(l *pathList, v *via, depth int) bool {
	for _, w := range l.vias {
		if w == v || depth > 16 || w.cover != nil && dependsOn(w.cover, v, depth+1) {
			return true
		}
	}
	return false
}

// resolveVia looks v up again and, when the answer changed, resolves what stands on it.
func (p *Plane) resolveVia(v *via) {
	cover, targets, rpf := v.cover, v.targets, v.rpf
	p.lookVia(v)
	if v.cover == cover && slices.Equal(targets, v.targets) && slices.Equal(rpf, v.rpf) {
		return
	}
	for _, l := range p.lists {
		if slices.Contains(l.vias, v) {
			p.resolveList(l)
		}
	}
}

// resolveList computes the forwarding of l and publishes it when it changed.
func (p *Plane) resolveList(l *pathList) {
	targets, adjs, rpf := p.contribute(l)
	for _, a := range adjs {
		a.refs++
	}
	old := l.adjs
	dropped := len(targets) == 0
	if dropped {
		a := p.takeAdj(adjKey{kind: worker.KindDrop, family: l.family})
		adjs = append(adjs, a)
		targets = []fib.Weighted{{Target: a.index, Weight: 1}}
	}
	changed := l.targets == nil || dropped != l.dropped || !slices.Equal(targets, l.targets) || !slices.Equal(rpf, l.rpf)
	l.targets, l.adjs, l.rpf, l.dropped = targets, adjs, rpf, dropped
	if changed {
		p.state.SetRoute(l.index, &worker.Route{
			Balance: fib.NewBalance(targets), RPF: rpf, Local: l.local(), HashFields: l.hash,
		})
		p.bump = true
	}
	for _, a := range old {
		p.releaseAdj(a)
	}
	if !changed {
		return
	}
	for _, v := range p.vias {
		if v.cover == l {
			p.resolveVia(v)
		}
	}
}

func (l *pathList) local() bool {
	return len(l.paths) > 0 && l.paths[0].Type == PathLocal
}

// contribute is what the usable paths of the best preference lead to, and the interfaces
// of all paths.
func (p *Plane) contribute(l *pathList) ([]fib.Weighted, []*adjacency, []uint32) {
	var rpf []uint32
	seen := func(i uint32) {
		if i != NoIndex && !slices.Contains(rpf, i) {
			rpf = append(rpf, i)
		}
	}
	levels := map[uint8][]fib.Weighted{}
	var adjs []*adjacency
	for _, q := range l.paths {
		if q.dead {
			continue
		}
		weight := uint32(max(1, q.Weight))
		if q.recursive() {
			v := p.vias[viaKey{p.tables[slot(familyOf(q.NextHop))][q.Table], q.NextHop}]
			if v == nil {
				continue
			}
			for _, i := range v.rpf {
				seen(i)
			}
			levels[q.Preference] = append(levels[q.Preference], scaled(v.targets, weight)...)
			if v.cover != nil {
				adjs = append(adjs, v.cover.adjs...)
			}
			continue
		}
		if q.Type == PathNormal && !q.linkLocal {
			seen(q.Interface)
		}
		a, ok := p.pathAdj(l.family, q)
		if !ok {
			continue
		}
		adjs = append(adjs, a)
		levels[q.Preference] = append(levels[q.Preference], fib.Weighted{Target: a.index, Weight: weight << 8})
	}
	slices.Sort(rpf)
	for _, level := range slices.Sorted(maps.Keys(levels)) {
		if len(levels[level]) > 0 {
			return levels[level], adjs, rpf
		}
	}
	return nil, adjs, rpf
}

// scaled gives targets the share of one path with the given weight.
func scaled(targets []fib.Weighted, weight uint32) []fib.Weighted {
	var total uint64
	for _, t := range targets {
		total += uint64(t.Weight)
	}
	out := make([]fib.Weighted, len(targets))
	for i, t := range targets {
		out[i] = fib.Weighted{Target: t.Target, Weight: max(1, uint32(uint64(weight)<<8*uint64(t.Weight)/total))}
	}
	return out
}

func familyOf(a netip.Addr) Family {
	if a.Is4() {
		return IPv4
	}
	return IPv6
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

// resolvePaths resolves again the lists that have a path by interface i.
func (p *Plane) resolvePaths(i uint32) {
	for _, l := range slices.Collect(maps.Values(p.lists)) {
		if p.lists[l.key] == l && slices.ContainsFunc(l.paths, func(q path) bool { return q.Interface == i }) {
			p.resolveList(l)
		}
	}
}
