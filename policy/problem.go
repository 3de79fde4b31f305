package policy

import (
	"slices"

	"github.com/millrace/millrace/cluster"
)

// problems are those of the policies that are about pods here.
func (b *build) problems() []Problem {
	type key struct {
		object Object
		reason Reason
	}
	found := map[key]error{}
	note := func(o Object, broken error, rules [2][]*rule) {
		if broken != nil {
			found[key{o, PolicyRejected}] = broken
		}
		if b.c.options.SCTPPortsUnseen {
			if err := unseenIn(rules); err != nil {
				found[key{o, SCTPPortsUnseen}] = err
			}
		}
	}
	for _, l := range b.c.inOrder {
		for _, p := range l.networkPolicies {
			note(p.object, p.err, p.rules)
		}
		for _, p := range l.clusterPolicies {
			note(p.object, p.err, p.rules)
		}
	}
	for o, err := range b.tooLarge {
		found[key{o, PolicyTooLarge}] = err
	}
	list := make([]Problem, 0, len(found))
	for k, err := range found {
		list = append(list, Problem{k.object, k.reason, err})
	}
	slices.SortFunc(list, Problem.compare)
	return list
}

func (p Problem) compare(q Problem) int {
	if n := p.Object.compare(q.Object); n != 0 {
		return n
	}
	if p.Reason < q.Reason {
		return -1
	}
	return 1
}

// Check finds what is wrong with the policies of a snapshot, whether they are about pods
// of some node or not.
func Check(s cluster.Snapshot) []Problem {
	var list []Problem
	for _, p := range s.NetworkPolicies {
		if n := readNetworkPolicy(p); n.err != nil {
			list = append(list, Problem{n.object, PolicyRejected, n.err})
		}
	}
	for _, p := range s.ClusterPolicies {
		if c := readClusterPolicy(p); c.err != nil {
			list = append(list, Problem{c.object, PolicyRejected, c.err})
		}
	}
	slices.SortFunc(list, Problem.compare)
	return list
}
