package policy

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// exclude closes a policy that does not fit.
func (b *build) exclude(o Object, err error) {
	if b.tooLarge[o] == nil {
		b.tooLarge[o], b.grown = err, true
	}
}

// fit closes the largest policies until all others fit into what may be applied. A policy
// that is closed already stays as it is: what is left of it is as small as can be.
func (b *build) fit() {
	most := b.c.options.AppliedRules
	if b.applied <= most {
		return
	}
	applied := map[Object]int{}
	for i, l := range b.c.inOrder {
		for _, a := range slices.Concat(b.lists[i][:]...) {
			applied[a.object] += len(a.acl.Rules) * b.c.interfaces(l.key)
		}
	}
	list := slices.SortedFunc(maps.Keys(applied), func(x, y Object) int {
		return cmp.Or(cmp.Compare(applied[y], applied[x]), x.compare(y))
	})
	for left := b.applied; left > most && len(list) > 0; list = list[1:] {
		if o := list[0]; o != (Object{}) && b.tooLarge[o] == nil {
			b.exclude(o, fmt.Errorf("it comes to %d applied rules on this node, where all policies together may have %d", applied[o], most))
			left -= applied[o]
		}
	}
}

func (o Object) compare(p Object) int {
	return cmp.Or(strings.Compare(o.Kind, p.Kind), strings.Compare(o.Namespace, p.Namespace), strings.Compare(o.Name, p.Name))
}

// shorten merges the ends of lists that together are longer than a binding may be. What
// is merged is named by its content.
func (b *build) shorten(lists *podACLs) {
	most := b.c.options.InterfaceACLs
	for d := range lists {
		room := max(most/2, most-len(lists[1-d]))
		if len(lists[d]) <= room {
			continue
		}
		merged := merge(Direction(d), lists[d][room-1:])
		lists[d] = append(slices.Clone(lists[d][:room-1]), merged)
	}
}

func merge(d Direction, list []*compiled) *compiled {
	a := draft{direction: d}
	for _, c := range list {
		a.rules = append(a.rules, c.acl.Rules...)
		a.origins = append(a.origins, c.origins...)
	}
	return a.name("merged", d.String())
}
