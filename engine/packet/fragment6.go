package packet

import "encoding/binary"

// Fragmenter6 cuts one IPv6 packet of our own into fragments (RFC 8200, section 4.5); a
// packet of others is never cut. Like Fragmenter's, its fragments start at the network
// header.
type Fragmenter6 struct {
	src  *Buffer
	ip   IPv6
	id   uint32
	at   int // next payload byte
	size int // payload bytes per fragment, a multiple of 8
}

// Start begins the cutting of b, whose L3 is set, for an L3 MTU; id names the packet among
// others of the same addresses. Packets with extension headers are Unsupported.
func (f *Fragmenter6) Start(b *Buffer, mtu int, id uint32) Reason {
	if b.Offload.GSO&^GSOECN != GSONone {
		return BadOffload
	}
	ip, r := ParseIPv6(b.L3Bytes())
	if r != OK {
		return r
	}
	if u, r := ip.Upper(); r != OK || u.Offset != IPv6Len {
		return Unsupported
	}
	size := (mtu - IPv6Len - FragmentLen) &^ 7
	if size < 8 {
		return NoRoom
	}
	if r := FinishChecksum(b); r != OK {
		return r
	}
	*f = Fragmenter6{src: b, ip: ip, id: id, size: size}
	return OK
}

// Next makes dst the next fragment and reports whether there was one. dst gets the
// learned values of the packet, with L3 and L4 0.
func (f *Fragmenter6) Next(dst *Buffer) bool {
	if f.src == nil {
		return false
	}
	payload := f.ip.Payload()[f.at:]
	n := min(f.size, len(payload))
	if Headroom+IPv6Len+FragmentLen+n > len(*dst.own) {
		return false
	}
	dst.Reset(Headroom)
	dst.SetLen(IPv6Len + FragmentLen + n)
	p := IPv6(dst.Bytes())
	copy(p, f.ip[:IPv6Len])
	p.SetPayloadLen(FragmentLen + n)
	p.SetNextHeader(ProtoFragment)
	h := p[IPv6Len:]
	h[fragNext], h[fragNext+1] = f.ip.NextHeader(), 0
	field := uint16(f.at)
	if n < len(payload) {
		field |= 1
	}
	binary.BigEndian.PutUint16(h[fragOff:], field)
	binary.BigEndian.PutUint32(h[fragID:], f.id)
	copy(h[FragmentLen:], payload[:n])
	dst.CopyMeta(f.src)
	dst.Offload = Offload{}
	dst.L3, dst.L4 = 0, 0
	if f.at += n; f.at == len(f.ip)-IPv6Len {
		f.src = nil
	}
	return true
}
