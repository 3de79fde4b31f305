package conformance

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"testing"

	"github.com/vishvananda/netlink"
	interfaces "go.fd.io/govpp/binapi/interface"
	"go.fd.io/govpp/binapi/interface_types"
	"go.fd.io/govpp/binapi/ip"
	"go.fd.io/govpp/binapi/ip_types"
	"go.fd.io/govpp/binapi/tapv2"

	"github.com/millrace/millrace/internal/netnstest"
)

// tapHost is a host behind a tap (or TUN) that the machine makes in its namespace, wired
// as pods are: host addresses, an unnumbered interface, a default route through it.
func tapHost(s *Session, n int, flags tapv2.TapFlags) *host {
	s.T.Helper()
	h := &host{
		Namespace: netnstest.New(s.T),
		four:      netip.MustParseAddr(fmt.Sprintf("10.9.0.%d", n)), six: netip.MustParseAddr(fmt.Sprintf("fd00:9::%d", n)),
	}
	reply := s.Must(&tapv2.TapCreateV3{
		ID: uint32(n), NumRxQueues: 1, NumTxQueues: 1, RxRingSz: 256, TxRingSz: 256,
		TapFlags:         flags | tapv2.TAP_API_FLAG_GSO,
		HostNamespaceSet: true, HostNamespace: h.Path, HostIfNameSet: true, HostIfName: "eth0",
		HostMtuSet: true, HostMtuSize: 1500,
		HostIP4PrefixSet: true, HostIP4Prefix: ip_types.IP4AddressWithPrefix{Address: h.four.As4(), Len: 32},
		HostIP6PrefixSet: true, HostIP6Prefix: ip_types.IP6AddressWithPrefix{Address: h.six.As16(), Len: 128},
		Tag: fmt.Sprintf("pod %d", n),
	}).(*tapv2.TapCreateV3Reply)
	h.index = reply.SwIfIndex
	s.Must(&interfaces.SwInterfaceSetUnnumbered{SwIfIndex: 1, UnnumberedSwIfIndex: h.index, IsAdd: true})
	s.Must(&ip.SwInterfaceIP6EnableDisable{SwIfIndex: h.index, Enable: true})
	s.Up(h.index)
	for _, a := range []netip.Addr{h.four, h.six} {
		s.Must(&ip.IPRouteAddDel{IsAdd: true, Route: route(netip.PrefixFrom(a, a.BitLen()).String(), via(a.String(), h.index))})
	}
	return h
}

// lender is the loopback with the gateway's addresses; it becomes sw_if_index 1.
func lender(s *Session) {
	s.T.Helper()
	index := s.loopback()
	for _, a := range []string{"169.254.1.1/32", "fd00:9::1111/128"} {
		s.Must(&interfaces.SwInterfaceAddDelAddress{SwIfIndex: index, IsAdd: true, Prefix: withPrefix(a)})
	}
}

func defaultRoutes(t testing.TB, h *host) {
	t.Helper()
	h.Netlink(t, func(nl *netlink.Handle) error {
		link, err := nl.LinkByName("eth0")
		if err != nil {
			return err
		}
		var errs []error
		for _, everything := range []string{"0.0.0.0/0", "::/0"} {
			_, to, err := net.ParseCIDR(everything)
			errs = append(errs, err, nl.RouteReplace(&netlink.Route{LinkIndex: link.Attrs().Index, Dst: to, Scope: netlink.SCOPE_LINK}))
		}
		return errors.Join(errs...)
	})
}

// TestIntegrationEngineTaps shows two pods on TUN interfaces, and a host on a wire.
func TestIntegrationEngineTaps(t *testing.T) {
	netnstest.NeedTun(t)
	s := newSession(t, embedded{})
	lender(s)
	a, b := tapHost(s, 1, tapv2.TAP_API_FLAG_TUN), tapHost(s, 2, tapv2.TAP_API_FLAG_TUN)
	wire := s.host(5)
	for _, h := range []*host{a, b} {
		defaultRoutes(t, h)
	}
	for _, tt := range []struct {
		name     string
		from, to *host
	}{{"pod to pod", a, b}, {"pod to wire", a, wire}, {"wire to pod", wire, b}} {
		for _, server := range []netip.Addr{tt.to.four, tt.to.six} {
			if err := s.transfer(tt.from, tt.to, server, 4<<20); err != nil {
				t.Errorf("%s, TCP to %v: %v", tt.name, server, err)
			}
			for _, n := range []int{1, 1400, 4000} {
				if got := s.datagram(tt.from, tt.to, server, n); got != "as sent" {
					t.Errorf("%s, UDP of %d bytes to %v: %s", tt.name, n, server, got)
				}
			}
		}
	}
}

// TestIntegrationEngineTapLife: what is dumped, what a second of the same id gets, and
// that deletion takes the kernel's end along.
func TestIntegrationEngineTapLife(t *testing.T) {
	netnstest.NeedTun(t)
	s := newSession(t, embedded{})
	lender(s)
	for _, flags := range []tapv2.TapFlags{0, tapv2.TAP_API_FLAG_TUN} {
		h := tapHost(s, 3, flags)
		dump := s.Details(&tapv2.SwInterfaceTapV2Dump{SwIfIndex: h.index})
		if len(dump) != 1 {
			t.Fatalf("flags %v: %d taps dumped", flags, len(dump))
		}
		got := dump[0].(*tapv2.SwInterfaceTapV2Details)
		if got.ID != 3 || got.HostIfName != "eth0" || got.HostNamespace != h.Path || got.HostMtuSize != 1500 || got.TapFlags&flags != flags {
			t.Errorf("flags %v: dumped as %s", flags, describeMessage(got))
		}
		intf := s.Details(&interfaces.SwInterfaceDump{SwIfIndex: h.index})[0].(*interfaces.SwInterfaceDetails)
		want := map[bool]string{true: "tun3", false: "tap3"}[flags != 0]
		if intf.InterfaceName != want || intf.Tag != "pod 3" || intf.Flags != 3 {
			t.Errorf("flags %v: interface %s", flags, describeMessage(intf))
		}
		again := &tapv2.TapCreateV3Reply{}
		if err := s.Conn.Invoke(t.Context(), &tapv2.TapCreateV3{ID: 3}, again); err == nil {
			t.Errorf("flags %v: id 3 was given twice", flags)
		}
		s.Must(&tapv2.TapDeleteV2{SwIfIndex: h.index})
		h.Netlink(t, func(nl *netlink.Handle) error {
			if _, err := nl.LinkByName("eth0"); !errors.As(err, new(netlink.LinkNotFoundError)) {
				t.Errorf("flags %v: the kernel's end outlives the tap: %v", flags, err)
			}
			return nil
		})
		if left := len(s.Details(&tapv2.SwInterfaceTapV2Dump{SwIfIndex: interface_types.InterfaceIndex(none)})); left != 0 {
			t.Errorf("flags %v: %d taps left", flags, left)
		}
	}
}
