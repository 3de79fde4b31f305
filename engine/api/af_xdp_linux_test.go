package api

import (
	"fmt"
	"testing"

	"github.com/vishvananda/netlink"
	"go.fd.io/govpp/binapi/af_xdp"
	"go.fd.io/govpp/binapi/interface"
	"go.fd.io/govpp/binapi/interface_types"

	"github.com/millrace/millrace/internal/netnstest"
	"github.com/millrace/millrace/internal/steer"
)

func TestIntegrationAfXDP(t *testing.T) {
	a, b := netnstest.New(t), netnstest.New(t)
	netnstest.Veth(t, a, "eth0", b, "eth0")
	var mac string
	a.Netlink(t, func(h *netlink.Handle) error {
		l, err := h.LinkByName("eth0")
		if err == nil {
			mac = l.Attrs().HardwareAddr.String()
		}
		return err
	})
	_, path := start(t)
	conn := connect(t, path)
	ch := channel(t, conn)
	request := func() *af_xdp.AfXdpCreateV3 {
		return &af_xdp.AfXdpCreateV3{HostIf: "eth0", Name: "uplink0", RxqNum: 65535, Prog: steer.Prog, Netns: a.Path}
	}
	refused := &af_xdp.AfXdpCreateV3Reply{}
	for _, c := range []struct {
		what string
		edit func(*af_xdp.AfXdpCreateV3)
		want int32
	}{
		{"no host interface", func(q *af_xdp.AfXdpCreateV3) { q.HostIf = "" }, -7},
		{"none of that name", func(q *af_xdp.AfXdpCreateV3) { q.HostIf = "eth9" }, -7},
		{"odd ring", func(q *af_xdp.AfXdpCreateV3) { q.RxqSize = 300 }, -7},
		{"too many queues", func(q *af_xdp.AfXdpCreateV3) { q.RxqNum = 200 }, -7},
		{"no such namespace", func(q *af_xdp.AfXdpCreateV3) { q.Netns = "no-such-namespace" }, -18},
		{"a program of a file", func(q *af_xdp.AfXdpCreateV3) { q.Prog = "/prog.o" }, -15},
	} {
		q := request()
		c.edit(q)
		if got := call(t, ch, q, refused); got != c.want || refused.SwIfIndex != 0 {
			t.Errorf("%s: %d with index %d, want %d", c.what, got, refused.SwIfIndex, c.want)
		}
	}
	made := &af_xdp.AfXdpCreateV3Reply{}
	if got := call(t, ch, request(), made); got != 0 {
		t.Fatalf("create: %d", got)
	}
	d := dumpInterfaces(t, conn, &interfaces.SwInterfaceDump{SwIfIndex: made.SwIfIndex})
	if len(d) != 1 || d[0].InterfaceName != "uplink0" || d[0].InterfaceDevType != "AF_XDP interface" || d[0].Mtu[0] != 1500 || d[0].L2Address.String() != mac {
		t.Errorf("interface: %+v; want uplink0 with MAC address %s", d, mac)
	}
	on := func() (name string) {
		a.Run(t, func() error {
			x, err := steer.On("eth0")
			name = x.Name
			return err
		})
		return name
	}
	if got := on(); got != steer.Name {
		t.Errorf("the program on it is %q", got)
	}
	again := request()
	again.Name = "uplink1"
	if got := call(t, ch, again, refused); got != -16 {
		t.Errorf("a second one on the same link: %d, want -16", got)
	}
	for i, want := range []int32{0, -71} {
		if got := call(t, ch, &af_xdp.AfXdpDelete{SwIfIndex: made.SwIfIndex}, &af_xdp.AfXdpDeleteReply{}); got != want {
			t.Errorf("delete %d: %d, want %d", i, got, want)
		}
	}
	if got := on(); got != "" {
		t.Errorf("after the delete the program on it is %q", got)
	}
	// Everything is taken without a prog, and a name is thought of.
	own := request()
	own.Prog, own.Name = "", ""
	if got := call(t, ch, own, made); got != 0 {
		t.Fatalf("create without prog: %d", got)
	}
	d = dumpInterfaces(t, conn, &interfaces.SwInterfaceDump{SwIfIndex: interface_types.InterfaceIndex(made.SwIfIndex)})
	if len(d) != 1 || d[0].InterfaceName != fmt.Sprintf("eth0/%d", 1) {
		t.Errorf("interface: %+v", d)
	}
	if got := on(); got == "" || got == steer.Name {
		t.Errorf("the program on it is %q", got)
	}
}
