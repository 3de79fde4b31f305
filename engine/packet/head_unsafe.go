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

// Head is the Head of a packet whose network header is l3 bytes after its start. Where
// l3 is below EthLen the Ethernet header is in the room before the packet. It is nil
// when there is no such room or the packet ends within the Head.
func (b *Buffer) Head(l3 uint32) *Head {
	at := uint64(b.start) + uint64(l3)
	if at < EthLen || at+HeadLen-EthLen > uint64(b.end) {
		return nil
	}
	// A Buffer's end is never beyond its mem.
	return (*Head)(unsafe.Add(unsafe.Pointer(unsafe.SliceData(b.mem)), at-EthLen))
}
