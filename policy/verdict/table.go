package verdict

import (
	"net/netip"
	"slices"

	"github.com/millrace/millrace/dataplane"
)

// table is an ACL whose rules are found by their longer prefix: most rules name few
// addresses on one side and all on the other.
type table struct {
	name     string
	rules    []dataplane.Rule
	src, dst side
}

// side holds the numbers of rules by the prefix on that side, in order.
type side struct {
	rules   map[netip.Prefix][]int
	lengths [2][]int // of prefixes that are there, of IPv4 and IPv6
}

func newTable(a dataplane.ACL) *table {
	t := &table{name: a.Name, rules: a.Rules, src: side{rules: map[netip.Prefix][]int{}}, dst: side{rules: map[netip.Prefix][]int{}}}
	for i, r := range a.Rules {
		if r.Src.Bits() > r.Dst.Bits() {
			t.src.add(r.Src, i)
		} else {
			t.dst.add(r.Dst, i)
		}
	}
	return t
}

func (s *side) add(p netip.Prefix, rule int) {
	s.rules[p] = append(s.rules[p], rule)
	if f := family(p.Addr()); !slices.Contains(s.lengths[f], p.Bits()) {
		s.lengths[f] = append(s.lengths[f], p.Bits())
	}
}

func family(a netip.Addr) int {
	if a.Is4() {
		return 0
	}
	return 1
}

// first is the number of the first rule that matches, or -1.
func (t *table) first(p Packet) int {
	return t.better(&t.dst, p.Dst, p, t.better(&t.src, p.Src, p, -1))
}

// better looks for a rule on one side that comes before the one that is known.
func (t *table) better(s *side, a netip.Addr, p Packet, known int) int {
	for _, bits := range s.lengths[family(a)] {
		prefix, err := a.Prefix(bits)
		if err != nil {
			continue // no such length in the address's family
		}
		for _, i := range s.rules[prefix] {
			if known >= 0 && i >= known {
				break
			}
			if matches(t.rules[i], p) {
				known = i
				break
			}
		}
	}
	return known
}

// matches is the meaning of a rule.
func matches(r dataplane.Rule, p Packet) bool {
	return r.Src.Contains(p.Src) && r.Dst.Contains(p.Dst) &&
		(r.Protocol == 0 || r.Protocol == p.Protocol && in(r.SrcPorts, p.SrcPort) && in(r.DstPorts, p.DstPort))
}

func in(r dataplane.Ports, port uint16) bool { return r.First <= port && port <= r.Last }
