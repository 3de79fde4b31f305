package program

import (
	"context"
	"net/netip"

	"go.fd.io/govpp/binapi/fib_types"
	"go.fd.io/govpp/binapi/ip"
	"go.fd.io/govpp/binapi/ip_types"

	"github.com/millrace/millrace/dataplane"
	"github.com/millrace/millrace/vpp"
)

// observeRoutes dumps by our source: table 0 and our own tables of both families. In those,
// attached prefixes are API clients'. A route that a better source hides is not shown, so
// that each life of ours writes it once more.
func (p *Program) observeRoutes(ctx context.Context, s *dataplane.State) error {
	tables := []ip.IPTable{{IsIP6: false}, {IsIP6: true}}
	for o := range s.All() {
		if t, ok := o.(dataplane.Table); ok {
			tables = append(tables, ip.IPTable{TableID: t.ID, IsIP6: t.Family == dataplane.IPv6})
		}
	}
	for _, t := range tables {
		if err := p.dumpRoutes(ctx, t, p.source, s); err != nil {
			return err
		}
		if t.TableID == 0 {
			continue
		}
		if err := p.dumpRoutes(ctx, t, p.plain, s); err != nil {
			return err
		}
	}
	return nil
}

func (p *Program) dumpRoutes(ctx context.Context, t ip.IPTable, source uint8, s *dataplane.State) error {
	for d, err := range vpp.Dump[ip.IPRouteV2Details](ctx, p.conn, &ip.IPRouteV2Dump{Table: t, Src: source}) {
		if err != nil {
			return err
		}
		if r := p.routeOf(d.Route); source == p.source || r.Attached() {
			s.Put(r)
		}
	}
	return nil
}

// sourceOf: VPP puts neighbours into the FIB only below prefixes that an interface address
// or a plain API client attached.
func (p *Program) sourceOf(r dataplane.Route) uint8 {
	if r.Attached() {
		return p.plain
	}
	return p.source
}

func (p *Program) routeOf(w ip.IPRouteV2) dataplane.Route {
	prefix := prefixOf(w.Prefix)
	r := dataplane.Route{Table: w.TableID, Prefix: prefix.Masked()}
	for _, path := range w.Paths {
		have := p.pathOf(path)
		// Without a next hop, a host route leads to the host itself, and VPP shows it so.
		if prefix.IsSingleIP() && have.Via == prefix.Addr() {
			have.Via = netip.Addr{}
		}
		r.Paths = append(r.Paths, have)
	}
	return r
}

func (p *Program) pathOf(w fib_types.FibPath) dataplane.Path {
	switch w.Type {
	case fib_types.FIB_API_PATH_TYPE_DROP:
		return dataplane.Path{End: dataplane.EndDrop}
	case fib_types.FIB_API_PATH_TYPE_ICMP_UNREACH:
		return dataplane.Path{End: dataplane.EndUnreachable}
	}
	if w.SwIfIndex == none {
		return dataplane.Path{End: dataplane.EndLookup, Table: w.TableID}
	}
	path := dataplane.Path{}
	path.Interface, _ = p.name(w.SwIfIndex)
	f := ip_types.ADDRESS_IP4
	if w.Proto == fib_types.FIB_API_PATH_NH_PROTO_IP6 {
		f = ip_types.ADDRESS_IP6
	}
	if via := unionAddr(w.Nh.Address, f); !via.IsUnspecified() {
		path.Via = via
	}
	if w.Weight > 1 {
		path.Weight = w.Weight
	}
	return path
}

// routeExchange replaces all paths of a route, or deletes it.
func (p *Program) routeExchange(r dataplane.Route, add bool) (vpp.Exchange, error) {
	route := ip.IPRouteV2{TableID: r.Table, Prefix: wirePrefix(r.Prefix), Src: p.sourceOf(r)}
	if add {
		for _, path := range r.Paths {
			w, err := p.wirePath(path, r.Prefix.Addr())
			if err != nil {
				return vpp.Exchange{}, err
			}
			route.Paths = append(route.Paths, w)
		}
		route.NPaths = uint8(len(route.Paths))
	}
	return vpp.Exchange{
		Request: &ip.IPRouteAddDelV2{IsAdd: add, Route: route},
		Reply:   &ip.IPRouteAddDelV2Reply{},
	}, nil
}

// wirePath: an absent interface is ~0, since 0 is local0, which drops.
func (p *Program) wirePath(path dataplane.Path, prefix netip.Addr) (fib_types.FibPath, error) {
	w := fib_types.FibPath{SwIfIndex: none, RpfID: none, Weight: max(1, path.Weight)}
	if !prefix.Is4() {
		w.Proto = fib_types.FIB_API_PATH_NH_PROTO_IP6
	}
	switch path.End {
	case dataplane.EndDrop:
		w.Type = fib_types.FIB_API_PATH_TYPE_DROP
		return w, nil
	case dataplane.EndUnreachable:
		w.Type = fib_types.FIB_API_PATH_TYPE_ICMP_UNREACH
		return w, nil
	case dataplane.EndLookup:
		w.TableID = path.Table
		return w, nil
	}
	if path.Via.IsValid() {
		w.Nh.Address = wireUnion(path.Via)
	}
	index, err := p.index(path.Interface)
	w.SwIfIndex = index
	return w, err
}
