package policy

import (
	"slices"

	"github.com/millrace/millrace/cluster"
)

// localPod is a pod with an interface on the node, and the policies about it.
type localPod struct {
	key       cluster.PodKey
	namespace *namespace // nil: nothing is known of it
	pod       *pod       // nil: there are no facts of it, or of an earlier life only
	round     uint64     // when its policies were looked for
	asked     bool       // they were

	networkPolicies []*networkPolicy
	clusterPolicies []*clusterPolicy
	isolated        [2]bool // by NetworkPolicies, by Direction
	allows          [2][]use
	admin, baseline [2][]use // in order
}

// use is a rule of a policy for one pod.
type use struct {
	object *Object
	policy uint64 // the id of what was read from the object
	tier   string // the head of the names of its ACLs
	rule   *rule
	own    []span // the pod's ports that an ingress rule names
	key    string // equal keys match the same
}

// find looks for the policies of a pod, if they may be others than the last time.
func (c *Compiler) find(l *localPod) {
	p := c.pods[l.key]
	if p != nil && !c.attached[l.key].sameLife(p.uid) {
		p = nil
	}
	n := c.namespaces[l.key.Namespace]
	last := c.clusterChanged
	if p != nil {
		last = max(last, p.changed)
	}
	if n != nil {
		last = max(last, n.changed)
	}
	if l.asked && l.namespace == n && l.pod == p && last <= l.round {
		return
	}
	*l = localPod{key: l.key, namespace: n, pod: p, round: c.round, asked: true}
	switch {
	case l.key == (cluster.PodKey{}), p != nil && p.hostNetwork:
		// It is no pod of Kubernetes, or none that policies are about.
	case p == nil:
		c.findUnknown(l, n)
	default:
		c.findNetworkPolicies(l, n)
		c.findClusterPolicies(l)
	}
}

// findNetworkPolicies puts rules that change with facts last.
func (c *Compiler) findNetworkPolicies(l *localPod, n *namespace) {
	for _, p := range c.policiesOf(n) {
		c.facts.work.Matches++
		if p.selector.Matches(l.pod.class.labels) {
			l.networkPolicies = append(l.networkPolicies, p)
		}
	}
	for _, volatile := range [...]bool{false, true} {
		for _, p := range l.networkPolicies {
			for d, isolates := range p.isolates {
				if !isolates {
					continue
				}
				l.isolated[d] = true
				for _, r := range p.rules[d] {
					if r.volatile() == volatile {
						l.allows[d] = append(l.allows[d], c.use(l, &p.object, p.id, "policy/"+p.object.Namespace+"/"+p.object.Name, r))
					}
				}
			}
		}
	}
}

func (c *Compiler) findClusterPolicies(l *localPod) {
	for _, p := range c.clusterPolicies {
		c.facts.work.Matches++
		if !p.subject.matches(l.pod.class) {
			continue
		}
		l.clusterPolicies = append(l.clusterPolicies, p)
		tier, head := &l.admin, "admin/"
		if p.baseline {
			tier, head = &l.baseline, "baseline/"
		}
		for d, rules := range p.rules {
			for _, r := range rules {
				if c.options.SCTPPortsUnseen && r.action == pass {
					tier[d] = append(tier[d], c.use(l, &p.object, p.id, head+p.object.Name, r.denySCTP()))
				}
				tier[d] = append(tier[d], c.use(l, &p.object, p.id, head+p.object.Name, r))
			}
		}
	}
}

// findUnknown is for a pod whose facts have not come yet: it is closed in the directions
// in which some policy might be about it, so that its policies are in force before its
// first packet passes.
func (c *Compiler) findUnknown(l *localPod, n *namespace) {
	if n != nil {
		for _, p := range c.policiesOf(n) {
			for d, isolates := range p.isolates {
				l.isolated[d] = l.isolated[d] || isolates
			}
		}
	}
	for _, p := range c.clusterPolicies {
		for d, rules := range p.rules {
			if len(rules) > 0 && (n == nil || !n.known || p.subject.inNamespace(n)) {
				l.isolated[d] = true
			}
		}
	}
}

func (c *Compiler) use(l *localPod, o *Object, policy uint64, tier string, r *rule) use {
	u := use{object: o, policy: policy, tier: tier, rule: r, key: r.key}
	if r.direction == Ingress && len(r.names) > 0 {
		u.own = resolve(r.names, l.pod.ports)
		u.key += " own " + text(u.own)
	}
	if c.options.SCTPPortsUnseen {
		u.key += r.unseenKey()
	}
	return u
}

// isolatedBy is the first NetworkPolicy that isolates the pod, nil for a pod that is not
// known.
func (l *localPod) isolatedBy(d Direction) *networkPolicy {
	i := slices.IndexFunc(l.networkPolicies, func(p *networkPolicy) bool { return p.isolates[d] })
	if i < 0 {
		return nil
	}
	return l.networkPolicies[i]
}
