package policy

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/millrace/millrace/dataplane"
)

// Bound compares the ACLs of NetworkPolicies with the argument in the package's
// documentation: how many rules they have, and how many any ACLs that allow exactly the
// same would have at least.
//
// Where a rule comes to one product, both are equal. In general the bound counts points of
// which no two fit into one allowed rule: for each range of ports in rising order, one in
// each largest prefix that is not allowed in the ports just below.
func (r Result) Bound() (rules, least int) {
	for _, a := range r.ACLs {
		if strings.HasPrefix(a.Name, "policy/") {
			rules += len(a.Rules)
			least += leastRules(a.Rules)
		}
	}
	return rules, least
}

func leastRules(rules []dataplane.Rule) (n int) {
	borders := map[uint8][]int{}
	for _, r := range rules {
		borders[r.Protocol] = append(borders[r.Protocol], int(r.DstPorts.First), int(r.DstPorts.Last)+1)
	}
	for protocol, list := range borders {
		slices.Sort(list)
		var below cover
		for _, port := range slices.Compact(list) {
			now := peersAt(rules, protocol, port)
			for _, p := range now {
				if in := intersect(cover{p}, below); !slices.Equal(in, cover{p}) {
					n++
				}
			}
			below = now
		}
	}
	return n
}

// peersAt are the peers that rules allow at a port.
func peersAt(rules []dataplane.Rule, protocol uint8, port int) cover {
	var list []netip.Prefix
	for _, r := range rules {
		if r.Protocol == protocol && int(r.DstPorts.First) <= port && port <= int(r.DstPorts.Last) {
			peer := r.Src
			if peer.Bits() == 0 {
				peer = r.Dst // the other side is any
			}
			list = append(list, peer)
		}
	}
	return minimise(list)
}
