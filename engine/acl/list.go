package acl

import (
	"fmt"
	"math"
)

// MaxRules is the largest number of rules in a List.
const MaxRules = 1 << 24

// none is the number of no rule, above those of all rules.
const none = uint32(math.MaxUint32)

// List is one compiled access list. It is immutable.
type List struct {
	rules []Rule
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
	return &List{rules: append([]Rule(nil), rules...)}, nil
}

// Len is the number of rules.
func (l *List) Len() int { return len(l.rules) }

// Rules returns the rules that New was given.
func (l *List) Rules() []Rule { return append([]Rule(nil), l.rules...) }

// Rule returns rule i.
func (l *List) Rule(i int) Rule { return l.rules[i] }

// match returns the number of the first rule that matches k, or none.
func (l *List) match(k *Key) uint32 {
	for i := range l.rules {
		if l.rules[i].matches(k) {
			return uint32(i)
		}
	}
	return none
}
