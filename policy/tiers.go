package policy

import (
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/millrace/millrace/dataplane"
)

// ordered is a rule of a ClusterNetworkPolicy for one pod, worked out.
type ordered struct {
	use
	worked *worked
}

// appendKey adds what tells the rule, and what it comes to, from all others.
func (o ordered) appendKey(key []byte) []byte {
	key = binary.AppendUvarint(key, o.policy)
	key = binary.AppendUvarint(key, o.worked.id)
	return append(binary.AppendVarint(key, int64(o.rule.index)), byte(o.rule.action))
}

func (o ordered) origin() Origin {
	return Origin{Object: *o.object, Direction: o.rule.direction, Rule: o.rule.index, Name: o.rule.name}
}

// tier writes the ACLs of a tier for one pod: one per policy, and one more per rule that
// passes over others of its tier. behind is what the tiers behind say.
func (b *build) tier(l *localPod, d Direction, uses []use, behind func() outcome) {
	var rules []ordered
	for _, u := range b.inForce(uses) {
		rules = append(rules, ordered{u, b.c.work(u)})
	}
	rules = b.withoutIdle(rules)
	for len(rules) > 0 {
		n := 1
		if rules[0].rule.action == pass {
			b.passACL(l, d, rules[0], behind())
		} else {
			for n < len(rules) && rules[n].object == rules[0].object && rules[n].rule.action != pass {
				n++
			}
			b.tierACL(l, d, rules[:n])
		}
		rules = rules[n:]
	}
}

// withoutIdle leaves out the rules that pass what no rule behind them in the tier decides
// about: passing it on is what happens anyway.
func (b *build) withoutIdle(rules []ordered) []ordered {
	var list []ordered
	for i, r := range rules {
		decided := func(o ordered) bool { return o.rule.action != pass && b.c.overlap(r.worked, o.worked) }
		if r.rule.action != pass || slices.ContainsFunc(rules[i+1:], decided) {
			list = append(list, r)
		}
	}
	return list
}

// pair are the ids of what two rules come to.
type pair [2]uint64

// overlap says whether two rules match something in common.
func (c *Compiler) overlap(a, b *worked) bool {
	key := pair{a.id, b.id}
	is, known := c.overlaps[key]
	if !known {
		is = overlap(a.terms, b.terms)
		c.overlaps[key] = is
	}
	return is
}

// inForce replaces the rules of policies that are too large by those of broken ones.
func (b *build) inForce(uses []use) []use {
	if len(b.tooLarge) == 0 {
		return uses
	}
	var list []use
	var shut *Object
	for _, u := range uses {
		switch {
		case u.object == shut:
		case b.tooLarge[*u.object] == nil:
			list = append(list, u)
		case u.rule.action != accept:
			shut = u.object
			r := closed(u.rule.direction, u.rule.index, u.rule.name)
			list = append(list, use{object: u.object, policy: u.policy, tier: u.tier, rule: r, key: r.key})
		}
	}
	return list
}

// draft adds the ACL of a key to a pod's list, from an earlier round if there is one. Only
// else its clauses are asked for, and one that is too large is not written.
func (b *build) draft(l *localPod, d Direction, first ordered, key []byte, tail string, clauses func() []clause) {
	k := b.c.drafts[string(key)]
	if k == nil {
		list := clauses()
		k = &kept{}
		for _, c := range list {
			k.size += size(c.terms)
		}
		if k.size <= b.c.options.RulesPerACL {
			b.c.facts.work.ACLs++
			k.compiled = draftACL(d, first, tail, list)
		}
		b.c.drafts[string(key)] = k
	}
	k.used = b.c.round
	b.add(l, d, *first.object, k.size, func() *compiled { return k.compiled })
}

func draftACL(d Direction, first ordered, tail string, list []clause) *compiled {
	a := draft{direction: d, object: *first.object}
	for _, c := range list {
		a.add(c.origin, c.do, c.terms)
	}
	return a.name(first.tier, fmt.Sprintf("%s/%d%s", d, first.rule.index, tail))
}

// tierACL writes consecutive rules of one policy, none of which passes.
func (b *build) tierACL(l *localPod, d Direction, rules []ordered) {
	b.key = append(b.key[:0], 't')
	for _, r := range rules {
		b.key = r.appendKey(b.key)
	}
	b.draft(l, d, rules[0], b.key, "", func() (list []clause) {
		for _, r := range rules {
			do := dataplane.PermitReflect
			if r.rule.action == deny {
				do = dataplane.Deny
			}
			list = append(list, clause{do, r.worked.terms, r.origin()})
		}
		return list
	})
}

// outcome is what tiers say about a packet: the first clause that matches it, or else the
// end.
type outcome struct {
	key     []byte // equal keys say the same
	clauses []clause
	end     clause // without terms
}

// clause is one decision and what it is about.
type clause struct {
	do     dataplane.Action
	terms  []term
	origin Origin
}

// passACL writes what the tiers behind say about the packets of a rule that passes.
func (b *build) passACL(l *localPod, d Direction, p ordered, behind outcome) {
	key := append(p.appendKey([]byte{'p'}), behind.key...)
	b.draft(l, d, p, key, "/pass", func() (list []clause) {
		for _, c := range behind.clauses {
			c.terms = meetAll(c.terms, p.worked.terms)
			list = append(list, c)
		}
		end := behind.end
		end.terms = p.worked.terms
		list = append(list, end)
		for i := range list {
			list[i].origin.Via = p.origin().String()
		}
		return list
	})
}

func meetAll(a, b []term) (both []term) {
	for _, t := range a {
		for _, u := range b {
			if m, ok := meet(t, u); ok {
				both = append(both, m)
			}
		}
	}
	return both
}

// behindAdmin is what NetworkPolicies, or else the Baseline tier, say.
func (b *build) behindAdmin(l *localPod, d Direction) outcome {
	if !l.isolated[d] {
		out := toAll()
		for _, u := range b.inForce(l.baseline[d]) {
			do := dataplane.PermitReflect // passing on leads there, too
			if u.rule.action == deny {
				do = dataplane.Deny
			}
			out.add(do, ordered{u, b.c.work(u)})
		}
		return out
	}
	out := outcome{key: []byte{'d'}, end: clause{do: dataplane.Deny, origin: Origin{Rule: -1}}}
	if p := l.isolatedBy(d); p != nil {
		out.key = binary.AppendUvarint(out.key, p.id)
		out.end.origin.Object = p.object
	}
	for _, a := range b.allowed(l, d) {
		out.add(dataplane.PermitReflect, a)
	}
	return out
}

// toAll is what is said where no policy decides.
func toAll() outcome {
	return outcome{key: []byte{'a'}, end: clause{do: dataplane.PermitReflect, origin: Origin{Rule: -1}}}
}

func (o *outcome) add(do dataplane.Action, r ordered) {
	o.key = r.appendKey(o.key)
	o.clauses = append(o.clauses, clause{do, r.worked.terms, r.origin()})
}

// allowed are the rules of the NetworkPolicies of a pod; of those that say the same, one.
func (b *build) allowed(l *localPod, d Direction) []ordered {
	b.c.ids++
	mark := b.c.ids
	list := make([]ordered, 0, len(l.allows[d]))
	for _, u := range l.allows[d] {
		if len(b.tooLarge) > 0 && b.tooLarge[*u.object] != nil {
			continue
		}
		if w := b.c.work(u); w.list != mark {
			w.list = mark
			list = append(list, ordered{u, w})
		}
	}
	return list
}
