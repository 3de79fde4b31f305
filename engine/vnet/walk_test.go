package vnet

import (
	"cmp"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/millrace/millrace/engine/port"
	"github.com/millrace/millrace/engine/port/pipe"
)

// facts is what a control plane has been told and has accepted.
type facts struct {
	up        map[uint32]bool
	addrs     map[netip.Prefix]uint32
	routes    map[netip.Prefix][]Path
	neighbors map[nbrKey][6]byte
}

// newWalkPlane has the interfaces 1 and 2 (Ethernet), 3 and 4 (IP links), all down.
func newWalkPlane(t *testing.T) *Plane {
	t.Helper()
	p, err := New(Config{MaxInterfaces: 8, MaxRoutes: 1024})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.closePorts(); err != nil {
			t.Error(err)
		}
		if err := p.closeWorkers(); err != nil {
			t.Error(err)
		}
	})
	for n := range 4 {
		link := port.Ethernet
		if n >= 2 {
			link = port.IP
		}
		a, b, err := pipe.New(pipe.Config{Link: link, Depth: 1})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := b.Close(); err != nil {
				t.Error(err)
			}
		})
		if _, err := p.AddInterface(InterfaceSpec{Name: fmt.Sprint("if", n), LinkUp: true}, a); err != nil {
			t.Fatal(err)
		}
	}
	return p
}

// walkAddr is an address among few, so that facts meet.
func walkAddr(r *rand.Rand) netip.Addr {
	return netip.AddrFrom4([4]byte{10, 0, byte(r.IntN(4)), byte(r.IntN(6))})
}

func walkPrefix(r *rand.Rand) netip.Prefix {
	p, _ := walkAddr(r).Prefix([]int{0, 8, 22, 24, 24, 30, 31, 32, 32}[r.IntN(9)])
	return p
}

func walkPaths(r *rand.Rand) []Path {
	var out []Path
	for range 1 + r.IntN(3) {
		q := Path{Interface: 1 + r.Uint32N(4), NextHop: walkAddr(r), Weight: uint8(1 + r.IntN(3)), Preference: uint8(r.IntN(2))}
		switch r.IntN(5) {
		case 0:
			q.Interface = NoIndex // recursive
		case 1:
			q.NextHop = netip.Addr{} // attached
		case 2:
			q = Path{Type: []PathType{PathDrop, PathUnreachable, PathLocal}[r.IntN(3)], Interface: NoIndex, Weight: 1}
		}
		out = append(out, q)
	}
	return out
}

// step makes a random edit of p and notes it in f when p accepts it.
func (f *facts) step(p *Plane, r *rand.Rand) {
	i := 1 + r.Uint32N(4)
	switch r.IntN(8) {
	case 0:
		up := r.IntN(3) > 0
		if p.SetAdminUp(i, up) == nil {
			f.up[i] = up
		}
	case 1, 2:
		a := netip.PrefixFrom(walkAddr(r), []int{24, 24, 30, 31, 32}[r.IntN(5)])
		if j, ok := f.addrs[a]; ok {
			if p.DelAddress(j, a) == nil {
				delete(f.addrs, a)
			}
		} else if p.AddAddress(i, a) == nil {
			f.addrs[a] = i
		}
	case 3, 4, 5:
		prefix := walkPrefix(r)
		if r.IntN(4) == 0 {
			if have := sorted(f.routes); len(have) > 0 {
				prefix = have[r.IntN(len(have))]
			}
			if _, err := p.EditRoute(Route{Prefix: prefix}, RouteDelete); err == nil {
				delete(f.routes, prefix)
			}
			return
		}
		paths := walkPaths(r)
		if _, err := p.EditRoute(Route{Prefix: prefix, Paths: paths}, RouteReplace); err == nil {
			f.routes[prefix] = paths
		}
	default:
		n := Neighbor{Interface: i, Addr: walkAddr(r), MAC: [6]byte{2, 0, 0, 0, 0, byte(r.IntN(3))}, Static: true}
		k := nbrKey{n.Interface, n.Addr}
		if _, ok := f.neighbors[k]; ok {
			if p.DelNeighbor(n) == nil {
				delete(f.neighbors, k)
			}
		} else if p.AddNeighbor(n) == nil {
			f.neighbors[k] = n.MAC
		}
	}
}

// sorted are the keys of m in a fixed order, so that a seed repeats.
func sorted[K comparable, V any](m map[K]V) []K {
	return slices.SortedFunc(maps.Keys(m), func(a, b K) int { return cmp.Compare(fmt.Sprint(a), fmt.Sprint(b)) })
}

// build tells a new plane the facts, in an order of its own.
func (f *facts) build(t *testing.T, r *rand.Rand) *Plane {
	t.Helper()
	p := newWalkPlane(t)
	var todo []func() error
	for _, i := range sorted(f.up) {
		todo = append(todo, func() error { return p.SetAdminUp(i, f.up[i]) })
	}
	for _, a := range sorted(f.addrs) {
		todo = append(todo, func() error { return p.AddAddress(f.addrs[a], a) })
	}
	for _, prefix := range sorted(f.routes) {
		todo = append(todo, func() error {
			_, err := p.EditRoute(Route{Prefix: prefix, Paths: f.routes[prefix]}, RouteReplace)
			return err
		})
	}
	for _, k := range sorted(f.neighbors) {
		todo = append(todo, func() error {
			return p.AddNeighbor(Neighbor{Interface: k.iface, Addr: k.addr, MAC: f.neighbors[k], Static: true})
		})
	}
	r.Shuffle(len(todo), func(i, j int) { todo[i], todo[j] = todo[j], todo[i] })
	for _, do := range todo {
		if err := do(); err != nil {
			t.Fatal(err)
		}
	}
	return p
}

// forwarding says where p sends each address, as its workers would find it.
func forwarding(p *Plane) map[string][]string {
	out := map[string][]string{}
	trie := p.tables[0][0].t4.Trie
	for a := range byte(4) {
		for b := range byte(8) {
			addr := netip.AddrFrom4([4]byte{10, 0, a, b})
			out[addr.String()] = p.explain(trie.Lookup(word(addr)))
		}
	}
	out["other"] = p.explain(trie.Lookup(8 << 24))
	return out
}

func (p *Plane) explain(leaf uint32) []string {
	route := p.state.Route(leaf)
	if route == nil {
		return nil
	}
	shares := map[string]int{}
	for _, t := range route.Balance.Targets() {
		a := p.state.Adjacency(t)
		shares[fmt.Sprintf("kind %d if %d via %v header %x", a.Kind, a.Interface, a.NextHop, a.Header[:a.HeaderLen])]++
	}
	var out []string
	for s, n := range shares {
		out = append(out, fmt.Sprintf("%s %d/%d", s, n, route.Balance.Len()))
	}
	slices.Sort(out)
	return append(out, fmt.Sprintf("rpf %v local %v", route.RPF, route.Local))
}

// Forwarding depends on the facts, not on the road to them.
func TestForwardingDependsOnFactsOnly(t *testing.T) {
	for seed := range uint64(20) {
		r := rand.New(rand.NewPCG(seed, 7))
		f := &facts{map[uint32]bool{}, map[netip.Prefix]uint32{}, map[netip.Prefix][]Path{}, map[nbrKey][6]byte{}}
		p := newWalkPlane(t)
		for step := range 240 {
			f.step(p, r)
			if step%20 != 19 {
				continue
			}
			if d := gocmp.Diff(forwarding(f.build(t, r)), forwarding(p)); d != "" {
				t.Fatalf("seed %d, step %d: built at once (-), by a walk (+):\n%s\nfacts: up %v\naddresses %v\nroutes %v\nneighbours %v",
					seed, step, d, f.up, f.addrs, f.routes, slices.Collect(maps.Keys(f.neighbors)))
			}
		}
	}
}
