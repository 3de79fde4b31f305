package conformance

import (
	"context"
	"encoding/binary"
	"net/netip"
	"slices"
	"strings"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"go.fd.io/govpp/adapter"
	"go.fd.io/govpp/api"
	"go.fd.io/govpp/binapi/acl"
	"go.fd.io/govpp/binapi/acl_types"
	"go.fd.io/govpp/binapi/ip_types"
)

// What the cases about access lists are written with.

const (
	denies   = acl_types.ACL_ACTION_API_DENY
	permits  = acl_types.ACL_ACTION_API_PERMIT
	reflects = acl_types.ACL_ACTION_API_PERMIT_REFLECT

	anyProto = ip_types.IPProto(0)
	tcp      = ip_types.IP_API_PROTO_TCP
	udp      = ip_types.IP_API_PROTO_UDP
	icmp     = ip_types.IP_API_PROTO_ICMP
	icmp6    = ip_types.IP_API_PROTO_ICMP6
	sctp     = ip_types.IP_API_PROTO_SCTP
)

// newList says acl_add_replace to make a list.
const newList = ^uint32(0)

type aclRule = acl_types.ACLRule

// ports is a range.
type ports [2]uint16

// rule matches a protocol between two prefixes to some ports (or ICMP codes), all of them
// without any.
func rule(action acl_types.ACLAction, proto ip_types.IPProto, src, dst string, to ...ports) aclRule {
	r := aclRule{IsPermit: action, Proto: proto, SrcPrefix: prefix(src), DstPrefix: prefix(dst),
		SrcportOrIcmptypeLast: 65535, DstportOrIcmpcodeLast: 65535}
	if len(to) > 0 {
		r.DstportOrIcmpcodeFirst, r.DstportOrIcmpcodeLast = to[0][0], to[0][1]
	}
	return r
}

// from narrows a rule to source ports, or ICMP types.
func from(r aclRule, p ports) aclRule {
	r.SrcportOrIcmptypeFirst, r.SrcportOrIcmptypeLast = p[0], p[1]
	return r
}

// all are the rules for every packet of both families.
func all(action acl_types.ACLAction) []aclRule {
	return []aclRule{rule(action, anyProto, "0.0.0.0/0", "0.0.0.0/0"), rule(action, anyProto, "::/0", "::/0")}
}

// list makes a list without a line in the transcript.
func (s *Session) list(rules ...aclRule) uint32 {
	s.T.Helper()
	return s.Must(&acl.ACLAddReplace{ACLIndex: newList, Tag: "a", R: rules}).(*acl.ACLAddReplaceReply).ACLIndex
}

// replace gives list index other rules.
func (s *Session) replace(index uint32, rules ...aclRule) {
	s.T.Helper()
	s.Must(&acl.ACLAddReplace{ACLIndex: index, Tag: "a", R: rules})
}

// lists puts lists on a port.
func (p *Port) lists(in, out []uint32) {
	p.s.T.Helper()
	p.s.Must(&acl.ACLInterfaceSetACLList{SwIfIndex: p.Index, NInput: uint8(len(in)), Acls: slices.Concat(in, out)})
}

// command runs a command of the machine's that must succeed.
func (s *Session) command(line string) {
	s.T.Helper()
	if text, err := s.Conn.CLI(s.T.Context(), line); err != nil {
		s.T.Fatalf("%s: %v: %s", line, err, text)
	}
}

// sessions waits until there are n: VPP ends them a little later.
func (s *Session) sessions(n string) {
	s.T.Helper()
	ctx, cancel := context.WithTimeout(s.T.Context(), patience)
	defer cancel()
	last := ""
	for ctx.Err() == nil {
		text, err := s.Conn.CLI(ctx, "show acl-plugin sessions")
		if err != nil {
			s.T.Fatal(err)
		}
		for line := range strings.Lines(text) {
			if line = strings.TrimSpace(line); strings.HasPrefix(line, "Sessions active:") {
				last = line
			}
		}
		if strings.HasSuffix(last, "= "+n) {
			s.Write("sessions: %s", n)
			return
		}
		s.pause(ctx)
	}
	s.T.Fatalf("waited for %s sessions; the last line was %q; so far:\n%s", n, last, s.Transcript())
}

// countRules has rules count what they match, or not. VPP 25.10 answers with the reply of
// another message, acl_del: so nothing is said of the reply.
func (s *Session) countRules(on bool) {
	s.T.Helper()
	reply := func() api.Message { return &acl.ACLDelReply{} }
	for _, err := range s.Conn.Details(s.T.Context(), &acl.ACLStatsIntfCountersEnable{Enable: on}, reply) {
		if err != nil {
			s.T.Fatal(err)
		}
	}
}

// matches writes down what the rules of a list count, thread by thread summed.
func (s *Session) matches(index string) {
	s.T.Helper()
	entries, err := s.dialStats().Entries(s.T.Context(), "^/acl/"+index+"/matches$")
	if err != nil {
		s.T.Fatal(err)
	}
	for _, e := range entries {
		sum := [][2]uint64{}
		for _, row := range e.Data.(adapter.CombinedCounterStat) {
			for i, c := range row {
				if i == len(sum) {
					sum = append(sum, [2]uint64{})
				}
				sum[i][0] += c.Packets()
				sum[i][1] += c.Bytes()
			}
		}
		// VPP keeps the room that a list had before it became shorter.
		for len(sum) > 0 && sum[len(sum)-1] == [2]uint64{} {
			sum = sum[:len(sum)-1]
		}
		s.Write("%s packets and bytes %v", e.Name, sum)
	}
}

// addresses of the two hosts in a family.
func hosts(six bool) (near, far string) {
	if six {
		return "fd00:1::2", "fd00:2::2"
	}
	return "10.0.1.2", "10.0.2.2"
}

// families runs f for IPv4 and IPv6 between two ports that know their hosts.
func (s *Session) families(f func(a, b *Port, near, far string)) {
	s.T.Helper()
	a, b := s.wired()
	s.knows(a, "10.0.1.2", "fd00:1::2")
	s.knows(b, "10.0.2.2", "fd00:2::2")
	for _, six := range []bool{false, true} {
		near, far := hosts(six)
		f(a, b, near, far)
	}
}

// datagram is UDP from one port number to another.
func (p *Port) datagram(src, dst string, sport, dport uint16) []byte {
	return p.transport(src, dst, layers.IPProtocolUDP, &layers.UDP{SrcPort: layers.UDPPort(sport), DstPort: layers.UDPPort(dport)}, payload(20))
}

// segment is TCP with some flags.
func (p *Port) segment(src, dst string, sport, dport uint16, flags string) []byte {
	t := &layers.TCP{SrcPort: layers.TCPPort(sport), DstPort: layers.TCPPort(dport), Seq: 1, Window: 100,
		SYN: strings.Contains(flags, "S"), ACK: strings.Contains(flags, "A"), FIN: strings.Contains(flags, "F"), RST: strings.Contains(flags, "R")}
	return p.transport(src, dst, layers.IPProtocolTCP, t, payload(5))
}

// message is ICMP of either family.
func (p *Port) message(src, dst string, typ, code uint8) []byte {
	if netip.MustParseAddr(src).Is4() {
		return p.transport(src, dst, layers.IPProtocolICMPv4, &layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(typ, code), Id: 1, Seq: 2}, payload(32))
	}
	return p.transport(src, dst, layers.IPProtocolICMPv6, &layers.ICMPv6{TypeCode: layers.CreateICMPv6TypeCode(typ, code)}, payload(36))
}

func (p *Port) transport(src, dst string, proto layers.IPProtocol, t gopacket.SerializableLayer, data gopacket.Payload) []byte {
	if netip.MustParseAddr(src).Is4() {
		return build(p.ether(layers.EthernetTypeIPv4), ip4(src, dst, 64, proto), t, data)
	}
	return build(p.ether(layers.EthernetTypeIPv6), ip6(src, dst, 64, proto), t, data)
}

// piece is a fragment of a UDP datagram from port 1000 to dport: the first, with the
// ports, or a later one.
func (p *Port) piece(src, dst string, dport uint16, first bool) []byte {
	data := payload(40)
	if first {
		binary.BigEndian.PutUint16(data, 1000)
		binary.BigEndian.PutUint16(data[2:], dport)
		binary.BigEndian.PutUint16(data[4:], 100)
	}
	if netip.MustParseAddr(src).Is4() {
		h := ip4(src, dst, 64, layers.IPProtocolUDP)
		if h.FragOffset = 10; first {
			h.Flags, h.FragOffset = layers.IPv4MoreFragments, 0
		}
		return build(p.ether(layers.EthernetTypeIPv4), h, data)
	}
	f := gopacket.Payload{17, 0, 0, 10 << 3, 0, 0, 0, 9}
	if first {
		f[3] = 1
	}
	return build(p.ether(layers.EthernetTypeIPv6), ip6(src, dst, 64, layers.IPProtocolIPv6Fragment), append(f, data...))
}

// everything is the prefix of all addresses of addr's family.
func everything(addr string) string {
	if netip.MustParseAddr(addr).Is4() {
		return "0.0.0.0/0"
	}
	return "::/0"
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

// raw is n bytes of some protocol.
func (p *Port) raw(src, dst string, proto layers.IPProtocol, n int) []byte {
	if netip.MustParseAddr(src).Is4() {
		return build(p.ether(layers.EthernetTypeIPv4), ip4(src, dst, 64, proto), payload(n))
	}
	return build(p.ether(layers.EthernetTypeIPv6), ip6(src, dst, 64, proto), payload(n))
}
