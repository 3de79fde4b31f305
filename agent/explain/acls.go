package explain

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/millrace/millrace/dataplane"
)

// ACLs is a table of what the machine has: each ACL with its number, its rules and what
// they matched, then the ACLs of each interface in order.
func (m Machine) ACLs() string {
	var b strings.Builder
	inOrder := slices.SortedFunc(maps.Keys(m.Indexes), func(a, b string) int { return cmp.Compare(m.Indexes[a], m.Indexes[b]) })
	for _, name := range inOrder {
		o, ok := m.State.Object(dataplane.Key{Kind: dataplane.KindACL, Name: name})
		if !ok {
			continue
		}
		rules := o.(dataplane.ACL).Rules
		fmt.Fprintf(&b, "acl %d %s (%d rules)\n", m.Indexes[name], name, len(rules))
		for i, r := range rules {
			fmt.Fprintf(&b, "  %4d  %-64s  %s\n", i, r, m.matched(name, i))
		}
	}
	for o := range m.State.All() {
		binding, ok := o.(dataplane.ACLBinding)
		if !ok {
			continue
		}
		fmt.Fprintf(&b, "interface %s\n", binding.Interface)
		m.list(&b, "input", binding.Input)
		m.list(&b, "output", binding.Output)
	}
	return b.String()
}

// matched is the count of a rule, as far as the machine counts.
func (m Machine) matched(acl string, rule int) string {
	counts := m.Matches[acl]
	if rule >= len(counts) {
		return "-"
	}
	return fmt.Sprintf("%d packets", counts[rule])
}

func (m Machine) list(b *strings.Builder, direction string, names []string) {
	for _, name := range names {
		fmt.Fprintf(b, "  %-6s  %d %s\n", direction, m.Indexes[name], name)
	}
	if len(names) == 0 {
		fmt.Fprintf(b, "  %-6s  not filtered\n", direction)
	}
}
