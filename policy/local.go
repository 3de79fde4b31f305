package policy

import (
	"github.com/millrace/millrace/cluster"
)

// localPod is a pod with an interface on the node, and the policies about it.
type localPod struct {
	key       cluster.PodKey
	namespace *namespace // nil: nothing is known of it
	pod       *pod       // nil: there are no facts of it
	round     uint64     // when its policies were looked for
	asked     bool       // they were

	isolated        [2]bool // by NetworkPolicies, by Direction
	networkPolicies [2][]*networkPolicy
	admin, baseline []*clusterPolicy
}

// find looks for the policies of a pod, if they may be others than the last time.
func (c *Compiler) find(l *localPod) {
	p := c.pods[l.key]
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
		c.findKnown(l, n)
	}
}

func (c *Compiler) findKnown(l *localPod, n *namespace) {
	for _, p := range n.policies {
		c.facts.work.Matches++
		if !p.selector.Matches(l.pod.class.labels) {
			continue
		}
		for d, isolates := range p.isolates {
			if isolates {
				l.isolated[d] = true
				l.networkPolicies[d] = append(l.networkPolicies[d], p)
			}
		}
	}
	for _, p := range c.clusterPolicies {
		c.facts.work.Matches++
		if !p.subject.matches(l.pod.class) {
			continue
		}
		if p.baseline {
			l.baseline = append(l.baseline, p)
		} else {
			l.admin = append(l.admin, p)
		}
	}
}

// findUnknown is for a pod whose facts have not come yet: it is closed in the directions
// in which some policy might be about it, so that its policies are in force before its
// first packet passes.
func (c *Compiler) findUnknown(l *localPod, n *namespace) {
	if n != nil {
		for _, p := range n.policies {
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

// own are the pod's ports that an ingress rule names.
func (l *localPod) own(r *rule) []span {
	if r.direction == Egress || len(r.names) == 0 || l.pod == nil {
		return nil
	}
	return resolve(r.names, l.pod.ports)
}
