package main

import (
	"encoding/binary"
	"net/netip"
)

// router knows for each link what lies behind it.
type router [2][]netip.Prefix

// hop takes one from the packet's life and says where it is going: nowhere (the zero Addr),
// if that was its last.
func hop(p []byte) netip.Addr {
	switch {
	case len(p) >= 20 && p[0]>>4 == 4 && p[8] > 1:
		p[8]--
		sum := uint32(binary.BigEndian.Uint16(p[10:])) + 0x100 // RFC 1624
		binary.BigEndian.PutUint16(p[10:], uint16(sum+sum>>16))
		return netip.AddrFrom4([4]byte(p[16:]))
	case len(p) >= 40 && p[0]>>4 == 6 && p[7] > 1:
		p[7]--
		return netip.AddrFrom16([16]byte(p[24:]))
	}
	return netip.Addr{}
}

// link is the link with the longest prefix that holds the address, or -1.
func (r router) link(a netip.Addr) int {
	best, bits := -1, -1
	for n, prefixes := range r {
		for _, p := range prefixes {
			if p.Contains(a) && p.Bits() > bits {
				best, bits = n, p.Bits()
			}
		}
	}
	return best
}
