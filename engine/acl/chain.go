package acl

// Verdict is the first rule that matched a key, and its action.
type Verdict struct {
	List   int32 // its list's place in the Chain, from 0; -1 = no rule matched
	Rule   int32 // its number in that list, from 0; -1 = no rule matched
	Action Action
}

// NoMatch is the Verdict where no rule matches: what no rule permits is denied.
func NoMatch() Verdict { return Verdict{List: -1, Rule: -1, Action: Deny} }

// Chain is the concatenation of Lists for one interface and direction.
type Chain struct {
	lists []*List
}

// Join returns the concatenation of lists, which may hold one List several times. It costs
// no more than the slice of them.
func Join(lists ...*List) *Chain { return &Chain{lists: append([]*List(nil), lists...)} }

// Len is the number of lists. VPP applies no ACL at all where it is 0, whereas Match then
// denies: the caller does not ask.
func (c *Chain) Len() int { return len(c.lists) }

// Lists are the lists in order. The caller leaves them as they are.
func (c *Chain) Lists() []*List { return c.lists }

// Match returns the verdict of the first rule that matches k.
func (c *Chain) Match(k *Key) Verdict {
	var p point
	p.set(k)
	for i, l := range c.lists {
		if r := l.match(k, &p); r != none {
			return l.verdict(i, r)
		}
	}
	return NoMatch()
}

// verdict is that of rule r, in list place of a chain.
func (l *List) verdict(place int, r uint32) Verdict {
	action := l.action
	if l.mixed {
		action = l.rules[r].action
	}
	return Verdict{List: int32(place), Rule: int32(r), Action: action}
}
