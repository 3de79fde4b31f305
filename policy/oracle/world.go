package oracle

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"github.com/millrace/millrace/cluster"
)

// World is a Snapshot, ready for questions. It is immutable.
type World struct {
	snapshot cluster.Snapshot
	parties  map[netip.Addr]*party
	inOrder  map[string][]cluster.NetworkPolicy // by namespace, then name
	tiers    map[Tier][]cluster.ClusterPolicy   // by priority, then name
}

// party is who is behind an address.
type party struct {
	pods  []cluster.Pod // as a rule one; those on the host's network are not among them
	nodes []cluster.Node
	// here are those of the pods that have an interface with the address on this node; when
	// there are any, the others that claim it are only talked of.
	here []cluster.Pod
}

// judges are the pods whose interface the address is behind.
func (p party) judges() []cluster.Pod {
	if len(p.here) > 0 {
		return p.here
	}
	return p.pods
}

func (p party) isNode(name string) bool {
	return slices.ContainsFunc(p.nodes, func(n cluster.Node) bool { return n.Name == name })
}

// New reads a Snapshot, once for all questions about it.
func New(s cluster.Snapshot) World {
	w := World{snapshot: s, parties: map[netip.Addr]*party{}, inOrder: map[string][]cluster.NetworkPolicy{}, tiers: map[Tier][]cluster.ClusterPolicy{}}
	given := map[cluster.PodKey][]netip.Addr{}
	for _, a := range s.Attachments {
		given[a.Pod] = slices.AppendSeq(given[a.Pod], a.AllAddresses())
	}
	for _, key := range slices.SortedFunc(maps.Keys(s.Pods), cluster.PodKey.Compare) {
		pod := s.Pods[key]
		if !alive(pod) || pod.HostNetwork {
			continue
		}
		// Those that its status tells, and those that were given to it here.
		all := slices.Concat(pod.Addresses, given[key])
		slices.SortFunc(all, netip.Addr.Compare)
		for _, a := range slices.Compact(all) {
			p := w.party(a)
			p.pods = append(p.pods, pod)
			if slices.Contains(given[key], a) {
				p.here = append(p.here, pod)
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(s.Nodes)) {
		for _, a := range s.Nodes[name].Addresses {
			p := w.party(a)
			p.nodes = append(p.nodes, s.Nodes[name])
		}
	}
	for _, key := range slices.SortedFunc(maps.Keys(s.NetworkPolicies), cluster.PolicyKey.Compare) {
		w.inOrder[key.Namespace] = append(w.inOrder[key.Namespace], s.NetworkPolicies[key])
	}
	for _, name := range slices.Sorted(maps.Keys(s.ClusterPolicies)) {
		t, _ := tierOf(s.ClusterPolicies[name])
		w.tiers[t] = append(w.tiers[t], s.ClusterPolicies[name])
	}
	for _, list := range w.tiers {
		slices.SortStableFunc(list, func(a, b cluster.ClusterPolicy) int { return cmp.Compare(a.Spec.Priority, b.Spec.Priority) })
	}
	return w
}

func (w World) party(a netip.Addr) *party {
	p := w.parties[a]
	if p == nil {
		p = &party{}
		w.parties[a] = p
	}
	return p
}

// who finds those who have an address.
func (w World) who(a netip.Addr) party {
	if p := w.parties[a]; p != nil {
		return *p
	}
	return party{}
}

func alive(p cluster.Pod) bool { return p.Phase != corev1.PodSucceeded && p.Phase != corev1.PodFailed }

// namespaceLabels are those of the object, and the one that the API server gives to each.
func (w World) namespaceLabels(name string) map[string]string {
	labels := maps.Clone(w.snapshot.Namespaces[name].Labels)
	if labels == nil {
		labels = map[string]string{}
	}
	labels[corev1.LabelMetadataName] = name
	return labels
}
