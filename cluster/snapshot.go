// Package cluster owns the facts: one Snapshot of nodes, namespaces, pods, policies,
// services, secrets and CNI attachments, as the API server, a directory of objects and the CNI door tell them.
//
// It holds values only. It never learns a fact itself, never changes one, and knows
// nothing of dataplanes.
package cluster

import (
	"net/netip"

	corev1 "k8s.io/api/core/v1"
)

// Snapshot is everything the agent knows at one moment. Whoever holds one treats it as
// immutable; a change of facts is another Snapshot.
type Snapshot struct {
	// Revision is that of the attachments: every attachment fact stored with a revision up
	// to it is in.
	Revision        uint64
	Nodes           map[string]Node
	Namespaces      map[string]Namespace
	Pods            map[PodKey]Pod
	NetworkPolicies map[PolicyKey]NetworkPolicy
	ClusterPolicies map[string]ClusterPolicy
	Services        map[ServiceKey]Service
	EndpointSlices  map[ServiceKey]EndpointSlice
	Secrets         map[SecretKey]Secret
	Attachments     map[AttachmentID]Attachment
}

// Node is what the dataplane needs of a Kubernetes Node.
type Node struct {
	Name      string
	Labels    map[string]string
	Addresses []netip.Addr   // the InternalIPs, in the order of the object
	PodCIDRs  []netip.Prefix // spec.podCIDRs, masked
}

// Namespace is what selectors need of a Kubernetes Namespace.
type Namespace struct {
	Name   string
	Labels map[string]string
}

// PodKey names a pod.
type PodKey struct{ Namespace, Name string }

// Pod is what the dataplane needs of a Kubernetes Pod, wherever it runs.
type Pod struct {
	Key         PodKey
	UID         string
	Node        string // spec.nodeName; empty while unscheduled
	HostNetwork bool
	Phase       corev1.PodPhase
	Labels      map[string]string
	Annotations map[string]string // only those under millrace.io/ and kubernetes.io/*-bandwidth
	Addresses   []netip.Addr      // status.podIPs
	Ports       []Port            // named container ports
	HostPorts   []HostPort        // those of its containers; none where it has the node's network
}

// Port is one container port.
type Port struct {
	Name     string
	Number   uint16
	Protocol corev1.Protocol
}

// HostPort is a port of the node that leads to a container's.
type HostPort struct {
	HostIP    netip.Addr // the zero Addr: all of the node's; 0.0.0.0 or :: all of one family
	Port      uint16     // of the node
	Container uint16
	Protocol  corev1.Protocol
}

// WithAttachments returns a Snapshot with the same cluster facts and other attachments.
// Two attachments of one ID: the one with the higher revision stays.
func (s Snapshot) WithAttachments(revision uint64, attachments []Attachment) Snapshot {
	s.Revision = revision
	s.Attachments = make(map[AttachmentID]Attachment, len(attachments))
	for _, a := range attachments {
		if was, ok := s.Attachments[a.ID]; !ok || was.Revision <= a.Revision {
			s.Attachments[a.ID] = a
		}
	}
	return s
}
