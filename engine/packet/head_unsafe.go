package packet

import "unsafe"

// HeadLen is the length of a Head in bytes.
const HeadLen = EthLen + IPv4Len + 8

// Head is the front of most packets, at fixed places:
//
//	0          14                   34           42
//	| Ethernet | IPv4, no options   | ports ...  |
//
// It is an array, so that reading it needs no check of bounds.
type Head [HeadLen]byte

// Head is the Head of a packet whose network header is l3 bytes after its start, and how
// many bytes there are from the network header on. Where l3 is below EthLen the Ethernet
// header is in the room before the packet. It is nil when there is no such room or the
// packet ends within the Head.
func (b *Buffer) Head(l3 uint32) (h *Head, n uint32) {
	at := b.start + l3 - EthLen // beyond every end when below 0
	if uint64(at)+HeadLen > uint64(b.end) {
		return nil, 0
	}
	// A Buffer's end is never beyond its mem.
	return (*Head)(unsafe.Add(unsafe.Pointer(unsafe.SliceData(b.mem)), at)), b.end - at - EthLen
}

// TCPFlags are the flags of the segment that h begins, of a packet with size bytes from its
// network header on; 0 when it ends before.
func (h *Head) TCPFlags(size uint32) uint8 {
	if size < IPv4Len+TCPLen {
		return 0
	}
	return *(*uint8)(unsafe.Add(unsafe.Pointer(h), EthLen+IPv4Len+tcpFlags))
}

// Settle notes where the headers of a packet with a Head are, and cuts it to n bytes from
// the network header on, which it has.
func (b *Buffer) Settle(l3, n uint32) {
	b.L3, b.L4 = uint16(l3), uint16(l3)+IPv4Len
	b.end = b.start + l3 + n
}
