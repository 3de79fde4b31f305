package packet

import "encoding/binary"

// Segmenter cuts one GSO packet into the packets that go on the wire, one at a time,
// into buffers of the caller:
//
//	| L2 | L3 | L4 |  payload, GSOSize a piece ......................... |
//	| L2 | L3 | L4 | piece 0 |   | L2 | L3 | L4 | piece 1 |   ...
//
// Every piece gets the headers, with length, IPv4 ID, TCP sequence, flags and checksums
// of its own. The GSO packet stays as it was until the last piece is out.
type Segmenter struct {
	src         *Buffer
	l4, headers int
	at          int // next payload byte, from the packet's start
	index       int
	// LeaveChecksum makes segments with NeedsChecksum set, for a device that can
	// finish checksums but not cut segments. Set it between Start and Next.
	LeaveChecksum bool
}

// Start begins the cutting of b, whose L3 is set. BadOffload and the like mean that
// nothing can be cut.
func (s *Segmenter) Start(b *Buffer) Reason {
	if b.Offload.GSO&^GSOECN == GSONone || b.Offload.GSOSize == 0 {
		return BadOffload
	}
	l4, headers, r := gsoHeaders(b)
	if r != OK {
		return r
	}
	*s = Segmenter{src: b, l4: l4, headers: headers, at: headers}
	return OK
}

// Remaining is how many more segments Next will make.
func (s *Segmenter) Remaining() int {
	if s.src == nil {
		return 0
	}
	left := s.src.Len() - s.at
	if left == 0 && s.index == 0 {
		return 1
	}
	size := int(s.src.Offload.GSOSize)
	return (left + size - 1) / size
}

// Next makes dst the next segment and reports whether there was one. dst gets the
// learned values of the GSO packet. It is false, with nothing made, also when dst's
// slot is too small; an arena's slots never are.
func (s *Segmenter) Next(dst *Buffer) bool {
	if s.Remaining() == 0 {
		return false
	}
	src := s.src.Bytes()
	n := min(int(s.src.Offload.GSOSize), len(src)-s.at)
	start := min(Headroom, s.src.Room())
	if start+s.headers+n > len(*dst.own) {
		return false
	}
	dst.Reset(start)
	dst.SetLen(s.headers + n)
	p := dst.Bytes()
	copy(p, src[:s.headers])
	copy(p[s.headers:], src[s.at:s.at+n])
	dst.CopyMeta(s.src)
	dst.L4 = uint16(s.l4)
	dst.Offload = Offload{Flags: s.src.Offload.Flags & DataValid}
	last := s.at+n == len(src)
	s.finishNetwork(p)
	s.finishTransport(dst, p, last)
	s.at += n
	s.index++
	return true
}

func (s *Segmenter) finishNetwork(p []byte) {
	l3 := p[s.src.L3:]
	if l3[0]>>4 == 4 {
		ip := IPv4(l3)
		ip.SetTotalLen(len(l3))
		ip.SetID(ip.ID() + uint16(s.index))
		ip.UpdateHeaderChecksum()
		return
	}
	IPv6(l3).SetPayloadLen(len(l3) - IPv6Len)
}

func (s *Segmenter) finishTransport(dst *Buffer, p []byte, last bool) {
	l3, l4 := p[s.src.L3:s.l4], p[s.l4:]
	proto, check := ProtoTCP, tcpCheck
	if s.src.Offload.GSO&^GSOECN == GSOUDPL4 {
		proto, check = ProtoUDP, udpCheck
		UDP(l4).SetLength(len(l4))
	} else {
		t := TCP(l4)
		t.SetSeq(t.Seq() + uint32(s.index)*uint32(s.src.Offload.GSOSize))
		flags := t.Flags()
		if !last {
			flags &^= TCPFin | TCPPsh
		}
		if s.index > 0 {
			flags &^= TCPCwr // RFC 3168: once per reduction of the window
		}
		t.SetFlags(flags)
	}
	pseudo := pseudoOf(l3, proto, len(l4))
	if s.LeaveChecksum {
		binary.BigEndian.PutUint16(l4[check:], pseudo)
		dst.Offload = Offload{Flags: NeedsChecksum, CsumStart: uint16(s.l4), CsumOffset: uint16(check)}
		return
	}
	binary.BigEndian.PutUint16(l4[check:], 0)
	binary.BigEndian.PutUint16(l4[check:], nonZero(^Sum(l4, pseudo)))
}
