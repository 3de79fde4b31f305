package watch

import (
	"errors"
	"fmt"
	"net/netip"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"github.com/millrace/millrace/cluster"
)

// errNotOurs says that an object is sound and none of the dataplane's business.
var errNotOurs = errors.New("not for the dataplane")

// Labels by which Kubernetes hands a Service to another implementation of services.
const (
	labelProxyName = "service.kubernetes.io/service-proxy-name"
	labelHeadless  = "service.kubernetes.io/headless"
)

// Service keeps of a Kubernetes Service what the dataplane needs. One without cluster
// addresses (headless, or an ExternalName) or with another implementation's label is
// errNotOurs. One without a namespace is in "default".
func Service(o *corev1.Service) (cluster.Service, error) {
	s := cluster.Service{
		Key:           cluster.ServiceKey{Namespace: orDefault(o.Namespace), Name: o.Name},
		UID:           string(o.UID),
		InternalLocal: o.Spec.InternalTrafficPolicy != nil && *o.Spec.InternalTrafficPolicy == corev1.ServiceInternalTrafficPolicyLocal,
		ExternalLocal: o.Spec.ExternalTrafficPolicy == corev1.ServiceExternalTrafficPolicyLocal,
	}
	if s.Key.Name == "" {
		return s, errNoName
	}
	if others(o.Labels) || o.Spec.Type == corev1.ServiceTypeExternalName || o.Spec.ClusterIP == corev1.ClusterIPNone {
		return s, errNotOurs
	}
	var err error
	if s.ClusterIPs, err = clusterIPs(o); err != nil {
		return s, err
	}
	if len(s.ClusterIPs) == 0 {
		return s, errNotOurs // the API server has yet to choose its address
	}
	if s.ExternalIPs, err = addresses("spec.externalIPs", o.Spec.ExternalIPs); err != nil {
		return s, err
	}
	if err := loadBalancer(&s, o); err != nil {
		return s, err
	}
	if o.Spec.SessionAffinity == corev1.ServiceAffinityClientIP {
		s.AffinitySeconds = uint32(corev1.DefaultClientIPServiceAffinitySeconds)
		if c := o.Spec.SessionAffinityConfig; c != nil && c.ClientIP != nil && c.ClientIP.TimeoutSeconds != nil {
			s.AffinitySeconds = uint32(max(*c.ClientIP.TimeoutSeconds, 0))
		}
	}
	if o.Spec.TrafficDistribution != nil {
		s.TrafficPreference = *o.Spec.TrafficDistribution
	}
	s.Ports, err = servicePorts(o.Spec.Ports)
	return s, err
}

func others(labels map[string]string) bool {
	_, proxied := labels[labelProxyName]
	_, headless := labels[labelHeadless]
	return proxied || headless
}

func clusterIPs(o *corev1.Service) ([]netip.Addr, error) {
	if len(o.Spec.ClusterIPs) == 0 && o.Spec.ClusterIP != "" {
		return addresses("spec.clusterIP", []string{o.Spec.ClusterIP})
	}
	return addresses("spec.clusterIPs", o.Spec.ClusterIPs)
}

func loadBalancer(s *cluster.Service, o *corev1.Service) error {
	if o.Spec.Type != corev1.ServiceTypeLoadBalancer {
		return nil
	}
	for i, in := range o.Status.LoadBalancer.Ingress {
		if in.IP == "" || in.IPMode != nil && *in.IPMode != corev1.LoadBalancerIPModeVIP {
			continue
		}
		addr, err := netip.ParseAddr(in.IP)
		if err != nil {
			return fmt.Errorf("status.loadBalancer.ingress[%d].ip: %w", i, err)
		}
		s.LoadBalancerIPs = append(s.LoadBalancerIPs, addr.Unmap())
	}
	for i, text := range o.Spec.LoadBalancerSourceRanges {
		p, err := netip.ParsePrefix(text)
		if err != nil {
			return fmt.Errorf("spec.loadBalancerSourceRanges[%d]: %w", i, err)
		}
		s.SourceRanges = append(s.SourceRanges, p.Masked())
	}
	var err error
	s.HealthCheckPort, err = portNumber("spec.healthCheckNodePort", o.Spec.HealthCheckNodePort, 0)
	return err
}

func servicePorts(all []corev1.ServicePort) ([]cluster.ServicePort, error) {
	var ports []cluster.ServicePort
	for i, p := range all {
		number, err := portNumber(fmt.Sprintf("spec.ports[%d].port", i), p.Port, 1)
		if err != nil {
			return nil, err
		}
		node, err := portNumber(fmt.Sprintf("spec.ports[%d].nodePort", i), p.NodePort, 0)
		if err != nil {
			return nil, err
		}
		ports = append(ports, cluster.ServicePort{Name: p.Name, Protocol: orTCP(p.Protocol), Port: number, NodePort: node})
	}
	return ports, nil
}

// EndpointSlice keeps of a Kubernetes EndpointSlice what the dataplane needs. One of names
// instead of addresses, of no Service or of a headless one is errNotOurs.
func EndpointSlice(o *discoveryv1.EndpointSlice) (cluster.EndpointSlice, error) {
	s := cluster.EndpointSlice{
		Key:     cluster.ServiceKey{Namespace: orDefault(o.Namespace), Name: o.Name},
		Service: o.Labels[discoveryv1.LabelServiceName],
	}
	if s.Key.Name == "" {
		return s, errNoName
	}
	if s.Service == "" || others(o.Labels) || o.AddressType == discoveryv1.AddressTypeFQDN {
		return s, errNotOurs
	}
	for i, p := range o.Ports {
		if p.Port == nil {
			continue // "all ports", which no port of a Service leads to
		}
		number, err := portNumber(fmt.Sprintf("ports[%d].port", i), *p.Port, 1)
		if err != nil {
			return s, err
		}
		s.Ports = append(s.Ports, cluster.Port{Name: value(p.Name, ""), Number: number, Protocol: value(p.Protocol, corev1.ProtocolTCP)})
	}
	s.Endpoints = make([]cluster.Endpoint, 0, len(o.Endpoints))
	for i, e := range o.Endpoints {
		if len(e.Addresses) == 0 {
			return s, fmt.Errorf("endpoints[%d].addresses: want one", i)
		}
		// Those behind the first mean nothing, by the API's definition.
		addr, err := netip.ParseAddr(e.Addresses[0])
		if err != nil {
			return s, fmt.Errorf("endpoints[%d].addresses[0]: %w", i, err)
		}
		ready := value(e.Conditions.Ready, true)
		s.Endpoints = append(s.Endpoints, cluster.Endpoint{
			Address: addr.Unmap(), Node: value(e.NodeName, ""), Ready: ready,
			Serving: value(e.Conditions.Serving, ready), Terminating: value(e.Conditions.Terminating, false),
		})
	}
	return s, nil
}

func addresses(field string, texts []string) ([]netip.Addr, error) {
	var all []netip.Addr
	for i, text := range texts {
		addr, err := netip.ParseAddr(text)
		if err != nil {
			return nil, fmt.Errorf("%s[%d]: %w", field, i, err)
		}
		all = append(all, addr.Unmap())
	}
	return all, nil
}

func portNumber(field string, n int32, least uint16) (uint16, error) {
	if n < int32(least) || n > 65535 {
		return 0, fmt.Errorf("%s: %d: want %d to 65535", field, n, least)
	}
	return uint16(n), nil
}

func value[T any](p *T, otherwise T) T {
	if p == nil {
		return otherwise
	}
	return *p
}

func orDefault(namespace string) string {
	if namespace == "" {
		return corev1.NamespaceDefault
	}
	return namespace
}

func orTCP(p corev1.Protocol) corev1.Protocol {
	if p == "" {
		return corev1.ProtocolTCP
	}
	return p
}
