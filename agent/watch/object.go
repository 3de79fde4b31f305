package watch

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/millrace/millrace/cluster"
	"github.com/millrace/millrace/internal/secret"
)

var errNoName = errors.New("metadata.name is missing")

// Node keeps of a Kubernetes Node what the dataplane needs.
func Node(o *corev1.Node) (cluster.Node, error) {
	n := cluster.Node{Name: o.Name, Labels: o.Labels}
	if n.Name == "" {
		return n, errNoName
	}
	for i, a := range o.Status.Addresses {
		if a.Type != corev1.NodeInternalIP {
			continue
		}
		addr, err := netip.ParseAddr(a.Address)
		if err != nil {
			return n, fmt.Errorf("status.addresses[%d].address: %w", i, err)
		}
		n.Addresses = append(n.Addresses, addr.Unmap())
	}
	cidrs, field := o.Spec.PodCIDRs, "spec.podCIDRs"
	if len(cidrs) == 0 && o.Spec.PodCIDR != "" {
		cidrs, field = []string{o.Spec.PodCIDR}, "spec.podCIDR"
	}
	for i, text := range cidrs {
		p, err := netip.ParsePrefix(text)
		if err != nil {
			return n, fmt.Errorf("%s[%d]: %w", field, i, err)
		}
		if p != p.Masked() {
			return n, fmt.Errorf("%s[%d]: %s has host bits: want %s", field, i, p, p.Masked())
		}
		n.PodCIDRs = append(n.PodCIDRs, p)
	}
	return n, nil
}

// Namespace keeps of a Kubernetes Namespace what selectors need.
func Namespace(o *corev1.Namespace) (cluster.Namespace, error) {
	n := cluster.Namespace{Name: o.Name, Labels: o.Labels}
	if n.Name == "" {
		return n, errNoName
	}
	return n, nil
}

// Pod keeps of a Kubernetes Pod what the dataplane needs. A Pod without a namespace is in
// "default". The mirror of a static pod has the UID that its node knows the pod by.
func Pod(o *corev1.Pod) (cluster.Pod, error) {
	p := cluster.Pod{
		Key: cluster.PodKey{Namespace: orDefault(o.Namespace), Name: o.Name}, UID: string(o.UID), Node: o.Spec.NodeName,
		HostNetwork: o.Spec.HostNetwork, Phase: o.Status.Phase, Labels: o.Labels,
		Annotations: ourAnnotations(o.Annotations),
	}
	if mirrored, ok := o.Annotations[corev1.MirrorPodAnnotationKey]; ok {
		p.UID = mirrored
	}
	if p.Key.Name == "" {
		return p, errNoName
	}
	for i, ip := range o.Status.PodIPs {
		addr, err := netip.ParseAddr(ip.IP)
		if err != nil {
			return p, fmt.Errorf("status.podIPs[%d].ip: %w", i, err)
		}
		p.Addresses = append(p.Addresses, addr.Unmap())
	}
	for i, c := range o.Spec.Containers {
		if err := containerPorts(&p, fmt.Sprintf("spec.containers[%d]", i), c.Ports); err != nil {
			return p, err
		}
	}
	for i, c := range o.Spec.InitContainers {
		if c.RestartPolicy == nil || *c.RestartPolicy != corev1.ContainerRestartPolicyAlways {
			continue // it ends before the others begin
		}
		if err := containerPorts(&p, fmt.Sprintf("spec.initContainers[%d]", i), c.Ports); err != nil {
			return p, err
		}
	}
	return p, nil
}

// containerPorts keeps the ports of a container that have a name, and those that the node
// has, too. Where a pod has the node's network, the node's port is the container's own.
func containerPorts(p *cluster.Pod, field string, ports []corev1.ContainerPort) error {
	for i, port := range ports {
		at := fmt.Sprintf("%s.ports[%d]", field, i)
		number, err := portNumber(at+".containerPort", port.ContainerPort, 1)
		if err != nil {
			return err
		}
		if port.Name != "" {
			p.Ports = append(p.Ports, cluster.Port{Name: port.Name, Number: number, Protocol: orTCP(port.Protocol)})
		}
		if port.HostPort == 0 || p.HostNetwork {
			continue
		}
		host := cluster.HostPort{Container: number, Protocol: orTCP(port.Protocol)}
		if host.Port, err = portNumber(at+".hostPort", port.HostPort, 1); err != nil {
			return err
		}
		if port.HostIP != "" {
			if host.HostIP, err = netip.ParseAddr(port.HostIP); err != nil {
				return fmt.Errorf("%s.hostIP: %w", at, err)
			}
			host.HostIP = host.HostIP.Unmap()
		}
		p.HostPorts = append(p.HostPorts, host)
	}
	return nil
}

// ourAnnotations are those that the dataplane reads; others change often and mean nothing
// to it.
func ourAnnotations(all map[string]string) map[string]string {
	var ours map[string]string
	for key, value := range all {
		if !strings.HasPrefix(key, "millrace.io/") && key != "kubernetes.io/ingress-bandwidth" && key != "kubernetes.io/egress-bandwidth" {
			continue
		}
		if ours == nil {
			ours = map[string]string{}
		}
		ours[key] = value
	}
	return ours
}

// Secret keeps what a Secret holds; stringData wins over data, as in the API server. One
// without a namespace is in "default".
func Secret(o *corev1.Secret) (cluster.Secret, error) {
	s := cluster.Secret{Key: cluster.SecretKey{Namespace: orDefault(o.Namespace), Name: o.Name}, Data: map[string]secret.Text{}}
	if s.Key.Name == "" {
		return s, errNoName
	}
	for key, value := range o.Data {
		s.Data[key] = secret.New(string(value), secret.Salt{})
	}
	for key, value := range o.StringData {
		s.Data[key] = secret.New(value, secret.Salt{})
	}
	return s, nil
}
