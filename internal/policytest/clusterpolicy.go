package policytest

import (
	policyv1alpha2 "sigs.k8s.io/network-policy-api/apis/v1alpha2"

	"github.com/millrace/millrace/cluster"
)

func (g gen) clusterPolicy() cluster.ClusterPolicy {
	spec := policyv1alpha2.ClusterNetworkPolicySpec{
		Tier: pick(g, policyv1alpha2.AdminTier, policyv1alpha2.AdminTier, policyv1alpha2.BaselineTier), Priority: int32(g.IntN(3)), Subject: g.subject(),
	}
	if g.one(slip) {
		spec.Tier = "Top"
	}
	for range g.IntN(4) {
		r := policyv1alpha2.ClusterNetworkPolicyIngressRule{Action: g.action(), Protocols: some(g, 2, g.clusterProtocol)}
		for range g.peers() {
			peer := g.podPeer()
			r.From = append(r.From, policyv1alpha2.ClusterNetworkPolicyIngressPeer{Namespaces: peer.Namespaces, Pods: peer.Pods})
		}
		spec.Ingress = append(spec.Ingress, r)
	}
	for range g.IntN(4) {
		spec.Egress = append(spec.Egress, g.egressRule())
	}
	return cluster.ClusterPolicy{Spec: spec}
}

func (g gen) egressRule() policyv1alpha2.ClusterNetworkPolicyEgressRule {
	r := policyv1alpha2.ClusterNetworkPolicyEgressRule{Action: g.action(), Protocols: some(g, 2, g.clusterProtocol)}
	named := false
	for _, p := range r.Protocols {
		named = named || p.DestinationNamedPort != ""
	}
	for range g.peers() {
		if named && !g.one(slip) { // a named port beside a node or a network is wrong
			r.To = append(r.To, g.podPeer())
		} else {
			r.To = append(r.To, g.clusterPeer())
		}
	}
	return r
}

// peers is how many a rule has.
func (g gen) peers() int {
	if g.one(slip) {
		return 0
	}
	return 1 + g.IntN(2)
}

func (g gen) action() policyv1alpha2.ClusterNetworkPolicyRuleAction {
	if g.one(slip) {
		return "Maybe"
	}
	return pick(g, policyv1alpha2.ClusterNetworkPolicyRuleActionAccept, policyv1alpha2.ClusterNetworkPolicyRuleActionAccept,
		policyv1alpha2.ClusterNetworkPolicyRuleActionDeny, policyv1alpha2.ClusterNetworkPolicyRuleActionPass)
}

func (g gen) subject() (s policyv1alpha2.ClusterNetworkPolicySubject) {
	p := g.podPeer()
	s.Namespaces, s.Pods = p.Namespaces, p.Pods
	return s
}

// podPeer is a peer of pods, and now and then none.
func (g gen) podPeer() (p policyv1alpha2.ClusterNetworkPolicyEgressPeer) {
	if g.one(slip) {
		return p
	}
	if g.one(2) {
		p.Namespaces = new(g.selector())
	}
	if p.Namespaces == nil || g.one(slip) {
		p.Pods = &policyv1alpha2.NamespacedPod{NamespaceSelector: g.selector(), PodSelector: g.selector()}
	}
	return p
}

func (g gen) clusterPeer() (p policyv1alpha2.ClusterNetworkPolicyEgressPeer) {
	switch g.IntN(4) {
	case 0:
		p.Nodes = new(g.selector())
	case 1:
		for range 1 + g.IntN(2) {
			p.Networks = append(p.Networks, policyv1alpha2.CIDR(g.block().CIDR))
		}
	default:
		return g.podPeer()
	}
	if g.one(slip) {
		p.DomainNames = []policyv1alpha2.DomainName{"example.org"}
	}
	return p
}

func (g gen) clusterProtocol() (p policyv1alpha2.ClusterNetworkPolicyProtocol) {
	switch g.IntN(5) {
	case 0, 1:
		p.TCP = &policyv1alpha2.ClusterNetworkPolicyProtocolTCP{DestinationPort: g.clusterPort()}
	case 2:
		p.UDP = &policyv1alpha2.ClusterNetworkPolicyProtocolUDP{DestinationPort: g.clusterPort()}
	case 3:
		p.SCTP = &policyv1alpha2.ClusterNetworkPolicyProtocolSCTP{DestinationPort: g.clusterPort()}
	default:
		p.DestinationNamedPort = pick(g, "http", "dns", "nobody")
	}
	switch {
	case g.one(slip):
		p = policyv1alpha2.ClusterNetworkPolicyProtocol{}
	case g.one(slip):
		p.TCP, p.UDP = &policyv1alpha2.ClusterNetworkPolicyProtocolTCP{}, &policyv1alpha2.ClusterNetworkPolicyProtocolUDP{}
	}
	return p
}

func (g gen) clusterPort() *policyv1alpha2.Port {
	first := int32(1 + g.IntN(8))
	switch g.IntN(4) {
	case 0:
		return nil
	case 1:
		p := &policyv1alpha2.Port{Range: &policyv1alpha2.PortRange{Start: first, End: pick(g, first, first+int32(g.IntN(4)), 65535)}}
		if g.one(slip / 20) {
			p.Range.End = pick[int32](g, 0, 1, 65536)
		}
		return p
	}
	if g.one(slip) {
		return &policyv1alpha2.Port{Number: pick[int32](g, 0, -1, 65536)}
	}
	return &policyv1alpha2.Port{Number: first}
}
