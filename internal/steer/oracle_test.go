package steer

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"slices"
)

// rules are what the program is tested with, and oracle what it has to do by them: written
// from the package's doc, field by field, over a slice.
type rules struct {
	mac      []byte
	prefixes []netip.Prefix
	ports    []Port
}

func (r rules) oracle(p []byte) Verdict {
	if len(p) < 14 {
		return Passed
	}
	if !bytes.Equal(p[:6], r.mac) {
		return PassedAlien
	}
	switch binary.BigEndian.Uint16(p[12:]) {
	case 0x8100, 0x88a8:
		return PassedTagged
	case 0x0800:
		return r.ipv4(p[14:])
	case 0x86dd:
		return r.ipv6(p[14:])
	}
	return Passed
}

func (r rules) inPrefix(a netip.Addr) bool {
	return slices.ContainsFunc(r.prefixes, func(p netip.Prefix) bool { return p.Contains(a) })
}

func (r rules) port(a netip.Addr, proto uint8, p []byte) Verdict {
	if proto != 6 && proto != 17 && proto != 132 || len(p) < 4 {
		return Passed
	}
	if slices.Contains(r.ports, Port{a, proto, binary.BigEndian.Uint16(p[2:])}) {
		return TakenPort
	}
	return Passed
}

func (r rules) ipv4(p []byte) Verdict {
	if len(p) < 20 || p[0]>>4 != 4 || p[0]&15 < 5 {
		return Passed
	}
	dst := netip.AddrFrom4([4]byte(p[16:20]))
	if r.inPrefix(dst) {
		return TakenPrefix
	}
	if binary.BigEndian.Uint16(p[6:])&0x3fff != 0 {
		return PassedPart
	}
	n := int(p[0]&15) * 4
	if len(p) < n {
		return Passed
	}
	return r.port(dst, p[9], p[n:])
}

func (r rules) ipv6(p []byte) Verdict {
	if len(p) < 40 || p[0]>>4 != 6 {
		return Passed
	}
	dst, next, rest := netip.AddrFrom16([16]byte(p[24:40])), p[6], p[40:]
	if r.inPrefix(dst) {
		if next == 58 && (len(rest) == 0 || rest[0] >= 133 && rest[0] <= 137) {
			return Passed
		}
		return TakenPrefix
	}
	for range 4 {
		if next != 0 && next != 43 && next != 60 {
			break
		}
		if len(rest) < 2 {
			return Passed
		}
		n := 8 * (int(rest[1]) + 1)
		next = rest[0]
		rest = rest[min(n, len(rest)):]
	}
	if next == 44 {
		return PassedPart
	}
	return r.port(dst, next, rest)
}
