package packet

import "encoding/binary"

// replyTTL is the hop limit of echo replies (RFC 1700's default, VPP's value).
const replyTTL = 64

// MakeEchoReply4 makes the IPv4 echo request b, whose L3 is set, its reply in place:
// addresses swapped, TTL 64, checksums repaired. The L2 header stays as it is.
// Unsupported: b is no whole echo request.
func MakeEchoReply4(b *Buffer) Reason {
	if r := FinishChecksum(b); r != OK {
		return r
	}
	ip, r := ParseIPv4(b.L3Bytes())
	if r != OK {
		return r
	}
	if ip.Protocol() != ProtoICMP || ip.IsFragment() {
		return Unsupported
	}
	m, r := ParseICMPv4(ip.Payload())
	if r != OK {
		return r
	}
	if m.Type() != ICMPv4Echo || m.Code() != 0 {
		return Unsupported
	}
	if !isHost4(ip.Src()) {
		return MustNotAnswer
	}
	m[icmpType] = ICMPv4EchoReply
	// A reply of nothing but zeros sums to 0, and only all ones completes that.
	m.SetChecksum(nonZero(UpdateChecksum(m.Checksum(), uint16(ICMPv4Echo)<<8, 0)))
	src, dst := ip.Src(), ip.Dst()
	ip.SetSrc(dst)
	ip.SetDst(src)
	ip.SetTTL(replyTTL)
	ip.UpdateHeaderChecksum()
	b.Offload = Offload{}
	return OK
}

// MakeEchoReply6 is MakeEchoReply4 for IPv6; from is the reply's source, which differs
// from the request's destination when that is a group.
func MakeEchoReply6(b *Buffer, from [16]byte) Reason {
	if r := FinishChecksum(b); r != OK {
		return r
	}
	ip, r := ParseIPv6(b.L3Bytes())
	if r != OK {
		return r
	}
	u, r := ip.Upper()
	if r != OK {
		return r
	}
	if u.Proto != ProtoICMPv6 || u.Fragment {
		return Unsupported
	}
	m, r := ParseICMPv6(ip, ip[u.Offset:])
	if r != OK {
		return r
	}
	if m.Type() != ICMPv6Echo || m.Code() != 0 {
		return Unsupported
	}
	src := ip.Src()
	if src == ([16]byte{}) || src[0] == 0xff {
		return MustNotAnswer
	}
	m[icmpType] = ICMPv6EchoReply
	check := UpdateChecksum(m.Checksum(), uint16(ICMPv6Echo)<<8, uint16(ICMPv6EchoReply)<<8)
	dst := ip.Dst()
	// The pseudo header's sum does not feel the swap, only another source address.
	m.SetChecksum(UpdateChecksumBytes(check, dst[:], from[:]))
	ip.SetSrc(from)
	ip.SetDst(src)
	ip.SetHopLimit(replyTTL)
	b.Offload = Offload{}
	return OK
}

// EchoRequest is a ping, for tests and for a "ping" command.
type EchoRequest struct {
	ID, Sequence uint16
	Payload      []byte
}

// MakeEchoRequest4 makes b an IPv4 echo request without an L2 header.
func MakeEchoRequest4(b *Buffer, src, dst [4]byte, q EchoRequest) Reason {
	b.Reset(Headroom)
	if b.Tailroom() < IPv4Len+ICMPLen+len(q.Payload) {
		return NoRoom
	}
	b.SetLen(IPv4Len + ICMPLen + len(q.Payload))
	p := b.Bytes()
	MakeIPv4(p, src, dst, ProtoICMP, replyTTL)
	copy(p[IPv4Len+ICMPLen:], q.Payload)
	writeError(p[IPv4Len:], ICMPError{Type: ICMPv4Echo, Info: uint32(q.ID)<<16 | uint32(q.Sequence)}, 0)
	b.L4 = IPv4Len
	return OK
}

// MakeEchoRequest6 makes b an IPv6 echo request without an L2 header.
func MakeEchoRequest6(b *Buffer, src, dst [16]byte, q EchoRequest) Reason {
	b.Reset(Headroom)
	if b.Tailroom() < IPv6Len+ICMPLen+len(q.Payload) {
		return NoRoom
	}
	b.SetLen(IPv6Len + ICMPLen + len(q.Payload))
	p := b.Bytes()
	h := MakeIPv6(p, src, dst, ProtoICMPv6, replyTTL)
	copy(p[IPv6Len+ICMPLen:], q.Payload)
	binary.BigEndian.PutUint16(p[IPv6Len+icmpCheck:], 0)
	writeError(p[IPv6Len:], ICMPError{Type: ICMPv6Echo, Info: uint32(q.ID)<<16 | uint32(q.Sequence)},
		h.pseudo(ProtoICMPv6, len(p)-IPv6Len))
	b.L4 = IPv6Len
	return OK
}
