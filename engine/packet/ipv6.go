package packet

import (
	"encoding/binary"
	"net/netip"
)

// Offsets in an IPv6 header (RFC 8200); IPv6Len is its length in bytes.
const (
	ip6Ver      = 0
	ip6Payload  = 4
	ip6Next     = 6
	ip6HopLimit = 7
	ip6Src      = 8
	ip6Dst      = 24
	IPv6Len     = 40

	// maxExtensions is how many extension headers a packet may have. RFC 8883 lets a
	// router set such a limit; 8 is each kind once and some.
	maxExtensions = 8
)

// IPv6 is a packet from its IPv6 header to the end that its payload length names.
type IPv6 []byte

// ParseIPv6 checks version and length and returns the packet without what follows it
// (Ethernet padding). Jumbograms (RFC 2675) are Unsupported.
func ParseIPv6(p []byte) (IPv6, Reason) {
	if len(p) < IPv6Len {
		return nil, Truncated
	}
	if p[ip6Ver]>>4 != 6 {
		return nil, BadVersion
	}
	n := int(binary.BigEndian.Uint16(p[ip6Payload:]))
	if n == 0 && p[ip6Next] == ProtoHopByHop {
		return nil, Unsupported
	}
	if IPv6Len+n > len(p) {
		return nil, Truncated
	}
	return IPv6(p[: IPv6Len+n : IPv6Len+n]), OK
}

func (h IPv6) TrafficClass() uint8   { return uint8(binary.BigEndian.Uint16(h[ip6Ver:]) >> 4) }
func (h IPv6) FlowLabel() uint32     { return binary.BigEndian.Uint32(h[ip6Ver:]) & 0x000fffff }
func (h IPv6) PayloadLen() int       { return int(binary.BigEndian.Uint16(h[ip6Payload:])) }
func (h IPv6) NextHeader() uint8     { return h[ip6Next] }
func (h IPv6) HopLimit() uint8       { return h[ip6HopLimit] }
func (h IPv6) Src() [16]byte         { return [16]byte(h[ip6Src : ip6Src+16]) }
func (h IPv6) Dst() [16]byte         { return [16]byte(h[ip6Dst : ip6Dst+16]) }
func (h IPv6) SrcAddr() netip.Addr   { return netip.AddrFrom16(h.Src()) }
func (h IPv6) DstAddr() netip.Addr   { return netip.AddrFrom16(h.Dst()) }
func (h IPv6) Payload() []byte       { return h[IPv6Len:] }
func (h IPv6) SetPayloadLen(n int)   { binary.BigEndian.PutUint16(h[ip6Payload:], uint16(n)) }
func (h IPv6) SetNextHeader(p uint8) { h[ip6Next] = p }
func (h IPv6) SetHopLimit(n uint8)   { h[ip6HopLimit] = n }
func (h IPv6) SetSrc(a [16]byte)     { copy(h[ip6Src:ip6Src+16], a[:]) }
func (h IPv6) SetDst(a [16]byte)     { copy(h[ip6Dst:ip6Dst+16], a[:]) }

func (h IPv6) pseudo(proto uint8, n int) uint16 {
	return PseudoSum(h[ip6Src:ip6Src+16], h[ip6Dst:ip6Dst+16], proto, n)
}

// IsMulticastDst reports whether the destination is in ff00::/8.
func (h IPv6) IsMulticastDst() bool { return h[ip6Dst] == 0xff }

// IsLinkLocal6 reports whether a is in fe80::/10 and so never forwarded.
func IsLinkLocal6(a [16]byte) bool { return a[0] == 0xfe && a[1]&0xc0 == 0x80 }

// DecrementHopLimit takes one from the hop limit. The caller has seen to it that it is
// above 1. There is no checksum to repair.
func (h IPv6) DecrementHopLimit() { h[ip6HopLimit]-- }

// Upper walks the extension headers. OK is returned for every upper-layer protocol,
// known or not, ESP and "no next header" included; it says nothing of that layer's
// own bytes.
func (h IPv6) Upper() (Upper, Reason) {
	u := Upper{Proto: h[ip6Next], Offset: IPv6Len}
	for range maxExtensions {
		var n int
		switch u.Proto {
		case ProtoHopByHop, ProtoRouting, ProtoDstOptions, ProtoMobility, ProtoHIP, ProtoShim6:
			if len(h) < u.Offset+8 {
				return Upper{}, Truncated
			}
			n = (int(h[u.Offset+1]) + 1) * 8
		case ProtoAH:
			if len(h) < u.Offset+8 {
				return Upper{}, Truncated
			}
			n = (int(h[u.Offset+1]) + 2) * 4
		case ProtoFragment:
			f, r := ParseFragment(h[u.Offset:])
			if r != OK {
				return Upper{}, r
			}
			if u.FragmentHeader != 0 || f.Offset()+len(h)-u.Offset-FragmentLen > 65535 {
				return Upper{}, BadFragment
			}
			u.FragmentHeader = u.Offset
			u.Fragment = f.Offset() != 0 || f.More() // else atomic (RFC 6946): whole
			u.Later = f.Offset() != 0
			n = FragmentLen
		default:
			return u, OK
		}
		if len(h) < u.Offset+n {
			return Upper{}, Truncated
		}
		u.Proto = h[u.Offset]
		u.Offset += n
		if u.Later {
			return u, OK // what follows is the middle of something
		}
	}
	return Upper{}, BadOption
}

// Offsets in an IPv6 fragment header (RFC 8200, section 4.5); FragmentLen is its length.
const (
	fragNext    = 0
	fragOff     = 2
	fragID      = 4
	FragmentLen = 8
)

// Fragment is IPv6's fragment header.
type Fragment []byte

// ParseFragment checks that p holds a fragment header.
func ParseFragment(p []byte) (Fragment, Reason) {
	if len(p) < FragmentLen {
		return nil, Truncated
	}
	return Fragment(p[:FragmentLen]), OK
}

func (f Fragment) NextHeader() uint8 { return f[fragNext] }
func (f Fragment) Offset() int       { return int(binary.BigEndian.Uint16(f[fragOff:]) &^ 7) }
func (f Fragment) More() bool        { return f[fragOff+1]&1 != 0 }
func (f Fragment) ID() uint32        { return binary.BigEndian.Uint32(f[fragID:]) }

// MakeIPv6 writes an IPv6 header into p, which must be the whole packet.
func MakeIPv6(p []byte, src, dst [16]byte, next, hopLimit uint8) IPv6 {
	h := IPv6(p)
	clear(h[:IPv6Len])
	h[ip6Ver] = 0x60
	h.SetPayloadLen(len(p) - IPv6Len)
	h[ip6Next], h[ip6HopLimit] = next, hopLimit
	h.SetSrc(src)
	h.SetDst(dst)
	return h
}
