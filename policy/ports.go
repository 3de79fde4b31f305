package policy

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/millrace/millrace/cluster"
	"github.com/millrace/millrace/dataplane"
)

// IP protocol numbers.
const (
	icmp   = 1
	tcp    = 6
	udp    = 17
	icmpv6 = 58
	sctp   = 132
)

// span is a protocol and a range of destination ports. Protocol 0 is every protocol, with
// all ports.
type span struct {
	protocol uint8
	ports    dataplane.Ports
}

func (s span) String() string { return fmt.Sprintf("%d:%s", s.protocol, s.ports) }

// everything is the spans of a rule that names no ports.
func everything() []span { return []span{{0, dataplane.AnyPorts()}} }

// mergeSpans returns the fewest spans that hold the same ports, in order.
func mergeSpans(list []span) []span {
	if slices.ContainsFunc(list, func(s span) bool { return s.protocol == 0 }) {
		return everything()
	}
	slices.SortFunc(list, compareSpans)
	out := list[:0]
	for _, s := range list {
		if n := len(out); n > 0 && out[n-1].protocol == s.protocol && uint32(s.ports.First) <= uint32(out[n-1].ports.Last)+1 {
			out[n-1].ports.Last = max(out[n-1].ports.Last, s.ports.Last)
			continue
		}
		out = append(out, s)
	}
	return out
}

func compareSpans(a, b span) int {
	return cmp.Or(cmp.Compare(a.protocol, b.protocol), cmp.Compare(a.ports.First, b.ports.First), cmp.Compare(a.ports.Last, b.ports.Last))
}

// intersectSpans returns the spans of what both hold.
func intersectSpans(a, b []span) []span {
	var out []span
	for _, s := range a {
		for _, t := range b {
			switch first, last := max(s.ports.First, t.ports.First), min(s.ports.Last, t.ports.Last); {
			case s.protocol == 0:
				out = append(out, t)
			case t.protocol == 0:
				out = append(out, s)
			case s.protocol == t.protocol && first <= last:
				out = append(out, span{s.protocol, dataplane.Ports{First: first, Last: last}})
			}
		}
	}
	return mergeSpans(out)
}

// spansHold says whether a span lies in one of a list.
func spansHold(list []span, s span) bool {
	return slices.ContainsFunc(list, func(t span) bool {
		return t.protocol == 0 || t.protocol == s.protocol && t.ports.First <= s.ports.First && s.ports.Last <= t.ports.Last
	})
}

// portName is a port that a rule names; a pod has the number. Protocol 0 is any that the
// pod's port has.
type portName struct {
	name     string
	protocol uint8
}

func (n portName) String() string { return fmt.Sprintf("%d:%q", n.protocol, n.name) }

// of returns the span of a pod's port if it is the one that is named.
func (n portName) of(p cluster.Port) (span, bool) {
	protocol, err := protocolNumber(p.Protocol)
	ok := err == nil && p.Name == n.name && (n.protocol == 0 || n.protocol == protocol)
	return span{protocol, dataplane.Ports{First: p.Number, Last: p.Number}}, ok
}

// resolve returns the ports of a pod that have one of the names.
func resolve(names []portName, ports []cluster.Port) []span {
	var list []span
	for _, n := range names {
		for _, p := range ports {
			if s, ok := n.of(p); ok {
				list = append(list, s)
			}
		}
	}
	return mergeSpans(list)
}

func protocolNumber(p corev1.Protocol) (uint8, error) {
	switch p {
	case corev1.ProtocolTCP:
		return tcp, nil
	case corev1.ProtocolUDP:
		return udp, nil
	case corev1.ProtocolSCTP:
		return sctp, nil
	}
	return 0, fmt.Errorf("%q is none; want TCP, UDP or SCTP", p)
}

// portRange checks a range as policies write it.
func portRange(first, last int32) (dataplane.Ports, error) {
	for _, n := range [...]int32{first, last} {
		if n < 1 || n > 65535 {
			return dataplane.Ports{}, fmt.Errorf("%d is no port; want 1 to 65535", n)
		}
	}
	if last < first {
		return dataplane.Ports{}, fmt.Errorf("the range ends at %d, before it begins at %d", last, first)
	}
	return dataplane.Ports{First: uint16(first), Last: uint16(last)}, nil
}

// text joins what prints, as a key.
func text[T fmt.Stringer](list []T) string {
	var b strings.Builder
	for _, v := range list {
		b.WriteString(v.String())
		b.WriteByte(' ')
	}
	return b.String()
}
