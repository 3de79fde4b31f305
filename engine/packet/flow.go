package packet

import (
	"encoding/binary"
	"math/bits"
)

// Flow is the key of a flow: a comparable value, the same for all its packets in one
// direction. IPv4 addresses stand in the first four bytes. The ports of ICMP echoes are
// the identifier (RFC 5508 treats it so), once as source and once as destination.
// Fragments, the first one too, carry no ports: later ones cannot.
type Flow struct {
	Src, Dst         [16]byte
	SrcPort, DstPort uint16
	Proto            uint8
	Version          uint8 // 4 or 6
	Fragment         bool
}

// FlowOf returns the flow of the IP packet p, which begins with its IP header and has
// passed ParseIPv4 or ParseIPv6. Where u.Proto's header is cut off the ports are 0.
func FlowOf(p []byte, u Upper) Flow {
	f := Flow{Proto: u.Proto, Fragment: u.Fragment, Version: p[0] >> 4}
	if f.Version == 4 {
		copy(f.Src[:], p[ip4Src:ip4Src+4])
		copy(f.Dst[:], p[ip4Dst:ip4Dst+4])
	} else {
		copy(f.Src[:], p[ip6Src:ip6Src+16])
		copy(f.Dst[:], p[ip6Dst:ip6Dst+16])
	}
	if u.Fragment || u.Offset > len(p) {
		return f
	}
	up := p[u.Offset:]
	if src, dst, ok := Ports(u.Proto, up); ok {
		f.SrcPort, f.DstPort = src, dst
	} else if id, ok := echoID(u.Proto, up); ok {
		f.SrcPort, f.DstPort = id, id
	}
	return f
}

func echoID(proto uint8, p []byte) (uint16, bool) {
	if len(p) < ICMPLen {
		return 0, false
	}
	switch {
	case proto == ProtoICMP && (p[icmpType] == ICMPv4Echo || p[icmpType] == ICMPv4EchoReply),
		proto == ProtoICMPv6 && (p[icmpType] == ICMPv6Echo || p[icmpType] == ICMPv6EchoReply):
		return binary.BigEndian.Uint16(p[icmpRest:]), true
	}
	return 0, false
}

// Hash is the flow's FlowHash.
func (f *Flow) Hash() uint32 {
	var h uint64
	if f.Version == 4 {
		h = mix(uint64(binary.LittleEndian.Uint32(f.Src[:]))<<32|uint64(binary.LittleEndian.Uint32(f.Dst[:])), seed1)
	} else {
		h = mix6(f.Src[:], f.Dst[:])
	}
	return finish(h, uint32(f.SrcPort)<<16|uint32(f.DstPort), f.Proto)
}

// FlowHash returns what FlowOf(p, u).Hash() would, without making the Flow.
func FlowHash(p []byte, u Upper) uint32 {
	var h uint64
	if p[0]>>4 == 4 {
		h = mix(uint64(binary.LittleEndian.Uint32(p[ip4Src:]))<<32|uint64(binary.LittleEndian.Uint32(p[ip4Dst:])), seed1)
	} else {
		h = mix6(p[ip6Src:ip6Src+16], p[ip6Dst:ip6Dst+16])
	}
	var ports uint32
	if !u.Fragment && u.Offset <= len(p) {
		up := p[u.Offset:]
		if len(up) >= 4 && hasPorts(u.Proto) {
			ports = binary.BigEndian.Uint32(up)
		} else if id, ok := echoID(u.Proto, up); ok {
			ports = uint32(id)<<16 | uint32(id)
		}
	}
	return finish(h, ports, u.Proto)
}

// The seeds are the first fractional bits of e and pi, made odd: any will do.
const (
	seed1 = 0xb7e151628aed2a6b
	seed2 = 0x243f6a8885a308d3
)

// mix folds the 128-bit product of two words: every input bit reaches every output bit.
func mix(a, b uint64) uint64 {
	hi, lo := bits.Mul64(a^seed2, b)
	return hi ^ lo
}

func mix6(src, dst []byte) uint64 {
	a := mix(binary.LittleEndian.Uint64(src), binary.LittleEndian.Uint64(src[8:])^seed1)
	b := mix(binary.LittleEndian.Uint64(dst), binary.LittleEndian.Uint64(dst[8:])^seed1)
	return mix(a, bits.RotateLeft64(b, 23)^seed1)
}

func finish(h uint64, ports uint32, proto uint8) uint32 {
	h = mix(h^uint64(ports)<<8^uint64(proto), seed1)
	return uint32(h ^ h>>32)
}
