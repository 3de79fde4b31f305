package policy

import (
	"fmt"
	"maps"
	"slices"

	"github.com/millrace/millrace/cluster"
	"github.com/millrace/millrace/dataplane"
)

// build is one attempt to write the lists of all pods: policies that turn out too large
// are closed, and the next attempt is made without them.
type build struct {
	c        *Compiler
	tooLarge map[Object]error
	grown    bool       // tooLarge has more than when the attempt began
	lists    []*podACLs // of c.inOrder
	applied  int        // rules of all lists, once per interface
	key      []byte     // for use in tierACL
}

// podACLs are the lists of a pod by Direction.
type podACLs [2][]*compiled

func (c *Compiler) build() Result {
	b := &build{c: c, tooLarge: map[Object]error{}}
	for b.attempt(); b.grown; b.attempt() {
	}
	return b.result()
}

func (b *build) attempt() {
	b.grown, b.applied, b.lists = false, 0, b.lists[:0]
	for _, l := range b.c.inOrder {
		b.lists = append(b.lists, &podACLs{})
		b.list(l, Ingress)
		b.list(l, Egress)
	}
	if !b.grown {
		b.fit()
	}
}

// list writes the list of a pod in one direction; the pod's lists are the last ones.
func (b *build) list(l *localPod, d Direction) {
	first := &b.c.base.output
	if d == Egress {
		first = &b.c.base.input
	}
	b.put(l, d, first)
	b.tier(l, d, l.admin[d], func() outcome { return b.behindAdmin(l, d) })
	if l.isolated[d] {
		for _, a := range b.allowed(l, d) {
			b.add(l, d, *a.object, a.worked.size, func() *compiled { return b.c.aloneACL(a.use, a.worked) })
		}
		return
	}
	b.tier(l, d, l.baseline[d], toAll)
	b.put(l, d, &b.c.base.all)
}

// add appends an ACL of so many rules to a pod's list. It is not written where it would
// match nothing, or be too large.
func (b *build) add(l *localPod, d Direction, o Object, size int, write func() *compiled) {
	switch {
	case size == 0:
	case size > b.c.options.RulesPerACL:
		b.exclude(o, fmt.Errorf("its %s rules come to %d rules in one ACL, for pod %s, where %d is the most", d, size, l.key, b.c.options.RulesPerACL))
	default:
		b.put(l, d, write())
	}
}

func (b *build) put(l *localPod, d Direction, a *compiled) {
	list := &b.lists[len(b.lists)-1][d]
	*list = append(*list, a)
	b.applied += len(a.acl.Rules) * b.c.interfaces(l.key)
}

// result names the lists.
func (b *build) result() Result {
	r := Result{Lists: make(map[cluster.PodKey]Lists, len(b.lists)), Origins: map[string][]Origin{}}
	acls := map[string]*compiled{}
	for i, l := range b.c.inOrder {
		lists := b.lists[i]
		b.shorten(lists)
		for _, list := range lists {
			for _, a := range list {
				acls[a.acl.Name] = a
			}
		}
		r.Lists[l.key] = Lists{Input: names(lists[Egress]), Output: names(lists[Ingress])}
	}
	r.ACLs = make([]dataplane.ACL, 0, len(acls))
	for _, name := range slices.Sorted(maps.Keys(acls)) {
		r.ACLs = append(r.ACLs, acls[name].acl)
		r.Origins[name] = acls[name].origins
	}
	r.Problems = b.problems()
	return r
}

func names(list []*compiled) []string {
	out := make([]string, len(list))
	for i, a := range list {
		out[i] = a.acl.Name
	}
	return out
}
