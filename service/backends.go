package service

import (
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"github.com/millrace/millrace/cluster"
)

const zoneLabel = corev1.LabelTopologyZone

// backend is an endpoint of one port of a service.
type backend struct {
	at       netip.AddrPort
	ready    bool
	draining bool // it still serves, and is about to end
	local    bool
	zone     string
}

// Protocol is the number of a protocol that is translated.
func Protocol(p corev1.Protocol) (uint8, bool) {
	n, ok := protocols[p]
	return n, ok
}

// Served says whether a protocol is translated in an address's family: VPP's cnat looks for
// ports of SCTP in IPv4 alone.
func Served(protocol uint8, a netip.Addr) bool {
	return a.Is4() || protocol != protocols[corev1.ProtocolSCTP]
}

var protocols = map[corev1.Protocol]uint8{corev1.ProtocolTCP: 6, corev1.ProtocolUDP: 17, corev1.ProtocolSCTP: 132}

// work fills in what a service wants, and what it does not get.
func (c *Compiler) work(s cluster.Snapshot, h *held) {
	fact := h.fact
	h.byZone = fact.TrafficPreference != ""
	parts := c.sorted(s, h.key)
	published, refused := published(fact)
	for _, port := range fact.Ports {
		protocol, ok := protocols[port.Protocol]
		if !ok {
			h.problem(ProtocolUnknown, "port %d: protocol %s is not translated", port.Port, port.Protocol)
			continue
		}
		all := c.backends(s, parts, port)
		for _, own := range fact.ClusterIPs {
			mine := only(all, func(b backend) bool { return b.at.Addr().Is4() == own.Is4() })
			if !Served(protocol, own) {
				mine = nil
				h.problem(SCTPOverIPv6, "port %d: SCTP to %s is not translated: cnat knows it over IPv4 only", port.Port, own)
			}
			cluster := netip.AddrPortFrom(own, port.Port)
			internal := want{c.choose(mine, fact.InternalLocal, fact.TrafficPreference), cluster}
			external := want{c.choose(mine, fact.ExternalLocal, fact.TrafficPreference), cluster}
			h.wants[front{cluster, protocol}] = internal
			h.add(published, port.Port, protocol, external)
			h.add(refused, port.Port, protocol, want{cluster: cluster})
			if port.NodePort != 0 {
				h.add(c.addresses, port.NodePort, protocol, external)
			}
		}
	}
	if fact.HealthCheckPort != 0 && fact.ExternalLocal {
		h.health = HealthCheck{fact.Ref(), fact.HealthCheckPort, c.localReady(parts)}
	}
	h.explain(refused)
}

// localReady counts the endpoints of this node, by address, as kube-proxy tells load
// balancers: those that end do not count, though they may still serve.
func (c *Compiler) localReady(parts []cluster.EndpointSlice) int {
	var local cluster.Set[netip.Addr]
	for _, slice := range parts {
		for _, e := range slice.Endpoints {
			if e.Ready && e.Node != "" && e.Node == c.node {
				local.Add(e.Address)
			}
		}
	}
	return len(local)
}

// add wants the same at all addresses of the family. A service has others only in the
// families of its cluster addresses.
func (h *held) add(addresses []netip.Addr, port uint16, protocol uint8, w want) {
	for _, a := range addresses {
		if a.Is4() == w.cluster.Addr().Is4() {
			h.wants[front{netip.AddrPortFrom(a, port), protocol}] = w
		}
	}
}

// explain says what the service does not get.
func (h *held) explain(refused []netip.Addr) {
	for _, a := range refused {
		h.problem(SourceRangesUnserved, "load balancer address %s is not served: spec.loadBalancerSourceRanges cannot be enforced, and without them everybody could connect", a)
	}
	if h.fact.AffinitySeconds > 0 {
		h.problem(AffinityTimeout, "session affinity holds as long as the endpoints stay: the timeout of %d s cannot be had", h.fact.AffinitySeconds)
	}
}

// published are the addresses for clients from outside. Those of a load balancer that are
// bounded to some sources are refused: nothing here could tell the others away.
func published(fact cluster.Service) (served, refused []netip.Addr) {
	served = slices.Clone(fact.ExternalIPs)
	for _, a := range fact.LoadBalancerIPs {
		if len(fact.SourceRanges) > 0 && !slices.Contains(fact.SourceRanges, netip.PrefixFrom(unspecified(a), 0)) {
			refused = append(refused, a)
			continue
		}
		served = append(served, a)
	}
	return served, refused
}

func unspecified(a netip.Addr) netip.Addr {
	if a.Is4() {
		return netip.IPv4Unspecified()
	}
	return netip.IPv6Unspecified()
}

// backends merges the slices of a service for one of its ports: each endpoint once, ready
// if any slice says so, as it is while it moves from one slice to another.
func (c *Compiler) backends(s cluster.Snapshot, parts []cluster.EndpointSlice, port cluster.ServicePort) []backend {
	found := map[netip.AddrPort]backend{}
	for _, slice := range parts {
		for _, p := range slice.Ports {
			if p.Name != port.Name || p.Protocol != port.Protocol || p.Number == 0 {
				continue
			}
			for _, e := range slice.Endpoints {
				at := netip.AddrPortFrom(e.Address, p.Number)
				b := backend{at: at, ready: e.Ready, draining: e.Serving && e.Terminating, local: e.Node != "" && e.Node == c.node, zone: s.Nodes[e.Node].Labels[zoneLabel]}
				if was, ok := found[at]; ok {
					b.ready, b.draining, b.local = b.ready || was.ready, b.draining || was.draining, b.local || was.local
				}
				found[at] = b
			}
		}
	}
	list := make([]backend, 0, len(found))
	for _, b := range found {
		list = append(list, b)
	}
	slices.SortFunc(list, func(a, b backend) int { return a.at.Compare(b.at) })
	return list
}

// choose are the backends, of one family, that a client reaches: of all or only of this
// node's, the ready ones; if there are none, those that end but still serve. Among them,
// those that the service prefers, if there are any.
func (c *Compiler) choose(all []backend, local bool, preference string) []netip.AddrPort {
	if local {
		all = only(all, func(b backend) bool { return b.local })
	}
	usable := only(all, func(b backend) bool { return b.ready })
	if len(usable) == 0 {
		usable = only(all, func(b backend) bool { return b.draining })
	}
	var preferred []backend
	switch preference {
	case corev1.ServiceTrafficDistributionPreferSameNode:
		preferred = only(usable, func(b backend) bool { return b.local })
	case corev1.ServiceTrafficDistributionPreferClose, corev1.ServiceTrafficDistributionPreferSameZone:
		preferred = only(usable, func(b backend) bool { return c.zone != "" && b.zone == c.zone })
	}
	if len(preferred) > 0 {
		usable = preferred
	}
	var list []netip.AddrPort
	for _, b := range usable {
		list = append(list, b.at)
	}
	return list
}

func only(list []backend, keep func(backend) bool) []backend {
	return slices.DeleteFunc(slices.Clone(list), func(b backend) bool { return !keep(b) })
}
