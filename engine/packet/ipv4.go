package packet

import (
	"encoding/binary"
	"net/netip"
)

// IP protocol numbers, extension headers of IPv6 included (IANA).
const (
	ProtoHopByHop   uint8 = 0
	ProtoICMP       uint8 = 1
	ProtoIGMP       uint8 = 2
	ProtoIPIP       uint8 = 4
	ProtoTCP        uint8 = 6
	ProtoUDP        uint8 = 17
	ProtoIPv6       uint8 = 41
	ProtoRouting    uint8 = 43
	ProtoFragment   uint8 = 44
	ProtoGRE        uint8 = 47
	ProtoESP        uint8 = 50
	ProtoAH         uint8 = 51
	ProtoICMPv6     uint8 = 58
	ProtoNoNext     uint8 = 59
	ProtoDstOptions uint8 = 60
	ProtoSCTP       uint8 = 132
	ProtoMobility   uint8 = 135
	ProtoUDPLite    uint8 = 136
	ProtoHIP        uint8 = 139
	ProtoShim6      uint8 = 140
)

// Offsets in an IPv4 header (RFC 791); IPv4Len is its length in bytes without options.
const (
	ip4VerIHL = 0
	ip4TOS    = 1
	ip4Total  = 2
	ip4ID     = 4
	ip4Frag   = 6
	ip4TTL    = 8
	ip4Proto  = 9
	ip4Check  = 10
	ip4Src    = 12
	ip4Dst    = 16
	IPv4Len   = 20

	ip4DF       = 0x4000
	ip4MF       = 0x2000
	ip4FragMask = 0x1fff
)

// IPv4 is a packet from its IPv4 header to the end that its total length names.
type IPv4 []byte

// ParseIPv4 checks version, lengths, header checksum and the fragment offset 1 attack
// (RFC 1858), and returns the packet without what follows it (Ethernet padding).
func ParseIPv4(p []byte) (IPv4, Reason) {
	if len(p) < IPv4Len {
		return nil, Truncated
	}
	if p[ip4VerIHL]>>4 != 4 {
		return nil, BadVersion
	}
	hl := int(p[ip4VerIHL]&0x0f) * 4
	total := int(binary.BigEndian.Uint16(p[ip4Total:]))
	if hl < IPv4Len {
		return nil, BadHeaderLength
	}
	if total < hl {
		return nil, BadLength
	}
	if total > len(p) {
		return nil, Truncated
	}
	ip := IPv4(p[:total:total])
	if Sum(ip[:hl], 0) != 0xffff {
		return nil, BadChecksum
	}
	// A second fragment at 8 bytes could overwrite TCP's flags behind a filter's back
	// (VPP drops it for every protocol); one beyond 65535 is the "ping of death".
	if frag := binary.BigEndian.Uint16(p[ip4Frag:]) & ip4FragMask; frag != 0 {
		if frag == 1 || int(frag)*8+total-hl > 65535 {
			return nil, BadFragment
		}
	}
	return ip, OK
}

func (h IPv4) HeaderLen() int        { return int(h[ip4VerIHL]&0x0f) * 4 }
func (h IPv4) TOS() uint8            { return h[ip4TOS] }
func (h IPv4) TotalLen() int         { return int(binary.BigEndian.Uint16(h[ip4Total:])) }
func (h IPv4) ID() uint16            { return binary.BigEndian.Uint16(h[ip4ID:]) }
func (h IPv4) DontFragment() bool    { return h[ip4Frag]&0x40 != 0 }
func (h IPv4) MoreFragments() bool   { return h[ip4Frag]&0x20 != 0 }
func (h IPv4) FragmentOffset() int   { return int(binary.BigEndian.Uint16(h[ip4Frag:])&ip4FragMask) * 8 }
func (h IPv4) IsFragment() bool      { return binary.BigEndian.Uint16(h[ip4Frag:])&(ip4FragMask|ip4MF) != 0 }
func (h IPv4) TTL() uint8            { return h[ip4TTL] }
func (h IPv4) Protocol() uint8       { return h[ip4Proto] }
func (h IPv4) Checksum() uint16      { return binary.BigEndian.Uint16(h[ip4Check:]) }
func (h IPv4) Src() [4]byte          { return [4]byte(h[ip4Src : ip4Src+4]) }
func (h IPv4) Dst() [4]byte          { return [4]byte(h[ip4Dst : ip4Dst+4]) }
func (h IPv4) SrcUint32() uint32     { return binary.BigEndian.Uint32(h[ip4Src:]) }
func (h IPv4) DstUint32() uint32     { return binary.BigEndian.Uint32(h[ip4Dst:]) }
func (h IPv4) SrcAddr() netip.Addr   { return netip.AddrFrom4(h.Src()) }
func (h IPv4) DstAddr() netip.Addr   { return netip.AddrFrom4(h.Dst()) }
func (h IPv4) Options() []byte       { return h[IPv4Len:h.HeaderLen()] }
func (h IPv4) Payload() []byte       { return h[h.HeaderLen():] }
func (h IPv4) SetTotalLen(n int)     { binary.BigEndian.PutUint16(h[ip4Total:], uint16(n)) }
func (h IPv4) SetID(id uint16)       { binary.BigEndian.PutUint16(h[ip4ID:], id) }
func (h IPv4) SetTTL(ttl uint8)      { h[ip4TTL] = ttl }
func (h IPv4) SetChecksum(c uint16)  { binary.BigEndian.PutUint16(h[ip4Check:], c) }
func (h IPv4) SetSrc(a [4]byte)      { copy(h[ip4Src:ip4Src+4], a[:]) }
func (h IPv4) SetDst(a [4]byte)      { copy(h[ip4Dst:ip4Dst+4], a[:]) }
func (h IPv4) setFragment(v uint16)  { binary.BigEndian.PutUint16(h[ip4Frag:], v) }
func (h IPv4) fragmentField() uint16 { return binary.BigEndian.Uint16(h[ip4Frag:]) }

// UpdateHeaderChecksum computes and stores the header checksum.
func (h IPv4) UpdateHeaderChecksum() {
	h.SetChecksum(0)
	h.SetChecksum(Checksum(h[:h.HeaderLen()]))
}

// DecrementTTL takes one from the TTL and repairs the checksum. The caller has seen to
// it that the TTL is above 1.
func (h IPv4) DecrementTTL() {
	h[ip4TTL]--
	// The TTL is the high byte of its word, so the word falls by 0x0100 and the
	// checksum rises by as much, with the end-around carry (RFC 1624).
	c := uint32(h.Checksum()) + 0x0100
	h.SetChecksum(uint16(c + c>>16))
}

// Upper tells where the transport header is and whether the packet is a fragment.
func (h IPv4) Upper() Upper {
	return Upper{
		Proto:    h[ip4Proto],
		Offset:   h.HeaderLen(),
		Fragment: h.IsFragment(),
		Later:    h.fragmentField()&ip4FragMask != 0,
	}
}

// Upper is what stands above an IP header and its extension headers.
type Upper struct {
	Proto    uint8 // upper-layer protocol
	Offset   int   // of its header from the IP header, in bytes
	Fragment bool  // first or later fragment
	Later    bool  // not the first fragment: at Offset there is no header
	// FragmentHeader is the offset of IPv6's fragment header, 0 when there is none.
	FragmentHeader int
}

// MakeIPv4 writes an IPv4 header without options into p, which must be the whole
// packet, checksum included. DF is not set.
func MakeIPv4(p []byte, src, dst [4]byte, proto, ttl uint8) IPv4 {
	h := IPv4(p)
	clear(h[:IPv4Len])
	h[ip4VerIHL] = 0x45
	h.SetTotalLen(len(p))
	h[ip4TTL], h[ip4Proto] = ttl, proto
	h.SetSrc(src)
	h.SetDst(dst)
	h.UpdateHeaderChecksum()
	return h
}
