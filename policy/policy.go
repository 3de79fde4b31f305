// Package policy owns the way from Kubernetes policies to ACLs: for the pods of one node,
// what NetworkPolicies and ClusterNetworkPolicies come to, as lists of ACLs for their
// interfaces.
//
//	Snapshot ─► facts (pods by class, sets of addresses) ─┐
//	policies ─► rules, read and checked ──────────────────┴─► terms ─► ACLs ─► lists per pod
//
// What the policies mean stands in docs/policy.md; this page says how it is written.
//
// # Lists
//
// A list is read until the first match, and its end denies:
//
//	[base] [Admin tier, in order] [NetworkPolicies]              where one isolates the pod
//	[base] [Admin tier, in order] [Baseline tier, in order] [all] elsewhere
//
// base is what always passes. NetworkPolicies are an unordered union of what is allowed:
// one ACL per rule, shared by all pods it is about, since the pod's own address is implied
// by the interface; those that only change with their policy come first, since a machine
// works anew through what is behind a change. A ClusterNetworkPolicy is one ACL per
// direction. There is no jump in a list: where a rule that passes stands before others of
// its tier, what the tiers behind would say about its packets is written in its place.
//
// # Few rules
//
// A rule of an ACL is a product: one prefix of peers, one range of ports. Peers are worked
// out to a set of addresses, and the set to its cover, before they are multiplied with
// ports. The cover is exact: it holds no address that the policy does not, for an address
// that is nobody's today may be anybody's tomorrow. It is also the least: two prefixes
// either lie in each other or apart, so each address of the set lies in one largest prefix
// that the set fills. No allowed rule can reach beyond the largest prefix and the largest
// range around any point of it, so a product of m largest prefixes and n largest ranges
// needs m times n rules; it is written with as many. [Result.Bound] counts both.
//
// # Names and change
//
// The name of an ACL ends in a hash. For NetworkPolicies it is of what the rule says: other
// facts (a pod comes or goes) change the ACL in place, another rule makes another ACL, to
// which the interfaces are bound before the old one goes. For ACLs whose order counts the
// hash is of their content, so that they are never changed in place.
//
// The package never sees a machine and keeps no state but that of a [Compiler], whose
// results depend on the facts alone, never on the way to them.
package policy

import (
	"fmt"

	"github.com/millrace/millrace/cluster"
	"github.com/millrace/millrace/dataplane"
)

// Options bound what a node's policies may cost.
type Options struct {
	// AppliedRules is the most rules, counted once per interface and direction that they
	// are applied to; VPP needs up to 220 bytes for each. 0 = 2 million.
	AppliedRules int
	// RulesPerACL is the most rules of one ACL. 0 = 100,000.
	RulesPerACL int
	// InterfaceACLs is the most ACLs of an interface, both directions together; what is
	// more is merged. 0 = dataplane.BindingMax.
	InterfaceACLs int
	// SCTPPortsUnseen says that the machine's ACLs do not see ports of SCTP, as those of VPP
	// 25.10 do not. What allows some of its ports then allows none, what denies some denies
	// all, and what passes some denies all of SCTP for its peers.
	SCTPPortsUnseen bool
}

func (o Options) orDefaults() Options {
	if o.AppliedRules == 0 {
		o.AppliedRules = 2_000_000
	}
	if o.RulesPerACL == 0 {
		o.RulesPerACL = 100_000
	}
	// A closed policy has a rule per family, and a list a base and an end.
	o.RulesPerACL = max(o.RulesPerACL, 2)
	if o.InterfaceACLs == 0 {
		o.InterfaceACLs = dataplane.BindingMax
	}
	o.InterfaceACLs = max(o.InterfaceACLs, 4)
	return o
}

// Result is what the policies come to. Whoever has one treats it as immutable.
type Result struct {
	ACLs     []dataplane.ACL // by name; each stands in a list
	Lists    map[cluster.PodKey]Lists
	Origins  map[string][]Origin // by ACL: of its rules, in order
	Problems []Problem           // in order of their objects
}

// Lists name the ACLs of a pod's interfaces in order.
type Lists struct {
	Input  []string // packets from the pod: egress rules
	Output []string // packets to the pod: ingress rules
}

// Kinds of objects that rules come from.
const (
	KindNetworkPolicy        = "NetworkPolicy"
	KindClusterNetworkPolicy = "ClusterNetworkPolicy"
)

// Object is a policy, or with an empty kind the base that is the same for all pods.
type Object struct {
	Kind, Namespace, Name, UID string
}

func (o Object) String() string {
	switch o.Kind {
	case "":
		return "base"
	case KindNetworkPolicy:
		return o.Kind + " " + o.Namespace + "/" + o.Name
	}
	return o.Kind + " " + o.Name
}

// Ref names the object in the words of its API; the base has none.
func (o Object) Ref() cluster.Ref {
	switch o.Kind {
	case "":
		return cluster.Ref{}
	case KindNetworkPolicy:
		return cluster.NetworkPolicy{Key: cluster.PolicyKey{Namespace: o.Namespace, Name: o.Name}, UID: o.UID}.Ref()
	}
	return cluster.ClusterPolicy{Name: o.Name, UID: o.UID}.Ref()
}

// Origin is where consecutive rules of an ACL come from.
type Origin struct {
	Object    Object
	Direction Direction
	Rule      int    // of the object, from 0; -1 = the object itself
	Name      string // of that rule, if it has one
	Rules     int    // so many rules of the ACL
	// Via is the rule that passed to this one, empty for most.
	Via string
}

// String is, for example, NetworkPolicy shop/db ingress rule 0.
func (o Origin) String() string {
	text := o.Object.String()
	if o.Object.Kind != "" {
		text += " " + o.Direction.String()
	}
	if o.Rule >= 0 {
		text += fmt.Sprintf(" rule %d", o.Rule)
	}
	if o.Name != "" {
		text += fmt.Sprintf(" %q", o.Name)
	}
	if o.Via != "" {
		text += " passed by " + o.Via
	}
	return text
}

// Origin finds where a rule of an ACL comes from.
func (r Result) Origin(acl string, rule int) (Origin, bool) {
	for _, o := range r.Origins[acl] {
		if rule < o.Rules {
			return o, true
		}
		rule -= o.Rules
	}
	return Origin{}, false
}

// Reason says in a word what a Problem is.
type Reason string

const (
	PolicyRejected Reason = "PolicyRejected" // something in it is wrong; it fails closed
	PolicyTooLarge Reason = "PolicyTooLarge" // it does not fit into the bounds; it fails closed
	// SCTPPortsUnseen is about single rules: see Options.
	SCTPPortsUnseen Reason = "SCTPPortsUnseen"
)

// Problem is a policy that fails closed, as a whole or in part, for pods of this node, and
// why.
type Problem struct {
	Object Object
	Reason Reason
	Err    error // names each field that is wrong
}

// Compile works out everything from the beginning. local are the pods that have an
// interface on the node; their facts need not be there yet.
func Compile(s cluster.Snapshot, node string, local []cluster.PodKey, o Options) Result {
	return NewCompiler(node, o).Update(s, cluster.Compare(cluster.Snapshot{}, s), local)
}
