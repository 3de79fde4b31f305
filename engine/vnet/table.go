package vnet

import (
	"cmp"
	"iter"
	"net/netip"
	"slices"

	"go.fd.io/govpp/api"

	"github.com/millrace/millrace/engine/fib"
	"github.com/millrace/millrace/engine/worker"
)

// FIB sources that the engine uses itself, as VPP numbers them.
const (
	SourceSpecial      uint8 = 1
	SourceInterface    uint8 = 4
	SourceAPI          uint8 = 8
	SourceCLI          uint8 = 9
	SourceND           uint8 = 14
	SourceAdjacency    uint8 = 15
	SourceDefaultRoute uint8 = 20
)

// table is one FIB. An interface's link-local table has no entry in Plane.tables.
type table struct {
	Table
	entries map[netip.Prefix]*entry
	lengths [129]int // entries by prefix length
	byAdj   map[*entry]struct{}
	t4      *worker.Table4
	t6      *worker.Table6
	api     bool // locked by the API
	locks   int  // interfaces and paths that use it
	hash    uint32
}

// entry is one prefix with what each source wants of it.
type entry struct {
	table     *table
	prefix    netip.Prefix
	sources   []contribution // best first
	leaf      uint32
	list      *pathList // of the best source; nil when nothing is installed
	installed bool
}

type contribution struct {
	source uint8
	paths  []path
}

// path is a Path and what only the engine knows of it.
type path struct {
	Path
	source    netip.Addr // to ask from, of a connected prefix
	connected bool       // VPP's "connected" or "attached": neighbours refine it
	linkLocal bool       // fe80::/10: look up in the receiving interface's own table
	dead      bool       // its interface is deleted
}

func (p *Plane) makeTable(f Family, id uint32, name string) (*table, error) {
	t := p.newTable(f, id, name)
	p.tables[slot(f)][id] = t
	special := func(prefix string, source uint8, drop path) error {
		return p.setSource(t, netip.MustParsePrefix(prefix), source, []path{drop})
	}
	drop := path{Path: Path{Type: PathDrop, Interface: NoIndex, Weight: 1}}
	if f == IPv4 {
		for _, s := range []struct {
			prefix string
			source uint8
		}{
			{"0.0.0.0/0", SourceDefaultRoute}, {"0.0.0.0/32", SourceDefaultRoute},
			{"240.0.0.0/4", SourceSpecial}, {"224.0.0.0/4", SourceSpecial}, {"255.255.255.255/32", SourceDefaultRoute},
		} {
			if err := special(s.prefix, s.source, drop); err != nil {
				return nil, err
			}
		}
		return t, nil
	}
	if err := special("::/0", SourceDefaultRoute, drop); err != nil {
		return nil, err
	}
	ll := drop
	ll.Type, ll.linkLocal = PathNormal, true
	return t, special("fe80::/10", SourceSpecial, ll)
}

func (p *Plane) newTable(f Family, id uint32, name string) *table {
	t := &table{
		Table:   Table{ID: id, Family: f, Name: name},
		entries: map[netip.Prefix]*entry{}, byAdj: map[*entry]struct{}{},
		hash: worker.HashDefault,
	}
	if t.Name == "" {
		t.Name = defaultName(f, id)
	}
	if f == IPv4 {
		t.t4 = &worker.Table4{Trie: fib.NewTrie4(p.blocks), ID: id}
	} else {
		t.t6 = &worker.Table6{Hash: fib.NewHash6(), ID: id}
	}
	return t
}

// AddTable creates a table, or locks one that exists for the API: one lock however often
// it is asked for. Table 0 is always there.
func (p *Plane) AddTable(t Table) error {
	return p.edit(func() error {
		if t.ID == 0 {
			return nil
		}
		have := p.tables[slot(t.Family)][t.ID]
		if have == nil {
			var err error
			if have, err = p.makeTable(t.Family, t.ID, t.Name); err != nil {
				return err
			}
		}
		have.api = true
		return nil
	})
}

// DelTable takes the API's lock off. The table goes when nothing else uses it. Deleting a
// table that is not there is no error, as in VPP.
func (p *Plane) DelTable(t Table) error {
	return p.edit(func() error {
		have := p.tables[slot(t.Family)][t.ID]
		if t.ID == 0 || have == nil {
			return nil
		}
		have.api = false
		p.releaseTable(have)
		return nil
	})
}

// releaseTable frees a table that nothing uses.
func (p *Plane) releaseTable(t *table) {
	if t.api || t.locks > 0 || t.ID == 0 || p.tables[slot(t.Family)][t.ID] != t {
		return
	}
	delete(p.tables[slot(t.Family)], t.ID)
	p.dropProxies(t)
	p.emptyTable(t)
}

func (p *Plane) emptyTable(t *table) {
	for _, e := range t.entries {
		for len(e.sources) > 0 {
			p.dropSource(t, e.prefix, e.sources[0].source)
		}
	}
	if t.t4 != nil {
		t.t4.Trie.Free()
	}
}

// FlushTable deletes the API's routes and downs the interfaces of the table, as VPP does.
func (p *Plane) FlushTable(t Table) error {
	return p.edit(func() error {
		have := p.tables[slot(t.Family)][t.ID]
		if have == nil {
			return api.NO_SUCH_FIB
		}
		for _, i := range p.ifs {
			if i != nil && i.tables[slot(t.Family)] == have {
				p.setAdmin(i, false)
			}
		}
		for _, prefix := range prefixesOf(have, SourceAPI) {
			p.dropSource(have, prefix, SourceAPI)
		}
		return nil
	})
}

func prefixesOf(t *table, source uint8) []netip.Prefix {
	var out []netip.Prefix
	for prefix, e := range t.entries {
		if e.find(source) >= 0 {
			out = append(out, prefix)
		}
	}
	return out
}

// Tables returns the tables of a family, or of both when f is 0, by family and number.
func (p *Plane) Tables(f Family) []Table {
	p.mu.Lock()
	defer p.mu.Unlock()
	var out []Table
	for i := range p.tables {
		for _, t := range p.tables[i] {
			if f == 0 || t.Family == f {
				out = append(out, t.Table)
			}
		}
	}
	slices.SortFunc(out, func(a, b Table) int {
		return cmp.Or(cmp.Compare(a.Family, b.Family), cmp.Compare(a.ID, b.ID))
	})
	return out
}

// SetFlowHash says which fields of a packet spread flows over the paths of t's routes:
// VPP's flow_hash_config.
func (p *Plane) SetFlowHash(t Table, config uint32) error {
	return p.edit(func() error {
		have := p.tables[slot(t.Family)][t.ID]
		if have == nil {
			return api.NO_SUCH_FIB
		}
		have.hash = config
		for _, e := range have.entries {
			p.refresh(e)
		}
		return nil
	})
}

// Routes yields the routes of a table, by prefix; none when there is no such table.
func (p *Plane) Routes(t Table) iter.Seq[Route] {
	p.mu.Lock()
	var out []Route
	if have := p.tables[slot(t.Family)][t.ID]; have != nil {
		out = make([]Route, 0, len(have.entries))
		for _, e := range have.entries {
			out = append(out, e.route())
		}
	}
	p.mu.Unlock()
	slices.SortFunc(out, func(a, b Route) int {
		return cmp.Or(a.Prefix.Addr().Compare(b.Prefix.Addr()), cmp.Compare(a.Prefix.Bits(), b.Prefix.Bits()))
	})
	return slices.Values(out)
}
