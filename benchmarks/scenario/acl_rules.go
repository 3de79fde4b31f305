package scenario

import (
	"fmt"
	"math/rand/v2"
	"net/netip"

	"go.fd.io/govpp/binapi/acl_types"
	"go.fd.io/govpp/binapi/ip_types"

	"github.com/millrace/millrace/benchmarks/generator"
)

// The lists are what policies of a node compile to: egress rules name peers and ports at
// the destination, ingress rules peers at the source and ports of the pod. The pod's own
// address is left out, since the interface implies it. Ports are nine single ones and a
// range, or less of them. Each peer is part of a /24 of its own:
//
//	egress   10.0.0.0/24, 10.0.1.0/24, …      to the pods that may be reached
//	ingress  10.128.0.0/24, 10.128.1.0/24, …  from the pods that may come
const (
	peersLimit = 1 << 15 // /24s in half of 10.0.0.0/8
	portRange  = 2768    // ports of the one range
	lastPort   = 65535
)

// ruleSet is a pair of lists of a size, and the flows that they let through.
type ruleSet struct {
	name, title string
	peers       []netip.Prefix // of egress; those of ingress are 128 higher in the second byte
	ports       []portSpan
}

type portSpan struct{ first, last uint16 }

// ruleSets are the lists of a comparison, after the empty one.
func ruleSets() []ruleSet {
	return []ruleSet{
		{name: "10", title: "10 rules", peers: randomPeers(5, false), ports: somePorts(2)},
		{name: "1k", title: "1000 rules", peers: randomPeers(100, false), ports: somePorts(10)},
		{name: "1k-pods", title: "1000 rules, peers /32", peers: randomPeers(1000, true), ports: somePorts(1)},
		{name: "10k", title: "10000 rules", peers: randomPeers(1000, false), ports: somePorts(10)},
	}
}

// randomPeers are n disjoint blocks of 2 to 256 addresses, or single addresses, the same in
// every run.
func randomPeers(n int, single bool) []netip.Prefix {
	rng := rand.New(rand.NewPCG(10, 25))
	list := make([]netip.Prefix, n)
	for i := range list {
		bits := 24 + rng.IntN(8)
		if single {
			bits = 32
		}
		host := netip.AddrFrom4([4]byte{10, byte(i >> 8), byte(i), byte(rng.Uint32())})
		list[i] = netip.PrefixFrom(host, bits).Masked()
	}
	return list
}

// somePorts are n ports from 8080 on, of which the last of ten is a range.
func somePorts(n int) []portSpan {
	list := make([]portSpan, n)
	for i := range list {
		first := uint16(8080 + 10*i)
		list[i] = portSpan{first, first}
		if i == 9 {
			list[i] = portSpan{30000, 30000 + portRange - 1}
		}
	}
	return list
}

// mirrored is the ingress peer beside an egress peer.
func mirrored(a netip.Addr) netip.Addr {
	b := a.As4()
	b[1] |= 0x80
	return netip.AddrFrom4(b)
}

// lists are the rules of both directions, peer by peer.
func (s ruleSet) lists() (egress, ingress []acl_types.ACLRule) {
	anywhere := netip.PrefixFrom(netip.IPv4Unspecified(), 0)
	for _, p := range s.peers {
		from := netip.PrefixFrom(mirrored(p.Addr()), p.Bits())
		for _, span := range s.ports {
			egress = append(egress, udpRule(anywhere, p, span))
			ingress = append(ingress, udpRule(from, anywhere, span))
		}
	}
	return egress, ingress
}

func udpRule(src, dst netip.Prefix, span portSpan) acl_types.ACLRule {
	return acl_types.ACLRule{
		IsPermit: acl_types.ACL_ACTION_API_PERMIT_REFLECT, Proto: ip_types.IP_API_PROTO_UDP, SrcPrefix: wirePrefix(src), DstPrefix: wirePrefix(dst),
		SrcportOrIcmptypeLast: lastPort, DstportOrIcmpcodeFirst: span.first, DstportOrIcmpcodeLast: span.last,
	}
}

func wirePrefix(p netip.Prefix) ip_types.Prefix {
	return ip_types.Prefix{Address: ip_types.NewAddress(p.Addr().AsSlice()), Len: uint8(p.Bits())}
}

// baseRules stand before the rules of policies on every interface of a pod: ICMP errors of
// both families and neighbour discovery are always allowed.
func baseRules() []acl_types.ACLRule {
	var rules []acl_types.ACLRule
	add := func(anywhere netip.Prefix, proto ip_types.IPProto, first, last uint16) {
		rules = append(rules, acl_types.ACLRule{
			IsPermit: acl_types.ACL_ACTION_API_PERMIT, Proto: proto, SrcPrefix: wirePrefix(anywhere), DstPrefix: wirePrefix(anywhere),
			SrcportOrIcmptypeFirst: first, SrcportOrIcmptypeLast: last, DstportOrIcmpcodeLast: 255,
		})
	}
	four, six := netip.PrefixFrom(netip.IPv4Unspecified(), 0), netip.PrefixFrom(netip.IPv6Unspecified(), 0)
	add(four, ip_types.IP_API_PROTO_ICMP, 3, 3)
	add(four, ip_types.IP_API_PROTO_ICMP, 11, 12)
	add(six, ip_types.IP_API_PROTO_ICMP6, 1, 4)
	add(six, ip_types.IP_API_PROTO_ICMP6, 133, 137)
	return rules
}

// flowList is n different flows that both lists let through, spread evenly over the rules.
func (s ruleSet) flowList(n int) []generator.Flow {
	rng := rand.New(rand.NewPCG(uint64(n), 25))
	list := make([]generator.Flow, 0, n)
	seen := make(map[generator.Flow]bool, n)
	for len(list) < n {
		span := s.ports[rng.IntN(len(s.ports))]
		f := generator.Flow{
			From: mirrored(hostIn(s.peers[rng.IntN(len(s.peers))], rng)), To: hostIn(s.peers[rng.IntN(len(s.peers))], rng),
			SrcPort: 1024 + uint16(rng.Uint32N(lastPort-1024)), DstPort: span.first + uint16(rng.Uint32N(uint32(span.last-span.first)+1)),
		}
		if !seen[f] {
			seen[f] = true
			list = append(list, f)
		}
	}
	return list
}

// forbiddenList is n flows that the egress list stops, or else the ingress list.
func (s ruleSet) forbiddenList(n int, egress bool) []generator.Flow {
	list := make([]generator.Flow, n)
	for i := range list {
		to := s.peers[i%len(s.peers)].Addr()
		list[i] = generator.Flow{From: mirrored(to), To: to, SrcPort: uint16(1024 + i), DstPort: s.ports[0].first}
		if egress {
			list[i].DstPort = 7 // from a peer to a peer, but to a port that nobody opened
			continue
		}
		list[i].From = netip.AddrFrom4([4]byte{10, 255, byte(i >> 8), byte(i)}) // no peer
	}
	return list
}

func hostIn(p netip.Prefix, rng *rand.Rand) netip.Addr {
	b := p.Addr().As4()
	b[3] |= byte(rng.Uint32()) & byte(0xff>>(p.Bits()-24))
	return netip.AddrFrom4(b)
}

// sources is where all that may come comes from.
func sources() netip.Prefix {
	return netip.PrefixFrom(mirrored(netip.AddrFrom4([4]byte{10, 0, 0, 0})), 9)
}

// peerRoutes are a /24 for each of the first n peers, then others to a total.
func peerRoutes(n, total int) ([]netip.Prefix, error) {
	if n > peersLimit || n > total {
		return nil, fmt.Errorf("make routes: %d to peers are more than %d", n, min(peersLimit, total))
	}
	others, _ := randomRoutes(total - n)
	routes := make([]netip.Prefix, 0, total)
	for i := range n {
		routes = append(routes, netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i >> 8), byte(i), 0}), 24))
	}
	return append(routes, others...), nil
}
