package packet

import "encoding/binary"

// FinishChecksum does the work that NeedsChecksum left to the device: it sums the
// packet from CsumStart on, the pseudo header's sum standing in the checksum field
// already, and stores the result. Without the flag it does nothing.
func FinishChecksum(b *Buffer) Reason {
	if b.Offload.Flags&NeedsChecksum == 0 {
		return OK
	}
	p := b.Bytes()
	start := int(b.Offload.CsumStart)
	at := start + int(b.Offload.CsumOffset)
	if at+2 > len(p) {
		return BadOffload
	}
	binary.BigEndian.PutUint16(p[at:], nonZero(^Sum(p[start:], 0)))
	b.Offload.Flags &^= NeedsChecksum
	b.Offload.CsumStart, b.Offload.CsumOffset = 0, 0
	return OK
}

// LeaveChecksum is the reverse: it stores the pseudo header's sum of the TCP or UDP
// packet at b's L3 and L4 and sets NeedsChecksum, for a device that finishes it.
func LeaveChecksum(b *Buffer) Reason {
	l4, proto, check, r := transportOf(b)
	if r != OK {
		return r
	}
	p := b.Bytes()
	binary.BigEndian.PutUint16(p[l4+check:], pseudoOf(p[b.L3:l4], proto, len(p)-l4))
	b.Offload.Flags = b.Offload.Flags&^DataValid | NeedsChecksum
	b.Offload.CsumStart, b.Offload.CsumOffset = uint16(l4), uint16(check)
	return OK
}

// SetTransportChecksum computes the TCP, UDP, ICMP or ICMPv6 checksum of the packet at b's
// L3 and L4 from scratch and stores it. A pending NeedsChecksum is cleared.
func SetTransportChecksum(b *Buffer) Reason {
	l4, proto, check, r := transportOf(b)
	if r != OK {
		return r
	}
	p := b.Bytes()
	binary.BigEndian.PutUint16(p[l4+check:], 0)
	sum := Sum(p[l4:], pseudoOf(p[b.L3:l4], proto, len(p)-l4))
	binary.BigEndian.PutUint16(p[l4+check:], nonZero(^sum))
	b.Offload.Flags &^= NeedsChecksum
	b.Offload.CsumStart, b.Offload.CsumOffset = 0, 0
	return OK
}

// VerifyTransportChecksum checks the TCP, UDP, ICMP or ICMPv6 checksum of the packet at
// b's L3 and L4. What a trusted device vouches for (DataValid, or NeedsChecksum: made
// on this machine) and UDP over IPv4 without a checksum are OK; other protocols too.
func VerifyTransportChecksum(b *Buffer) Reason {
	if b.Offload.Flags&(NeedsChecksum|DataValid) != 0 {
		return OK
	}
	_, proto, check, r := transportOf(b)
	if r == Unsupported {
		return OK
	}
	if r != OK {
		return r
	}
	p := b.Bytes()
	l3, l4 := p[b.L3:b.L4], p[b.L4:]
	if proto == ProtoUDP && binary.BigEndian.Uint16(l4[check:]) == 0 {
		if l3[0]>>4 == 4 {
			return OK
		}
		return BadChecksum // RFC 8200, 8.1
	}
	if Sum(l4, pseudoOf(l3, proto, len(l4))) != 0xffff {
		return BadChecksum
	}
	return OK
}

// protoAt is the protocol at b's L4, which the stages that set L4 have found before.
func protoAt(b *Buffer) uint8 {
	p := b.Bytes()[b.L3:]
	if p[0]>>4 == 4 {
		return p[ip4Proto]
	}
	u, r := IPv6(p).Upper()
	if r != OK {
		return ProtoNoNext
	}
	return u.Proto
}

// transportOf returns the offset of b's transport header, its protocol, and where the
// checksum stands in it.
func transportOf(b *Buffer) (l4 int, proto uint8, check int, r Reason) {
	l4 = int(b.L4)
	if l4 < int(b.L3)+IPv4Len || l4 > b.Len() {
		return 0, 0, 0, Truncated
	}
	if b.Bytes()[b.L3]>>4 == 6 && l4 < int(b.L3)+IPv6Len {
		return 0, 0, 0, Truncated
	}
	proto = protoAt(b)
	switch proto {
	case ProtoTCP:
		check = tcpCheck
	case ProtoUDP:
		check = udpCheck
	case ProtoICMP, ProtoICMPv6:
		check = icmpCheck
	default:
		return 0, 0, 0, Unsupported
	}
	if l4+check+2 > b.Len() {
		return 0, 0, 0, Truncated
	}
	return l4, proto, check, OK
}

// pseudoOf is the pseudo header's sum for an upper layer of n bytes under the IP
// header at p; 0 for ICMPv4, which has none.
func pseudoOf(p []byte, proto uint8, n int) uint16 {
	if proto == ProtoICMP {
		return 0
	}
	if p[0]>>4 == 4 {
		return PseudoSum(p[ip4Src:ip4Src+4], p[ip4Dst:ip4Dst+4], proto, n)
	}
	return PseudoSum(p[ip6Src:ip6Src+16], p[ip6Dst:ip6Dst+16], proto, n)
}

// CheckOffload checks b's Offload against its bytes and its L3, so that a device that
// lies (a memif peer, a broken driver) cannot make a later stage leave the packet. It
// sets L4 for a GSO packet.
func CheckOffload(b *Buffer) Reason {
	o := &b.Offload
	if o.Flags&NeedsChecksum != 0 && int(o.CsumStart)+int(o.CsumOffset)+2 > b.Len() {
		return BadOffload
	}
	if o.GSO&^GSOECN == GSONone {
		return OK
	}
	if o.GSOSize == 0 {
		return BadOffload
	}
	_, _, r := gsoHeaders(b)
	return r
}

// gsoHeaders locates the transport header of a GSO packet and the length of all
// headers, both from the packet's start.
func gsoHeaders(b *Buffer) (l4, headers int, r Reason) {
	p := b.Bytes()
	if len(p) <= int(b.L3)+IPv4Len {
		return 0, 0, Truncated
	}
	l3 := p[b.L3:]
	proto := ProtoTCP
	var u Upper
	switch b.Offload.GSO &^ GSOECN {
	case GSOTCPv4:
		if l3[0]>>4 != 4 {
			return 0, 0, BadOffload
		}
	case GSOTCPv6:
		if l3[0]>>4 != 6 {
			return 0, 0, BadOffload
		}
	case GSOUDPL4:
		proto = ProtoUDP
	default:
		return 0, 0, BadOffload
	}
	if l3[0]>>4 == 4 {
		u = IPv4(l3).Upper()
	} else if len(l3) < IPv6Len || l3[0]>>4 != 6 {
		return 0, 0, BadOffload
	} else if u, r = IPv6(l3).Upper(); r != OK {
		return 0, 0, r
	}
	if u.Proto != proto || u.Fragment || u.Offset < IPv4Len || u.Offset > len(l3) {
		return 0, 0, BadOffload
	}
	n := UDPLen
	if proto == ProtoTCP {
		t, r := ParseTCP(l3[u.Offset:])
		if r != OK {
			return 0, 0, r
		}
		n = t.HeaderLen()
	}
	l4 = int(b.L3) + u.Offset
	if l4+n > len(p) {
		return 0, 0, Truncated
	}
	b.L4 = uint16(l4)
	return l4, l4 + n, OK
}

// WireLen is the length from the network header of the largest packet that b becomes
// on the wire: its own, or that of a full segment when b is a GSO packet.
func WireLen(b *Buffer) int {
	n := b.Len() - int(b.L3)
	if b.Offload.GSO&^GSOECN == GSONone {
		return n
	}
	_, headers, r := gsoHeaders(b)
	if r != OK {
		return n
	}
	return min(n, headers-int(b.L3)+int(b.Offload.GSOSize))
}

// Fits reports whether b, or each of its segments, fits an L3 MTU.
func Fits(b *Buffer, mtu int) bool {
	return b.Len()-int(b.L3) <= mtu || WireLen(b) <= mtu
}
