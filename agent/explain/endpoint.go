package explain

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/millrace/millrace/cluster"
	"github.com/millrace/millrace/policy/oracle"
)

// Endpoint is one end of a connection, as people name it: a pod, or an address.
type Endpoint struct {
	Pod     cluster.PodKey
	Address netip.Addr // when no pod is named
}

// ParseEndpoint reads namespace/pod, or an IP address.
func ParseEndpoint(s string) (Endpoint, error) {
	if !strings.Contains(s, "/") {
		a, err := netip.ParseAddr(s)
		if err != nil || a.Zone() != "" {
			return Endpoint{}, fmt.Errorf("%q: want namespace/pod or an IP address", s)
		}
		return Endpoint{Address: a.Unmap()}, nil
	}
	key, err := cluster.ParsePodKey(s)
	if err != nil || key.Namespace == "" || key.Name == "" {
		return Endpoint{}, fmt.Errorf("%q: want namespace/pod or an IP address", s)
	}
	return Endpoint{Pod: key}, nil
}

func (e Endpoint) String() string {
	if e.Pod != (cluster.PodKey{}) {
		return e.Pod.String()
	}
	return e.Address.String()
}

// Service is what a connection is for.
type Service struct {
	Protocol uint8  // TCP, UDP, SCTP; ICMP stands for that of either family
	Port     uint16 // not for ICMP
}

// ParseService reads 80/tcp, 80 (which is TCP), or icmp (an echo request).
func ParseService(s string) (Service, error) {
	number, name, named := strings.Cut(s, "/")
	if strings.EqualFold(s, "icmp") {
		return Service{Protocol: oracle.ICMP}, nil
	}
	if !named {
		name = "TCP"
	}
	protocol, err := ParseProtocol(strings.ToUpper(name))
	if err != nil {
		return Service{}, fmt.Errorf("%q: %w", s, err)
	}
	port, err := strconv.ParseUint(number, 10, 16)
	if err != nil || port == 0 {
		return Service{}, fmt.Errorf("%q: want a port of 1 to 65535, /tcp, /udp or /sctp behind it; or icmp", s)
	}
	return Service{protocol, uint16(port)}, nil
}

// ParseProtocol reads TCP, UDP or SCTP.
func ParseProtocol(s string) (uint8, error) {
	switch s {
	case "TCP":
		return oracle.TCP, nil
	case "UDP":
		return oracle.UDP, nil
	case "SCTP":
		return oracle.SCTP, nil
	}
	return 0, fmt.Errorf("protocol %q: want TCP, UDP or SCTP", s)
}

// EndpointError says which end cannot be used.
type EndpointError struct {
	To  bool // else it is the one that sends
	Err error
}

func (e *EndpointError) Error() string {
	if e.To {
		return "to: " + e.Err.Error()
	}
	return "from: " + e.Err.Error()
}

func (e *EndpointError) Unwrap() error { return e.Err }

// Flows are the connections between two ends: one for each pair of addresses of a family.
// Its error is an [*EndpointError].
func (c *Cluster) Flows(from, to Endpoint, s Service) ([]oracle.Flow, error) {
	sources, err := c.addresses(from)
	if err != nil {
		return nil, &EndpointError{false, err}
	}
	targets, err := c.addresses(to)
	if err != nil {
		return nil, &EndpointError{true, err}
	}
	var list []oracle.Flow
	for _, a := range sources {
		for _, b := range targets {
			if a.Is4() != b.Is4() {
				continue
			}
			f := oracle.Flow{From: a, To: b, Protocol: s.Protocol, Port: s.Port}
			switch {
			case s.Protocol == oracle.ICMP && a.Is4():
				f.Type = 8
			case s.Protocol == oracle.ICMP:
				f.Protocol, f.Type = oracle.ICMPv6, 128
			}
			list = append(list, f)
		}
	}
	if len(list) == 0 {
		return nil, &EndpointError{true, fmt.Errorf("%s has no address of a family that %s has", to, from)}
	}
	return list, nil
}

// addresses are those of a pod, or the one that was named.
func (c *Cluster) addresses(e Endpoint) ([]netip.Addr, error) {
	if e.Address.IsValid() {
		return []netip.Addr{e.Address}, nil
	}
	p, ok := c.snapshot.Pods[e.Pod]
	switch {
	case !ok:
		return nil, fmt.Errorf("there is no pod %s", e.Pod)
	case completed(p):
		return nil, fmt.Errorf("pod %s has completed (%s): it has no interface any more", e.Pod, p.Phase)
	}
	list := slices.Clone(p.Addresses)
	for _, a := range c.snapshot.Attachments {
		if a.Pod == e.Pod {
			list = slices.AppendSeq(list, a.AllAddresses())
		}
	}
	slices.SortFunc(list, netip.Addr.Compare)
	if list = slices.Compact(list); len(list) == 0 {
		return nil, fmt.Errorf("pod %s: %w", e.Pod, errors.New("has no status.podIPs"))
	}
	return list, nil
}
