package policy

import (
	"net/netip"
	"slices"

	"k8s.io/apimachinery/pkg/labels"

	"github.com/millrace/millrace/cluster"
)

// podSet is the addresses of the pods that a selector means, shared by all rules that mean
// the same. It exists while a rule of the node's pods needs it.
type podSet struct {
	who     podSelector
	spaces  map[*namespace]struct{} // whose pods can be meant
	members addresses
	changed uint64 // the round of the last change
	used    uint64 // the round in which a rule last needed it
	whole   cover  // of the members, once asked for
	known   bool   // whole is that of the members
}

func (s *podSet) replace(old, now []netip.Addr, round uint64) {
	if len(old)+len(now) == 0 {
		return
	}
	if len(old) > 0 {
		s.members.remove(old)
	}
	s.members.add(now)
	s.changed, s.known = round, false
}

func (s *podSet) cover() cover {
	if !s.known {
		s.whole, s.known = s.members.cover(), true
	}
	return s.whole
}

// set returns the set of a selector, and fills it when it is new.
func (f *facts) set(who podSelector) *podSet {
	s := f.sets[who.key]
	if s == nil {
		s = &podSet{who: who, spaces: map[*namespace]struct{}{}, changed: f.round}
		f.sets[who.key] = s
		if who.namespaces == nil {
			if n := f.namespaces[who.key.namespace]; n != nil {
				f.fill(s, n)
			}
		} else {
			for _, n := range f.namespaces {
				f.fill(s, n)
			}
		}
	}
	s.used = f.round
	return s
}

// fill adds the pods of a namespace to a set, if it means them.
func (f *facts) fill(s *podSet, n *namespace) {
	f.work.Matches++
	if !s.who.inNamespace(n) {
		return
	}
	n.sets = append(n.sets, s)
	s.spaces[n] = struct{}{}
	for _, c := range n.classes {
		f.enter(c, s)
	}
}

// enterSets puts a class into the sets that mean it.
func (f *facts) enterSets(c *class) {
	for _, s := range c.namespace.sets {
		f.enter(c, s)
	}
}

// enter puts a class into a set of its namespace, if it means the class.
func (f *facts) enter(c *class, s *podSet) {
	f.work.Matches++
	if !s.who.pods.Matches(c.labels) {
		return
	}
	c.sets = append(c.sets, s)
	for _, p := range c.pods {
		s.replace(nil, p.addresses, f.round)
	}
}

// enterSpace finds the sets that a namespace's pods can be in.
func (f *facts) enterSpace(n *namespace) {
	for _, s := range f.sets {
		f.fill(s, n)
	}
}

func (f *facts) leaveSpace(n *namespace) {
	for _, c := range n.classes {
		f.leaveSets(c)
	}
	for _, s := range n.sets {
		delete(s.spaces, n)
	}
	n.sets = nil
}

func (f *facts) leaveSets(c *class) {
	for _, s := range c.sets {
		for _, p := range c.pods {
			s.replace(p.addresses, nil, f.round)
		}
	}
	c.sets = nil
}

// sweep forgets the sets that no rule needs any more, and the namespaces that are nothing
// but names.
func (f *facts) sweep() {
	for name := range f.heard {
		if n := f.namespaces[name]; n != nil && !n.known && len(n.classes)+len(n.policies) == 0 {
			delete(f.namespaces, name)
			f.leaveSpace(n)
		}
	}
	clear(f.heard)
	for key, s := range f.sets {
		if s.used != f.round {
			delete(f.sets, key)
			s.forget()
		}
	}
	for key, s := range f.named {
		if s.used != f.round {
			delete(f.named, key)
		}
	}
	for key, s := range f.nodeSets {
		if s.used != f.round {
			delete(f.nodeSets, key)
		}
	}
}

// forget takes a set out of where pods look for theirs.
func (s *podSet) forget() {
	is := func(t *podSet) bool { return t == s }
	for n := range s.spaces {
		n.sets = slices.DeleteFunc(n.sets, is)
		for _, c := range n.classes {
			c.sets = slices.DeleteFunc(c.sets, is)
		}
	}
}

// namedSet is the addresses of the pods that have a port of a name, by its number.
type namedSet struct {
	name    portName
	by      map[span]*addresses
	changed uint64
	used    uint64
}

func (f *facts) namedSet(name portName) *namedSet {
	s := f.named[name]
	if s == nil {
		s = &namedSet{name: name, by: map[span]*addresses{}, changed: f.round}
		f.named[name] = s
		for _, p := range f.pods {
			s.put(p, f.round)
		}
	}
	s.used = f.round
	return s
}

func (s *namedSet) put(p *pod, round uint64) {
	for _, span := range resolve([]portName{s.name}, p.ports) {
		if len(p.addresses) > 0 {
			if s.by[span] == nil {
				s.by[span] = &addresses{}
			}
			s.by[span].add(p.addresses)
			s.changed = round
		}
	}
}

func (s *namedSet) drop(p *pod, round uint64) {
	for _, span := range resolve([]portName{s.name}, p.ports) {
		if len(p.addresses) > 0 {
			s.by[span].remove(p.addresses)
			s.changed = round
			if s.by[span].empty() {
				delete(s.by, span)
			}
		}
	}
}

func (f *facts) leaveNamed(p *pod) { f.eachNamed(p, (*namedSet).drop) }
func (f *facts) enterNamed(p *pod) { f.eachNamed(p, (*namedSet).put) }

func (f *facts) eachNamed(p *pod, do func(*namedSet, *pod, uint64)) {
	for i, port := range p.ports {
		if slices.ContainsFunc(p.ports[:i], func(q cluster.Port) bool { return q.Name == port.Name }) {
			continue // its name was met
		}
		for _, protocol := range [...]uint8{0, tcp, udp, sctp} {
			if s := f.named[portName{port.Name, protocol}]; s != nil {
				do(s, p, f.round)
			}
		}
	}
}

// nodeSet is the addresses of the nodes that a selector means.
type nodeSet struct {
	who     nodeSelector
	cover   cover
	changed uint64
	used    uint64
}

func (f *facts) nodeSet(who nodeSelector) *nodeSet {
	s := f.nodeSets[who.key]
	if s == nil {
		s = &nodeSet{who: who, changed: f.round}
		f.nodeSets[who.key] = s
		f.fillNodes(s)
	}
	s.used = f.round
	return s
}

func (f *facts) fillNodes(s *nodeSet) {
	var list []netip.Prefix
	for _, n := range f.nodes {
		f.work.Matches++
		if s.who.nodes.Matches(labels.Set(n.Labels)) {
			for _, a := range n.Addresses {
				list = append(list, single(a))
			}
		}
	}
	if c := minimise(list); !slices.Equal(c, s.cover) {
		s.cover, s.changed = c, f.round
	}
}
