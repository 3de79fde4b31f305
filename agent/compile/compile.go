// Package compile owns the step from facts to wish: a Snapshot of the cluster, a node's
// name and its options become the State that the node's dataplane should have.
//
// The State depends on the facts alone: a [Compiler] keeps what it worked out, so that a
// change costs what it touches, and comes to the same as [Compile]. The package never asks
// a machine, and leaves a fact it cannot use out of the State with an error beside it.
package compile

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"

	"github.com/millrace/millrace/cluster"
	"github.com/millrace/millrace/dataplane"
	"github.com/millrace/millrace/policy"
	"github.com/millrace/millrace/service"
)

// Device is what interfaces to pods and to the host are made of.
type Device uint8

const (
	DeviceTun  Device = iota // the default
	DeviceVeth               // for machines that cannot make a tun
)

// Options are what a node's configuration decides.
type Options struct {
	MTU           uint32         // of interfaces to pods and the host at most: less where uplinks and tunnels ask for it
	HostName      string         // kernel name of the interface between dataplane and host
	Device        Device         // probed by who holds a connection
	Queues        uint16         // receive queues per interface
	RxRing        uint16         // descriptors per queue
	TxRing        uint16         //
	MemifDMA      bool           // memifs copy by a DMA engine
	PodCIDRs      []netip.Prefix // ranges of this node beside those of its Node object
	Policy        policy.Options // what policies may cost
	Services      bool           // the machine translates; probed like Device
	NoServices    bool           // somebody else serves
	Encapsulation Encapsulation  // of packets to other nodes
	Host          HostOptions    // the node's own kernel
	// Uplinks are what the dataplane has to the network, by observation.
	Uplinks []dataplane.Uplink
	// NextHops are neighbours on shared uplinks that the kernel knows.
	NextHops map[dataplane.NextHop]dataplane.MAC
}

// Defaults are the options of a node that was told nothing.
func Defaults() Options {
	return Options{MTU: 1500, HostName: "millrace0", Queues: 1, RxRing: 256, TxRing: 256}
}

// Result is the wish and whom it serves.
type Result struct {
	State dataplane.State
	// Owners names the attachment that an object is there for. Objects of the node itself
	// have none.
	Owners map[dataplane.Key]cluster.AttachmentID
	// Problems says why an attachment is not in the State, and what to do.
	Problems map[cluster.AttachmentID]error
	// Policy is what the policies come to: what its ACLs are made from, and which policies
	// fail closed and why.
	Policy policy.Result
	// Services is what services, and pods that want a port of the node, ask for and do not
	// get.
	Services []service.Problem
	// NodePorts are the ports for which the node's own kernel has to be told where to go: of
	// the node's addresses, and of services that the node itself serves; by protocol and
	// address. It is shared: whoever has it changes nothing in it.
	NodePorts []service.NodePort
	// HealthChecks are the ports at which load balancers ask for services.
	HealthChecks []service.HealthCheck
}

// Compile returns the wish for one node. The error is about the node's own facts or
// options; what is wrong with an attachment stands in Problems.
func Compile(s cluster.Snapshot, node string, o Options) (Result, error) {
	return NewCompiler(node, o).Update(s, cluster.Compare(cluster.Snapshot{}, s))
}

// Compiler compiles one Snapshot after another. It is not safe for concurrent use.
type Compiler struct {
	node     string
	options  Options
	policies *policy.Compiler
	services *service.Compiler
}

// NewCompiler returns a Compiler for one node that knows no facts yet.
func NewCompiler(node string, o Options) *Compiler {
	return &Compiler{node: node, options: o, policies: policy.NewCompiler(node, o.Policy), services: service.NewCompiler(node)}
}

// Learn replaces what is known of the dataplane's uplinks, and of the neighbours there.
func (c *Compiler) Learn(uplinks []dataplane.Uplink, hops map[dataplane.NextHop]dataplane.MAC) {
	c.options.Uplinks, c.options.NextHops = uplinks, hops
}

// Update is Compile of a Snapshot. changed has to name all in which it differs from the one
// before; the attachments' differences are found without.
func (c *Compiler) Update(s cluster.Snapshot, changed cluster.Changes) (Result, error) {
	return compile(s, changed, c.node, c.options, c.policies, c.services.Update(s, changed))
}

func compile(s cluster.Snapshot, changed cluster.Changes, node string, o Options, policies *policy.Compiler, services service.Result) (Result, error) {
	c := compilation{
		options: o,
		node:    s.Nodes[node],
		result: Result{
			Owners:   map[dataplane.Key]cluster.AttachmentID{},
			Problems: map[cluster.AttachmentID]error{},
		},
		remote: map[netip.Prefix]bool{},
		owner:  map[netip.Addr]string{},
		places: map[place]cluster.AttachmentID{},
	}
	if o.Services {
		c.result.State = services.State // well-formed by its making
	}
	c.options.MTU = podMTU(o)
	c.podCIDRs = PodCIDRs(s, node, o)
	attachments := inOrder(s.Attachments)
	c.gateway()
	for _, a := range c.node.Addresses {
		c.owner[a] = "the node"
	}
	var served []cluster.Attachment
	for _, a := range attachments {
		if err := c.attach(a, first(attachments, a)); err != nil {
			c.result.Problems[a.ID] = fmt.Errorf("compile attachment %s: %w", a.ID, err)
			continue
		}
		served = append(served, a)
	}
	c.peers(s.Nodes, node)
	c.serviceAddresses = c.ownServices(services)
	c.host(served)
	c.steer()
	c.nextHops()
	c.guard(s, changed, served, policies)
	c.services(served, services)
	if o.Services {
		c.hostPorts(s, served)
	}
	c.keepSources(s.Nodes, served)
	c.hostKernel(s.Nodes, served)
	if c.err != nil {
		return Result{}, fmt.Errorf("compile node %q: %w", node, c.err)
	}
	return c.result, nil
}

// PodCIDRs are the ranges that a node gives to its pods: those of its Node object and
// those of its configuration, each once, in order.
func PodCIDRs(s cluster.Snapshot, node string, o Options) []netip.Prefix {
	all := append(slices.Clone(s.Nodes[node].PodCIDRs), o.PodCIDRs...)
	slices.SortFunc(all, netip.Prefix.Compare)
	return slices.Compact(all)
}

// inOrder sorts by age, so that of two attachments that want the same the older has it.
func inOrder(m map[cluster.AttachmentID]cluster.Attachment) []cluster.Attachment {
	list := make([]cluster.Attachment, 0, len(m))
	for _, a := range m {
		list = append(list, a)
	}
	slices.SortFunc(list, func(a, b cluster.Attachment) int {
		return cmp.Or(cmp.Compare(a.Revision, b.Revision), a.ID.Compare(b.ID))
	})
	return list
}

// first says whether a is the oldest kernel device of its container.
func first(inOrder []cluster.Attachment, a cluster.Attachment) bool {
	i := slices.IndexFunc(inOrder, func(o cluster.Attachment) bool {
		return o.ID.ContainerID == a.ID.ContainerID && o.Device == cluster.DeviceKernel
	})
	return i >= 0 && inOrder[i].ID == a.ID
}

type compilation struct {
	options          Options
	node             cluster.Node
	podCIDRs         []netip.Prefix
	remote           map[netip.Prefix]bool // of other nodes, that have a route: whether it is the host's way, too
	owner            map[netip.Addr]string // who has an address, in words
	places           map[place]cluster.AttachmentID
	serviceAddresses []netip.Addr // that nobody else has
	serviceNodePorts []service.NodePort
	result           Result
	err              error
}

// put adds objects of the node itself.
func (c *compilation) put(objects ...dataplane.Object) {
	for _, o := range objects {
		if err := dataplane.Check(o); err != nil && c.err == nil {
			c.err = err
		}
		c.result.State.Put(o)
	}
}
