package policy

import (
	"fmt"
	"strings"

	"github.com/millrace/millrace/dataplane"
)

// kept is a draft's ACL from an earlier round.
type kept struct {
	*compiled
	used uint64
}

// ordered is a rule of a ClusterNetworkPolicy for one pod.
type ordered struct {
	policy *clusterPolicy
	worked *worked
}

func (o ordered) action() action { return o.worked.rule.action }

func (o ordered) origin() Origin {
	return Origin{Object: o.policy.object, Direction: o.worked.rule.direction, Rule: o.worked.rule.index}
}

// tier writes the ACLs of a tier for one pod: one per policy, and one more per rule that
// passes over others of its tier. behind is what the tiers behind say.
func (b *build) tier(l *localPod, d Direction, list []*clusterPolicy, behind func() outcome) {
	var rules []ordered
	for _, p := range list {
		for _, r := range b.rulesOf(p, d) {
			rules = append(rules, ordered{p, b.c.work(r, l.own(r))})
		}
	}
	last := 0 // the first rule behind which no rule decides
	for i, r := range rules {
		if r.action() != pass {
			last = i + 1
		}
	}
	rules = rules[:last] // passing at the end of a tier is what happens anyway
	for len(rules) > 0 {
		n := 1
		if rules[0].action() == pass {
			b.passACL(l, d, rules[0], behind())
		} else {
			for n < len(rules) && rules[n].policy == rules[0].policy && rules[n].action() != pass {
				n++
			}
			b.tierACL(l, d, rules[:n])
		}
		rules = rules[n:]
	}
}

// rulesOf are the rules of a policy, closed ones if it is too large.
func (b *build) rulesOf(p *clusterPolicy, d Direction) []*rule {
	if b.tooLarge[p.object] == nil {
		return p.rules[d]
	}
	var list []*rule
	for _, r := range p.rules[d] {
		if r.action != accept {
			return append(list, b.c.closedRule(d, r.index))
		}
	}
	return list
}

// closedRule is always the same pointer for the same rule.
func (c *Compiler) closedRule(d Direction, index int) *rule {
	key := [2]int{int(d), index}
	if c.closed[key] == nil {
		c.closed[key] = closed(d, index)
	}
	return c.closed[key]
}

func head(p *clusterPolicy) string {
	if p.baseline {
		return "baseline/" + p.object.Name
	}
	return "admin/" + p.object.Name
}

// draft adds the ACL of a key to a pod's list, from an earlier round if there is one.
func (b *build) draft(l *localPod, d Direction, o Object, key string, size int, write func() *compiled) {
	b.add(l, d, o, size, func() *compiled {
		k := b.c.drafts[key]
		if k == nil {
			b.c.facts.work.ACLs++
			k = &kept{compiled: write()}
			b.c.drafts[key] = k
		}
		k.used = b.c.round
		return k.compiled
	})
}

// tierACL writes consecutive rules of one policy, none of which passes.
func (b *build) tierACL(l *localPod, d Direction, rules []ordered) {
	var key strings.Builder
	key.WriteString(head(rules[0].policy))
	n := 0
	for _, r := range rules {
		fmt.Fprintf(&key, " %d", r.worked.id)
		n += size(r.worked.terms)
	}
	b.draft(l, d, rules[0].policy.object, key.String(), n, func() *compiled {
		a := draft{direction: d}
		for _, r := range rules {
			do := dataplane.PermitReflect
			if r.action() == deny {
				do = dataplane.Deny
			}
			a.add(r.origin(), do, r.worked.terms)
		}
		return a.name(head(rules[0].policy), fmt.Sprintf("%s/%d", d, rules[0].worked.rule.index))
	})
}

// outcome is what tiers say about a packet: the first clause that matches it, or else the
// end.
type outcome struct {
	key     string
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
	var list []clause
	n := 0
	for _, c := range behind.clauses {
		var both []term
		for _, t := range c.terms {
			for _, q := range p.worked.terms {
				if m, ok := meet(t, q); ok {
					both = append(both, m)
				}
			}
		}
		list = append(list, clause{c.do, both, c.origin})
		n += size(both)
	}
	end := behind.end
	end.terms = p.worked.terms
	list, n = append(list, end), n+size(end.terms)
	b.draft(l, d, p.policy.object, fmt.Sprintf("%s %d passes to %s", head(p.policy), p.worked.id, behind.key), n, func() *compiled {
		a := draft{direction: d}
		for _, c := range list {
			c.origin.Via = p.origin().String()
			a.add(c.origin, c.do, c.terms)
		}
		return a.name(head(p.policy), fmt.Sprintf("%s/%d/pass", d, p.worked.rule.index))
	})
}
