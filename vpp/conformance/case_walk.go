package conformance

import (
	"fmt"
	"math/rand/v2"
	"net"
	"strings"

	"go.fd.io/govpp/binapi/fib_types"
	interfaces "go.fd.io/govpp/binapi/interface"
	"go.fd.io/govpp/binapi/ip"
	"go.fd.io/govpp/binapi/ip_neighbor"
)

// walkCases go through states nobody thought of: calls drawn at random from a small
// world, the same in each run, then all that can be dumped.
func walkCases() []Case {
	var all []Case
	for seed := range uint64(6) {
		all = append(all, Case{fmt.Sprintf("walk-%d", seed+1), func(s *Session) { walk(s, seed+1) }})
	}
	return all
}

const walkSteps = 120

// world is what calls are drawn from. Left out is where VPP itself stumbles: two lengths
// of one address, addresses of a borrower, one path twice; and where it crashes: routes
// inside a connected subnet, attached ones, and recursion, while the subnets change.
type world struct {
	*rand.Rand
	s     *Session
	loops []interfaceIndex
}

func pick[T any](w *world, of ...T) T { return of[w.IntN(len(of))] }

func walk(s *Session, seed uint64) {
	w := &world{Rand: rand.New(rand.NewPCG(seed, 25_10)), s: s}
	for range 3 {
		w.loops = append(w.loops, s.loopback())
	}
	steps := []func(){w.address, w.address, w.address, w.table, w.route, w.route, w.route, w.route, w.neighbor, w.unnumbered, w.mtu}
	for range walkSteps {
		pick(w, steps...)()
	}
	s.Note("what is left")
	for _, i := range w.loops {
		s.Dump(&interfaces.SwInterfaceDump{SwIfIndex: i})
		s.Dump(&ip.IPAddressDump{SwIfIndex: i})
		s.Dump(&ip.IPAddressDump{SwIfIndex: i, IsIPv6: true})
	}
	s.Dump(&ip.IPTableDump{})
	s.routes(0, false)
	s.routes(0, true)
	s.neighbors()
	s.Dump(&ip.IPUnnumberedDump{SwIfIndex: none})
}

func (w *world) address() {
	text := pick(w, "10.0.0.1/24", "10.0.0.2/24", "10.0.0.3/25", "10.0.1.1/32", "10.0.0.4/31", "10.0.0.200/26", "fd00::1/64", "fd00::2/64", "fd00::3/128", "fd00:1::1/80")
	w.s.Call(&interfaces.SwInterfaceAddDelAddress{SwIfIndex: pick(w, w.loops[:2]...), IsAdd: w.IntN(3) > 0, Prefix: withPrefix(text)})
}

func (w *world) table() {
	w.s.table(w.IntN(2) == 0, pick[uint32](w, 7, 8), w.IntN(2) == 0, "")
}

func (w *world) route() {
	to, hops := pick(w, "20.0.0.0/8", "20.1.0.0/16", "20.1.0.0/24", "30.0.0.1/32", "0.0.0.0/0"), []string{"10.0.0.7", "10.0.0.9", "20.0.0.1"}
	if w.IntN(3) == 0 {
		to, hops = pick(w, "fd20::/32", "fd20::/64", "fd30::1/128", "::/0"), []string{"fd00::7", "fd00::9"}
	}
	unspecified := map[bool]string{true: "::", false: "0.0.0.0"}[strings.Contains(to, ":")]
	req := &ip.IPRouteAddDel{IsAdd: w.IntN(3) > 0, IsMultipath: w.IntN(2) == 0}
	paths := []fib_types.FibPath{w.path(hops[:1])}
	switch w.IntN(5) {
	case 0: // paths without a way stand alone
		req.IsMultipath = false
		paths[0] = typed(pick(w, fib_types.FIB_API_PATH_TYPE_DROP, fib_types.FIB_API_PATH_TYPE_ICMP_UNREACH), unspecified)
	case 1, 2:
		paths = append(paths, w.path(hops[1:]))
	}
	req.Route = route(to, paths...)
	w.s.Call(req)
}

func (w *world) path(hops []string) fib_types.FibPath {
	return weighted(pick[uint8](w, 1, 1, 3), via(pick(w, hops...), pick(w, w.loops...)))
}

func (w *world) neighbor() {
	n := neighbor(pick(w, w.loops...), pick(w, "10.0.0.7", "10.0.0.9", "10.0.5.5", "fd00::7", "fd00::9"),
		net.HardwareAddr{2, 9, 9, 9, 9, pick[byte](w, 1, 2)}, ip_neighbor.IP_API_NEIGHBOR_FLAG_STATIC)
	w.s.Call(&ip_neighbor.IPNeighborAddDel{IsAdd: w.IntN(3) > 0, Neighbor: n})
}

func (w *world) unnumbered() {
	lender, borrower := pick(w, w.loops[:2]...), w.loops[2]
	w.s.Call(&interfaces.SwInterfaceSetUnnumbered{SwIfIndex: lender, UnnumberedSwIfIndex: borrower, IsAdd: w.IntN(3) > 0})
}

func (w *world) mtu() {
	w.s.Call(&interfaces.SwInterfaceSetMtu{SwIfIndex: pick(w, w.loops...), Mtu: []uint32{pick[uint32](w, 0, 1500, 9000), pick[uint32](w, 0, 1400), 0, 0}})
}
