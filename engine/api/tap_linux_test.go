package api

import (
	"errors"
	"testing"

	"github.com/vishvananda/netlink"
	govppapi "go.fd.io/govpp/api"
	"go.fd.io/govpp/binapi/interface"
	"go.fd.io/govpp/binapi/tapv2"

	"github.com/millrace/millrace/internal/netnstest"
)

// fullStats stands in for a statistics segment without room.
type fullStats struct{ namesOnly }

func (fullStats) SetInterface(uint32, string) error { return errors.New("no room") }

// TestIntegrationFailedTapLeavesWhatWasThere: a device that opens, but cannot become an
// interface, goes although it was to persist, unless it was there before.
func TestIntegrationFailedTapLeavesWhatWasThere(t *testing.T) {
	netnstest.NeedTun(t)
	ns := netnstest.New(t)
	s := testServer(t)
	t.Cleanup(func() { s.cancel(); s.watches.Wait() })
	call := func(q, r wireMessage) error { t.Helper(); return callDirect(t, s, q, r) }
	if err := call(&interfaces.CreateLoopback{}, &interfaces.CreateLoopbackReply{}); err != nil {
		t.Fatal(err)
	}
	if err := call(&interfaces.SwInterfaceSetInterfaceName{SwIfIndex: 1, Name: "tun5"}, &interfaces.SwInterfaceSetInterfaceNameReply{}); err != nil {
		t.Fatal(err)
	}
	exists := func(name string) (found bool) {
		ns.Netlink(t, func(h *netlink.Handle) error {
			_, err := h.LinkByName(name)
			found = err == nil
			return nil
		})
		return found
	}
	const persist = tapv2.TAP_API_FLAG_TUN | tapv2.TAP_API_FLAG_PERSIST
	create := func(id uint32, name string, flags tapv2.TapFlags) error {
		q := &tapv2.TapCreateV3{ID: id, UseRandomMac: true, HostNamespaceSet: true, HostNamespace: ns.Path, HostIfNameSet: true, HostIfName: name, TapFlags: flags}
		return call(q, &tapv2.TapCreateV3Reply{})
	}
	ns.Netlink(t, func(h *netlink.Handle) error {
		return h.LinkAdd(&netlink.Tuntap{LinkAttrs: netlink.LinkAttrs{Name: "old0"}, Mode: netlink.TUNTAP_MODE_TUN, Flags: netlink.TUNTAP_NO_PI | netlink.TUNTAP_VNET_HDR})
	})
	if !exists("old0") {
		t.Fatal("no persistent device to attach to")
	}
	for _, c := range []struct {
		what  string
		stats Stats
		id    uint32
		want  error
	}{
		{"name taken", namesOnly{}, 5, govppapi.IF_ALREADY_EXISTS},
		{"no room for statistics", fullStats{}, 6, govppapi.UNSPECIFIED},
	} {
		s.stats = c.stats
		if err := create(c.id, "new0", persist); err != c.want || exists("new0") {
			t.Errorf("%s: %v, want %v; device left: %v", c.what, err, c.want, exists("new0"))
		}
		if err := create(c.id, "old0", persist|tapv2.TAP_API_FLAG_ATTACH); err != c.want || !exists("old0") {
			t.Errorf("%s, attached: %v, want %v; device left: %v", c.what, err, c.want, exists("old0"))
		}
	}
	s.stats = namesOnly{}
	if err := create(6, "new0", persist); err != nil || !exists("new0") {
		t.Errorf("after the failures: %v", err)
	}
}
