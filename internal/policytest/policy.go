package policytest

import (
	"net/netip"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/millrace/millrace/cluster"
)

// slip is how often something is wrong: one in so many places where it can be.
const slip = 150

func (g gen) networkPolicy() cluster.NetworkPolicy {
	spec := networkingv1.NetworkPolicySpec{PodSelector: g.selector()}
	for range g.IntN(4) {
		spec.PolicyTypes = append(spec.PolicyTypes, pick(g, networkingv1.PolicyTypeIngress, networkingv1.PolicyTypeEgress))
	}
	if g.one(slip) {
		spec.PolicyTypes = append(spec.PolicyTypes, "Sideways")
	}
	for range g.IntN(3) {
		spec.Ingress = append(spec.Ingress, networkingv1.NetworkPolicyIngressRule{From: some(g, 3, g.peer), Ports: some(g, 3, g.policyPort)})
	}
	for range g.IntN(3) {
		spec.Egress = append(spec.Egress, networkingv1.NetworkPolicyEgressRule{To: some(g, 3, g.peer), Ports: some(g, 3, g.policyPort)})
	}
	return cluster.NetworkPolicy{Spec: spec}
}

// selector is empty, or wants one thing, or several.
func (g gen) selector() (s metav1.LabelSelector) {
	if g.one(3) {
		return s
	}
	if !g.one(3) {
		s.MatchLabels = map[string]string{pick(g, "k", "l"): pick(g, "x", "y", "z")}
	}
	if g.one(2) {
		r := metav1.LabelSelectorRequirement{Key: pick(g, "k", "l", corev1.LabelMetadataName)}
		r.Operator = pick(g, metav1.LabelSelectorOpIn, metav1.LabelSelectorOpNotIn, metav1.LabelSelectorOpExists, metav1.LabelSelectorOpDoesNotExist)
		if r.Operator == metav1.LabelSelectorOpIn || r.Operator == metav1.LabelSelectorOpNotIn {
			r.Values = append([]string{pick(g, "x", "y", "a", "b")}, some(g, 2, func() string { return pick(g, "x", "z", "a", "c") })...)
		}
		if g.one(slip) {
			r.Operator = "Like"
		}
		s.MatchExpressions = append(s.MatchExpressions, r)
	}
	return s
}

func (g gen) peer() (p networkingv1.NetworkPolicyPeer) {
	switch g.IntN(5) {
	case 0:
		p.PodSelector = new(g.selector())
	case 1:
		p.NamespaceSelector = new(g.selector())
	case 2:
		p.PodSelector, p.NamespaceSelector = new(g.selector()), new(g.selector())
	default:
		p.IPBlock = g.block()
	}
	switch {
	case g.one(slip):
		return networkingv1.NetworkPolicyPeer{}
	case g.one(slip):
		p.IPBlock, p.PodSelector = g.block(), new(g.selector())
	}
	return p
}

// cidr is around the addresses of pods, or of nodes and others.
func (g gen) cidr() netip.Prefix {
	switch g.IntN(6) {
	case 0:
		return pick(g, netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0"))
	case 1:
		return pick(g, netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("192.0.2.1/32"), netip.MustParsePrefix("2001:db8::/32"),
			netip.MustParsePrefix("198.51.100.0/24"), netip.MustParsePrefix("2001:db8::1/128"))
	case 2, 3:
		return netip.PrefixFrom(six(0xfd00, g.IntN(16)), 124+g.IntN(5)).Masked()
	}
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(g.IntN(16))}), 28+g.IntN(5)).Masked()
}

func (g gen) block() *networkingv1.IPBlock {
	p := g.cidr()
	b := &networkingv1.IPBlock{CIDR: p.String()}
	for range g.IntN(3) {
		if hole := g.cidr(); p.Contains(hole.Addr()) && hole.Bits() >= p.Bits() || g.one(slip) {
			b.Except = append(b.Except, hole.String())
		}
	}
	switch {
	case g.one(10) && p.Bits() < p.Addr().BitLen():
		b.CIDR = netip.PrefixFrom(p.Addr().Next(), p.Bits()).String() // host bits
	case g.one(slip):
		b.CIDR = pick(g, "10.0.0.0/33", "10.0.0.0", "10.0.0.300/32", "::ffff:10.0.0.0/112", "")
	}
	return b
}

func (g gen) protocol() corev1.Protocol {
	if g.one(slip) {
		return pick[corev1.Protocol](g, "tcp", "ICMP", "")
	}
	return pick(g, corev1.ProtocolTCP, corev1.ProtocolTCP, corev1.ProtocolUDP, corev1.ProtocolSCTP)
}

func (g gen) policyPort() (p networkingv1.NetworkPolicyPort) {
	if !g.one(4) {
		p.Protocol = new(g.protocol())
	}
	switch g.IntN(5) {
	case 0:
	case 1:
		p.Port = new(intstr.FromString(pick(g, "http", "dns", "nobody")))
	default:
		first := int32(1 + g.IntN(8))
		p.Port = new(intstr.FromInt32(first))
		if g.one(3) {
			p.EndPort = new(pick(g, first, first+int32(g.IntN(4)), 65535))
		}
	}
	switch {
	case g.one(slip):
		p.Port = new(intstr.FromInt32(pick[int32](g, 0, -1, 65536)))
	case g.one(slip):
		p.EndPort = new(pick[int32](g, 0, 1, 65536))
	}
	return p
}
