package vnet

import (
	"net/netip"
	"slices"

	"go.fd.io/govpp/api"
)

// EditRoute changes what a source (the API, when r.Source is 0) wants of a prefix and
// returns the route's stats_index, NoIndex when nothing of it is left. Deleting what is
// not there is no error, as in VPP. INVALID_VALUE refuses a source that AddSource has not
// made or that is the engine's own.
func (p *Plane) EditRoute(r Route, e RouteEdit) (statsIndex uint32, err error) {
	statsIndex = NoIndex
	err = p.edit(func() error {
		if !r.Prefix.IsValid() {
			return api.INVALID_PREFIX_LENGTH
		}
		t := p.tables[slot(familyOf(r.Prefix.Addr()))][r.Table]
		if t == nil {
			return api.NO_SUCH_FIB
		}
		source := r.Source
		if source == 0 {
			source = SourceAPI
		}
		paths, err := p.decode(r.Prefix, r.Paths, source)
		if err != nil {
			return err
		}
		if len(paths) == 0 && e != RouteDelete {
			return api.PREFIX_MATCHES_NEXT_HOP // -52, VPP's "no paths in route"
		}
		if !p.takesRoutes(source) {
			return api.INVALID_VALUE
		}
		if err := p.editSource(t, r.Prefix.Masked(), source, paths, e); err != nil {
			return err
		}
		if now := t.entries[r.Prefix.Masked()]; now != nil && (e == RouteReplace || e == RouteAddPaths) {
			statsIndex = now.leaf
		}
		return nil
	})
	return statsIndex, err
}

func (p *Plane) editSource(t *table, prefix netip.Prefix, source uint8, paths []path, e RouteEdit) error {
	var have []path
	if x := t.entries[prefix]; x != nil {
		if k := x.find(source); k >= 0 {
			have = x.sources[k].paths
		}
	}
	switch e {
	case RouteReplace:
		return p.setSource(t, prefix, source, paths)
	case RouteAddPaths:
		return p.setSource(t, prefix, source, merge(have, paths))
	case RouteRemovePaths:
		left := slices.DeleteFunc(slices.Clone(have), func(q path) bool {
			return slices.ContainsFunc(paths, func(w path) bool { return sameWay(q, w) })
		})
		if len(left) > 0 {
			return p.setSource(t, prefix, source, left)
		}
	}
	p.dropSource(t, prefix, source)
	return nil
}

// merge adds the paths that are not there yet.
func merge(have, more []path) []path {
	out := slices.Clone(have)
	for _, q := range more {
		if !slices.ContainsFunc(out, func(w path) bool { return sameWay(q, w) }) {
			out = append(out, q)
		}
	}
	return out
}

// sameWay reports whether two paths differ in nothing but weight and preference.
func sameWay(a, b path) bool {
	return a.Type == b.Type && a.Interface == b.Interface && a.NextHop == b.NextHop &&
		(a.Interface != NoIndex || a.Table == b.Table)
}

// decode checks the paths of prefix that source wants and brings them into the engine's
// form.
func (p *Plane) decode(prefix netip.Prefix, in []Path, source uint8) ([]path, error) {
	out := make([]path, 0, len(in))
	for _, q := range in {
		if q.Weight == 0 {
			q.Weight = 1
		}
		if q.NextHop.IsValid() && q.NextHop.IsUnspecified() {
			q.NextHop = netip.Addr{}
		}
		w := path{Path: q}
		switch q.Type {
		case PathDrop, PathUnreachable, PathProhibit, PathLocal:
		case PathNormal:
			if err := p.checkNormal(q); err != nil {
				return nil, err
			}
			// "via eth0" alone makes a prefix attached: neighbours refine it, unless it is
			// of a source that is neither the API's nor the CLI's.
			bare := q.Interface != NoIndex && !q.NextHop.IsValid()
			w.connected = bare && (source == SourceAPI || source == SourceCLI)
			if bare && prefix.IsSingleIP() {
				w.NextHop = prefix.Addr() // an attached host is its own next hop
			}
		default:
			return nil, api.UNIMPLEMENTED
		}
		out = append(out, w)
	}
	return out, nil
}

func (p *Plane) checkNormal(q Path) error {
	if q.Interface != NoIndex {
		if p.iface(q.Interface) == nil {
			return api.NO_MATCHING_INTERFACE
		}
		return nil
	}
	if q.NextHop.IsValid() {
		if p.tables[slot(familyOf(q.NextHop))][q.Table] == nil {
			return api.NO_SUCH_FIB
		}
		return nil
	}
	if p.tables[0][q.Table] == nil && p.tables[1][q.Table] == nil {
		return api.NO_SUCH_FIB
	}
	return nil
}
