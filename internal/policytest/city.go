package policytest

import (
	"fmt"
	"net/netip"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/millrace/millrace/cluster"
)

const (
	// CityNode is the node of a City whose pods have attachments.
	CityNode = "node0"

	perNamespace = 10  // pods
	perNode      = 110 // pods, about
)

// City is a cluster as large ones are: namespaces of teams, ten pods in each, of which some
// serve and some ask; in every namespace one policy. So many of its pods, spread over the
// namespaces, are on CityNode. At most 250 can be, of at most 500,000.
func City(namespaces, here int) cluster.Snapshot {
	s := cluster.Snapshot{
		Nodes: map[string]cluster.Node{}, Namespaces: map[string]cluster.Namespace{}, Pods: map[cluster.PodKey]cluster.Pod{},
		NetworkPolicies: map[cluster.PolicyKey]cluster.NetworkPolicy{},
		Attachments:     map[cluster.AttachmentID]cluster.Attachment{},
	}
	total := namespaces * perNamespace
	used := map[int]int{}
	for n := range namespaces {
		name := fmt.Sprintf("ns%d", n)
		s.Namespaces[name] = cluster.Namespace{Name: name, Labels: map[string]string{"team": fmt.Sprintf("t%d", n%50), corev1.LabelMetadataName: name}}
		p := cityPolicy(n)
		p.Key = cluster.PolicyKey{Namespace: name, Name: "p"}
		s.NetworkPolicies[p.Key] = p
		for i := range perNamespace {
			spread := (n*perNamespace + i) * 7919 % total
			node := 0
			if spread >= here {
				node = 1 + spread/perNode
			}
			used[node]++
			cityPod(&s, n, i, node, used[node])
		}
	}
	return s
}

// cityPod adds a pod, the so-manieth of its node.
func cityPod(s *cluster.Snapshot, n, i, node, number int) {
	nodeName := fmt.Sprint("node", node)
	if s.Nodes[nodeName].Name == "" {
		s.Nodes[nodeName] = cluster.Node{Name: nodeName, Addresses: []netip.Addr{netip.AddrFrom4([4]byte{192, 168, byte(node >> 8), byte(node)})}}
	}
	key := cluster.PodKey{Namespace: fmt.Sprintf("ns%d", n), Name: fmt.Sprintf("pod%d", i)}
	p := cluster.Pod{
		Key: key, UID: key.String(), Node: nodeName, Phase: corev1.PodRunning,
		Labels: map[string]string{
			"app": fmt.Sprintf("app%d", i/3), "tier": []string{"web", "api", "db"}[i%3],
			"pod-template-hash": fmt.Sprintf("%x", (n*perNamespace+i)/3),
		},
		Addresses: []netip.Addr{netip.AddrFrom4([4]byte{10, byte(node >> 8), byte(node), byte(number + 1)})},
		Ports:     []cluster.Port{{Name: "http", Number: 8080, Protocol: corev1.ProtocolTCP}},
	}
	s.Pods[key] = p
	if node == 0 {
		a := cluster.Attachment{
			ID: cluster.AttachmentID{ContainerID: key.Namespace + "-" + key.Name, IfName: "eth0"}, Netns: "/run/netns/" + key.Namespace + "-" + key.Name,
			Pod: key, PodUID: p.UID, Addresses: p.Addresses, Revision: uint64(number),
		}
		s.Attachments[a.ID] = a
	}
}

// cityPolicy is one of five kinds.
func cityPolicy(n int) cluster.NetworkPolicy {
	type peer = networkingv1.NetworkPolicyPeer
	label := func(key, value string) *metav1.LabelSelector {
		return &metav1.LabelSelector{MatchLabels: map[string]string{key: value}}
	}
	ports := func(numbers ...int32) (list []networkingv1.NetworkPolicyPort) {
		for _, n := range numbers {
			list = append(list, networkingv1.NetworkPolicyPort{Port: new(intstr.FromInt32(n))})
		}
		return list
	}
	var spec networkingv1.NetworkPolicySpec
	ingress := func(ports []networkingv1.NetworkPolicyPort, from ...peer) {
		spec.Ingress = append(spec.Ingress, networkingv1.NetworkPolicyIngressRule{From: from, Ports: ports})
	}
	switch n % 5 {
	case 0: // a tier of the own namespace
		spec.PodSelector = *label("tier", "api")
		ingress(ports(8080), peer{PodSelector: label("tier", "web")})
	case 1: // a team
		ingress(ports(80, 443), peer{NamespaceSelector: label("team", fmt.Sprintf("t%d", n%50))})
	case 2: // a tier of all namespaces, by the name of the port
		ingress([]networkingv1.NetworkPolicyPort{{Port: new(intstr.FromString("http"))}}, peer{NamespaceSelector: &metav1.LabelSelector{}, PodSelector: label("tier", "web")})
	case 3: // the own namespace, the world without the cluster, and the name server
		ingress(nil, peer{PodSelector: &metav1.LabelSelector{}})
		dns := append(ports(53), networkingv1.NetworkPolicyPort{Protocol: new(corev1.ProtocolUDP), Port: new(intstr.FromInt32(53))})
		spec.Egress = []networkingv1.NetworkPolicyEgressRule{
			{To: []peer{{IPBlock: &networkingv1.IPBlock{CIDR: "0.0.0.0/0", Except: []string{"10.0.0.0/8", "192.168.0.0/16"}}}}},
			{To: []peer{{NamespaceSelector: label(corev1.LabelMetadataName, "ns0")}}, Ports: dns},
		}
		spec.PolicyTypes = []networkingv1.PolicyType{networkingv1.PolicyTypeIngress, networkingv1.PolicyTypeEgress}
	case 4: // nobody
	}
	return cluster.NetworkPolicy{Spec: spec}
}
