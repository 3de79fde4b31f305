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

// base is the ACLs that are the same for all pods.
type base struct{ input, output, all compiled }

// newBase lets a node reach the pods on it.
func newBase(n cluster.Node) base {
	var list []netip.Prefix
	for _, a := range n.Addresses {
		list = append(list, single(a))
	}
	node := []term{{minimise(list), everything()}}
	all := []term{{everyone(), everything()}}
	return base{
		input:  baseACL("base/in", always()),
		output: baseACL("base/out", render(always(), Ingress, dataplane.PermitReflect, node)),
		all:    baseACL("base/all", render(nil, Ingress, dataplane.PermitReflect, all)),
	}
}

func baseACL(name string, rules []dataplane.Rule) compiled {
	return compiled{acl: dataplane.ACL{Name: name, Rules: slices.Clip(rules)}, origins: []Origin{{Rule: -1, Rules: len(rules)}}}
}
