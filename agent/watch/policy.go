package watch

import (
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1alpha2 "sigs.k8s.io/network-policy-api/apis/v1alpha2"

	"github.com/millrace/millrace/cluster"
)

// NetworkPolicy keeps a NetworkPolicy as it was written, with the defaults that the API
// server fills in: policyTypes, and TCP where a port has no protocol. What is wrong with it
// is the compiler's to say. One without a namespace is in "default".
func NetworkPolicy(o *networkingv1.NetworkPolicy) (cluster.NetworkPolicy, error) {
	p := cluster.NetworkPolicy{
		Key: cluster.PolicyKey{Namespace: orDefault(o.Namespace), Name: o.Name}, UID: string(o.UID), Spec: *o.Spec.DeepCopy(),
	}
	if p.Key.Name == "" {
		return p, errNoName
	}
	if len(p.Spec.PolicyTypes) == 0 {
		p.Spec.PolicyTypes = []networkingv1.PolicyType{networkingv1.PolicyTypeIngress}
		if len(p.Spec.Egress) > 0 {
			p.Spec.PolicyTypes = append(p.Spec.PolicyTypes, networkingv1.PolicyTypeEgress)
		}
	}
	for _, rule := range p.Spec.Ingress {
		defaultProtocols(rule.Ports)
	}
	for _, rule := range p.Spec.Egress {
		defaultProtocols(rule.Ports)
	}
	return p, nil
}

func defaultProtocols(ports []networkingv1.NetworkPolicyPort) {
	for i := range ports {
		if ports[i].Protocol == nil {
			ports[i].Protocol = new(corev1.ProtocolTCP)
		}
	}
}

// ClusterPolicy keeps a ClusterNetworkPolicy as it was written; its API has no defaults.
func ClusterPolicy(o *policyv1alpha2.ClusterNetworkPolicy) (cluster.ClusterPolicy, error) {
	p := cluster.ClusterPolicy{Name: o.Name, UID: string(o.UID), Spec: *o.Spec.DeepCopy()}
	if p.Name == "" {
		return p, errNoName
	}
	return p, nil
}
