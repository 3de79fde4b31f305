package acl

import (
	"encoding/binary"
	"net/netip"
)

// Addr is an address as two big-endian words. Of IPv4 the address is Lo.
type Addr struct{ Hi, Lo uint64 }

// AddrOf returns a as words. IPv4 addresses mapped to IPv6 count as IPv6.
func AddrOf(a netip.Addr) Addr {
	if a.Is4() {
		b := a.As4()
		return Addr{Lo: uint64(binary.BigEndian.Uint32(b[:]))}
	}
	b := a.As16()
	return Addr{binary.BigEndian.Uint64(b[:8]), binary.BigEndian.Uint64(b[8:])}
}

// KeyFlags say what kind of packet a Key is of.
type KeyFlags uint8

const (
	// KeyIPv6 is set for IPv6: without it no rule of IPv6 matches, with it none of IPv4.
	KeyIPv6 KeyFlags = 1 << iota
	// KeyFragment is set for a fragment that is not the first: rules match it by addresses
	// and protocol. VPP does so by default (am->l4_match_nonfirst_fragment); where it
	// shall not, set KeyNoL4 instead.
	KeyFragment
	// KeyNoL4 is set for a packet with less than 8 bytes after its IP headers: only rules
	// of Protocol 0 match it. KeyFragment takes precedence.
	KeyNoL4
)

// Key is what rules look at in a packet. It is comparable and holds no pointers.
type Key struct {
	Src, Dst Addr
	// SrcPort and DstPort are those of TCP, UDP and SCTP, or type and code of ICMP (of ICMPv6
	// in IPv6), else 0. They do not matter in a fragment.
	SrcPort, DstPort uint16
	Protocol         uint8 // after the extension headers that VPP skips
	TCPFlags         uint8 // of TCP, as in its header; for others it does not matter
	Flags            KeyFlags
}

// KeyOf returns the key of a whole packet between two addresses of one family.
func KeyOf(src, dst netip.Addr, protocol uint8, srcPort, dstPort uint16) Key {
	k := Key{Src: AddrOf(src), Dst: AddrOf(dst), SrcPort: srcPort, DstPort: dstPort, Protocol: protocol}
	if !src.Is4() {
		k.Flags |= KeyIPv6
	}
	return k
}
