package service

import (
	"maps"
	"net/netip"
	"slices"

	"github.com/millrace/millrace/cluster"
	"github.com/millrace/millrace/dataplane"
)

// findings are a Result in the making: what is at each front, and what each service comes
// to beside that. Of what a Result lists, only the lists that changed are made anew.
type findings struct {
	now       Result
	ports     map[front]netip.AddrPort           // of the node, with where each leads
	fronts    map[netip.Addr]cluster.Set[front]  // by address, without the node's
	refused   map[front][]Problem                // of those who come second
	problems  map[cluster.ServiceKey][]Problem   // of services with any
	questions map[cluster.ServiceKey]HealthCheck // likewise
	stale     struct{ ports, addresses, problems, questions bool }
}

func newFindings() findings {
	return findings{
		ports: map[front]netip.AddrPort{}, fronts: map[netip.Addr]cluster.Set[front]{}, refused: map[front][]Problem{},
		problems: map[cluster.ServiceKey][]Problem{}, questions: map[cluster.ServiceKey]HealthCheck{},
	}
}

// place puts a translation at its front, or nothing if it has no backends.
func (n *findings) place(f front, t dataplane.Translation) {
	if len(t.Backends) > 0 {
		n.now.State.Put(t)
	} else {
		n.now.State.Remove(t.Key())
	}
}

// nodePort notes where the node itself goes for a front.
func (n *findings) nodePort(p NodePort) {
	f := front{p.At, p.Protocol}
	if n.ports[f] != p.To {
		n.ports[f], n.stale.ports = p.To, true
	}
}

// address notes that a front is at an address of services alone.
func (n *findings) address(f front) {
	a := f.at.Addr()
	fronts := n.fronts[a]
	if len(fronts) == 0 {
		n.now.State.Put(ending(a))
		n.stale.addresses = true
	}
	fronts.Add(f)
	n.fronts[a] = fronts
}

// contested keeps what those hear who do not get a front.
func (n *findings) contested(f front, refused []Problem) {
	if len(refused)+len(n.refused[f]) == 0 {
		return
	}
	n.stale.problems = true
	if n.refused[f] = refused; len(refused) == 0 {
		delete(n.refused, f)
	}
}

// drop notes that nobody wants a front.
func (n *findings) drop(f front) {
	n.place(f, dataplane.Translation{VIP: f.at, Protocol: f.protocol})
	n.dropPort(f)
	n.dropAddress(f)
	n.contested(f, nil)
}

func (n *findings) dropPort(f front) {
	if _, ok := n.ports[f]; ok {
		delete(n.ports, f)
		n.stale.ports = true
	}
}

func (n *findings) dropAddress(f front) {
	a := f.at.Addr()
	if _, ok := n.fronts[a][f]; !ok {
		return
	}
	if delete(n.fronts[a], f); len(n.fronts[a]) == 0 {
		delete(n.fronts, a)
		n.now.State.Remove(ending(a).Key())
		n.stale.addresses = true
	}
}

// keep has what a service comes to beside its fronts, nil for one that is no more.
func (n *findings) keep(key cluster.ServiceKey, was, is *held) {
	for _, h := range []*held{was, is} {
		if h != nil {
			n.stale.problems = n.stale.problems || len(h.problems) > 0
			n.stale.questions = n.stale.questions || h.health.Port != 0
		}
	}
	delete(n.problems, key)
	delete(n.questions, key)
	if is != nil && len(is.problems) > 0 {
		n.problems[key] = is.problems
	}
	if is != nil && is.health.Port != 0 {
		n.questions[key] = is.health
	}
}

// ending is the route that ends what comes for an address and is not translated: who
// connects to a port without backends hears of it at once.
func ending(a netip.Addr) dataplane.Route {
	return dataplane.Route{Prefix: netip.PrefixFrom(a, a.BitLen()), Paths: []dataplane.Path{{End: dataplane.EndUnreachable}}}
}

// result brings the lists up to date.
func (n *findings) result() Result {
	if n.stale.addresses {
		n.now.Addresses = slices.SortedFunc(maps.Keys(n.fronts), netip.Addr.Compare)
	}
	if n.stale.ports {
		n.now.NodePorts = nil
		for f, to := range n.ports {
			n.now.NodePorts = append(n.now.NodePorts, NodePort{f.at, f.protocol, to})
		}
		slices.SortFunc(n.now.NodePorts, NodePort.Compare)
	}
	if n.stale.problems {
		n.now.Problems = nil
		for _, list := range n.problems {
			n.now.Problems = append(n.now.Problems, list...)
		}
		for _, list := range n.refused {
			n.now.Problems = append(n.now.Problems, list...)
		}
		slices.SortFunc(n.now.Problems, Problem.Compare)
	}
	if n.stale.questions {
		n.now.HealthChecks = slices.SortedFunc(maps.Values(n.questions), HealthCheck.compare)
	}
	n.stale = struct{ ports, addresses, problems, questions bool }{}
	return n.now
}
