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
	origins []Origin
}

// worked is a rule worked out to terms, for pods whose own named ports are own. When the
// terms change it is another one, with another id.
type worked struct {
	id    uint64 // never used twice
	rule  *rule
	own   []span
	terms []term
	round uint64
	on    []dated // what the terms follow from
	used  uint64
	alone *compiled // as an ACL of its own, once asked for
}

// dated is something that knows when it last changed.
type dated interface{ when() uint64 }

func (s *podSet) when() uint64   { return s.changed }
func (s *namedSet) when() uint64 { return s.changed }
func (s *nodeSet) when() uint64  { return s.changed }

type workKey struct {
	rule *rule
	own  string
}

// work returns a rule's terms, from the last time where nothing changed since.
func (c *Compiler) work(r *rule, own []span) *worked {
	key := workKey{r, text(own)}
	w := c.worked[key]
	if w == nil || w.used != c.round && w.stale() {
		c.facts.work.Terms++
		c.ids++
		w = &worked{id: c.ids, rule: r, own: own, round: c.round}
		c.workOut(w)
		c.worked[key] = w
	} else if w.used != c.round {
		c.keep(w.on)
	}
	w.used = c.round
	return w
}

func (w *worked) stale() bool {
	return slices.ContainsFunc(w.on, func(d dated) bool { return d.when() > w.round })
}

// keep notes that sets are still needed.
func (c *Compiler) keep(on []dated) {
	for _, d := range on {
		switch s := d.(type) {
		case *podSet:
			s.used = c.round
		case *namedSet:
			s.used = c.round
		case *nodeSet:
			s.used = c.round
		}
	}
}

func (c *Compiler) workOut(w *worked) {
	r := w.rule
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
	if len(w.own) > 0 {
		spans = mergeSpans(slices.Concat(spans, w.own))
	}
	if len(who) > 0 && len(spans) > 0 {
		w.terms = append(w.terms, term{who, spans})
	}
	if r.direction == Egress {
		c.workOutNames(w, who)
	}
}

// workOutNames adds the terms of named ports in egress rules: each peer has numbers of its
// own.
func (c *Compiler) workOutNames(w *worked, who cover) {
	by := map[span]cover{}
	for _, name := range w.rule.names {
		set := c.namedSet(name)
		w.on = append(w.on, set)
		for s, members := range set.by {
			if !spansHold(w.rule.spans, s) {
				by[s] = union(by[s], intersect(members.cover(), who))
			}
		}
	}
	var list []span
	for s, who := range by {
		if len(who) > 0 {
			list = append(list, s)
		}
	}
	slices.SortFunc(list, compareSpans)
	first := len(w.terms)
	for _, s := range list {
		i := slices.IndexFunc(w.terms[first:], func(t term) bool { return slices.Equal(t.who, by[s]) })
		if i < 0 {
			w.terms = append(w.terms, term{by[s], []span{s}})
			continue
		}
		t := &w.terms[first+i]
		t.spans = mergeSpans(append(t.spans, s))
	}
}

// aloneACL is a rule of a NetworkPolicy as an ACL.
func (c *Compiler) aloneACL(o Object, w *worked) *compiled {
	if w.alone == nil {
		c.facts.work.ACLs++
		d := w.rule.direction
		tail := fmt.Sprintf("%s/%d", d, w.rule.index)
		id := hashText(o.String(), tail, w.rule.key, text(w.own))
		rules := render(nil, d, dataplane.PermitReflect, w.terms)
		w.alone = &compiled{
			acl:     dataplane.ACL{Name: aclName("policy/"+o.Namespace+"/"+o.Name, tail, id), Rules: rules},
			origins: []Origin{{Object: o, Direction: d, Rule: w.rule.index, Rules: len(rules)}},
		}
	}
	return w.alone
}

// draft is an ACL whose order counts, while it is written.
type draft struct {
	direction Direction
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
	id := hashRules(identity, a.rules)
	return &compiled{acl: dataplane.ACL{Name: aclName(head, tail, id), Rules: a.rules}, origins: a.origins}
}

// sweepWorked forgets what no list needs any more.
func (c *Compiler) sweepWorked() {
	maps.DeleteFunc(c.worked, func(_ workKey, w *worked) bool { return w.used != c.round })
	maps.DeleteFunc(c.drafts, func(_ string, d *kept) bool { return d.used != c.round })
}
