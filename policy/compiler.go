package policy

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	"github.com/millrace/millrace/cluster"
)

// Compiler keeps what it worked out between two snapshots, so that a change costs what it
// touches. Its results are those of Compile, whatever it was shown before. It is not safe
// for concurrent use.
type Compiler struct {
	facts
	node    string
	options Options

	clusterPolicies []*clusterPolicy // in order of evaluation
	clusterChanged  uint64           // the round of their last change
	locals          map[cluster.PodKey]*localPod
	inOrder         []*localPod // the same, by name
	base            base

	ids      uint64
	worked   map[string]*worked // by what they match
	alone    map[aloneKey]*kept // ACLs of rules of NetworkPolicies
	drafts   map[string]*kept   // the other ACLs
	overlaps map[pair]bool      // found so far
}

// NewCompiler returns a Compiler for the pods of a node that knows no facts yet.
func NewCompiler(node string, o Options) *Compiler {
	return &Compiler{
		facts: newFacts(), node: node, options: o.orDefaults(), locals: map[cluster.PodKey]*localPod{}, base: newBase(cluster.Node{}),
		worked: map[string]*worked{}, alone: map[aloneKey]*kept{}, drafts: map[string]*kept{}, overlaps: map[pair]bool{},
	}
}

// Update works out the policies of a snapshot for the pods that have an interface here.
// changed has to name all that is different from the last one; attachments are found
// without it.
func (c *Compiler) Update(s cluster.Snapshot, changed cluster.Changes, local []cluster.PodKey) Result {
	c.take(s, changed)
	if _, ok := changed.Nodes[c.node]; ok {
		c.base = newBase(s.Nodes[c.node])
	}
	c.takePolicies(s, changed)
	c.takeLocals(local)
	r := c.build()
	c.sweepWorked()
	c.sweep()
	return r
}

// Work says how much the last Update had to look at.
func (c *Compiler) Work() Work { return c.facts.work }

func (c *Compiler) takePolicies(s cluster.Snapshot, changed cluster.Changes) {
	for key := range changed.NetworkPolicies {
		n := c.space(key.Namespace)
		n.changed = c.round
		i, found := slices.BinarySearchFunc(n.policies, key.Name, func(h *heldPolicy, name string) int { return strings.Compare(h.fact.Key.Name, name) })
		p, ok := s.NetworkPolicies[key]
		p.Key = key
		switch {
		case ok && found:
			n.policies[i] = &heldPolicy{fact: p}
		case ok:
			n.policies = slices.Insert(n.policies, i, &heldPolicy{fact: p})
		case found:
			n.policies = slices.Delete(n.policies, i, i+1)
			c.heard[n.name] = true
		}
	}
	if len(changed.ClusterPolicies) == 0 {
		return
	}
	c.clusterChanged = c.round
	c.clusterPolicies = slices.DeleteFunc(c.clusterPolicies, func(p *clusterPolicy) bool {
		_, ok := changed.ClusterPolicies[p.object.Name]
		return ok
	})
	for name := range changed.ClusterPolicies {
		if p, ok := s.ClusterPolicies[name]; ok {
			c.ids++
			read := readClusterPolicy(p)
			read.id = c.ids
			c.clusterPolicies = append(c.clusterPolicies, read)
		}
	}
	slices.SortFunc(c.clusterPolicies, func(a, b *clusterPolicy) int {
		return cmp.Or(cmp.Compare(a.priority, b.priority), strings.Compare(a.object.Name, b.object.Name))
	})
}

// policiesOf are the NetworkPolicies of a namespace, by name.
func (c *Compiler) policiesOf(n *namespace) []*networkPolicy {
	list := make([]*networkPolicy, len(n.policies))
	for i, h := range n.policies {
		if h.read == nil {
			c.ids++
			h.read = readNetworkPolicy(h.fact)
			h.read.id = c.ids
		}
		list[i] = h.read
	}
	return list
}

func (c *Compiler) takeLocals(local []cluster.PodKey) {
	here := make(map[cluster.PodKey]bool, len(local))
	for _, key := range local {
		here[key] = true
		if c.locals[key] == nil {
			c.locals[key] = &localPod{key: key}
		}
	}
	maps.DeleteFunc(c.locals, func(key cluster.PodKey, _ *localPod) bool { return !here[key] })
	c.inOrder = slices.SortedFunc(maps.Values(c.locals), func(a, b *localPod) int { return a.key.Compare(b.key) })
	for _, l := range c.inOrder {
		c.find(l)
	}
}
