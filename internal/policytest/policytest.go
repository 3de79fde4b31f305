// Package policytest owns random clusters for tests of policies: small name spaces, so that
// selectors, ports and blocks meet, with all that the API allows and some that it does not;
// connections that look for the borders; the shrinking of a case that fails; and a large
// cluster to measure with.
//
// Everything follows from a seed. The package judges nothing: what is right is for the
// tests that use it.
package policytest

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"

	"github.com/millrace/millrace/cluster"
	"github.com/millrace/millrace/policy/oracle"
)

// Node is the node whose pods have attachments.
const Node = "n1"

// Case is a cluster, as a node sees it, and connections in it.
type Case struct {
	Snapshot cluster.Snapshot
	Flows    []oracle.Flow
}

// String is the case as a person or ParseSnapshot reads it.
func (c Case) String() string {
	var b strings.Builder
	b.WriteString(c.Snapshot.String())
	for _, f := range c.Flows {
		fmt.Fprintf(&b, "# flow %s\n", f)
	}
	return b.String()
}

// Random is the case of a seed, with so many connections.
func Random(seed uint64, flows int) Case {
	g := gen{rand.New(rand.NewPCG(seed, 4))}
	c := Case{Snapshot: g.cluster()}
	ends := g.ends(c.Snapshot)
	for range flows {
		c.Flows = append(c.Flows, g.flow(ends))
	}
	return c
}

// gen draws.
type gen struct{ *rand.Rand }

// one in n.
func (g gen) one(n int) bool { return g.IntN(n) == 0 }

func pick[T any](g gen, from ...T) T { return from[g.IntN(len(from))] }

// some draws 0 to most values, few more often than many.
func some[T any](g gen, most int, draw func() T) []T {
	var list []T
	for range min(g.IntN(most+1), g.IntN(most+1)+1) {
		list = append(list, draw())
	}
	return list
}

// ends are the addresses that connections have at their ends, pods more often than nodes
// and what lies inside and outside the blocks that policies name.
func (g gen) ends(s cluster.Snapshot) (list []netip.Addr) {
	for _, p := range s.Pods {
		list = append(list, p.Addresses...)
	}
	for _, a := range s.Attachments {
		list = slices.AppendSeq(list, a.AllAddresses())
	}
	list = slices.Concat(list, list, list)
	for _, n := range s.Nodes {
		list = append(list, n.Addresses...)
	}
	for _, text := range []string{"10.0.0.15", "10.0.1.1", "198.51.100.7", "fd00::f", "2001:db8:f::7"} {
		list = append(list, netip.MustParseAddr(text))
	}
	slices.SortFunc(list, netip.Addr.Compare)
	return list
}

func (g gen) flow(ends []netip.Addr) oracle.Flow {
	f := oracle.Flow{From: pick(g, ends...)}
	for f.To = pick(g, ends...); f.To.Is4() != f.From.Is4() || f.To == f.From && !g.one(20); {
		f.From, f.To = pick(g, ends...), pick(g, ends...)
	}
	f.Protocol = pick[uint8](g, oracle.TCP, oracle.TCP, oracle.TCP, oracle.UDP, oracle.UDP, oracle.SCTP, oracle.ICMP, 47)
	switch f.Protocol {
	case oracle.ICMP:
		if f.Type = pick[uint8](g, 0, 3, 5, 8, 8, 11, 12, 13); f.From.Is6() {
			f.Protocol, f.Type = oracle.ICMPv6, pick[uint8](g, 1, 2, 3, 4, 5, 128, 128, 129, 133, 135, 137, 138)
		}
	case 47:
	default:
		f.Port = uint16(pick(g, 1, 2, 3, 4, 5, 6, 7, 8, 9, 65535))
	}
	return f
}
