package acl

import (
	"encoding/binary"
	"net/netip"
)

const tcp = 6

func (r *Rule) matches(k *Key) bool {
	six := k.Flags&KeyIPv6 != 0
	if r.Src.Addr().Is4() == six || !r.Src.Contains(k.Src.netip(six)) || !r.Dst.Contains(k.Dst.netip(six)) {
		return false
	}
	switch {
	case r.Protocol == 0:
		return true
	case r.Protocol != k.Protocol:
		return false
	case k.Flags&KeyFragment != 0:
		return true
	case k.Flags&KeyNoL4 != 0:
		return false
	}
	return r.SrcPorts.has(k.SrcPort) && r.DstPorts.has(k.DstPort) &&
		(k.Protocol != tcp || k.TCPFlags&r.TCPMask == r.TCPValue)
}

func (a Addr) netip(six bool) netip.Addr {
	if !six {
		var b [4]byte
		binary.BigEndian.PutUint32(b[:], uint32(a.Lo))
		return netip.AddrFrom4(b)
	}
	var b [16]byte
	binary.BigEndian.PutUint64(b[:8], a.Hi)
	binary.BigEndian.PutUint64(b[8:], a.Lo)
	return netip.AddrFrom16(b)
}
