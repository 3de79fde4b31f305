package program

import (
	"net/netip"

	"go.fd.io/govpp/binapi/ip_types"
)

func family(a netip.Addr) ip_types.AddressFamily {
	if a.Is4() {
		return ip_types.ADDRESS_IP4
	}
	return ip_types.ADDRESS_IP6
}

func wireUnion(a netip.Addr) (u ip_types.AddressUnion) {
	if a.Is4() {
		u.SetIP4(a.As4())
	} else {
		u.SetIP6(a.As16())
	}
	return u
}

func wireAddr(a netip.Addr) ip_types.Address {
	return ip_types.Address{Af: family(a), Un: wireUnion(a)}
}

func wirePrefix(p netip.Prefix) ip_types.Prefix {
	return ip_types.Prefix{Address: wireAddr(p.Addr()), Len: uint8(p.Bits())}
}

func unionAddr(u ip_types.AddressUnion, f ip_types.AddressFamily) netip.Addr {
	if f == ip_types.ADDRESS_IP4 {
		return netip.AddrFrom4(u.GetIP4())
	}
	return netip.AddrFrom16(u.GetIP6())
}

func addrOf(a ip_types.Address) netip.Addr { return unionAddr(a.Un, a.Af) }

func prefixOf(p ip_types.Prefix) netip.Prefix {
	return netip.PrefixFrom(addrOf(p.Address), int(p.Len))
}
