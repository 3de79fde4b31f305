package policy

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/millrace/millrace/cluster"
	"github.com/millrace/millrace/dataplane"
)

// build is one attempt to write the lists of all pods: policies that turn out too large
// are closed, and the next attempt is made without them.
type build struct {
	c        *Compiler
	tooLarge map[Object]error
	grown    bool // tooLarge has more than when the attempt began

	lists   map[cluster.PodKey]*[2][]*compiled // by Direction
	applied map[Object]int                     // rules, by the policy they are from
	total   int
}

func (c *Compiler) build() Result {
	b := &build{c: c, tooLarge: map[Object]error{}}
	for b.attempt(); b.grown; b.attempt() {
	}
	return b.result()
}

func (b *build) attempt() {
	b.grown, b.total = false, 0
	b.applied = map[Object]int{}
	b.lists = make(map[cluster.PodKey]*[2][]*compiled, len(b.c.locals))
	for _, l := range b.c.inOrder {
		b.lists[l.key] = &[2][]*compiled{}
		for d := range b.lists[l.key] {
			b.list(l, Direction(d))
		}
	}
	if !b.grown {
		b.fit()
	}
}

// list writes the list of a pod in one direction.
func (b *build) list(l *localPod, d Direction) {
	first := baseOutput
	if d == Egress {
		first = baseInput
	}
	b.addBase(l, d, first)
	b.tier(l, d, l.admin, func() outcome { return b.behindAdmin(l, d) })
	if l.isolated[d] {
		for _, a := range b.allowed(l, d) {
			b.add(l, d, a.object, size(a.worked.terms), func() *compiled { return b.c.aloneACL(a.object, a.worked) })
		}
		return
	}
	b.tier(l, d, l.baseline, func() outcome {
		return outcome{key: "all", end: clause{do: dataplane.PermitReflect, origin: Origin{Rule: -1}}}
	})
	b.addBase(l, d, baseAll)
}

func (b *build) addBase(l *localPod, d Direction, name string) {
	i := slices.IndexFunc(b.c.base, func(c compiled) bool { return c.acl.Name == name })
	b.add(l, d, Object{}, len(b.c.base[i].acl.Rules), func() *compiled { return &b.c.base[i] })
}

// add appends an ACL of so many rules to a pod's list. It is not written where it would
// match nothing, or be too large.
func (b *build) add(l *localPod, d Direction, o Object, size int, write func() *compiled) {
	switch {
	case size == 0:
	case size > b.c.options.RulesPerACL:
		b.exclude(o, fmt.Errorf("its %s rules come to %d rules in one ACL, for pod %s, where %d is the most", d, size, l.key, b.c.options.RulesPerACL))
	default:
		list := &b.lists[l.key][d]
		*list = append(*list, write())
		b.applied[o] += size
		b.total += size
	}
}

// allow is a rule of a NetworkPolicy, worked out for a pod.
type allow struct {
	object Object
	worked *worked
}

// allowed are the rules of the NetworkPolicies of a pod, those that change with facts
// last; of rules that say the same, one.
func (b *build) allowed(l *localPod, d Direction) []allow {
	var list []allow
	seen := map[string]bool{}
	for _, volatile := range [...]bool{false, true} {
		for _, p := range l.networkPolicies[d] {
			if b.tooLarge[p.object] != nil {
				continue
			}
			for _, r := range p.rules[d] {
				if r.volatile() != volatile {
					continue
				}
				own := l.own(r)
				if key := r.key + text(own); !seen[key] {
					seen[key] = true
					list = append(list, allow{p.object, b.c.work(r, own)})
				}
			}
		}
	}
	return list
}

// behindAdmin is what NetworkPolicies and the Baseline tier say.
func (b *build) behindAdmin(l *localPod, d Direction) outcome {
	var out outcome
	var key strings.Builder
	if l.isolated[d] {
		for _, a := range b.allowed(l, d) {
			fmt.Fprintf(&key, "%d ", a.worked.id)
			out.clauses = append(out.clauses, clause{dataplane.PermitReflect, a.worked.terms, Origin{Object: a.object, Rule: a.worked.rule.index}})
		}
		out.end = clause{do: dataplane.Deny, origin: Origin{Rule: -1}}
		if list := l.networkPolicies[d]; len(list) > 0 {
			out.end.origin.Object = list[0].object
		}
		fmt.Fprintf(&key, "deny %s", out.end.origin.Object)
		out.key = key.String()
		return out
	}
	for _, p := range l.baseline {
		for _, r := range b.rulesOf(p, d) {
			w := b.c.work(r, l.own(r))
			do := dataplane.PermitReflect // passing on leads there, too
			if r.action == deny {
				do = dataplane.Deny
			}
			fmt.Fprintf(&key, "%d ", w.id)
			out.clauses = append(out.clauses, clause{do, w.terms, Origin{Object: p.object, Rule: r.index}})
		}
	}
	out.end = clause{do: dataplane.PermitReflect, origin: Origin{Rule: -1}}
	out.key = key.String() + "all"
	return out
}

// result names the lists.
func (b *build) result() Result {
	r := Result{Lists: make(map[cluster.PodKey]Lists, len(b.lists)), Origins: map[string][]Origin{}}
	acls := map[string]*compiled{}
	for key, lists := range b.lists {
		b.shorten(lists)
		for _, list := range lists {
			for _, a := range list {
				acls[a.acl.Name] = a
			}
		}
		r.Lists[key] = Lists{Input: names(lists[Egress]), Output: names(lists[Ingress])}
	}
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
