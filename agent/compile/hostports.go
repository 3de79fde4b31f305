package compile

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"github.com/millrace/millrace/cluster"
	"github.com/millrace/millrace/dataplane"
	"github.com/millrace/millrace/service"
)

// hostPorts has the node's addresses lead to the ports that pods here ask for. Services
// have theirs first; of two pods the older attachment has it, as for addresses.
func (c *compilation) hostPorts(s cluster.Snapshot, served []cluster.Attachment) {
	for _, a := range newestOfPods(served) {
		pod := s.Pods[a.Pod]
		if pod.Phase == corev1.PodSucceeded || pod.Phase == corev1.PodFailed {
			continue
		}
		for _, port := range pod.HostPorts {
			if err := c.hostPort(a, port); err != nil {
				c.result.Services = append(c.result.Services, service.Problem{About: pod.Ref(), Reason: err.reason, Err: err.error})
			}
		}
	}
	if len(c.result.NodePorts) > len(c.serviceNodePorts) {
		slices.SortFunc(c.result.NodePorts, service.NodePort.Compare)
	}
}

// newestOfPods leaves of each pod what its latest sandbox is connected by: the first
// attachment of the last container.
func newestOfPods(inOrder []cluster.Attachment) []cluster.Attachment {
	container, newest := map[cluster.PodKey]string{}, map[cluster.PodKey]cluster.Attachment{}
	for _, a := range inOrder {
		if a.Pod != (cluster.PodKey{}) && container[a.Pod] != a.ID.ContainerID {
			container[a.Pod], newest[a.Pod] = a.ID.ContainerID, a
		}
	}
	var list []cluster.Attachment
	for _, a := range newest {
		list = append(list, a)
	}
	slices.SortFunc(list, func(a, b cluster.Attachment) int {
		return cmp.Or(cmp.Compare(a.Revision, b.Revision), a.ID.Compare(b.ID))
	})
	return list
}

type hostPortError struct {
	reason service.Reason
	error
}

// hostPort adds the translations of one port, none if somebody else has it.
func (c *compilation) hostPort(a cluster.Attachment, p cluster.HostPort) *hostPortError {
	protocol, ok := service.Protocol(p.Protocol)
	if !ok {
		return &hostPortError{service.ProtocolUnknown, fmt.Errorf("hostPort %d: protocol %s is not translated", p.Port, p.Protocol)}
	}
	at := c.hostAddresses(p.HostIP)
	if len(at) == 0 {
		return &hostPortError{service.HostIPUnknown, fmt.Errorf("hostPort %d: hostIP %s is no InternalIP of the node: it is not served", p.Port, p.HostIP)}
	}
	var wanted []dataplane.Translation
	var unserved *hostPortError
	for _, address := range at {
		to, ok := firstOf(a, dataplane.FamilyOf(address))
		if !ok {
			continue
		}
		if !service.Served(protocol, address) {
			unserved = &hostPortError{service.SCTPOverIPv6, fmt.Errorf("hostPort %d: SCTP to %s is not translated: cnat knows it over IPv4 only", p.Port, address)}
			continue
		}
		t := dataplane.Translation{
			VIP: netip.AddrPortFrom(address, p.Port), Protocol: protocol, Backends: []netip.AddrPort{netip.AddrPortFrom(to, p.Container)},
		}
		if _, taken := c.result.State.Object(t.Key()); taken || c.isNodePort(t) {
			return &hostPortError{service.HostPortTaken, fmt.Errorf("hostPort %d: %s of the node is another's already: it is not served", p.Port, t.VIP)}
		}
		wanted = append(wanted, t)
	}
	for _, t := range wanted {
		c.put(t)
		c.result.Owners[t.Key()] = a.ID
		c.result.NodePorts = append(c.result.NodePorts, service.NodePort{At: t.VIP, Protocol: protocol, To: t.Backends[0]})
	}
	return unserved
}

// firstOf is an attachment's address of a family.
func firstOf(a cluster.Attachment, f dataplane.Family) (netip.Addr, bool) {
	for address := range a.AllAddresses() {
		if dataplane.FamilyOf(address) == f {
			return address, true
		}
	}
	return netip.Addr{}, false
}

// isNodePort says whether a service has a port, be it that nobody is behind it now.
func (c *compilation) isNodePort(t dataplane.Translation) bool {
	_, found := slices.BinarySearchFunc(c.serviceNodePorts, service.NodePort{At: t.VIP, Protocol: t.Protocol}, service.NodePort.Compare)
	return found
}

// hostAddresses are those of the node that a hostIP means; an unspecified one is all of
// its family, and none is all.
func (c *compilation) hostAddresses(ip netip.Addr) (list []netip.Addr) {
	for _, a := range c.node.Addresses {
		if !ip.IsValid() || a == ip || ip.IsUnspecified() && a.Is4() == ip.Is4() {
			list = append(list, a)
		}
	}
	return list
}
