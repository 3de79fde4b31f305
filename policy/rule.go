package policy

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/labels"

	"github.com/millrace/millrace/dataplane"
)

// Direction is that of packets, seen from the pod that a policy selects.
type Direction uint8

const (
	Ingress Direction = iota // to the pod: the Output list of its interface
	Egress                   // from the pod: the Input list of its interface
)

func (d Direction) String() string {
	if d == Ingress {
		return "ingress"
	}
	return "egress"
}

// action is what a rule does with what it matches.
type action uint8

const (
	accept action = iota
	deny
	pass
)

// rule is one rule of a policy, read and checked. It is never changed.
type rule struct {
	direction Direction
	index     int    // in the object; -1 = no rule of it
	name      string // if it has one
	action    action
	who       peers
	spans     []span     // by number
	names     []portName // by name
	key       string     // its meaning as text, but for the action
	sctpOnly  bool       // of its ports those of SCTP alone are meant
}

// peers are the union of what a rule's peers name.
type peers struct {
	everyone bool
	blocks   cover
	pods     []podSelector
	nodes    []nodeSelector
}

// nodeSelector says which nodes are meant.
type nodeSelector struct {
	key   string
	nodes labels.Selector
}

func (s nodeSelector) String() string { return fmt.Sprintf("nodes(%q)", s.key) }

// finish puts a rule that was read into the form in which rules are compared.
func (r *rule) finish() {
	r.who.blocks = minimise(r.who.blocks)
	slices.SortFunc(r.who.pods, func(a, b podSelector) int { return strings.Compare(a.String(), b.String()) })
	r.who.pods = slices.CompactFunc(r.who.pods, func(a, b podSelector) bool { return a.key == b.key })
	slices.SortFunc(r.who.nodes, func(a, b nodeSelector) int { return strings.Compare(a.key, b.key) })
	r.who.nodes = slices.CompactFunc(r.who.nodes, func(a, b nodeSelector) bool { return a.key == b.key })
	r.spans = mergeSpans(r.spans)
	slices.SortFunc(r.names, func(a, b portName) int {
		return cmp.Or(strings.Compare(a.name, b.name), cmp.Compare(a.protocol, b.protocol))
	})
	r.names = slices.Compact(r.names)
	r.key = fmt.Sprintf("%s from %t %s%s%sports %s%s", r.direction, r.who.everyone, text(r.who.blocks), text(r.who.pods), text(r.who.nodes), text(r.spans), text(r.names))
}

// volatile says whether facts change what the rule comes to.
func (r *rule) volatile() bool {
	return len(r.who.pods)+len(r.who.nodes) > 0 || len(r.names) > 0 && r.direction == Egress
}

// closed is the rule of a policy that cannot be understood: it denies everything.
func closed(d Direction, index int, name string) *rule {
	r := &rule{direction: d, index: index, name: name, action: deny, who: peers{everyone: true}, spans: everything()}
	r.finish()
	return r
}

// term is a product: each of its peers with each of its spans.
type term struct {
	who   cover
	spans []span
}

func size(terms []term) (n int) {
	for _, t := range terms {
		n += len(t.who) * len(t.spans)
	}
	return n
}

// meet is the term of what both match.
func meet(a, b term) (t term, some bool) {
	if t.spans = intersectSpans(a.spans, b.spans); len(t.spans) > 0 {
		t.who = intersect(a.who, b.who)
	}
	return t, len(t.who) > 0
}

// overlap says whether something matches some of both.
func overlap(a, b []term) bool {
	return slices.ContainsFunc(a, func(t term) bool {
		return slices.ContainsFunc(b, func(u term) bool {
			return len(intersectSpans(t.spans, u.spans)) > 0 && t.who.overlaps(u.who)
		})
	})
}

// render appends the rules of terms. The pod's own address is left out: the interface
// implies it, and so all pods share the rules.
func render(rules []dataplane.Rule, d Direction, do dataplane.Action, terms []term) []dataplane.Rule {
	rules = slices.Grow(rules, size(terms))
	for _, t := range terms {
		for _, p := range t.who {
			for _, s := range t.spans {
				r := dataplane.Rule{Action: do, Src: p, Dst: anyOf(p), Protocol: s.protocol, SrcPorts: dataplane.AnyPorts(), DstPorts: s.ports}
				if d == Egress {
					r.Src, r.Dst = r.Dst, r.Src
				}
				rules = append(rules, r)
			}
		}
	}
	return rules
}

// anyOf is all addresses of a prefix's family.
func anyOf(p netip.Prefix) netip.Prefix {
	if p.Addr().Is4() {
		return netip.PrefixFrom(netip.IPv4Unspecified(), 0)
	}
	return netip.PrefixFrom(netip.IPv6Unspecified(), 0)
}
