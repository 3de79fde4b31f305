package oracle

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"github.com/millrace/millrace/cluster"
)

// world is the facts, as questions about them.
type world struct{ snapshot cluster.Snapshot }

// party is who is behind an address.
type party struct {
	pods  []cluster.Pod // as a rule one; those on the host's network are not among them
	nodes []cluster.Node
}

func (p party) isNode(name string) bool {
	return slices.ContainsFunc(p.nodes, func(n cluster.Node) bool { return n.Name == name })
}

// who finds those who have an address.
func (w world) who(a netip.Addr) (p party) {
	for _, pod := range w.snapshot.Pods {
		if alive(pod) && !pod.HostNetwork && slices.Contains(w.addresses(pod), a) {
			p.pods = append(p.pods, pod)
		}
	}
	for _, node := range w.snapshot.Nodes {
		if slices.Contains(node.Addresses, a) {
			p.nodes = append(p.nodes, node)
		}
	}
	slices.SortFunc(p.pods, func(a, b cluster.Pod) int { return a.Key.Compare(b.Key) })
	slices.SortFunc(p.nodes, func(a, b cluster.Node) int { return cmp.Compare(a.Name, b.Name) })
	return p
}

// addresses are those that the pod's status tells and those that were given to it here.
func (w world) addresses(p cluster.Pod) []netip.Addr {
	all := slices.Clone(p.Addresses)
	for _, a := range w.snapshot.Attachments {
		if a.Pod == p.Key {
			all = slices.AppendSeq(all, a.AllAddresses())
		}
	}
	return all
}

func alive(p cluster.Pod) bool { return p.Phase != corev1.PodSucceeded && p.Phase != corev1.PodFailed }

// namespaceLabels are those of the object, and the one that the API server gives to each.
func (w world) namespaceLabels(name string) map[string]string {
	labels := maps.Clone(w.snapshot.Namespaces[name].Labels)
	if labels == nil {
		labels = map[string]string{}
	}
	labels[corev1.LabelMetadataName] = name
	return labels
}
