package oracle

import (
	"errors"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/millrace/millrace/cluster"
)

// networkPolicies decides by NetworkPolicies when at least one isolates the pod.
func (w World) networkPolicies(s side, f Flow, d *Decision) bool {
	var isolating []cluster.NetworkPolicy
	broken := map[cluster.PolicyKey]error{}
	for _, p := range w.inOrder[s.pod.Key.Namespace] {
		err := w.checkPolicy(p)
		selected, selectorErr := selects(&p.Spec.PodSelector, s.pod.Labels)
		if (selected || selectorErr != nil) && hasDirection(p.Spec, s.direction) {
			isolating = append(isolating, p)
			broken[p.Key] = err
		}
	}
	if len(isolating) == 0 {
		return false
	}
	d.Tier = TierNetworkPolicy
	for _, p := range isolating {
		if broken[p.Key] != nil {
			continue
		}
		if i := w.allowingRule(p, s, f); i >= 0 {
			d.Allowed, d.Policy, d.Rule = true, "NetworkPolicy "+p.Key.String(), i
			d.Reason = "the rule matches"
			return true
		}
	}
	first := isolating[0]
	d.Allowed, d.Policy, d.Rule = false, "NetworkPolicy "+first.Key.String(), -1
	d.Reason = fmt.Sprintf("%d policies isolate the pod, and no rule of them matches", len(isolating))
	if len(isolating) == 1 {
		d.Reason = "it isolates the pod, and no rule of it matches"
		if err := broken[first.Key]; err != nil {
			d.Reason = fmt.Sprintf("it isolates the pod, and allows nothing because it is broken: %v", err)
		}
	}
	return true
}

// hasDirection says whether a policy isolates in a direction: policyTypes, or where there
// are none, ingress always and egress when there are rules for it. What is not known there
// might mean any direction.
func hasDirection(p networkingv1.NetworkPolicySpec, d Direction) bool {
	if len(p.PolicyTypes) == 0 {
		return d == Ingress || len(p.Egress) > 0
	}
	for _, t := range p.PolicyTypes {
		switch {
		case t != networkingv1.PolicyTypeIngress && t != networkingv1.PolicyTypeEgress:
			return true
		case t == networkingv1.PolicyTypeIngress && d == Ingress, t == networkingv1.PolicyTypeEgress && d == Egress:
			return true
		}
	}
	return false
}

// rule is an ingress or egress rule of a NetworkPolicy.
type rule struct {
	peers []networkingv1.NetworkPolicyPeer
	ports []networkingv1.NetworkPolicyPort
}

func rulesOf(p networkingv1.NetworkPolicySpec, d Direction) (list []rule) {
	if d == Ingress {
		for _, r := range p.Ingress {
			list = append(list, rule{r.From, r.Ports})
		}
		return list
	}
	for _, r := range p.Egress {
		list = append(list, rule{r.To, r.Ports})
	}
	return list
}

// allowingRule is the first rule of a sound policy that matches, or -1.
func (w World) allowingRule(p cluster.NetworkPolicy, s side, f Flow) int {
	return slices.IndexFunc(rulesOf(p.Spec, s.direction), func(r rule) bool {
		peer := len(r.peers) == 0 || slices.ContainsFunc(r.peers, func(peer networkingv1.NetworkPolicyPeer) bool {
			in, err := w.isPeer(p.Key.Namespace, peer, s)
			return in && err == nil
		})
		port := len(r.ports) == 0 || slices.ContainsFunc(r.ports, func(port networkingv1.NetworkPolicyPort) bool {
			in, err := w.isPort(port, s, f)
			return in && err == nil
		})
		return peer && port
	})
}

// checkPolicy finds what is wrong with a policy, in rules of both directions and whether
// they are in force or not.
func (w World) checkPolicy(p cluster.NetworkPolicy) error {
	_, err := selects(&p.Spec.PodSelector, nil)
	errs := []error{err}
	for _, t := range p.Spec.PolicyTypes {
		if t != networkingv1.PolicyTypeIngress && t != networkingv1.PolicyTypeEgress {
			errs = append(errs, fmt.Errorf("policyTypes: %q: want Ingress or Egress", t))
		}
	}
	for _, d := range [...]Direction{Ingress, Egress} {
		for i, r := range rulesOf(p.Spec, d) {
			for _, peer := range r.peers {
				if _, err := w.isPeer(p.Key.Namespace, peer, side{direction: d}); err != nil {
					errs = append(errs, fmt.Errorf("%s rule %d: %w", d, i, err))
				}
			}
			for _, port := range r.ports {
				if _, err := w.isPort(port, side{direction: d}, Flow{}); err != nil {
					errs = append(errs, fmt.Errorf("%s rule %d: %w", d, i, err))
				}
			}
		}
	}
	return errors.Join(errs...)
}

// isPeer says whether who is opposite is one that a rule names.
func (w World) isPeer(namespace string, p networkingv1.NetworkPolicyPeer, s side) (bool, error) {
	switch {
	case p.IPBlock != nil && (p.PodSelector != nil || p.NamespaceSelector != nil):
		return false, errors.New("a peer has an ipBlock beside a selector")
	case p.IPBlock != nil:
		return isInBlock(*p.IPBlock, s)
	case p.PodSelector == nil && p.NamespaceSelector == nil:
		return false, errors.New("a peer has none of its fields")
	case p.NamespaceSelector == nil:
		own := &metav1.LabelSelector{MatchLabels: map[string]string{corev1.LabelMetadataName: namespace}}
		return w.anyPodIn(s.peer, own, p.PodSelector)
	}
	return w.anyPodIn(s.peer, p.NamespaceSelector, p.PodSelector)
}

func isInBlock(b networkingv1.IPBlock, s side) (bool, error) {
	in, err := inCIDR(b.CIDR, s.address)
	if err != nil {
		return false, fmt.Errorf("ipBlock: %w", err)
	}
	for _, text := range b.Except {
		hole, err := parseCIDR(text)
		if err != nil {
			return false, fmt.Errorf("ipBlock: except: %w", err)
		}
		whole, _ := parseCIDR(b.CIDR) // it was parsed before
		if !whole.Contains(hole.Addr()) || hole.Bits() < whole.Bits() {
			return false, fmt.Errorf("ipBlock: except %s is outside %s", text, b.CIDR)
		}
		in = in && !hole.Contains(s.address)
	}
	return in, nil
}

// isPort says whether a flow goes to a port that a rule names.
func (w World) isPort(p networkingv1.NetworkPolicyPort, s side, f Flow) (bool, error) {
	name := corev1.ProtocolTCP
	if p.Protocol != nil {
		name = *p.Protocol
	}
	protocol, err := number(name)
	if err != nil {
		return false, err
	}
	switch {
	case p.Port == nil && p.EndPort != nil:
		return false, errors.New("an endPort stands without port")
	case p.Port == nil:
		return f.Protocol == protocol, nil
	case p.Port.Type == intstr.String && p.EndPort != nil:
		return false, fmt.Errorf("an endPort stands beside the named port %q", p.Port.StrVal)
	case p.Port.Type == intstr.String:
		return w.namedPort(s, f, p.Port.StrVal, func(of corev1.Protocol) bool { return of == name }), nil
	}
	first, last := p.Port.IntVal, p.Port.IntVal
	if p.EndPort != nil {
		last = *p.EndPort
	}
	if err := errors.Join(checkPort(first), checkPort(last)); err != nil {
		return false, err
	}
	if last < first {
		return false, fmt.Errorf("endPort %d is below port %d", last, first)
	}
	return f.Protocol == protocol && int32(f.Port) >= first && int32(f.Port) <= last, nil
}
