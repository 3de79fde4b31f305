// Package oracle owns a second opinion: whether Kubernetes policies allow a connection, read
// off the objects themselves, one rule after the other, and which of them decided.
//
// It shares nothing with the compiler of package policy but the facts, so that each can
// find the other's mistakes, and it explains in the words of the objects. It is written to
// be compared with the API's documentation, not to be fast: one judgement walks all
// policies of a pod. It never makes an ACL and knows no dataplane. What is left open by the
// API, and how it is decided here, stands in docs/policy.md.
//
// Sources: the comments of k8s.io/api/networking/v1 and of
// sigs.k8s.io/network-policy-api/apis/v1alpha2.
package oracle

import (
	"fmt"
	"net/netip"

	"github.com/millrace/millrace/cluster"
)

// IP protocol numbers that policies or their exceptions speak of.
const (
	ICMP   = 1
	TCP    = 6
	UDP    = 17
	ICMPv6 = 58
	SCTP   = 132
)

// Flow is a connection, as its first packet shows it.
type Flow struct {
	From, To netip.Addr // of one family
	Protocol uint8      // of IP
	Port     uint16     // the destination's; TCP, UDP and SCTP only
	Type     uint8      // ICMP and ICMPv6 only
}

func (f Flow) String() string {
	switch f.Protocol {
	case TCP:
		return fmt.Sprintf("%s to %s port %d/TCP", f.From, f.To, f.Port)
	case UDP:
		return fmt.Sprintf("%s to %s port %d/UDP", f.From, f.To, f.Port)
	case SCTP:
		return fmt.Sprintf("%s to %s port %d/SCTP", f.From, f.To, f.Port)
	case ICMP, ICMPv6:
		return fmt.Sprintf("%s to %s ICMP type %d", f.From, f.To, f.Type)
	}
	return fmt.Sprintf("%s to %s protocol %d", f.From, f.To, f.Protocol)
}

// Direction is the side of a pod that a decision is about.
type Direction uint8

const (
	Egress  Direction = iota // out of the pod that sends
	Ingress                  // into the pod that receives
)

func (d Direction) String() string {
	if d == Egress {
		return "egress"
	}
	return "ingress"
}

// Tier is where in the order of evaluation a decision was made.
type Tier uint8

const (
	TierNone          Tier = iota // the end is no pod: nothing judges
	TierAlways                    // before all policies
	TierAdmin                     //
	TierNetworkPolicy             //
	TierBaseline                  //
	TierDefault                   // no policy decided
)

func (t Tier) String() string {
	return [...]string{"none", "always", "Admin", "NetworkPolicy", "Baseline", "default"}[t]
}

// Decision is what one end of a connection has to say, and why.
type Decision struct {
	Allowed   bool
	Direction Direction
	Pod       cluster.PodKey // whose interface it is; empty with TierNone
	Tier      Tier
	Policy    string // what decided, for example "NetworkPolicy shop/db"; empty when no policy did
	Rule      int    // its rule of that direction, from 0; -1 when none did
	Reason    string // one phrase
}

// Verdict is the judgement of a connection: both ends have to allow it.
type Verdict struct {
	Allowed         bool
	Egress, Ingress Decision
}

// Deciding is the decision that a person wants to see: what denies, or else what allows
// with most to say.
func (v Verdict) Deciding() Decision {
	switch {
	case !v.Egress.Allowed:
		return v.Egress
	case v.Ingress.Allowed && v.Ingress.Policy == "" && (v.Egress.Policy != "" || v.Ingress.Tier == TierNone):
		return v.Egress
	}
	return v.Ingress
}

// Judge says whether a connection is allowed. It works on any Snapshot, also one with
// broken policies. Whoever asks often makes a World first.
func Judge(s cluster.Snapshot, f Flow) Verdict { return New(s).Judge(f) }

// Judge says whether a connection is allowed.
func (w World) Judge(f Flow) Verdict {
	from, to := w.who(f.From), w.who(f.To)
	v := Verdict{
		Egress:  Decision{Allowed: true, Direction: Egress, Rule: -1, Reason: "the source is no pod"},
		Ingress: Decision{Allowed: true, Direction: Ingress, Rule: -1, Reason: "the destination is no pod"},
	}
	for _, pod := range from.judges() {
		if v.Egress.Allowed {
			v.Egress = w.decide(side{Egress, pod, f.To, to}, f)
		}
	}
	for _, pod := range to.judges() {
		if v.Ingress.Allowed {
			v.Ingress = w.decide(side{Ingress, pod, f.From, from}, f)
		}
	}
	v.Allowed = v.Egress.Allowed && v.Ingress.Allowed
	return v
}

// side is one end of a connection: the pod that is judged for, and who is opposite.
type side struct {
	direction Direction
	pod       cluster.Pod
	address   netip.Addr // of the peer
	peer      party
}

// decide asks the tiers in order.
func (w World) decide(s side, f Flow) Decision {
	d := Decision{Allowed: true, Direction: s.direction, Pod: s.pod.Key, Tier: TierAlways, Rule: -1}
	if reason := w.always(s, f); reason != "" {
		d.Reason = reason
		return d
	}
	for _, ask := range [...]func(side, Flow, *Decision) bool{w.admin, w.networkPolicies, w.baseline} {
		if ask(s, f, &d) {
			return d
		}
	}
	d.Allowed, d.Tier, d.Policy, d.Rule = true, TierDefault, "", -1
	d.Reason = "no policy decides, and pods that nothing isolates are open"
	return d
}

// always says why a connection needs no policy's consent, or "".
func (w World) always(s side, f Flow) string {
	switch {
	case f.From == f.To:
		return "a pod reaches itself"
	case f.Protocol == ICMP && f.From.Is4() && (f.Type == 3 || f.Type == 11 || f.Type == 12):
		return "ICMP errors always pass"
	case f.Protocol == ICMPv6 && f.From.Is6() && f.Type >= 1 && f.Type <= 4:
		return "ICMP errors always pass"
	case f.Protocol == ICMPv6 && f.From.Is6() && f.Type >= 133 && f.Type <= 137:
		return "neighbour discovery always passes"
	case s.direction == Ingress && s.pod.Node != "" && s.peer.isNode(s.pod.Node):
		return "a node reaches the pods on it"
	}
	return ""
}
