package vnet

import (
	"net/netip"
	"testing"
)

// TestRouteNumbersReturn: however many routes come and go, there is room for those that
// stand: the numbers of the others are used again.
func TestRouteNumbersReturn(t *testing.T) {
	r := newRig(t, 1) // with room for 1024
	out := r.tun("192.0.2.1/24")
	for i := range 5000 {
		prefix := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}), 32).String()
		r.route(RouteReplace, prefix, out.via(""))
		if i >= 1000 { // then there are always about 1000
			gone := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 0, byte((i - 1000) >> 8), byte(i - 1000)}), 32).String()
			r.route(RouteDelete, gone)
		}
	}
}
