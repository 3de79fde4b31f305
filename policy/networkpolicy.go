package policy

import (
	"errors"
	"fmt"
	"net/netip"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/millrace/millrace/cluster"
	"github.com/millrace/millrace/dataplane"
)

// networkPolicy is a NetworkPolicy, read and checked. It is never changed.
type networkPolicy struct {
	id       uint64 // never used twice
	object   Object
	selector labels.Selector // of the pods in its namespace
	isolates [2]bool         // by Direction
	rules    [2][]*rule
	err      error // it is broken: it isolates, and allows nothing
}

// readNetworkPolicy checks all of a policy, rules that are not in force included. Of one
// that is broken the rules are left out; where the selector is, it means all pods of the
// namespace, where policyTypes are, both directions.
func readNetworkPolicy(p cluster.NetworkPolicy) *networkPolicy {
	n := &networkPolicy{object: Object{Kind: KindNetworkPolicy, Namespace: p.Key.Namespace, Name: p.Key.Name, UID: p.UID}, selector: labels.Everything()}
	var errs []error
	if s, err := podsOf(p.Key.Namespace, nil, &p.Spec.PodSelector); err != nil {
		errs = append(errs, fmt.Errorf("spec.%w", err))
	} else {
		n.selector = s.pods
	}
	errs = append(errs, n.readTypes(p.Spec))
	read := ruleReader{namespace: p.Key.Namespace}
	for i, r := range p.Spec.Ingress {
		path := fmt.Sprintf("spec.ingress[%d]", i)
		n.rules[Ingress] = append(n.rules[Ingress], read.rule(Ingress, i, path, "from", r.From, r.Ports))
	}
	for i, r := range p.Spec.Egress {
		path := fmt.Sprintf("spec.egress[%d]", i)
		n.rules[Egress] = append(n.rules[Egress], read.rule(Egress, i, path, "to", r.To, r.Ports))
	}
	if n.err = errors.Join(append(errs, read.errs...)...); n.err != nil {
		n.rules = [2][]*rule{}
	}
	return n
}

// readTypes finds the directions: those of policyTypes, or where there are none, ingress,
// and egress if there are rules for it.
func (n *networkPolicy) readTypes(spec networkingv1.NetworkPolicySpec) error {
	if len(spec.PolicyTypes) == 0 {
		n.isolates = [2]bool{Ingress: true, Egress: len(spec.Egress) > 0}
		return nil
	}
	var errs []error
	for i, t := range spec.PolicyTypes {
		switch t {
		case networkingv1.PolicyTypeIngress:
			n.isolates[Ingress] = true
		case networkingv1.PolicyTypeEgress:
			n.isolates[Egress] = true
		default:
			n.isolates = [2]bool{true, true}
			errs = append(errs, fmt.Errorf("spec.policyTypes[%d]: %q is none; want Ingress or Egress", i, t))
		}
	}
	return errors.Join(errs...)
}

// ruleReader reads rules and gathers what is wrong with them.
type ruleReader struct {
	namespace string
	errs      []error
}

func (read *ruleReader) fail(format string, args ...any) {
	read.errs = append(read.errs, fmt.Errorf(format, args...))
}

func (read *ruleReader) rule(d Direction, index int, path, peersField string, from []networkingv1.NetworkPolicyPeer, ports []networkingv1.NetworkPolicyPort) *rule {
	r := &rule{direction: d, index: index, action: accept}
	r.who.everyone = len(from) == 0
	for i, peer := range from {
		read.peer(r, fmt.Sprintf("%s.%s[%d]", path, peersField, i), peer)
	}
	if len(ports) == 0 {
		r.spans = everything()
	}
	for i, port := range ports {
		read.port(r, fmt.Sprintf("%s.ports[%d]", path, i), port)
	}
	r.finish()
	return r
}

func (read *ruleReader) peer(r *rule, path string, peer networkingv1.NetworkPolicyPeer) {
	switch {
	case peer.IPBlock != nil && (peer.PodSelector != nil || peer.NamespaceSelector != nil):
		read.fail("%s: an ipBlock stands beside a selector; make two peers of them", path)
	case peer.IPBlock != nil:
		read.block(r, path+".ipBlock", *peer.IPBlock)
	case peer.PodSelector == nil && peer.NamespaceSelector == nil:
		read.fail("%s: it has none of podSelector, namespaceSelector and ipBlock", path)
	default:
		who, err := podsOf(read.namespace, peer.NamespaceSelector, peer.PodSelector)
		if err != nil {
			read.fail("%s.%w", path, err)
			return
		}
		r.who.pods = append(r.who.pods, who)
	}
}

func (read *ruleReader) block(r *rule, path string, b networkingv1.IPBlock) {
	whole, err := parseCIDR(b.CIDR)
	if err != nil {
		read.fail("%s.cidr: %w", path, err)
		return
	}
	var holes []netip.Prefix
	for i, text := range b.Except {
		hole, err := parseCIDR(text)
		switch {
		case err != nil:
			read.fail("%s.except[%d]: %w", path, i, err)
		case !holds(whole, hole):
			read.fail("%s.except[%d]: %s is not inside %s", path, i, text, b.CIDR)
		default:
			holes = append(holes, hole)
		}
	}
	r.who.blocks = append(r.who.blocks, without(whole, holes)...)
}

func (read *ruleReader) port(r *rule, path string, port networkingv1.NetworkPolicyPort) {
	name := corev1.ProtocolTCP
	if port.Protocol != nil {
		name = *port.Protocol
	}
	protocol, err := protocolNumber(name)
	if err != nil {
		read.fail("%s.protocol: %w", path, err)
		return
	}
	switch {
	case port.Port == nil && port.EndPort != nil:
		read.fail("%s.endPort: it stands without port", path)
	case port.Port == nil:
		r.spans = append(r.spans, span{protocol, dataplane.AnyPorts()})
	case port.Port.Type == intstr.String && port.EndPort != nil:
		read.fail("%s.endPort: it stands beside the named port %q", path, port.Port.StrVal)
	case port.Port.Type == intstr.String:
		r.names = append(r.names, portName{port.Port.StrVal, protocol})
	default:
		last := port.Port.IntVal
		if port.EndPort != nil {
			last = *port.EndPort
		}
		ports, err := portRange(port.Port.IntVal, last)
		if err != nil {
			read.fail("%s.port: %w", path, err)
			return
		}
		r.spans = append(r.spans, span{protocol, ports})
	}
}

// parseCIDR reads a block; bits behind the prefix do not count.
func parseCIDR(text string) (netip.Prefix, error) {
	p, err := netip.ParsePrefix(text)
	if err != nil {
		return p, fmt.Errorf("%q is no block of addresses; want for example 10.0.0.0/8", text)
	}
	if p.Addr().Is4In6() {
		return p, fmt.Errorf("%q is an IPv4 block in IPv6 form; write it as one of IPv4", text)
	}
	return p.Masked(), nil
}
