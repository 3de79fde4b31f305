package conformance

import (
	"fmt"
	"net/netip"
	"slices"

	"go.fd.io/govpp/binapi/fib"
	"go.fd.io/govpp/binapi/fib_types"
	interfaces "go.fd.io/govpp/binapi/interface"
	"go.fd.io/govpp/binapi/ip"
	"go.fd.io/govpp/binapi/ip_types"
)

type ipAddressWithPrefix = ip_types.AddressWithPrefix

func routeCases() []Case {
	return []Case{
		{"route-add-del", routesAddDel},
		{"route-multipath", routesMultipath},
		{"route-path-types", routePathTypes},
		{"route-traps", routeTraps},
		{"route-v2-sources", routeSources},
		{"route-own-source", ownSource},
		{"route-lookup", routeLookups},
		{"route-ip6", routes6},
		{"route-interface-deleted", routeInterfaceDeleted},
		{"route-connected", routeConnected},
		{"route-flow-hash", flowHash},
	}
}

// via is a path to a next hop; an index of none is the API's ~0.
func via(nextHop string, index interfaceIndex) fib_types.FibPath {
	a := netip.MustParseAddr(nextHop)
	p := fib_types.FibPath{SwIfIndex: uint32(index), Weight: 1}
	if a.Is4() {
		p.Nh.Address = ip_types.AddressUnionIP4(a.As4())
		return p
	}
	p.Proto = fib_types.FIB_API_PATH_NH_PROTO_IP6
	p.Nh.Address = ip_types.AddressUnionIP6(a.As16())
	return p
}

func weighted(w uint8, p fib_types.FibPath) fib_types.FibPath {
	p.Weight = w
	return p
}

func drop() fib_types.FibPath { return typed(fib_types.FIB_API_PATH_TYPE_DROP, "0.0.0.0") }

func typed(t fib_types.FibPathType, nextHop string) fib_types.FibPath {
	p := via(nextHop, none)
	p.Type = t
	return p
}

func route(to string, paths ...fib_types.FibPath) ip.IPRoute {
	return ip.IPRoute{Prefix: prefix(to), NPaths: uint8(len(paths)), Paths: paths}
}

func inTable(table uint32, r ip.IPRoute) ip.IPRoute {
	r.TableID = table
	return r
}

// sourceRecursive marks the entries that VPP keeps for next hops it resolves by a route:
// bookkeeping of its own, left out of the transcripts.
const sourceRecursive = 18

// routes writes down a table.
func (s *Session) routes(table uint32, six bool) {
	s.T.Helper()
	req := &ip.IPRouteV2Dump{Table: ip.IPTable{TableID: table, IsIP6: six}}
	s.Write("%s", describeMessage(req))
	var lines []string
	for _, d := range s.Details(req) {
		if d := d.(*ip.IPRouteV2Details); d.Route.Src != sourceRecursive {
			lines = append(lines, "  "+describeMessage(d))
		}
	}
	slices.Sort(lines)
	for _, l := range lines {
		s.Write("%s", l)
	}
}

// route writes down one prefix of table 0, when it is there.
func (s *Session) route(to string) {
	s.T.Helper()
	want := prefix(to)
	found := false
	for _, d := range s.Details(&ip.IPRouteV2Dump{Table: ip.IPTable{IsIP6: want.Address.Af == ip_types.ADDRESS_IP6}}) {
		if d := d.(*ip.IPRouteV2Details); masked(d.Route.Prefix) == masked(want) {
			s.Write("  %s", describeMessage(d))
			found = true
		}
	}
	if !found {
		s.Write("  no route %s", to)
	}
}

func (s *Session) addRoute(r ip.IPRoute) {
	s.T.Helper()
	s.Call(&ip.IPRouteAddDel{IsAdd: true, Route: r})
	s.route(r.Prefix.String())
}

func (s *Session) delRoute(r ip.IPRoute) {
	s.T.Helper()
	s.Call(&ip.IPRouteAddDel{Route: r})
	s.route(r.Prefix.String())
}

func routesAddDel(s *Session) {
	p := s.Port()
	s.addAddress(p.Index, "10.0.0.1/24")
	s.Note("add, the same again, replace, delete, delete again")
	s.addRoute(route("20.0.0.0/8", via("10.0.0.2", p.Index)))
	s.addRoute(route("20.0.0.0/8", via("10.0.0.2", p.Index)))
	s.addRoute(route("20.0.0.0/8", via("10.0.0.3", p.Index)))
	s.delRoute(route("20.0.0.0/8"))
	s.delRoute(route("20.0.0.0/8"))
	s.Note("a path that the route does not have; deletion without multipath takes all")
	s.addRoute(route("20.0.0.0/8", via("10.0.0.2", p.Index)))
	s.delRoute(route("20.0.0.0/8", via("10.0.0.9", p.Index)))
	s.Note("two paths at once")
	s.addRoute(route("20.0.0.0/8", via("10.0.0.2", p.Index), via("10.0.0.3", p.Index)))
	s.delRoute(route("20.0.0.0/8", via("10.0.0.2", p.Index)))
	s.Note("the same path twice in one message")
	s.addRoute(route("20.0.0.0/8", via("10.0.0.2", p.Index), via("10.0.0.2", p.Index)))
	s.delRoute(route("20.0.0.0/8"))
	s.Note("host bits in the prefix, default route, host route")
	s.addRoute(route("20.1.2.3/8", via("10.0.0.2", p.Index)))
	s.addRoute(route("0.0.0.0/0", via("10.0.0.2", p.Index)))
	s.addRoute(route("21.0.0.1/32", via("10.0.0.2", p.Index)))
	s.delRoute(route("0.0.0.0/0"))
	s.Note("an unknown table")
	s.Call(&ip.IPRouteAddDel{IsAdd: true, Route: inTable(99, route("20.0.0.0/8", via("10.0.0.2", p.Index)))})
	s.Call(&ip.IPRouteAddDel{Route: inTable(99, route("20.0.0.0/8"))})
	s.routes(99, false)
}

func routesMultipath(s *Session) {
	p := s.Port()
	s.addAddress(p.Index, "10.0.0.1/24")
	add := func(paths ...fib_types.FibPath) {
		s.Call(&ip.IPRouteAddDel{IsAdd: true, IsMultipath: true, Route: route("20.0.0.0/8", paths...)})
		s.route("20.0.0.0/8")
	}
	del := func(paths ...fib_types.FibPath) {
		s.Call(&ip.IPRouteAddDel{IsMultipath: true, Route: route("20.0.0.0/8", paths...)})
		s.route("20.0.0.0/8")
	}
	add(via("10.0.0.2", p.Index))
	add(via("10.0.0.3", p.Index))
	s.Note("the same path again, with another weight, weight 0, another preference")
	add(via("10.0.0.3", p.Index))
	add(weighted(5, via("10.0.0.3", p.Index)))
	add(weighted(0, via("10.0.0.4", p.Index)))
	preferred := via("10.0.0.5", p.Index)
	preferred.Preference = 1
	add(preferred)
	s.Note("removal: one, one that is not there, of the rest")
	del(via("10.0.0.2", p.Index))
	del(via("10.0.0.2", p.Index))
	del(weighted(5, via("10.0.0.3", p.Index)))
	del(via("10.0.0.3", p.Index))
	del(via("10.0.0.4", p.Index))
	del(preferred)
	del(via("10.0.0.5", p.Index))
	s.Note("from a route that is not there; no paths")
	s.Call(&ip.IPRouteAddDel{IsMultipath: true, Route: route("30.0.0.0/8", via("10.0.0.2", p.Index))})
	s.Call(&ip.IPRouteAddDel{IsAdd: true, IsMultipath: true, Route: route("30.0.0.0/8")})
	s.Call(&ip.IPRouteAddDel{IsMultipath: true, Route: route("30.0.0.0/8")})
	s.Note("many paths")
	var many []fib_types.FibPath
	for i := range byte(20) {
		many = append(many, via(netip.AddrFrom4([4]byte{10, 0, 0, 100 + i}).String(), p.Index))
	}
	s.addRoute(route("40.0.0.0/8", many...))
}

func routePathTypes(s *Session) {
	p := s.Port()
	s.addAddress(p.Index, "10.0.0.1/24")
	s.Must(&ip.IPTableAddDelV2{IsAdd: true, CreateMfib: true, Table: ip.IPTable{TableID: 7}})
	lookup := via("0.0.0.0", none)
	lookup.TableID = 7
	local := typed(fib_types.FIB_API_PATH_TYPE_LOCAL, "0.0.0.0")
	localOn := via("0.0.0.0", p.Index)
	localOn.Type = fib_types.FIB_API_PATH_TYPE_LOCAL
	attached := via("10.0.0.2", none)
	attached.Flags = fib_types.FIB_API_PATH_FLAG_RESOLVE_VIA_ATTACHED
	for _, tt := range []struct {
		name string
		path fib_types.FibPath
	}{
		{"drop", drop()},
		{"unreachable", typed(fib_types.FIB_API_PATH_TYPE_ICMP_UNREACH, "0.0.0.0")},
		{"prohibit", typed(fib_types.FIB_API_PATH_TYPE_ICMP_PROHIBIT, "0.0.0.0")},
		{"local", local},
		{"local, on an interface", localOn},
		{"lookup in another table", lookup},
		{"attached", via("0.0.0.0", p.Index)},
		{"recursive", via("10.0.0.2", none)},
		{"recursive, attached only", attached},
		{"recursive through nothing", via("99.0.0.1", none)},
	} {
		s.Note("%s", tt.name)
		s.addRoute(route("20.0.0.0/8", tt.path))
		s.delRoute(route("20.0.0.0/8"))
	}
}

func routeTraps(s *Session) {
	p := s.Port()
	s.addAddress(p.Index, "10.0.0.1/24")
	s.Note("interface 0 is local0, not the absence of an interface")
	s.addRoute(route("20.0.0.0/8", via("10.0.0.2", 0)))
	s.delRoute(route("20.0.0.0/8"))
	s.Note("a missing interface")
	s.addRoute(route("20.0.0.0/8", via("10.0.0.2", missing)))
	s.Note("no path at all")
	s.addRoute(route("20.0.0.0/8"))
	s.Note("a prefix that is too long")
	bad := route("20.0.0.0/8", via("10.0.0.2", p.Index))
	bad.Prefix.Len = 33
	s.Call(&ip.IPRouteAddDel{IsAdd: true, Route: bad})
	bad6 := route("fd00::/64", via("fd01::2", p.Index))
	bad6.Prefix.Len = 129
	s.Call(&ip.IPRouteAddDel{IsAdd: true, Route: bad6})
	s.Note("a next hop in an unknown table")
	unknown := via("10.0.0.2", none)
	unknown.TableID = 99
	s.addRoute(route("20.0.0.0/8", unknown))
	lookup := via("0.0.0.0", none)
	lookup.TableID = 99
	s.addRoute(route("20.0.0.0/8", lookup))
	s.Note("a next hop off the subnet, and the machine's own address")
	s.addRoute(route("20.0.0.0/8", via("99.0.0.2", p.Index)))
	s.addRoute(route("21.0.0.0/8", via("10.0.0.1", p.Index)))
	s.Note("over the routes that an address made: the API's are weaker than the interface's")
	s.addRoute(route("10.0.0.1/32", via("10.0.0.2", p.Index)))
	s.addRoute(route("10.0.0.0/24", via("10.0.0.2", p.Index)))
	s.delRoute(route("10.0.0.1/32"))
	s.delRoute(route("10.0.0.0/24"))
	s.Note("multicast and class E prefixes")
	s.addRoute(route("224.0.0.0/24", via("10.0.0.2", p.Index)))
	s.addRoute(route("240.0.0.0/8", via("10.0.0.2", p.Index)))
}

func routeSources(s *Session) {
	p := s.Port()
	s.addAddress(p.Index, "10.0.0.1/24")
	add := func(src uint8, hop string) {
		r := ip.IPRouteV2{Prefix: prefix("20.0.0.0/8"), Src: src, NPaths: 1, Paths: []fib_types.FibPath{via(hop, p.Index)}}
		s.Call(&ip.IPRouteAddDelV2{IsAdd: true, Route: r})
		s.route("20.0.0.0/8")
	}
	add(0, "10.0.0.2")
	s.Note("src of the routes by their number")
	for src := range uint8(40) {
		var n int
		var lines []string
		for _, d := range s.Details(&ip.IPRouteV2Dump{Src: src}) {
			if d := d.(*ip.IPRouteV2Details); src != 0 && src != sourceRecursive {
				lines = append(lines, fmt.Sprintf("  source %d has %s", src, describeMessage(d)))
			}
			n++
		}
		slices.Sort(lines)
		for _, l := range lines {
			s.Write("%s", l)
		}
		if src == 0 {
			s.Write("  source 0, all: %d", n)
		}
	}
	s.Call(&ip.IPRouteAddDelV2{Route: ip.IPRouteV2{Prefix: prefix("20.0.0.0/8")}})
	s.route("20.0.0.0/8")
}

// ownSource: a client may have a FIB source of its own, by which its routes are dumped.
func ownSource(s *Session) {
	p := s.Port()
	s.addAddress(p.Index, "10.0.0.1/24")
	add := &fib.FibSourceAdd{Src: fib.FibSource{Name: "mine", Priority: 0x7f}}
	reply, ok := s.Call(add).(*fib.FibSourceAddReply)
	if !ok {
		s.T.Fatal("no reply")
	}
	s.Note("the same name again")
	s.Call(add)
	for _, d := range s.Details(&fib.FibSourceDump{}) {
		if d := d.(*fib.FibSourceDetails); d.Src.Name == "mine" || d.Src.ID == 8 || d.Src.ID == 4 {
			s.Write("  %s", describeMessage(d))
		}
	}
	own := ip.IPRouteV2{Prefix: prefix("20.0.0.0/8"), Src: reply.ID, NPaths: 1, Paths: []fib_types.FibPath{via("10.0.0.2", p.Index)}}
	s.Call(&ip.IPRouteAddDelV2{IsAdd: true, Route: own})
	s.Dump(&ip.IPRouteV2Dump{Src: reply.ID})
	s.Note("beside a route of the API's source: the better source shows")
	s.addRoute(route("20.0.0.0/8", via("10.0.0.3", p.Index)))
	s.Call(&ip.IPRouteAddDelV2{Route: own})
	s.route("20.0.0.0/8")
}

func routeLookups(s *Session) {
	p := s.Port()
	s.addAddress(p.Index, "10.0.0.1/24")
	s.addRoute(route("20.0.0.0/8", via("10.0.0.2", p.Index)))
	s.addRoute(route("20.1.0.0/16", via("10.0.0.3", p.Index)))
	for _, to := range []string{"20.1.2.3/32", "20.2.0.0/32", "20.0.0.0/8", "20.0.0.0/9", "99.0.0.0/8", "10.0.0.1/32"} {
		for _, exact := range []uint8{0, 1} {
			s.Call(&ip.IPRouteLookupV2{Prefix: prefix(to), Exact: exact})
		}
	}
	s.Call(&ip.IPRouteLookupV2{TableID: 99, Prefix: prefix("20.0.0.0/8")})
}

func routes6(s *Session) {
	p := s.Port()
	s.addAddress(p.Index, "fd00::1/64")
	s.addRoute(route("fd20::/64", via("fd00::2", p.Index)))
	s.addRoute(route("fd20::/64", via("fd00::3", p.Index)))
	s.addRoute(route("fd20::1/128", via("fe80::2", p.Index)))
	s.addRoute(route("::/0", via("fd00::2", none)))
	s.Note("v6 over a v4 next hop and the reverse")
	s.addRoute(route("fd21::/64", via("10.0.0.2", p.Index)))
	s.addRoute(route("21.0.0.0/8", via("fd00::2", p.Index)))
	s.Note("a link-local next hop without its interface")
	s.addRoute(route("fd22::/64", via("fe80::2", none)))
	s.delRoute(route("fd20::/64"))
	s.delRoute(route("fd20::/64"))
	s.routes(0, true)
}

// routeInterfaceDeleted shows what becomes of a route whose interface goes.
func routeInterfaceDeleted(s *Session) {
	s.loopback()
	one := s.loopback()
	s.addAddress(one, "10.0.0.1/24")
	s.addRoute(route("20.0.0.0/8", via("10.0.0.2", one)))
	s.addRoute(route("21.0.0.0/8", via("10.0.0.2", none)))
	s.addRoute(route("22.0.0.0/8", via("0.0.0.0", one)))
	s.Call(&interfaces.DeleteLoopback{SwIfIndex: one})
	s.routes(0, false)
	s.Note("a new interface of the same index does not inherit")
	s.loopback()
	s.routes(0, false)
	s.delRoute(route("20.0.0.0/8"))
}

// routeConnected shows the pods' way: a host route to an unnumbered interface.
func routeConnected(s *Session) {
	lender := s.loopback()
	s.addAddress(lender, "169.254.1.1/32")
	p := s.Port()
	s.Call(&interfaces.SwInterfaceSetUnnumbered{SwIfIndex: lender, UnnumberedSwIfIndex: p.Index, IsAdd: true})
	s.addRoute(route("10.0.0.5/32", via("10.0.0.5", p.Index)))
	s.addRoute(route("10.0.0.6/32", via("0.0.0.0", p.Index)))
	s.Call(&ip.SwInterfaceIP6EnableDisable{SwIfIndex: p.Index, Enable: true})
	s.addRoute(route("fd00::5/128", via("fd00::5", p.Index)))
	s.routes(0, false)
	s.routes(0, true)
	s.delRoute(route("10.0.0.5/32"))
	s.delRoute(route("10.0.0.6/32"))
	s.delRoute(route("fd00::5/128"))
	s.routes(0, false)
	s.routes(0, true)
}

func flowHash(s *Session) {
	s.Call(&ip.SetIPFlowHashV2{FlowHashConfig: 0x9f})
	s.Call(&ip.SetIPFlowHashV2{FlowHashConfig: 1})
	s.Call(&ip.SetIPFlowHashV2{FlowHashConfig: 0})
	s.Call(&ip.SetIPFlowHashV2{FlowHashConfig: 0xffff})
	s.Call(&ip.SetIPFlowHashV2{TableID: 99, FlowHashConfig: 1})
	s.Call(&ip.SetIPFlowHashV2{Af: ip_types.ADDRESS_IP6, FlowHashConfig: 1})
}
