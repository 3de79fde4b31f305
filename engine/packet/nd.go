package packet

import "encoding/binary"

// Offsets in neighbour discovery messages from the ICMP header on (RFC 4861, section 4).
const (
	ndFlags    = 4
	ndTarget   = 8
	ndLen      = 24 // NS and NA without options
	rsLen      = 8
	raLen      = 16
	ndHopLimit = 255

	optSourceLL = 1
	optTargetLL = 2
	optLL       = 8 // length of a link-layer option for Ethernet
)

// Flags of a neighbour advertisement.
const (
	NARouter    uint8 = 0x80
	NASolicited uint8 = 0x40
	NAOverride  uint8 = 0x20
)

// Neighbor is a neighbour solicitation or advertisement from its ICMP header on.
type Neighbor []byte

// ParseNeighbor checks the rules of RFC 4861, 7.1.1 and 7.1.2, for the message p in the
// packet ip: hop limit 255, code 0, checksum, lengths, target not multicast, options well
// formed, and those of a solicitation from the unspecified address and of an unsolicited
// multicast advertisement.
func ParseNeighbor(ip IPv6, p []byte) (Neighbor, Reason) {
	if len(p) < ndLen {
		return nil, Truncated
	}
	m, r := ParseICMPv6(ip, p)
	if r != OK {
		return nil, r
	}
	if m.Type() != ICMPv6NeighborSolicit && m.Type() != ICMPv6NeighborAdvert {
		return nil, Unsupported
	}
	n := Neighbor(p)
	if ip.HopLimit() != ndHopLimit || m.Code() != 0 || p[ndTarget] == 0xff {
		return nil, BadValue
	}
	if !validOptions(p[ndLen:]) {
		return nil, BadOption
	}
	src, dst := ip.Src(), ip.Dst()
	switch {
	case m.Type() == ICMPv6NeighborAdvert:
		if dst[0] == 0xff && n.Flags()&NASolicited != 0 {
			return nil, BadValue
		}
	case src == [16]byte{}:
		if _, ok := n.LinkAddr(); ok || dst != SolicitedNode(n.Target()) {
			return nil, BadValue
		}
	}
	return n, OK
}

func (n Neighbor) IsSolicit() bool  { return n[icmpType] == ICMPv6NeighborSolicit }
func (n Neighbor) Flags() uint8     { return n[ndFlags] }
func (n Neighbor) Target() [16]byte { return [16]byte(n[ndTarget : ndTarget+16]) }

// LinkAddr is the Ethernet address of the message's option: the source's in a
// solicitation, the target's in an advertisement.
func (n Neighbor) LinkAddr() (MAC, bool) {
	want := uint8(optSourceLL)
	if !n.IsSolicit() {
		want = optTargetLL
	}
	return linkAddr(n[ndLen:], want)
}

// Router is a router solicitation or advertisement from its ICMP header on.
type Router []byte

// ParseRouter checks the rules of RFC 4861, 6.1.1 and 6.1.2, for the message p in the
// packet ip.
func ParseRouter(ip IPv6, p []byte) (Router, Reason) {
	m, r := ParseICMPv6(ip, p)
	if r != OK {
		return nil, r
	}
	length := rsLen
	switch m.Type() {
	case ICMPv6RouterSolicit:
	case ICMPv6RouterAdvert:
		length = raLen
	default:
		return nil, Unsupported
	}
	if len(p) < length {
		return nil, Truncated
	}
	if ip.HopLimit() != ndHopLimit || m.Code() != 0 {
		return nil, BadValue
	}
	if !validOptions(p[length:]) {
		return nil, BadOption
	}
	q := Router(p)
	src := ip.Src()
	if !q.IsSolicit() && !IsLinkLocal6(src) {
		return nil, BadValue
	}
	if _, ok := q.LinkAddr(); ok && src == [16]byte{} {
		return nil, BadValue
	}
	return q, OK
}

func (q Router) IsSolicit() bool { return q[icmpType] == ICMPv6RouterSolicit }

// Lifetime is an advertisement's router lifetime in seconds.
func (q Router) Lifetime() uint16 { return binary.BigEndian.Uint16(q[6:]) }

// LinkAddr is the Ethernet address of the sender, when the message tells it.
func (q Router) LinkAddr() (MAC, bool) { return linkAddr(q.Options(), optSourceLL) }

// Options are the message's options: type, length in units of 8 bytes, value.
func (q Router) Options() []byte {
	if q.IsSolicit() {
		return q[rsLen:]
	}
	return q[raLen:]
}

// validOptions reports whether ND options are well formed: none of length 0, all within p.
func validOptions(p []byte) bool {
	for len(p) > 0 {
		if len(p) < 2 || p[1] == 0 || int(p[1])*8 > len(p) {
			return false
		}
		p = p[int(p[1])*8:]
	}
	return true
}

func linkAddr(p []byte, want uint8) (MAC, bool) {
	for len(p) >= optLL {
		if p[0] == want && p[1] == 1 {
			return MAC(p[2:8]), true
		}
		if p[1] == 0 || int(p[1])*8 > len(p) {
			break
		}
		p = p[int(p[1])*8:]
	}
	return MAC{}, false
}

// SolicitedNode is the multicast group that target's owner listens to (RFC 4291, 2.7.1).
func SolicitedNode(target [16]byte) [16]byte {
	return [16]byte{0: 0xff, 1: 2, 11: 1, 12: 0xff, 13: target[13], 14: target[14], 15: target[15]}
}

// LinkLocal is the fe80::/64 address with the interface identifier of mac (RFC 4291,
// appendix A).
func LinkLocal(mac MAC) [16]byte {
	return [16]byte{0: 0xfe, 1: 0x80, 8: mac[0] ^ 2, 9: mac[1], 10: mac[2], 11: 0xff, 12: 0xfe, 13: mac[3], 14: mac[4], 15: mac[5]}
}

// MakeNeighborSolicit makes b the Ethernet packet that asks the solicited-node group who
// has target, on behalf of the address src at mac.
func MakeNeighborSolicit(b *Buffer, mac MAC, src, target [16]byte) {
	group := SolicitedNode(target)
	n := makeND(b, MulticastMAC6(group), mac, src, group, ICMPv6NeighborSolicit)
	n.fill(target, 0, optSourceLL, mac)
	finishND(b)
}

// MakeNeighborProbe is MakeNeighborSolicit sent to the neighbour that is believed to
// have target, at dst: the check of RFC 4861, 7.3.
func MakeNeighborProbe(b *Buffer, mac, dst MAC, src, target [16]byte) {
	n := makeND(b, dst, mac, src, target, ICMPv6NeighborSolicit)
	n.fill(target, 0, optSourceLL, mac)
	finishND(b)
}

// MakeNeighborAdvert makes b the Ethernet packet that tells dst, at dstMAC, that mac has
// target. flags are NARouter and so on.
func MakeNeighborAdvert(b *Buffer, mac, dstMAC MAC, dst, target [16]byte, flags uint8) {
	n := makeND(b, dstMAC, mac, target, dst, ICMPv6NeighborAdvert)
	n.fill(target, flags, optTargetLL, mac)
	finishND(b)
}

// AnswerNeighborSolicit makes b the answer to the solicitation that ip, in an Ethernet
// frame from the station from, carries: mac has its target. A solicitation from the
// unspecified address (DAD) is answered to all nodes (RFC 4861, 7.2.4).
func AnswerNeighborSolicit(b *Buffer, ip IPv6, from MAC, target [16]byte, mac MAC, flags uint8) {
	dst := ip.Src()
	flags |= NAOverride
	if dst == ([16]byte{}) {
		dst = [16]byte{0: 0xff, 1: 2, 15: 1}
		from = MulticastMAC6(dst)
	} else {
		flags |= NASolicited
	}
	MakeNeighborAdvert(b, mac, from, dst, target, flags)
}

func (n Neighbor) fill(target [16]byte, flags, opt uint8, mac MAC) {
	n[ndFlags] = flags
	copy(n[ndTarget:], target[:])
	n[ndLen], n[ndLen+1] = opt, 1
	copy(n[ndLen+2:], mac[:])
}

func makeND(b *Buffer, dstMAC, srcMAC MAC, src, dst [16]byte, typ uint8) Neighbor {
	b.Reset(Headroom)
	b.SetLen(EthLen + IPv6Len + ndLen + optLL)
	b.L3, b.L4 = EthLen, EthLen+IPv6Len
	p := b.Bytes()
	e := Ethernet(p)
	e.SetDst(dstMAC)
	e.SetSrc(srcMAC)
	e.SetType(EtherTypeIPv6)
	MakeIPv6(p[EthLen:], src, dst, ProtoICMPv6, ndHopLimit)
	n := Neighbor(p[EthLen+IPv6Len:])
	clear(n)
	n[icmpType] = typ
	return n
}

func finishND(b *Buffer) {
	p := b.Bytes()
	n := p[EthLen+IPv6Len:]
	h := IPv6(p[EthLen:])
	binary.BigEndian.PutUint16(n[icmpCheck:], ^Sum(n, h.pseudo(ProtoICMPv6, len(n))))
}
