package policytest

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"github.com/millrace/millrace/cluster"
	"github.com/millrace/millrace/internal/memifspec"
)

func (g gen) cluster() cluster.Snapshot {
	s := cluster.Snapshot{
		Nodes: map[string]cluster.Node{}, Namespaces: map[string]cluster.Namespace{}, Pods: map[cluster.PodKey]cluster.Pod{},
		NetworkPolicies: map[cluster.PolicyKey]cluster.NetworkPolicy{}, ClusterPolicies: map[string]cluster.ClusterPolicy{},
		Attachments: map[cluster.AttachmentID]cluster.Attachment{},
	}
	for i, name := range []string{Node, "n2"} {
		n := cluster.Node{Name: name, Labels: g.labels(), Addresses: []netip.Addr{netip.AddrFrom4([4]byte{192, 0, 2, byte(i + 1)})}}
		if !g.one(3) {
			n.Addresses = append(n.Addresses, six(0x2001, i+1))
		}
		s.Nodes[name] = n
	}
	for _, name := range []string{"a", "b", "c"} {
		if !g.one(5) { // one that is not known has its name as label
			s.Namespaces[name] = cluster.Namespace{Name: name, Labels: g.labels()}
		}
	}
	p := pods{gen: g, snapshot: s, free4: g.Perm(14), free6: g.Perm(14)}
	for i := range 2 + g.IntN(8) {
		p.add(fmt.Sprint("p", i))
	}
	for i := range g.IntN(5) {
		n := g.networkPolicy()
		n.Key = cluster.PolicyKey{Namespace: pick(g, "a", "b", "c"), Name: fmt.Sprint("np", i)}
		s.NetworkPolicies[n.Key] = n
	}
	for i := range min(g.IntN(5), g.IntN(5)) {
		c := g.clusterPolicy()
		c.Name = fmt.Sprint("cnp", i)
		s.ClusterPolicies[c.Name] = c
	}
	return s
}

// six is an address of IPv6 below one of two prefixes.
func six(prefix, n int) netip.Addr {
	a := [16]byte{0: byte(prefix >> 8), 1: byte(prefix), 15: byte(n)}
	if prefix == 0x2001 {
		a[2], a[3] = 0x0d, 0xb8
	}
	return netip.AddrFrom16(a)
}

func (g gen) labels() map[string]string {
	m := map[string]string{}
	for _, key := range []string{"k", "l"} {
		if !g.one(3) {
			m[key] = pick(g, "x", "y", "z")
		}
	}
	return m
}

// pods adds pods and keeps which addresses are not anybody's.
type pods struct {
	gen
	snapshot     cluster.Snapshot
	free4, free6 []int
}

func (p *pods) addresses() (list []netip.Addr) {
	family := p.IntN(4) // 0: IPv4, 1: IPv6, else both
	if family != 1 && len(p.free4) > 0 {
		list = append(list, netip.AddrFrom4([4]byte{10, 0, 0, byte(p.free4[0] + 1)}))
		p.free4 = p.free4[1:]
	}
	if family != 0 && len(p.free6) > 0 {
		list = append(list, six(0xfd00, p.free6[0]+1))
		p.free6 = p.free6[1:]
	}
	return list
}

func (p *pods) add(name string) {
	pod := cluster.Pod{
		Key: cluster.PodKey{Namespace: pick(p.gen, "a", "b", "c"), Name: name}, UID: "uid-" + name, Node: pick(p.gen, Node, Node, Node, "n2", "n2", ""),
		Phase: corev1.PodRunning, Labels: p.labels(), Ports: some(p.gen, 3, p.port),
	}
	if p.one(6) {
		pod.Phase = pick(p.gen, corev1.PodPending, corev1.PodSucceeded, corev1.PodFailed, corev1.PodUnknown)
	}
	switch {
	case pod.Node != "" && p.one(6):
		pod.HostNetwork, pod.Addresses = true, p.snapshot.Nodes[pod.Node].Addresses
	case pod.Phase == corev1.PodSucceeded || pod.Phase == corev1.PodFailed:
		// It gave its addresses back, and they may be another's.
		free4, free6 := p.free4, p.free6
		pod.Addresses = p.addresses()
		p.free4, p.free6 = free4, free6
	case pod.Node != Node && p.one(6) && len(p.snapshot.Attachments) > 0:
		// It ends, and its address is given to another pod already.
		for _, id := range slices.SortedFunc(maps.Keys(p.snapshot.Attachments), cluster.AttachmentID.Compare)[:1] {
			pod.Addresses = slices.Collect(p.snapshot.Attachments[id].AllAddresses())
		}
	default:
		pod.Addresses = p.addresses()
	}
	p.snapshot.Pods[pod.Key] = pod
	if pod.Node == Node && !pod.HostNetwork && pod.Phase != corev1.PodSucceeded && pod.Phase != corev1.PodFailed && len(pod.Addresses) > 0 {
		p.attach(pod)
	}
}

func (p *pods) port() cluster.Port {
	return cluster.Port{Name: pick(p.gen, "http", "dns"), Number: uint16(1 + p.IntN(8)), Protocol: p.protocol()}
}

// attach gives a pod its interface, and sometimes a memif beside or instead of it. The
// status may come later than the interface.
func (p *pods) attach(pod cluster.Pod) {
	a := cluster.Attachment{
		ID: cluster.AttachmentID{ContainerID: "c-" + pod.Key.Name, IfName: "eth0"}, Netns: "/run/netns/" + pod.Key.Name, Pod: pod.Key, PodUID: pod.UID,
		Addresses: pod.Addresses, Revision: uint64(len(p.snapshot.Attachments) + 1),
	}
	m := cluster.Memif{Spec: memifspec.Spec{Name: "memif0", Mode: memifspec.IP, RxQueues: 1, TxQueues: 1, RingSize: 1024, BufferSize: 2048}}
	switch p.IntN(6) {
	case 0:
		if m.Addresses = p.addresses(); len(m.Addresses) > 0 {
			a.Memifs = []cluster.Memif{m}
		}
	case 1:
		m.Addresses = a.Addresses
		a.Device, a.Addresses, a.Memifs = cluster.DeviceMemif, nil, []cluster.Memif{m}
	}
	p.snapshot.Attachments[a.ID] = a
	if p.one(6) {
		pod.Addresses = nil
		p.snapshot.Pods[pod.Key] = pod
	}
}
