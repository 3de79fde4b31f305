package api

import (
	"net/netip"
	"slices"

	"go.fd.io/govpp/api"
	"go.fd.io/govpp/binapi/fib_types"
	"go.fd.io/govpp/binapi/ip"
	"go.fd.io/govpp/binapi/ip_types"

	"github.com/millrace/millrace/engine/stats"
	"github.com/millrace/millrace/engine/vnet"
)

// routeMessages are those of ip.api about routes.
func (s *Server) routeMessages() []*entry {
	return slices.Concat(
		handle(s.ipRouteAddDel),
		handle(s.ipRouteAddDelV2),
		handleDump(s.ipRouteDump),
		handleDump(s.ipRouteV2Dump),
		handle(s.ipRouteLookup),
		handle(s.ipRouteLookupV2),
	)
}

func (s *Server) ipRouteAddDel(_ *session, q *ip.IPRouteAddDel, r *ip.IPRouteAddDelReply) (err error) {
	t := q.Route
	v2 := ip.IPRouteV2{TableID: t.TableID, Prefix: t.Prefix, NPaths: t.NPaths, Paths: t.Paths}
	r.StatsIndex, err = s.editRoute(q.IsAdd, q.IsMultipath, v2)
	return err
}

func (s *Server) ipRouteAddDelV2(_ *session, q *ip.IPRouteAddDelV2, r *ip.IPRouteAddDelV2Reply) (err error) {
	r.StatsIndex, err = s.editRoute(q.IsAdd, q.IsMultipath, q.Route)
	return err
}

// noPathsInRoute is VNET_API_ERROR_NO_PATHS_IN_ROUTE, for which GoVPP has an old name.
const noPathsInRoute = api.PREFIX_MATCHES_NEXT_HOP

// editRoute checks in VPP's order: table, paths, prefix, number of paths. The reply's
// stats_index is ~0 unless a route was added.
func (s *Server) editRoute(add, multipath bool, w ip.IPRouteV2) (uint32, error) {
	const none = vnet.NoIndex
	p, err := prefixOf(w.Prefix.Address, w.Prefix.Len)
	if err != nil {
		return none, err
	}
	if !s.hasTable(w.TableID, familyOfAddr(p.Addr())) {
		return none, api.NO_SUCH_FIB
	}
	paths, err := s.pathsOf(w.Paths)
	if err != nil {
		return none, err
	}
	if !p.IsValid() {
		return none, api.INVALID_PREFIX_LENGTH
	}
	if len(paths) == 0 && (add || multipath) {
		return none, noPathsInRoute
	}
	edit := vnet.RouteDelete
	switch {
	case add && multipath:
		edit = vnet.RouteAddPaths
	case add:
		edit = vnet.RouteReplace
	case multipath:
		edit = vnet.RouteRemovePaths
	}
	index, err := s.plane.EditRoute(vnet.Route{Table: w.TableID, Prefix: p, Paths: paths, Source: w.Src}, edit)
	if err != nil || !add {
		return none, err
	}
	return index, s.stats.Grow(stats.RouteCounter, index)
}

func (s *Server) pathsOf(wire []fib_types.FibPath) ([]vnet.Path, error) {
	var paths []vnet.Path
	for i := range wire {
		p, err := s.pathOf(&wire[i])
		if err != nil {
			return nil, err
		}
		paths = append(paths, p)
	}
	return paths, nil
}

// pathOf reads a path. An absent interface is ~0: zero is local0, a blackhole.
func (s *Server) pathOf(w *fib_types.FibPath) (vnet.Path, error) {
	p := vnet.Path{Type: vnet.PathType(w.Type), Interface: vnet.NoIndex, Table: w.TableID,
		Weight: max(1, w.Weight), Preference: w.Preference}
	family, err := pathFamily(w.Proto)
	if err != nil {
		return p, err
	}
	if w.NLabels > 0 {
		return p, api.UNIMPLEMENTED
	}
	switch p.Type {
	case vnet.PathUnreachable, vnet.PathProhibit:
		return p, nil
	case vnet.PathDVR, vnet.PathIfRx, vnet.PathDrop, vnet.PathLocal:
		p.Interface = w.SwIfIndex
		return p, nil
	case vnet.PathClassify:
		return p, api.NO_SUCH_TABLE // there are no classify tables
	case vnet.PathNormal:
		return s.normalPath(p, w, family)
	default:
		return p, api.UNIMPLEMENTED
	}
}

func (s *Server) normalPath(p vnet.Path, w *fib_types.FibPath, family vnet.Family) (vnet.Path, error) {
	p.Interface = w.SwIfIndex
	if next := unionAddr(w.Nh.Address, family); !next.IsUnspecified() {
		p.NextHop = next
	}
	if p.Interface == vnet.NoIndex {
		if !s.hasTable(w.TableID, family) {
			return p, api.NO_SUCH_FIB
		}
		return p, nil
	}
	if _, err := s.plane.Interface(p.Interface); err != nil {
		return p, api.NO_MATCHING_INTERFACE
	}
	return p, nil
}

func pathFamily(p fib_types.FibPathNhProto) (vnet.Family, error) {
	switch p {
	case fib_types.FIB_API_PATH_NH_PROTO_IP4:
		return vnet.IPv4, nil
	case fib_types.FIB_API_PATH_NH_PROTO_IP6:
		return vnet.IPv6, nil
	case fib_types.FIB_API_PATH_NH_PROTO_MPLS, fib_types.FIB_API_PATH_NH_PROTO_ETHERNET, fib_types.FIB_API_PATH_NH_PROTO_BIER:
		return 0, api.UNIMPLEMENTED
	default:
		return 0, api.UNSPECIFIED
	}
}

// wirePaths writes paths of a route in the family f.
func wirePaths(paths []vnet.Path, f vnet.Family) []fib_types.FibPath {
	wire := make([]fib_types.FibPath, len(paths))
	for i, p := range paths {
		proto := fib_types.FIB_API_PATH_NH_PROTO_IP4
		if p.NextHop.Is6() || !p.NextHop.IsValid() && f == vnet.IPv6 {
			proto = fib_types.FIB_API_PATH_NH_PROTO_IP6
		}
		wire[i] = fib_types.FibPath{
			SwIfIndex: p.Interface, TableID: p.Table, RpfID: vnet.NoIndex, Weight: p.Weight, Preference: p.Preference,
			Type: fib_types.FibPathType(p.Type), Proto: proto,
		}
		if p.NextHop.IsValid() {
			wire[i].Nh.Address = wireUnion(p.NextHop)
		}
	}
	return wire
}

func wireRoute(r vnet.Route) ip.IPRouteV2 {
	return ip.IPRouteV2{
		TableID: r.Table, StatsIndex: r.StatsIndex, Prefix: wirePrefix(r.Prefix), Src: r.Source,
		NPaths: uint8(len(r.Paths)), Paths: wirePaths(r.Paths, familyOfAddr(r.Prefix.Addr())),
	}
}

// withoutSource is the older form of a route.
func withoutSource(r ip.IPRouteV2) ip.IPRoute {
	return ip.IPRoute{TableID: r.TableID, StatsIndex: r.StatsIndex, Prefix: r.Prefix, NPaths: r.NPaths, Paths: r.Paths}
}

// ipRouteDump sends nothing for a table that is not there.
func (s *Server) ipRouteDump(_ *session, q *ip.IPRouteDump, send func(*ip.IPRouteDetails)) {
	for r := range s.plane.Routes(tableOf(q.Table)) {
		send(&ip.IPRouteDetails{Route: withoutSource(wireRoute(r))})
	}
}

func (s *Server) ipRouteV2Dump(_ *session, q *ip.IPRouteV2Dump, send func(*ip.IPRouteV2Details)) {
	for r := range s.plane.Routes(tableOf(q.Table)) {
		if q.Src == 0 || q.Src == r.Source {
			send(&ip.IPRouteV2Details{Route: wireRoute(r)})
		}
	}
}

func (s *Server) ipRouteLookup(_ *session, q *ip.IPRouteLookup, r *ip.IPRouteLookupReply) error {
	found, err := s.lookUp(q.TableID, q.Exact != 0, q.Prefix.Address, q.Prefix.Len)
	if err != nil {
		return err
	}
	r.Route = withoutSource(wireRoute(found))
	return nil
}

func (s *Server) ipRouteLookupV2(_ *session, q *ip.IPRouteLookupV2, r *ip.IPRouteLookupV2Reply) error {
	found, err := s.lookUp(q.TableID, q.Exact != 0, q.Prefix.Address, q.Prefix.Len)
	if err != nil {
		return err
	}
	r.Route = wireRoute(found)
	return nil
}

func (s *Server) lookUp(table uint32, exact bool, address ip_types.Address, length uint8) (vnet.Route, error) {
	p, err := prefixOf(address, length)
	if err != nil {
		return vnet.Route{}, err
	}
	t := vnet.Table{ID: table, Family: familyOfAddr(p.Addr())}
	if !s.hasTable(table, t.Family) {
		return vnet.Route{}, api.NO_SUCH_FIB
	}
	if r, ok := s.longestMatch(t, p, exact); ok {
		return r, nil
	}
	return vnet.Route{}, api.NO_SUCH_ENTRY
}

// longestMatch finds the route that covers all of p, or equals it.
func (s *Server) longestMatch(t vnet.Table, p netip.Prefix, exact bool) (best vnet.Route, found bool) {
	for r := range s.plane.Routes(t) {
		covers := r.Prefix.Bits() <= p.Bits() && r.Prefix.Contains(p.Addr())
		if !covers || exact && r.Prefix.Bits() != p.Bits() {
			continue
		}
		if !found || r.Prefix.Bits() > best.Prefix.Bits() {
			best, found = r, true
		}
	}
	return best, found
}
