package policy

import (
	"slices"
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
