package packet

import "encoding/binary"

// VXLAN (RFC 7348) puts a packet behind these headers:
//
//	IPv4 (20) or IPv6 (40) | UDP (8) | VXLAN (8) | the packet, with an Ethernet header or without
const (
	VXLANLen      = 8
	VXLANOverIPv4 = IPv4Len + UDPLen + VXLANLen
	VXLANOverIPv6 = IPv6Len + UDPLen + VXLANLen
	vxlanFlagVNI  = 0x08 // the only flag there is
)

// VXLAN is a VXLAN header and what follows.
type VXLAN []byte

// ParseVXLAN checks that p holds a header, and that it says what this version of the
// protocol says.
func ParseVXLAN(p []byte) (VXLAN, Reason) {
	if len(p) < VXLANLen {
		return nil, Truncated
	}
	if p[0] != vxlanFlagVNI {
		return nil, BadVersion
	}
	return VXLAN(p), OK
}

// VNI is the number of the network, with the reserved byte behind it: a VNI of 24 bits
// above eight that are zero.
func (v VXLAN) VNI() uint32 { return binary.BigEndian.Uint32(v[4:]) }

// VXLANHeader is what a tunnel puts before its packets; it lacks lengths, checksums and
// the source port.
type VXLANHeader struct {
	bytes [VXLANOverIPv6]byte
	n     int
	sum   uint16 // of the pseudo header's addresses, over IPv6
}

// Len is 36 over IPv4 and 56 over IPv6.
func (h *VXLANHeader) Len() int { return h.n }

// NewVXLANHeader makes the headers from src to dst, two addresses of 4 or 16 bytes each.
// TTL and hop limit are VPP's.
func NewVXLANHeader(src, dst []byte, srcPort, dstPort uint16, vni uint32) VXLANHeader {
	h := VXLANHeader{n: VXLANOverIPv4}
	b := h.bytes[:]
	udp := b[IPv4Len:]
	if len(src) == 4 {
		b[0], b[ip4TTL], b[ip4Proto] = 0x45, 254, ProtoUDP
		copy(b[ip4Src:], src)
		copy(b[ip4Dst:], dst)
	} else {
		h.n, udp = VXLANOverIPv6, b[IPv6Len:]
		b[0], b[6], b[7] = 0x60, ProtoUDP, 255
		copy(b[ip6Src:], src)
		copy(b[ip6Dst:], dst)
		h.sum = Sum(b[ip6Src:ip6Src+32], 0)
	}
	binary.BigEndian.PutUint16(udp[portSrc:], srcPort)
	binary.BigEndian.PutUint16(udp[portDst:], dstPort)
	udp[UDPLen] = vxlanFlagVNI
	binary.BigEndian.PutUint32(udp[UDPLen+4:], vni<<8)
	return h
}

// Wrap puts the header before the packet, which has no Offload and Room for it, and makes
// b an IP packet. The source port is entropy of the flow inside, from 49152 on (RFC 7348,
// section 5). The UDP checksum is 0 over IPv4; over IPv6 it is there, as in VPP, though
// RFC 6935 lets it be 0. A packet that is forwarded has one hop behind it already.
func (h *VXLANHeader) Wrap(b *Buffer, entropy uint32, forwarded bool) {
	b.Offload = Offload{}
	p := b.Push(h.n)
	copy(p, h.bytes[:h.n])
	size := b.Len()
	b.L3 = 0
	if h.n == VXLANOverIPv4 {
		b.L4 = IPv4Len
		binary.BigEndian.PutUint16(p[ip4Total:], uint16(size))
		if forwarded {
			p[ip4TTL]--
		}
		binary.BigEndian.PutUint16(p[ip4Check:], ^Sum(p[:IPv4Len], 0))
		writeUDP(p[IPv4Len:], size-IPv4Len, entropy)
		return
	}
	b.L4 = IPv6Len
	if forwarded {
		p[7]--
	}
	n := size - IPv6Len
	binary.BigEndian.PutUint16(p[ip6Payload:], uint16(n))
	writeUDP(p[IPv6Len:], n, entropy)
	var rest [8]byte // of the pseudo header
	binary.BigEndian.PutUint32(rest[:], uint32(n))
	rest[7] = ProtoUDP
	whole := b.Bytes()[IPv6Len:]
	binary.BigEndian.PutUint16(whole[udpCheck:], nonZero(^Sum(whole, Sum(rest[:], h.sum))))
}

func writeUDP(udp []byte, n int, entropy uint32) {
	binary.BigEndian.PutUint16(udp[portSrc:], 0xc000|uint16(entropy))
	binary.BigEndian.PutUint16(udp[udpLength:], uint16(n))
}

// Unwrap removes the first n bytes of a packet, headers of a tunnel, and what is known of
// them. Work that the sender left to the device and that is about the outer headers is done
// by that; about the inner ones it stays.
func (b *Buffer) Unwrap(n int) {
	if b.Offload.Flags&NeedsChecksum != 0 && int(b.Offload.CsumStart) < n {
		b.Offload.Flags &^= NeedsChecksum
		b.Offload.CsumStart, b.Offload.CsumOffset = 0, 0
	}
	b.Offload.Flags &^= DataValid
	b.Pull(n)
	b.L3, b.L4, b.Meta = 0, 0, [2]uint16{}
}
