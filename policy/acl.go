package policy

import (
	"fmt"
	"maps"
	"slices"

	"github.com/millrace/millrace/dataplane"
)

// compiled is an ACL and where its rules come from. It is never changed.
type compiled struct {
	acl     dataplane.ACL
	object  Object // whose rules they are; none where they are of several
	origins []Origin
}

// worked is what a rule matches, worked out to terms. All rules that match the same share
// it. When the terms change it is another one, with another id.
type worked struct {
	id    uint64 // never used twice
	terms []term
	size  int // rules that the terms come to
	on    []dated
	round uint64           // of the facts that the terms follow from
	used  uint64           // the round in which it was last needed
	list  uint64           // the list that it was last put in
	rules []dataplane.Rule // that allow it, once asked for
}

// dated is what terms follow from: it knows when it last changed.
type dated interface {
	when() uint64
	keep(round uint64) // it is still needed
}

func (s *podSet) when() uint64        { return s.changed }
func (s *podSet) keep(round uint64)   { s.used = round }
func (s *namedSet) when() uint64      { return s.changed }
func (s *namedSet) keep(round uint64) { s.used = round }
func (s *nodeSet) when() uint64       { return s.changed }
func (s *nodeSet) keep(round uint64)  { s.used = round }

// work returns the terms of a rule, from the last time where nothing changed since.
func (c *Compiler) work(u use) *worked {
	w := c.worked[u.key]
	if w != nil && w.used == c.round {
		return w
	}
	if w == nil || slices.ContainsFunc(w.on, func(d dated) bool { return d.when() > w.round }) {
		c.facts.work.Terms++
		c.ids++
		w = &worked{id: c.ids, round: c.round}
		c.workOut(w, u)
		if c.options.SCTPPortsUnseen {
			w.terms = u.rule.unseen(w.terms)
		}
		w.size = size(w.terms)
		c.worked[u.key] = w
	}
	w.used = c.round
	for _, d := range w.on {
		d.keep(c.round)
	}
	return w
}

func (c *Compiler) workOut(w *worked, u use) {
	r := u.rule
	who := r.who.blocks
	if r.who.everyone {
		who = everyone()
	}
	for _, s := range r.who.pods {
		set := c.set(s)
		w.on, who = append(w.on, set), union(who, set.cover())
	}
	for _, s := range r.who.nodes {
		set := c.nodeSet(s)
		w.on, who = append(w.on, set), union(who, set.cover)
	}
	spans := r.spans
	if len(u.own) > 0 {
		spans = mergeSpans(slices.Concat(spans, u.own))
	}
	if len(who) > 0 && len(spans) > 0 {
		w.terms = append(w.terms, term{who, spans})
	}
	if r.direction == Egress {
		c.workOutNames(w, r, who)
	}
}

// workOutNames adds the terms of named ports in egress rules: each peer has numbers of its
// own.
func (c *Compiler) workOutNames(w *worked, r *rule, who cover) {
	by := map[span]cover{}
	for _, name := range r.names {
		set := c.namedSet(name)
		w.on = append(w.on, set)
		for s, members := range set.by {
			if !spansHold(r.spans, s) {
				by[s] = union(by[s], intersect(members.cover(), who))
			}
		}
	}
	maps.DeleteFunc(by, func(_ span, who cover) bool { return len(who) == 0 })
	first := len(w.terms)
	for _, s := range slices.SortedFunc(maps.Keys(by), compareSpans) {
		i := slices.IndexFunc(w.terms[first:], func(t term) bool { return slices.Equal(t.who, by[s]) })
		if i < 0 {
			w.terms = append(w.terms, term{by[s], []span{s}})
			continue
		}
		t := &w.terms[first+i]
		t.spans = mergeSpans(append(t.spans, s))
	}
}

// aloneKey is a rule of a NetworkPolicy and what it comes to.
type aloneKey struct {
	rule *rule
	id   uint64
}

// alone is a rule of a NetworkPolicy as an ACL.
func (c *Compiler) aloneACL(u use, w *worked) *compiled {
	key := aloneKey{u.rule, w.id}
	k := c.alone[key]
	if k == nil {
		c.facts.work.ACLs++
		d := u.rule.direction
		if w.rules == nil {
			w.rules = render(nil, d, dataplane.PermitReflect, w.terms)
		}
		tail := fmt.Sprintf("%s/%d", d, u.rule.index)
		k = &kept{size: w.size, compiled: &compiled{
			acl:     dataplane.ACL{Name: aclName(u.tier, tail, hashText(u.tier, tail, u.key)), Rules: w.rules},
			object:  *u.object,
			origins: []Origin{{Object: *u.object, Direction: d, Rule: u.rule.index, Rules: w.size}},
		}}
		c.alone[key] = k
	}
	k.used = c.round
	return k.compiled
}

// kept is an ACL from an earlier round.
type kept struct {
	*compiled     // nil where it is too large
	size      int // in rules
	used      uint64
}

// draft is an ACL whose order counts, while it is written.
type draft struct {
	direction Direction
	object    Object
	rules     []dataplane.Rule
	origins   []Origin
}

func (a *draft) add(o Origin, do dataplane.Action, terms []term) {
	before := len(a.rules)
	a.rules = render(a.rules, a.direction, do, terms)
	if o.Rules = len(a.rules) - before; o.Rules > 0 {
		o.Direction = a.direction
		a.origins = append(a.origins, o)
	}
}

// name makes the ACL, named by its content and by whom it is from.
func (a *draft) name(head, tail string) *compiled {
	identity := head + "/" + tail
	for _, o := range a.origins {
		identity += fmt.Sprintf(" %d by %s", o.Rules, o)
	}
	name := aclName(head, tail, hashRules(identity, a.rules))
	return &compiled{acl: dataplane.ACL{Name: name, Rules: a.rules}, object: a.object, origins: a.origins}
}

// sweepWorked forgets what no list needs any more.
func (c *Compiler) sweepWorked() {
	maps.DeleteFunc(c.worked, func(_ string, w *worked) bool { return w.used != c.round })
	maps.DeleteFunc(c.alone, func(_ aloneKey, k *kept) bool { return k.used != c.round })
	maps.DeleteFunc(c.drafts, func(_ string, k *kept) bool { return k.used != c.round })
	if most := 1 << 16; len(c.overlaps) > most {
		clear(c.overlaps) // most are of ids that are gone
	}
}
