package policy

import (
	"encoding/binary"
	"fmt"

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
	return Origin{Object: *o.object, Direction: o.rule.direction, Rule: o.rule.index}
}

// tier writes the ACLs of a tier for one pod: one per policy, and one more per rule that
// passes over others of its tier. behind is what the tiers behind say.
func (b *build) tier(l *localPod, d Direction, uses []use, behind func() outcome) {
	var rules []ordered
	for _, u := range b.inForce(uses) {
		rules = append(rules, ordered{u, b.c.work(u)})
	}
	last := 0 // the first rule behind which no rule decides
	for i, r := range rules {
		if r.rule.action != pass {
			last = i + 1
		}
	}
	rules = rules[:last] // passing at the end of a tier is what happens anyway
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
			r := closed(u.rule.direction, u.rule.index)
			list = append(list, use{object: u.object, policy: u.policy, tier: u.tier, rule: r, key: r.key})
		}
	}
	return list
}

// draft adds the ACL of a key to a pod's list, from an earlier round if there is one.
func (b *build) draft(l *localPod, d Direction, o Object, key []byte, size int, write func() *compiled) {
	b.add(l, d, o, size, func() *compiled {
		k := b.c.drafts[string(key)]
		if k == nil {
			b.c.facts.work.ACLs++
			k = &kept{compiled: write()}
			b.c.drafts[string(key)] = k
		}
		k.used = b.c.round
		return k.compiled
	})
}

// tierACL writes consecutive rules of one policy, none of which passes.
func (b *build) tierACL(l *localPod, d Direction, rules []ordered) {
	first := rules[0]
	b.key = append(b.key[:0], 't')
	n := 0
	for _, r := range rules {
		b.key = r.appendKey(b.key)
		n += r.worked.size
	}
	b.draft(l, d, *first.object, b.key, n, func() *compiled {
		a := draft{direction: d, object: *first.object}
		for _, r := range rules {
			do := dataplane.PermitReflect
			if r.rule.action == deny {
				do = dataplane.Deny
			}
			a.add(r.origin(), do, r.worked.terms)
		}
		return a.name(first.tier, fmt.Sprintf("%s/%d", d, first.rule.index))
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
	end := behind.end
	end.terms = p.worked.terms
	list, n := []clause{}, p.worked.size
	for _, c := range behind.clauses {
		c.terms = meetAll(c.terms, p.worked.terms)
		list, n = append(list, c), n+size(c.terms)
	}
	list = append(list, end)
	key := append(p.appendKey([]byte{'p'}), behind.key...)
	b.draft(l, d, *p.object, key, n, func() *compiled {
		a := draft{direction: d, object: *p.object}
		for _, c := range list {
			c.origin.Via = p.origin().String()
			a.add(c.origin, c.do, c.terms)
		}
		return a.name(p.tier, fmt.Sprintf("%s/%d/pass", d, p.rule.index))
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
