package nat

import (
	"encoding/binary"
	"hash/crc32"

	"github.com/millrace/millrace/engine/packet"
)

// Target is what a packet shall have: both addresses and both ports, also those that it
// has already. Addresses of IPv4 stand in the first four bytes. The identifier of an ICMP
// echo is SrcPort.
type Target struct {
	Src, Dst         [16]byte
	SrcPort, DstPort uint16
}

// reversed is what the packet that is answered by one to t has.
func (t *Target) reversed() Target {
	return Target{Src: t.Dst, Dst: t.Src, SrcPort: t.DstPort, DstPort: t.SrcPort}
}

// Where the addresses, and the checksum of IPv4, are.
const (
	addrs4, size4 = 12, 8
	addrs6, size6 = 8, 32
	check4        = 10
)

// Where transport headers have their checksums, and ICMP what follows its header.
const (
	checkTCP  = 16
	checkUDP  = 6
	checkSCTP = 8
	checkICMP = 2
	echoID    = 4
)

// Rewrite gives the packet at buf's L3, a whole IP packet, the addresses and ports of t.
// Fragments are rewritten as far as they have what t says: later ones get addresses only.
// A checksum that the device is still to finish (NeedsChecksum) stays its task. An error
// of ICMP is told to be about the packet that t's answers: the packet that it quotes is
// rewritten the other way round; its own source is t's only if fromEnd says that the far
// end of the flow itself sent it, not a router on the way.
//
// What cannot be rewritten is left as it was: Truncated, where the header of TCP, UDP,
// SCTP or ICMP is not whole, or the quoted packet is none; Unsupported, for other
// protocols, and for fragments of SCTP, whose checksum covers all of them.
func Rewrite(buf *packet.Buffer, t *Target, fromEnd bool) packet.Reason {
	p := buf.L3Bytes()
	u, r := upper(p)
	if r != packet.OK {
		return r
	}
	l4 := p[u.Offset:]
	if r := whole(u, l4); r != packet.OK {
		return r
	}
	if u.Later {
		t.network(p)
		return packet.OK
	}
	if isError(u.Proto, l4) && !u.Fragment {
		return t.rewriteError(p, l4, fromEnd)
	}
	pending := buf.Offload.Flags&packet.NeedsChecksum != 0 && int(buf.Offload.CsumStart) == int(buf.L3)+u.Offset
	old := t.network(p)
	t.transport(p, l4, u.Proto, old, pending)
	return packet.OK
}

// upper is what stands above the IP header of p, which may be cut off.
func upper(p []byte) (packet.Upper, packet.Reason) {
	switch {
	case len(p) >= packet.IPv4Len && p[0]>>4 == 4:
		u := packet.IPv4(p).Upper()
		if u.Offset < packet.IPv4Len || u.Offset > len(p) {
			return u, packet.Truncated
		}
		return u, packet.OK
	case len(p) >= packet.IPv6Len && p[0]>>4 == 6:
		u, r := packet.IPv6(p).Upper()
		if r == packet.OK && u.Offset > len(p) {
			r = packet.Truncated
		}
		return u, r
	}
	return packet.Upper{}, packet.Truncated
}

// whole says whether a transport header is there, unless in a later fragment, and can be
// rewritten.
func whole(u packet.Upper, l4 []byte) packet.Reason {
	var least int
	switch u.Proto {
	case packet.ProtoTCP:
		least = packet.TCPLen
	case packet.ProtoUDP, packet.ProtoICMP, packet.ProtoICMPv6:
		least = packet.ICMPLen
	case packet.ProtoSCTP:
		if u.Fragment {
			return packet.Unsupported
		}
		least = checkSCTP + 4
	default:
		return packet.Unsupported
	}
	if !u.Later && len(l4) < least {
		return packet.Truncated
	}
	return packet.OK
}

// isError reports whether an ICMP message is about a packet, which it quotes.
func isError(proto uint8, l4 []byte) bool {
	switch {
	case len(l4) == 0:
		return false
	case proto == packet.ProtoICMP:
		return l4[0] == 3 || l4[0] == 4 || l4[0] == 5 || l4[0] == 11 || l4[0] == 12
	}
	return proto == packet.ProtoICMPv6 && l4[0] >= 1 && l4[0] <= 4
}

// isEcho reports whether an ICMP message has an identifier.
func isEcho(proto uint8, l4 []byte) bool {
	return proto == packet.ProtoICMP && (l4[0] == packet.ICMPv4Echo || l4[0] == packet.ICMPv4EchoReply) ||
		proto == packet.ProtoICMPv6 && (l4[0] == packet.ICMPv6Echo || l4[0] == packet.ICMPv6EchoReply)
}

// addresses is the source and destination of a packet, side by side.
type addresses struct {
	b [size6]byte
	n int
}

func (a *addresses) bytes() []byte { return a.b[:a.n] }

// addressesOf are those in the IP header of p.
func addressesOf(p []byte) []byte {
	if p[0]>>4 == 4 {
		return p[addrs4 : addrs4+size4]
	}
	return p[addrs6 : addrs6+size6]
}

// network writes the addresses, with the checksum of IPv4, and returns those of before.
func (t *Target) network(p []byte) addresses {
	var old addresses
	to := addressesOf(p)
	old.n = copy(old.b[:], to)
	copy(to[:old.n/2], t.Src[:])
	copy(to[old.n/2:], t.Dst[:])
	if p[0]>>4 == 4 {
		update(p[check4:], old.bytes(), to)
	}
	return old
}

// update makes a checksum hold for to instead of from (RFC 1624).
func update(check, from, to []byte) {
	binary.BigEndian.PutUint16(check, packet.UpdateChecksumBytes(binary.BigEndian.Uint16(check), from, to))
}

// updateSum is update for the sum of a pseudo header, which is no complement.
func updateSum(sum, from, to []byte) {
	binary.BigEndian.PutUint16(sum, ^packet.UpdateChecksumBytes(^binary.BigEndian.Uint16(sum), from, to))
}

// transport writes the ports under the addresses of p, which were old. The header may be
// cut off where a packet is quoted.
func (t *Target) transport(p, l4 []byte, proto uint8, old addresses, pending bool) {
	now := addressesOf(p)
	switch proto {
	case packet.ProtoTCP:
		t.ports(l4, checkTCP, old.bytes(), now, pending)
	case packet.ProtoUDP:
		if none := old.n == size4 && len(l4) >= checkUDP+2 && l4[checkUDP]|l4[checkUDP+1] == 0; none && !pending {
			t.ports(l4, len(l4), nil, nil, false)
			return
		}
		t.ports(l4, checkUDP, old.bytes(), now, pending)
		if c := l4[checkUDP:]; !pending && c[0]|c[1] == 0 {
			c[0], c[1] = 0xff, 0xff // 0 would be none
		}
	case packet.ProtoSCTP:
		t.ports(l4, len(l4), nil, nil, false)
		sumSCTP(l4)
	case packet.ProtoICMP, packet.ProtoICMPv6:
		if proto == packet.ProtoICMPv6 {
			update(l4[checkICMP:], old.bytes(), now)
		}
		if isEcho(proto, l4) {
			was := [2]byte(l4[echoID:])
			binary.BigEndian.PutUint16(l4[echoID:], t.SrcPort)
			update(l4[checkICMP:], was[:], l4[echoID:echoID+2])
		}
	}
}

// ports writes both ports and, where it is, the checksum at check.
func (t *Target) ports(l4 []byte, check int, from, to []byte, pending bool) {
	was := [4]byte(l4)
	binary.BigEndian.PutUint16(l4, t.SrcPort)
	binary.BigEndian.PutUint16(l4[2:], t.DstPort)
	switch {
	case len(l4) < check+2:
	case pending:
		updateSum(l4[check:], from, to)
	default:
		update(l4[check:], from, to)
		update(l4[check:], was[:], l4[:4])
	}
}

// sumSCTP makes the checksum of SCTP anew, which tells apart what a sum would not (RFC
// 9260, appendix A). None (RFC 9653) stays none.
func sumSCTP(p []byte) {
	check := p[checkSCTP : checkSCTP+4]
	if binary.LittleEndian.Uint32(check) == 0 {
		return
	}
	clear(check)
	binary.LittleEndian.PutUint32(check, crc32.Checksum(p, crc32.MakeTable(crc32.Castagnoli)))
}
