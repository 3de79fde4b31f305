// Package service owns the step from Services and EndpointSlices to Translations: under
// which addresses a node's dataplane answers for a service, and which backends are behind
// each.
//
// It is what kube-proxy decides, as values. It never knows a machine: what cnat lacks is
// said in docs/services.md and, where it concerns one service, in a Problem.
package service

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"github.com/millrace/millrace/cluster"
	"github.com/millrace/millrace/dataplane"
)

// Result is what the services come to on one node. It is shared with later ones: whoever
// has it changes nothing in it.
type Result struct {
	// State has the translations, and of each of Addresses the route that ends there what
	// is not translated.
	State dataplane.State
	// Addresses are those of the services themselves, in order, without the node's own.
	Addresses []netip.Addr
	// NodePorts are the ports at which the node's own addresses answer, with or without
	// backends, and those of services of which the node itself is a backend, by protocol
	// and address.
	NodePorts []NodePort
	// HealthChecks are what load balancers outside ask this node for, by port.
	HealthChecks []HealthCheck
	Problems     []Problem // by service
}

// HealthCheck is the question how many of a service's endpoints are here, at a port of all
// nodes: those that have some get the connections of clients outside.
type HealthCheck struct {
	About cluster.Ref // the service
	Port  uint16
	Local int // endpoints of this node that are ready
}

func (h HealthCheck) compare(o HealthCheck) int {
	return cmp.Or(cmp.Compare(h.Port, o.Port), cmp.Compare(h.About.String(), o.About.String()))
}

// NodePort is where the node's own connections to a port go instead. The dataplane has a
// Translation of it for those of others. The node's own to its own addresses never reach it:
// the kernel takes them for itself. And those that the dataplane would send back to the node
// would come with the node's address at both ends, which no kernel takes.
type NodePort struct {
	At       netip.AddrPort
	Protocol uint8
	To       netip.AddrPort // a backend on the node itself, else the service's cluster address; of a hostPort, the pod's
}

// Compare orders by protocol, then address and port.
func (p NodePort) Compare(o NodePort) int {
	return front{p.At, p.Protocol}.compare(front{o.At, o.Protocol})
}

// front is where clients find a port of a service.
type front struct {
	at       netip.AddrPort
	protocol uint8
}

func (f front) compare(o front) int {
	return cmp.Or(cmp.Compare(f.protocol, o.protocol), f.at.Compare(o.at))
}

// held is a service with what it came to.
type held struct {
	key      cluster.ServiceKey
	fact     cluster.Service
	wants    map[front]want
	health   HealthCheck
	problems []Problem // its own
	byZone   bool      // it depends on labels of nodes
}

// want is what a service wants to be behind a front.
type want struct {
	backends []netip.AddrPort // none: it has nobody
	cluster  netip.AddrPort   // the same port at the service's cluster address
}

// Compiler keeps what it worked out between two snapshots, so that a change costs what it
// touches. It is not safe for concurrent use.
type Compiler struct {
	node      string
	addresses []netip.Addr // of the node
	zone      string
	services  map[cluster.ServiceKey]*held
	slices    map[cluster.ServiceKey]cluster.ServiceKey              // which service a slice is of
	parts     map[cluster.ServiceKey]cluster.Set[cluster.ServiceKey] // which slices a service has
	owners    map[front][]cluster.ServiceKey                         // who wants a front, the first of them has it
	found     findings
	worked    int
}

// NewCompiler returns a Compiler for a node that knows no facts yet.
func NewCompiler(node string) *Compiler {
	return &Compiler{
		node: node, services: map[cluster.ServiceKey]*held{}, slices: map[cluster.ServiceKey]cluster.ServiceKey{},
		parts: map[cluster.ServiceKey]cluster.Set[cluster.ServiceKey]{}, owners: map[front][]cluster.ServiceKey{},
		found: newFindings(),
	}
}

// Compile works out everything from the beginning.
func Compile(s cluster.Snapshot, node string) Result {
	return NewCompiler(node).Update(s, cluster.Compare(cluster.Snapshot{}, s))
}

// Worked says how many services the last Update had to look at.
func (c *Compiler) Worked() int { return c.worked }

// Update works out the services of a snapshot. changed has to name all that is different
// from the last one.
func (c *Compiler) Update(s cluster.Snapshot, changed cluster.Changes) Result {
	var touched cluster.Set[cluster.ServiceKey]
	touched.Union(changed.Services)
	for key := range changed.EndpointSlices {
		c.takeSlice(s, key, &touched)
	}
	c.takeNodes(s, changed.Nodes, &touched)
	c.worked = len(touched)
	var fronts cluster.Set[front]
	for key := range touched {
		c.takeService(s, key, &fronts)
	}
	for f := range fronts {
		c.settle(f)
	}
	return c.found.result()
}

// takeSlice notes whose slice it is now, and that both services have changed.
func (c *Compiler) takeSlice(s cluster.Snapshot, key cluster.ServiceKey, touched *cluster.Set[cluster.ServiceKey]) {
	if was, ok := c.slices[key]; ok {
		touched.Add(was)
		delete(c.slices, key)
		if delete(c.parts[was], key); len(c.parts[was]) == 0 {
			delete(c.parts, was)
		}
	}
	slice, ok := s.EndpointSlices[key]
	if !ok {
		return
	}
	of := cluster.ServiceKey{Namespace: key.Namespace, Name: slice.Service}
	touched.Add(of)
	c.slices[key] = of
	parts := c.parts[of]
	parts.Add(key)
	c.parts[of] = parts
}

// takeNodes: all services depend on the addresses of this node, and those that prefer what
// is close on where nodes are.
func (c *Compiler) takeNodes(s cluster.Snapshot, changed cluster.Set[string], touched *cluster.Set[cluster.ServiceKey]) {
	if len(changed) == 0 {
		return
	}
	own := s.Nodes[c.node]
	all := !slices.Equal(own.Addresses, c.addresses)
	c.addresses, c.zone = own.Addresses, own.Labels[zoneLabel]
	for key, h := range c.services {
		if all || h.byZone {
			touched.Add(key)
		}
	}
}

// takeService works a service out anew, and names the fronts for which that may mean
// something.
func (c *Compiler) takeService(s cluster.Snapshot, key cluster.ServiceKey, fronts *cluster.Set[front]) {
	was := c.services[key]
	if was != nil {
		for f := range was.wants {
			fronts.Add(f)
			c.owners[f] = slices.DeleteFunc(c.owners[f], func(k cluster.ServiceKey) bool { return k == key })
		}
		delete(c.services, key)
	}
	fact, ok := s.Services[key]
	if !ok {
		c.found.keep(key, was, nil)
		return
	}
	h := &held{key: key, fact: fact, wants: map[front]want{}}
	c.work(s, h)
	for f := range h.wants {
		fronts.Add(f)
		list := append(c.owners[f], key)
		slices.SortFunc(list, cluster.ServiceKey.Compare)
		c.owners[f] = list
	}
	c.services[key] = h
	c.found.keep(key, was, h)
}

// settle decides what is at a front.
func (c *Compiler) settle(f front) {
	owners := c.owners[f]
	if len(owners) == 0 {
		delete(c.owners, f)
		c.found.drop(f)
		return
	}
	h := c.services[owners[0]]
	w := h.wants[f]
	ofNode := slices.Contains(c.addresses, f.at.Addr())
	c.found.place(f, dataplane.Translation{VIP: f.at, Protocol: f.protocol, Backends: w.backends, ByClient: h.fact.AffinitySeconds > 0})
	if ofNode {
		c.found.dropAddress(f)
	} else {
		c.found.address(f)
	}
	// What the node itself would find at its own address is best found without leaving it:
	// a packet with the node's address at both ends is none that a kernel takes.
	here := slices.IndexFunc(w.backends, func(b netip.AddrPort) bool { return slices.Contains(c.addresses, b.Addr()) })
	switch {
	case here >= 0:
		c.found.nodePort(NodePort{f.at, f.protocol, w.backends[here]})
	case ofNode:
		c.found.nodePort(NodePort{f.at, f.protocol, w.cluster})
	default:
		c.found.dropPort(f)
	}
	var refused []Problem
	for _, other := range owners[1:] {
		err := fmt.Errorf("%s port %d is service %s's, which comes first by name", f.at.Addr(), f.at.Port(), owners[0])
		refused = append(refused, Problem{c.services[other].fact.Ref(), AddressTaken, err})
	}
	c.found.contested(f, refused)
}

// sorted are the slices of a service, by name.
func (c *Compiler) sorted(s cluster.Snapshot, key cluster.ServiceKey) []cluster.EndpointSlice {
	var list []cluster.EndpointSlice
	for _, k := range slices.SortedFunc(maps.Keys(c.parts[key]), cluster.ServiceKey.Compare) {
		list = append(list, s.EndpointSlices[k])
	}
	return list
}
