package oracle

import (
	"cmp"
	"errors"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	policyv1alpha2 "sigs.k8s.io/network-policy-api/apis/v1alpha2"

	"github.com/millrace/millrace/cluster"
)

func (w World) admin(s side, f Flow, d *Decision) bool    { return w.tier(TierAdmin, s, f, d) }
func (w World) baseline(s side, f Flow, d *Decision) bool { return w.tier(TierBaseline, s, f, d) }

// tier walks the ClusterNetworkPolicies of a tier until a rule decides or passes on.
func (w World) tier(t Tier, s side, f Flow, d *Decision) bool {
	d.Tier = t
	for _, p := range w.tiers[t] {
		d.Policy = "ClusterNetworkPolicy " + p.Name
		switch w.ask(p, s, f, d) {
		case decided:
			return true
		case passed:
			return false
		}
	}
	return false
}

// tierOf is the tier of a policy; what is not known stands before all others.
func tierOf(p cluster.ClusterPolicy) (Tier, error) {
	switch p.Spec.Tier {
	case policyv1alpha2.AdminTier:
		return TierAdmin, nil
	case policyv1alpha2.BaselineTier:
		return TierBaseline, nil
	}
	return TierAdmin, fmt.Errorf("tier %q: want Admin or Baseline", p.Spec.Tier)
}

// outcome is what a policy makes of a flow.
type outcome uint8

const (
	silent outcome = iota
	passed
	decided
)

// ask goes through the rules of one policy.
func (w World) ask(p cluster.ClusterPolicy, s side, f Flow, d *Decision) outcome {
	rules := clusterRulesOf(p.Spec, s.direction)
	subject, err := w.isSubject(p.Spec.Subject, s.pod)
	if err == nil && !subject || len(rules) == 0 {
		return silent
	}
	if _, unknown := tierOf(p); err != nil || unknown != nil {
		d.Allowed, d.Rule = false, -1
		d.Reason = fmt.Sprintf("it denies everything because it is broken: %v", cmp.Or(err, unknown))
		return decided
	}
	for i, r := range rules {
		d.Rule = i
		broken := w.checkRule(r, s.direction)
		switch {
		case broken != nil && r.action == policyv1alpha2.ClusterNetworkPolicyRuleActionAccept:
		case broken != nil:
			d.Allowed, d.Reason = false, fmt.Sprintf("the rule denies everything because it is broken: %v", broken)
			return decided
		case !w.ruleMatches(r, s, f):
		case r.action == policyv1alpha2.ClusterNetworkPolicyRuleActionPass:
			return passed
		default:
			d.Allowed, d.Reason = r.action == policyv1alpha2.ClusterNetworkPolicyRuleActionAccept, "the rule matches"
			return decided
		}
	}
	return silent
}

// isSubject says whether a policy is about a pod; pods on the host's network never get
// here.
func (w World) isSubject(subject policyv1alpha2.ClusterNetworkPolicySubject, pod cluster.Pod) (bool, error) {
	switch {
	case (subject.Namespaces == nil) == (subject.Pods == nil):
		return false, errors.New("subject: want either namespaces or pods")
	case subject.Namespaces != nil:
		return w.podIn(pod, subject.Namespaces, nil)
	}
	return w.podIn(pod, &subject.Pods.NamespaceSelector, &subject.Pods.PodSelector)
}

// clusterRule is an ingress or egress rule; peers of ingress have fewer fields.
type clusterRule struct {
	action    policyv1alpha2.ClusterNetworkPolicyRuleAction
	peers     []policyv1alpha2.ClusterNetworkPolicyEgressPeer
	protocols []policyv1alpha2.ClusterNetworkPolicyProtocol
}

func clusterRulesOf(p policyv1alpha2.ClusterNetworkPolicySpec, d Direction) (list []clusterRule) {
	if d == Egress {
		for _, r := range p.Egress {
			list = append(list, clusterRule{r.Action, r.To, r.Protocols})
		}
		return list
	}
	for _, r := range p.Ingress {
		c := clusterRule{action: r.Action, protocols: r.Protocols}
		for _, peer := range r.From {
			c.peers = append(c.peers, policyv1alpha2.ClusterNetworkPolicyEgressPeer{Namespaces: peer.Namespaces, Pods: peer.Pods})
		}
		list = append(list, c)
	}
	return list
}

func (w World) ruleMatches(r clusterRule, s side, f Flow) bool {
	peer := slices.ContainsFunc(r.peers, func(p policyv1alpha2.ClusterNetworkPolicyEgressPeer) bool {
		in, err := w.isClusterPeer(p, s)
		return in && err == nil
	})
	return peer && (len(r.protocols) == 0 || slices.ContainsFunc(r.protocols, func(p policyv1alpha2.ClusterNetworkPolicyProtocol) bool {
		in, err := w.isProtocol(p, s, f)
		return in && err == nil
	}))
}

// checkRule finds what is wrong with a rule.
func (w World) checkRule(r clusterRule, d Direction) error {
	var errs []error
	switch r.action {
	case policyv1alpha2.ClusterNetworkPolicyRuleActionAccept, policyv1alpha2.ClusterNetworkPolicyRuleActionDeny, policyv1alpha2.ClusterNetworkPolicyRuleActionPass:
	default:
		errs = append(errs, fmt.Errorf("action %q: want Accept, Deny or Pass", r.action))
	}
	if len(r.peers) == 0 {
		errs = append(errs, errors.New("it has no peers"))
	}
	nameless := false
	for _, p := range r.peers {
		_, err := w.isClusterPeer(p, side{direction: d})
		errs = append(errs, err)
		nameless = nameless || p.Nodes != nil || len(p.Networks) > 0 || len(p.DomainNames) > 0
	}
	for _, p := range r.protocols {
		_, err := w.isProtocol(p, side{direction: d}, Flow{})
		errs = append(errs, err)
		if p.DestinationNamedPort != "" && nameless {
			errs = append(errs, errors.New("a destinationNamedPort stands beside peers that have no named ports"))
		}
	}
	return errors.Join(errs...)
}

// isClusterPeer says whether who is opposite is one that a rule names.
func (w World) isClusterPeer(p policyv1alpha2.ClusterNetworkPolicyEgressPeer, s side) (bool, error) {
	fields := 0
	for _, set := range [...]bool{p.Namespaces != nil, p.Pods != nil, p.Nodes != nil, len(p.Networks) > 0, len(p.DomainNames) > 0} {
		if set {
			fields++
		}
	}
	switch {
	case fields != 1:
		return false, fmt.Errorf("a peer has %d of its fields, want one", fields)
	case len(p.DomainNames) > 0:
		return false, errors.New("domainNames are not supported")
	case p.Namespaces != nil:
		return w.anyPodIn(s.peer, p.Namespaces, nil)
	case p.Pods != nil:
		return w.anyPodIn(s.peer, &p.Pods.NamespaceSelector, &p.Pods.PodSelector)
	case p.Nodes != nil:
		return anyNodeIn(s.peer, p.Nodes)
	}
	found := false
	for _, text := range p.Networks {
		in, err := inCIDR(string(text), s.address)
		if err != nil {
			return false, fmt.Errorf("networks: %w", err)
		}
		found = found || in
	}
	return found, nil
}

func anyNodeIn(p party, selector *metav1.LabelSelector) (bool, error) {
	if _, err := selects(selector, nil); err != nil {
		return false, fmt.Errorf("selector of nodes: %w", err)
	}
	for _, node := range p.nodes {
		if in, err := selects(selector, node.Labels); in || err != nil {
			return in, err
		}
	}
	return false, nil
}

// isProtocol says whether a flow has a protocol and port that a rule names.
func (w World) isProtocol(p policyv1alpha2.ClusterNetworkPolicyProtocol, s side, f Flow) (bool, error) {
	type form struct {
		set      bool
		protocol uint8
		port     *policyv1alpha2.Port
	}
	forms := []form{{set: p.DestinationNamedPort != ""}}
	if p.TCP != nil {
		forms = append(forms, form{true, TCP, p.TCP.DestinationPort})
	}
	if p.UDP != nil {
		forms = append(forms, form{true, UDP, p.UDP.DestinationPort})
	}
	if p.SCTP != nil {
		forms = append(forms, form{true, SCTP, p.SCTP.DestinationPort})
	}
	forms = slices.DeleteFunc(forms, func(f form) bool { return !f.set })
	if len(forms) != 1 {
		return false, fmt.Errorf("a protocol has %d of its fields, want one", len(forms))
	}
	if p.DestinationNamedPort != "" {
		return w.namedPort(s, f, p.DestinationNamedPort, func(corev1.Protocol) bool { return true }), nil
	}
	port, err := hasPort(forms[0].port, f.Port)
	return port && f.Protocol == forms[0].protocol, err
}

// hasPort says whether a port is the one or in the range; nil has all.
func hasPort(p *policyv1alpha2.Port, port uint16) (bool, error) {
	switch {
	case p == nil:
		return true, nil
	case (p.Number == 0) == (p.Range == nil):
		return false, errors.New("a port wants either number or range")
	case p.Range == nil:
		return int32(port) == p.Number, checkPort(p.Number)
	}
	if err := errors.Join(checkPort(p.Range.Start), checkPort(p.Range.End)); err != nil {
		return false, err
	}
	if p.Range.End < p.Range.Start {
		return false, fmt.Errorf("the range of ports from %d ends at %d", p.Range.Start, p.Range.End)
	}
	return int32(port) >= p.Range.Start && int32(port) <= p.Range.End, nil
}
