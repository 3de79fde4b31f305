package policy

import (
	"slices"

	"github.com/millrace/millrace/cluster"
)

// problems are those of the policies that are about pods here.
func (b *build) problems() []Problem {
	found := map[Object]Problem{}
	for _, l := range b.c.inOrder {
		for _, p := range l.networkPolicies {
			if p.err != nil {
				found[p.object] = Problem{p.object, PolicyRejected, p.err}
			}
		}
		for _, p := range l.clusterPolicies {
			if p.err != nil {
				found[p.object] = Problem{p.object, PolicyRejected, p.err}
			}
		}
	}
	var list []Problem
	for _, p := range found {
		list = append(list, p)
	}
	for o, err := range b.tooLarge {
		list = append(list, Problem{o, PolicyTooLarge, err})
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
