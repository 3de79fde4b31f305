package policy

import (
	"net/netip"
	"slices"

	"github.com/millrace/millrace/cluster"
	"github.com/millrace/millrace/dataplane"
)

// always is what passes in both directions whatever policies say: ICMP errors, which also
// carry the path MTU (RFC 792, RFC 4443), and neighbour discovery (RFC 4861). It needs no
// session.
func always() []dataplane.Rule {
	types := func(p netip.Prefix, protocol uint8, first, last uint16) dataplane.Rule {
		return dataplane.Rule{
			Action: dataplane.Permit, Src: p, Dst: p, Protocol: protocol,
			SrcPorts: dataplane.Ports{First: first, Last: last}, DstPorts: dataplane.AnyPorts(),
		}
	}
	all := everyone()
	return []dataplane.Rule{
		types(all[0], icmp, 3, 3), types(all[0], icmp, 11, 12),
		types(all[1], icmpv6, 1, 4), types(all[1], icmpv6, 133, 137),
	}
}

// baseACLs are the ACLs that are the same for all pods. A node reaches the pods on it.
func baseACLs(n cluster.Node) []compiled {
	var list []netip.Prefix
	for _, a := range n.Addresses {
		list = append(list, single(a))
	}
	node := []term{{minimise(list), everything()}}
	all := []term{{everyone(), everything()}}
	return []compiled{
		base(baseInput, always()),
		base(baseOutput, render(always(), Ingress, dataplane.PermitReflect, node)),
		base(baseAll, render(nil, Ingress, dataplane.PermitReflect, all)),
	}
}

func base(name string, rules []dataplane.Rule) compiled {
	return compiled{acl: dataplane.ACL{Name: name, Rules: slices.Clip(rules)}, origins: []Origin{{Rule: -1, Rules: len(rules)}}}
}
