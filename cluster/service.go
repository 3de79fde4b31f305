package cluster

import (
	"cmp"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/millrace/millrace/internal/textline"
)

// ServiceKey names a Service.
type ServiceKey struct{ Namespace, Name string }

func (k ServiceKey) String() string { return k.Namespace + "/" + k.Name }

// Compare orders by namespace, then name.
func (k ServiceKey) Compare(o ServiceKey) int {
	return cmp.Or(strings.Compare(k.Namespace, o.Namespace), strings.Compare(k.Name, o.Name))
}

// Service is what the dataplane needs of a Kubernetes Service: under which addresses it is
// found, and by which rules a backend is chosen. The backends are in its EndpointSlices.
type Service struct {
	Key               ServiceKey
	UID               string
	ClusterIPs        []netip.Addr // none: a headless Service
	ExternalIPs       []netip.Addr // spec.externalIPs
	LoadBalancerIPs   []netip.Addr // of status.loadBalancer, those that reach a node unchanged (ipMode VIP)
	SourceRanges      []netip.Prefix
	Ports             []ServicePort
	InternalLocal     bool   // spec.internalTrafficPolicy is Local
	ExternalLocal     bool   // spec.externalTrafficPolicy is Local
	AffinitySeconds   uint32 // of client addresses; 0 = no affinity
	HealthCheckPort   uint16 // spec.healthCheckNodePort
	TrafficPreference string // spec.trafficDistribution
}

// ServicePort is one port of a Service. Where it leads stands in the EndpointSlices, under
// the same name.
type ServicePort struct {
	Name     string // empty allowed when there is one port
	Protocol corev1.Protocol
	Port     uint16
	NodePort uint16 // 0 = none
}

// EndpointSlice is what the dataplane needs of a Kubernetes EndpointSlice of addresses.
type EndpointSlice struct {
	Key       ServiceKey // of the slice itself
	Service   string     // name of its Service, in the same namespace
	Ports     []Port     // by the names of the Service's ports
	Endpoints []Endpoint
}

// Endpoint is one backend. Kubernetes' conditions are resolved: what is unset has its
// default.
type Endpoint struct {
	Address     netip.Addr
	Node        string // empty when it is on none
	Ready       bool
	Serving     bool
	Terminating bool
}

// ParseServiceKey reads namespace/name.
func ParseServiceKey(s string) (ServiceKey, error) {
	key, err := ParsePodKey(s)
	if err != nil {
		return ServiceKey{}, fmt.Errorf("parse name %q: want namespace/name", s)
	}
	return ServiceKey(key), nil
}

// String is one line, for example
//
//	service default/web clusterip=10.96.0.10 port=http:80/TCP/30080 external-local=true
func (s Service) String() string {
	l := textline.New("service", s.Key.String())
	l.Add("uid", s.UID)
	textline.AddAll(&l, "clusterip", s.ClusterIPs)
	textline.AddAll(&l, "externalip", s.ExternalIPs)
	textline.AddAll(&l, "loadbalancerip", s.LoadBalancerIPs)
	textline.AddAll(&l, "source", s.SourceRanges)
	textline.AddAll(&l, "port", s.Ports)
	addTrue(&l, "internal-local", s.InternalLocal)
	addTrue(&l, "external-local", s.ExternalLocal)
	l.AddUint("affinity", uint64(s.AffinitySeconds))
	l.AddUint("healthcheck", uint64(s.HealthCheckPort))
	l.Add("prefer", s.TrafficPreference)
	return l.String()
}

// String is name:port/protocol, with /nodeport behind it when there is one.
func (p ServicePort) String() string {
	text := Port{p.Name, p.Port, p.Protocol}.String()
	if p.NodePort != 0 {
		text += "/" + strconv.Itoa(int(p.NodePort))
	}
	return text
}

func parseServicePort(s string) (ServicePort, error) {
	text, nodePort := s, uint16(0)
	if strings.Count(s, "/") == 2 {
		i := strings.LastIndexByte(s, '/')
		n, err := parseSmall[uint16](s[i+1:])
		if err != nil {
			return ServicePort{}, fmt.Errorf("parse port %q: %w", s, err)
		}
		text, nodePort = s[:i], n
	}
	p, err := parsePort(text)
	return ServicePort{Name: p.Name, Protocol: p.Protocol, Port: p.Number, NodePort: nodePort}, err
}

// String is one line, for example
//
//	endpointslice default/web-x7 service=web port=http:8080/TCP endpoint="10.1.0.5 node=worker-1 ready=true serving=true"
func (s EndpointSlice) String() string {
	l := textline.New("endpointslice", s.Key.String())
	l.Add("service", s.Service)
	textline.AddAll(&l, "port", s.Ports)
	textline.AddAll(&l, "endpoint", s.Endpoints)
	return l.String()
}

// String is a line within a line.
func (e Endpoint) String() string {
	l := textline.New(e.Address.String())
	l.Add("node", e.Node)
	addTrue(&l, "ready", e.Ready)
	addTrue(&l, "serving", e.Serving)
	addTrue(&l, "terminating", e.Terminating)
	return l.String()
}

func parseEndpoint(s string) (Endpoint, error) {
	l, err := textline.Parse(s)
	if err == nil && len(l.Words) != 1 {
		err = fmt.Errorf("want an address, then fields")
	}
	if err != nil {
		return Endpoint{}, err
	}
	address, err := netip.ParseAddr(l.Words[0])
	if err != nil {
		return Endpoint{}, err
	}
	r := textline.Read(l)
	e := Endpoint{
		Address: address, Node: r.String("node"), Ready: textline.One(r, "ready", strconv.ParseBool),
		Serving: textline.One(r, "serving", strconv.ParseBool), Terminating: textline.One(r, "terminating", strconv.ParseBool),
	}
	return e, r.Done()
}

func addTrue(l *textline.Line, key string, value bool) {
	if value {
		l.Add(key, "true")
	}
}

func readService(key ServiceKey, r *textline.Reader) (Service, error) {
	s := Service{
		Key:               key,
		UID:               r.String("uid"),
		ClusterIPs:        textline.All(r, "clusterip", netip.ParseAddr),
		ExternalIPs:       textline.All(r, "externalip", netip.ParseAddr),
		LoadBalancerIPs:   textline.All(r, "loadbalancerip", netip.ParseAddr),
		SourceRanges:      textline.All(r, "source", netip.ParsePrefix),
		Ports:             textline.All(r, "port", parseServicePort),
		InternalLocal:     textline.One(r, "internal-local", strconv.ParseBool),
		ExternalLocal:     textline.One(r, "external-local", strconv.ParseBool),
		AffinitySeconds:   textline.One(r, "affinity", parseUint32),
		HealthCheckPort:   textline.One(r, "healthcheck", parseSmall[uint16]),
		TrafficPreference: r.String("prefer"),
	}
	return s, r.Done()
}

func readEndpointSlice(key ServiceKey, r *textline.Reader) (EndpointSlice, error) {
	s := EndpointSlice{
		Key: key, Service: r.String("service"), Ports: textline.All(r, "port", parsePort),
		Endpoints: textline.All(r, "endpoint", parseEndpoint),
	}
	return s, r.Done()
}
