package vnet

import (
	"cmp"
	"encoding/binary"
	"net/netip"
	"slices"

	"go.fd.io/govpp/api"

	"github.com/millrace/millrace/engine/fib"
)

// From what the sources want of a prefix to what is installed: the best source's paths,
// unless that is a neighbour outside its interface's subnet.

// route is a copy of e.
func (e *entry) route() Route {
	r := Route{Table: e.table.ID, Prefix: e.prefix, StatsIndex: e.leaf}
	if len(e.sources) > 0 {
		r.Source = e.sources[0].source
		for _, q := range e.sources[0].paths {
			r.Paths = append(r.Paths, q.Path)
		}
	}
	return r
}

func (e *entry) find(source uint8) int {
	return slices.IndexFunc(e.sources, func(c contribution) bool { return c.source == source })
}

// setSource makes paths what source wants of prefix.
func (p *Plane) setSource(t *table, prefix netip.Prefix, source uint8, paths []path) error {
	prefix = prefix.Masked()
	e := t.entries[prefix]
	if e == nil {
		leaf, ok := p.leaves.take()
		if !ok {
			return api.LIMIT_EXCEEDED
		}
		e = &entry{table: t, prefix: prefix, leaf: leaf}
		p.zeroRoute(leaf)
		t.entries[prefix] = e
		t.lengths[prefix.Bits()]++
	}
	if i := e.find(source); i >= 0 {
		e.sources[i].paths = paths
	} else {
		e.sources = append(e.sources, contribution{source, paths})
		slices.SortStableFunc(e.sources, func(a, b contribution) int {
			return cmp.Compare(p.rank(a.source), p.rank(b.source))
		})
	}
	if source == SourceAdjacency {
		t.byAdj[e] = struct{}{}
	}
	p.refresh(e)
	return nil
}

// zeroRoute clears the counters of a stats_index that is used again.
func (p *Plane) zeroRoute(leaf uint32) {
	for i := range p.cfg.Counters {
		if row := p.cfg.Counters[i].RouteTo; int(leaf) < len(row) && row[leaf] != (Combined{}) {
			if i == 0 {
				row[leaf] = Combined{}
				continue
			}
			p.workers[i-1].Do(func() { row[leaf] = Combined{} })
		}
	}
}

// dropSource takes away what source wanted of prefix.
func (p *Plane) dropSource(t *table, prefix netip.Prefix, source uint8) {
	e := t.entries[prefix.Masked()]
	if e == nil {
		return
	}
	i := e.find(source)
	if i < 0 {
		return
	}
	e.sources = slices.Delete(e.sources, i, i+1)
	if source == SourceAdjacency {
		delete(t.byAdj, e)
	}
	p.refresh(e)
	if len(e.sources) == 0 {
		delete(t.entries, e.prefix)
		t.lengths[e.prefix.Bits()]--
		p.leaves.put(e.leaf)
	}
}

// refresh brings an entry's forwarding in line with its best source.
func (p *Plane) refresh(e *entry) {
	want := p.effective(e)
	var list *pathList
	if want != nil {
		list = p.takeList(e.table, want, e.owner())
	}
	old := e.list
	if list == old && e.installed == (list != nil) {
		if old != nil {
			p.releaseList(list) // the reference just taken
		}
		return
	}
	e.list = list
	if list != nil {
		p.state.SetLeaf(e.leaf, list.index)
	}
	switch {
	case list != nil && !e.installed:
		e.installed = true
		e.table.insert(e)
	case list == nil && e.installed:
		e.installed = false
		e.table.remove(e)
	}
	if old != nil {
		p.releaseList(old)
	}
	p.bump = true
	p.covered(e)
}

// owner is the interface that has e's address though a better source has its packets: the
// first that any of the sources leads to. NoIndex when the packets end here, or the address
// is nobody's.
func (e *entry) owner() uint32 {
	own := e.find(SourceInterface)
	if own <= 0 || len(e.sources[own].paths) == 0 || e.sources[own].paths[0].Type != PathLocal {
		return NoIndex
	}
	for _, c := range e.sources {
		for _, q := range c.paths {
			if q.Interface != NoIndex {
				return q.Interface
			}
		}
	}
	return NoIndex
}

// effective is the paths that forward, nil when the entry is not to be installed: an
// entry that only a neighbour wants counts only where it refines a connected prefix.
func (p *Plane) effective(e *entry) []path {
	if len(e.sources) == 0 {
		return nil
	}
	best := e.sources[0]
	if best.source != SourceAdjacency || p.refines(e, best.paths) {
		return best.paths
	}
	return nil
}

// refines reports whether the entry's cover is attached to the interface of one of the
// paths: neighbours on an interface must not attract traffic of other subnets.
func (p *Plane) refines(e *entry, paths []path) bool {
	cover := e.table.cover(e.prefix)
	if cover == nil || len(cover.sources) == 0 {
		return false
	}
	for _, c := range cover.sources {
		if c.source != cover.sources[0].source && c.source != SourceInterface {
			continue
		}
		for _, q := range c.paths {
			if !q.connected {
				continue
			}
			for _, w := range paths {
				if w.Interface == q.Interface || p.lenderOf(w.Interface) == q.Interface {
					return true
				}
			}
		}
	}
	return false
}

// covered tells those that depend on what covers an address that e changed.
func (p *Plane) covered(e *entry) {
	t := e.table
	for other := range t.byAdj {
		if other != e && e.prefix.Bits() < other.prefix.Bits() && e.prefix.Contains(other.prefix.Addr()) {
			p.refresh(other)
		}
	}
	for _, v := range p.vias {
		if v.key.table == t && e.prefix.Contains(v.key.addr) {
			p.resolveVia(v)
		}
	}
}

// cover is the longest installed entry above prefix, nil for none.
func (t *table) cover(prefix netip.Prefix) *entry {
	for n := prefix.Bits() - 1; n >= 0; n-- {
		if t.lengths[n] == 0 {
			continue
		}
		q, err := prefix.Addr().Prefix(n)
		if err != nil {
			return nil
		}
		if e := t.entries[q]; e != nil && e.installed {
			return e
		}
	}
	return nil
}

// match is the longest installed entry that holds addr.
func (t *table) match(addr netip.Addr) *entry {
	host := netip.PrefixFrom(addr, addr.BitLen())
	if e := t.entries[host]; e != nil && e.installed {
		return e
	}
	return t.cover(host)
}

func (t *table) insert(e *entry) {
	if t.t4 != nil {
		t.t4.Trie.Insert(word(e.prefix.Addr()), e.prefix.Bits(), e.leaf)
		return
	}
	t.t6.Hash.Insert(e.prefix.Addr().As16(), e.prefix.Bits(), e.leaf)
}

func (t *table) remove(e *entry) {
	if t.t6 != nil {
		t.t6.Hash.Delete(e.prefix.Addr().As16(), e.prefix.Bits())
		return
	}
	n, leaf := 0, fib.Miss
	if c := t.cover(e.prefix); c != nil {
		n, leaf = c.prefix.Bits(), c.leaf
	}
	t.t4.Trie.Delete(word(e.prefix.Addr()), e.prefix.Bits(), n, leaf)
}

func word(a netip.Addr) uint32 {
	b := a.As4()
	return binary.BigEndian.Uint32(b[:])
}

func defaultName(f Family, id uint32) string {
	if f == IPv4 {
		return "ipv4-VRF:" + decimal(id)
	}
	return "ipv6-VRF:" + decimal(id)
}
