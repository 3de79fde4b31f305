package acl

import (
	"fmt"
	"math"
	"net/netip"
	"reflect"
)

// MaxRules is the largest number of rules in a List.
const MaxRules = 1 << 22

// none is the number of no rule, above those of all rules.
const none = uint32(math.MaxUint32)

// List is one compiled access list. It is immutable, and its slices hold no pointers, so
// that the garbage collector never scans them.
type List struct {
	rules    []rule
	src, dst classes
	looks    looks
	tree
	gate4, gate6 gate

	action Action // of all rules, unless they are mixed
	mixed  bool
}

// rule is a Rule with its prefixes as classes: a box in a space of small numbers.
type rule struct {
	src, srcLast uint32 // the class of Src, and the last class in it
	dst, dstLast uint32
	sport, dport Ports
	protocol     uint8
	action       Action
	mask, value  uint8 // of TCP flags
}

// New compiles rules, which it copies. The error for a rule is a *RuleError. A list
// without rules is fine and matches nothing.
func New(rules []Rule) (*List, error) {
	if len(rules) > MaxRules {
		return nil, fmt.Errorf("compile acl: %d rules, at most %d are possible", len(rules), MaxRules)
	}
	for i := range rules {
		if err := rules[i].check(i); err != nil {
			return nil, err
		}
	}
	l := &List{rules: make([]rule, len(rules))}
	var srcLast, dstLast ranges
	nums := make([]uint32, 2*len(rules))
	srcs, dsts := nums[:len(rules)], nums[len(rules):]
	l.src, srcLast = classify(len(rules), func(i int) netip.Prefix { return rules[i].Src }, srcs)
	l.dst, dstLast = classify(len(rules), func(i int) netip.Prefix { return rules[i].Dst }, dsts)
	for i := range rules {
		r := &rules[i]
		l.action, l.mixed = r.Action, l.mixed || r.Action != rules[0].Action
		l.rules[i] = rule{
			src: srcs[i], srcLast: srcLast[srcs[i]], dst: dsts[i], dstLast: dstLast[dsts[i]],
			sport: r.SrcPorts, dport: r.DstPorts,
			protocol: r.Protocol, action: r.Action, mask: r.TCPMask, value: r.TCPValue,
		}
	}
	var lookOf []uint8
	l.looks, lookOf = newLooks(l.rules)
	l.grow(rules, lookOf)
	return l, nil
}

// Len is the number of rules.
func (l *List) Len() int { return len(l.rules) }

// Rules returns the rules that New was given.
func (l *List) Rules() []Rule {
	out := make([]Rule, len(l.rules))
	for i := range out {
		out[i] = l.Rule(i)
	}
	return out
}

// Rule returns rule i.
func (l *List) Rule(i int) Rule {
	r := &l.rules[i]
	return Rule{
		Action: r.action, Src: l.src.prefix(r.src), Dst: l.dst.prefix(r.dst), Protocol: r.protocol,
		SrcPorts: r.sport, DstPorts: r.dport, TCPMask: r.mask, TCPValue: r.value,
	}
}

// Bytes is the memory that l takes.
func (l *List) Bytes() int {
	return size(l.rules) + l.src.bytes() + l.dst.bytes() + size(l.nodes) + size(l.words) +
		size(l.looks.starts) + size(l.looks.bits) + size(l.looks.flagged)
}

func (s *classes) bytes() int {
	return size(s.four) + size(s.six) + size(s.lpm4.levels) + size(s.lpm4.slots) + size(s.lpm4.steps.nodes) + size(s.lpm4.steps.words) +
		size(s.lpm6.levels) + size(s.lpm6.slots)
}

func size[T any](s []T) int { return cap(s) * int(reflect.TypeFor[T]().Size()) }
