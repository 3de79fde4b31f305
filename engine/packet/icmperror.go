package packet

import "encoding/binary"

// Longest ICMP errors in bytes, IP header included: "chatty", but within what every
// host takes (RFC 1812 4.3.2.3, RFC 4443 2.4 c). VPP's limits are the same.
const (
	maxError4 = 576
	maxError6 = 1280
	// errorTTL is the hop limit of our ICMP errors, VPP's value.
	errorTTL = 255
)

// ICMPError is what an ICMP error says.
type ICMPError struct {
	Type, Code uint8
	// Info is the type's own 32 bits: the next hop's MTU (ICMPv4 unreachable code 4:
	// lower 16 bits; ICMPv6 packet too big), or a parameter problem's pointer.
	Info uint32
}

// MayAnswer4 says whether RFC 1122 3.2.2 and RFC 1812 4.3.2.7 allow an ICMP error about
// the IPv4 packet ip: not about an ICMP error, a fragment other than the first, nor a
// packet to or from an address that is not one host's. Whether the frame came as a link
// layer broadcast is for the caller to know.
func MayAnswer4(ip IPv4) Reason {
	u := ip.Upper()
	if u.Later || !isHost4(ip.Src()) || isGroup4(ip.Dst()) {
		return MustNotAnswer
	}
	if u.Proto == ProtoICMP && (len(ip) <= u.Offset || isError4(ip[u.Offset])) {
		return MustNotAnswer
	}
	return OK
}

func isHost4(a [4]byte) bool {
	return a[0] != 0 && a[0] != 127 && a[0] < 224 // 240/4 and broadcast are no senders
}

func isGroup4(a [4]byte) bool {
	return a[0]&0xf0 == 224 || a == [4]byte{255, 255, 255, 255}
}

// MayAnswer6 says whether RFC 4443 2.4 (e) allows the ICMPv6 error typ, code about the
// IPv6 packet ip: not about an error or redirect, a later fragment, nor from an address
// that is not one host's. A multicast destination may be told of packet too big and of
// an unknown option (parameter problem, code 2) only.
func MayAnswer6(ip IPv6, typ, code uint8) Reason {
	src := ip.Src()
	if src == ([16]byte{}) || src[0] == 0xff || src == ([16]byte{15: 1}) {
		return MustNotAnswer
	}
	if ip.IsMulticastDst() && typ != ICMPv6PacketTooBig && (typ != ICMPv6ParamProblem || code != 2) {
		return MustNotAnswer
	}
	u, r := ip.Upper()
	if r != OK {
		return MustNotAnswer
	}
	if u.Later {
		return MustNotAnswer
	}
	if u.Proto == ProtoICMPv6 && (len(ip) <= u.Offset || isError6(ip[u.Offset])) {
		return MustNotAnswer
	}
	return OK
}

// MakeICMPv4Error makes the IPv4 packet b, whose L3 is set, the ICMP error about itself,
// from src to b's sender. It works in place: the offending packet becomes the quotation,
// its L2 header is lost, L3 is 0 afterwards.
func MakeICMPv4Error(b *Buffer, src [4]byte, e ICMPError) Reason {
	ip, r := ParseIPv4(b.L3Bytes())
	if r != OK {
		return r
	}
	if r := MayAnswer4(ip); r != OK {
		return r
	}
	if b.Room()+int(b.L3) < IPv4Len+ICMPLen {
		return NoRoom
	}
	dst := ip.Src()
	quote(b, len(ip), maxError4-IPv4Len-ICMPLen)
	b.Push(IPv4Len + ICMPLen)
	p := b.Bytes()
	MakeIPv4(p, src, dst, ProtoICMP, errorTTL)
	writeError(p[IPv4Len:], e, 0)
	b.L3, b.L4 = 0, IPv4Len
	return OK
}

// MakeICMPv6Error is MakeICMPv4Error for IPv6.
func MakeICMPv6Error(b *Buffer, src [16]byte, e ICMPError) Reason {
	ip, r := ParseIPv6(b.L3Bytes())
	if r != OK {
		return r
	}
	if r := MayAnswer6(ip, e.Type, e.Code); r != OK {
		return r
	}
	if b.Room()+int(b.L3) < IPv6Len+ICMPLen {
		return NoRoom
	}
	dst := ip.Src()
	quote(b, len(ip), maxError6-IPv6Len-ICMPLen)
	b.Push(IPv6Len + ICMPLen)
	p := b.Bytes()
	h := MakeIPv6(p, src, dst, ProtoICMPv6, errorTTL)
	writeError(p[IPv6Len:], e, h.pseudo(ProtoICMPv6, len(p)-IPv6Len))
	b.L3, b.L4 = 0, IPv6Len
	return OK
}

// quote cuts b down to what an error quotes of a packet of n bytes: its beginning, up
// to limit.
func quote(b *Buffer, n, limit int) {
	b.Offload = Offload{}
	b.Pull(int(b.L3))
	b.Trim(min(n, limit))
	b.L3, b.L4 = 0, 0
}

func writeError(m []byte, e ICMPError, pseudo uint16) {
	m[icmpType], m[icmpCode] = e.Type, e.Code
	binary.BigEndian.PutUint16(m[icmpCheck:], 0)
	binary.BigEndian.PutUint32(m[icmpRest:], e.Info)
	binary.BigEndian.PutUint16(m[icmpCheck:], ^Sum(m, pseudo))
}
