package api

import (
	"net"
	"net/netip"

	"go.fd.io/govpp/api"
	"go.fd.io/govpp/binapi/ethernet_types"
	"go.fd.io/govpp/binapi/ip_types"

	"github.com/millrace/millrace/engine/vnet"
)

// familyOf reads an address family of the wire.
func familyOf(af ip_types.AddressFamily) (vnet.Family, error) {
	switch af {
	case ip_types.ADDRESS_IP4:
		return vnet.IPv4, nil
	case ip_types.ADDRESS_IP6:
		return vnet.IPv6, nil
	default:
		return 0, api.INVALID_ADDRESS_FAMILY
	}
}

// familyFlag reads the older form, a bool that says IPv6.
func familyFlag(is6 bool) vnet.Family {
	if is6 {
		return vnet.IPv6
	}
	return vnet.IPv4
}

func wireFamily(f vnet.Family) ip_types.AddressFamily {
	if f == vnet.IPv6 {
		return ip_types.ADDRESS_IP6
	}
	return ip_types.ADDRESS_IP4
}

func families() [2]vnet.Family { return [2]vnet.Family{vnet.IPv4, vnet.IPv6} }

func familyOfAddr(a netip.Addr) vnet.Family {
	if a.Is6() {
		return vnet.IPv6
	}
	return vnet.IPv4
}

func addrOf(a ip_types.Address) (netip.Addr, error) {
	f, err := familyOf(a.Af)
	if err != nil {
		return netip.Addr{}, err
	}
	return unionAddr(a.Un, f), nil
}

func unionAddr(u ip_types.AddressUnion, f vnet.Family) netip.Addr {
	if f == vnet.IPv6 {
		return netip.AddrFrom16(u.XXX_UnionData)
	}
	return netip.AddrFrom4([4]byte(u.XXX_UnionData[:4]))
}

func wireUnion(a netip.Addr) (u ip_types.AddressUnion) {
	copy(u.XXX_UnionData[:], a.AsSlice())
	return u
}

func wireAddr(a netip.Addr) ip_types.Address {
	return ip_types.Address{Af: wireFamily(familyOfAddr(a)), Un: wireUnion(a)}
}

// prefixOf keeps host bits. A length that the family does not have gives a Prefix that
// is not valid, whose Addr is.
func prefixOf(a ip_types.Address, bits uint8) (netip.Prefix, error) {
	addr, err := addrOf(a)
	if err != nil {
		return netip.Prefix{}, err
	}
	return netip.PrefixFrom(addr, int(bits)), nil
}

func wirePrefix(p netip.Prefix) ip_types.Prefix {
	return ip_types.Prefix{Address: wireAddr(p.Addr()), Len: uint8(p.Bits())}
}

// macOf is nil for the zero address: clients leave the field empty to let us choose.
func macOf(m ethernet_types.MacAddress) net.HardwareAddr {
	if m == (ethernet_types.MacAddress{}) {
		return nil
	}
	return net.HardwareAddr(m[:])
}

func wireMAC(m net.HardwareAddr) (w ethernet_types.MacAddress) {
	copy(w[:], m)
	return w
}
