package generator

import (
	"encoding/binary"
	"fmt"
	"net/netip"
)

// Layout of a frame: Ethernet, IPv4, UDP, then a mark, a sequence number and a time stamp.
const (
	etherBytes = 14
	ipAt       = etherBytes
	ttlAt      = ipAt + 8
	sumAt      = ipAt + 10
	srcAt      = ipAt + 12
	dstAt      = ipAt + 16
	udpAt      = ipAt + 20
	srcPortAt  = udpAt
	payloadAt  = udpAt + 8
	markAt     = payloadAt      // u32
	sequenceAt = payloadAt + 4  // u32
	stampAt    = payloadAt + 8  // i64, ns
	endOfStamp = payloadAt + 16 // 58

	// MinFrame and MaxFrame are the sizes in bytes that can be made, without a check sequence.
	MinFrame = 60
	MaxFrame = 9216

	mark       = 0x6d6c7263 // "mlrc": this frame is one of ours
	ttl        = 64
	firstPort  = 1024
	serverPort = 9 // discard
)

// Header says where frames come from and what they aim at.
type Header struct {
	From, To [6]byte    // MAC addresses
	Source   netip.Addr // IPv4
}

// DefaultHeader is that of frames that nobody looks into.
func DefaultHeader() Header {
	return Header{From: [6]byte{2, 0, 0, 0, 0, 1}, To: [6]byte{2, 0, 0, 0, 0, 2}, Source: netip.AddrFrom4([4]byte{198, 18, 0, 1})}
}

// batch is frames of one size in memory that is used again for each send.
type batch struct {
	frames [][]byte
	source uint32 // the address of flows that have none
	sum    uint32 // of the IPv4 header without its checksum and addresses
}

func newBatch(h Header, size, n int) (*batch, error) {
	if size < MinFrame || size > MaxFrame {
		return nil, fmt.Errorf("make frames of %d bytes: want %d to %d", size, MinFrame, MaxFrame)
	}
	if !h.Source.Is4() {
		return nil, fmt.Errorf("make frames from %s: want an IPv4 address", h.Source)
	}
	b := &batch{frames: buffers(n, size)}
	first := b.frames[0]
	copy(first[0:], h.To[:])
	copy(first[6:], h.From[:])
	binary.BigEndian.PutUint16(first[12:], 0x0800)
	ip := first[ipAt:]
	ip[0], ip[8], ip[9] = 0x45, ttl, 17
	binary.BigEndian.PutUint16(ip[2:], uint16(size-etherBytes))
	b.source, b.sum = word(h.Source), sum(ip[:20])
	binary.BigEndian.PutUint16(first[srcPortAt+4:], uint16(size-udpAt)) // no UDP checksum
	binary.LittleEndian.PutUint32(first[markAt:], mark)
	for _, f := range b.frames[1:] {
		copy(f, first)
	}
	for _, f := range b.frames {
		b.aim(f, &flow{to: 0xc6130001, src: firstPort, dst: serverPort}) // 198.19.0.1
	}
	return b, nil
}

// buffers are n buffers of a size in one piece of memory, an odd number of cache lines
// apart, so that the fronts of many do not compete for one set of the cache.
func buffers(n, size int) [][]byte {
	stride := (size+63)/64*64 | 64
	memory := make([]byte, n*stride)
	list := make([][]byte, n)
	for i := range list {
		list[i] = memory[i*stride : i*stride+size : i*stride+size]
	}
	return list
}

// aim points a frame at a flow and completes its checksum.
func (b *batch) aim(f []byte, x *flow) {
	from := x.from
	if from == 0 {
		from = b.source
	}
	binary.BigEndian.PutUint64(f[srcAt:], uint64(from)<<32|uint64(x.to))
	binary.BigEndian.PutUint32(f[srcPortAt:], uint32(x.src)<<16|uint32(x.dst))
	s := b.sum + from>>16 + from&0xffff + x.to>>16 + x.to&0xffff
	s = s>>16 + s&0xffff
	s = s>>16 + s&0xffff
	binary.BigEndian.PutUint16(f[sumAt:], ^uint16(s))
}

// sum adds up the 16-bit words of a header of even length.
func sum(b []byte) uint32 {
	var s uint32
	for i := 0; i < len(b); i += 2 {
		s += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	return s
}

// ours says whether a received frame is one that a generator has sent.
func ours(f []byte) bool {
	return len(f) >= endOfStamp && binary.LittleEndian.Uint32(f[markAt:]) == mark
}

// Forwarded judges frames that a router has passed on: from one MAC address to another, one
// hop older, with a checksum that is right, and otherwise as they were sent.
func Forwarded(from, to [6]byte, size int) func(frame []byte) bool {
	return func(f []byte) bool {
		if !ours(f) || len(f) != size || [6]byte(f[0:6]) != to || [6]byte(f[6:12]) != from || f[ttlAt] != ttl-1 {
			return false
		}
		s := sum(f[ipAt : ipAt+20])
		for s > 0xffff {
			s = s>>16 + s&0xffff
		}
		return s == 0xffff
	}
}
