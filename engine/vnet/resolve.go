package vnet

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"

	"github.com/millrace/millrace/engine/fib"
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
	owner   uint32 // of an address of ours that goes elsewhere: whose it is; else NoIndex
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
	cover   *pathList // of the route that leads to it, nil for none
	looped  bool      // that route leads back here; then it counts as none
	targets []fib.Weighted
	rpf     []uint32
}

type viaKey struct {
	table *table
	addr  netip.Addr
}

func decimal(n uint32) string { return strconv.FormatUint(uint64(n), 10) }

// takeList returns the list for paths as routes of t use them, with a reference. owner is
// that of pathList.
func (p *Plane) takeList(t *table, paths []path, owner uint32) *pathList {
	key := fmt.Sprint(t.Family, t.hash, paths, owner)
	l := p.lists[key]
	if l == nil {
		i, ok := p.routes.take()
		if !ok {
			panic("vnet: four thousand million path lists")
		}
		l = &pathList{key: key, index: i, family: t.Family, hash: t.hash, paths: paths, owner: owner}
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
		v.cover = v.match()
		v.looped = leadsTo(v.cover, v, 0)
		v.answer()
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

// match is the list of the route that leads to v.
func (v *via) match() *pathList {
	if v.key.table == nil {
		return nil
	}
	if e := v.key.table.match(v.key.addr); e != nil {
		return e.list
	}
	return nil
}

// leadsTo reports whether l is resolved through v, loops of others cut short.
func leadsTo(l *pathList, v *via, depth int) bool {
	if l == nil || depth > 16 {
		return false
	}
	for _, w := range l.vias {
		if w == v || leadsTo(w.cover, v, depth+1) {
			return true
		}
	}
	return false
}

// answer takes over what v's cover leads to and reports whether that is new.
func (v *via) answer() bool {
	var targets []fib.Weighted
	var rpf []uint32
	if v.cover != nil && !v.looped {
		rpf = v.cover.rpf
		if !v.cover.dropped {
			targets = v.cover.targets
		}
	}
	same := slices.Equal(targets, v.targets) && slices.Equal(rpf, v.rpf)
	v.targets, v.rpf = targets, rpf
	return !same
}

// resolveVia looks again which route leads to v. When that is another one, loops may have
// come or gone anywhere.
func (p *Plane) resolveVia(v *via) {
	cover := v.match()
	if cover == v.cover {
		return
	}
	v.cover = cover
	for _, w := range p.vias {
		looped := leadsTo(w.cover, w, 0)
		if looped != w.looped || w == v {
			w.looped = looped
			p.answerVia(w)
		}
	}
}

// answerVia resolves what stands on v when its answer is new.
func (p *Plane) answerVia(v *via) {
	if !v.answer() {
		return
	}
	for _, l := range slices.Collect(maps.Values(p.lists)) {
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
			Elsewhere: l.owner != NoIndex, Owner: l.owner, Foreign: l.foreign(),
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
			p.answerVia(v)
		}
	}
}

// foreign says that a path leads to an interface's link though the prefix is not attached
// to it.
func (l *pathList) foreign() bool {
	return slices.ContainsFunc(l.paths, func(q path) bool {
		return q.Type == PathNormal && !q.linkLocal && q.Interface != NoIndex && !q.NextHop.IsValid() && !q.connected
	})
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
			if len(v.targets) > 0 {
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

// resolvePaths resolves again the lists that have a path by interface i.
func (p *Plane) resolvePaths(i uint32) {
	for _, l := range slices.Collect(maps.Values(p.lists)) {
		if p.lists[l.key] == l && slices.ContainsFunc(l.paths, func(q path) bool { return q.Interface == i }) {
			p.resolveList(l)
		}
	}
}
