package api

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"fmt"
	"net/netip"
	"testing"

	"github.com/vishvananda/netlink"
	govppapi "go.fd.io/govpp/api"
	"go.fd.io/govpp/binapi/af_packet"
	"go.fd.io/govpp/binapi/interface"
	"go.fd.io/govpp/binapi/interface_types"
	"go.fd.io/govpp/binapi/ip_types"
	"go.fd.io/govpp/binapi/tapv2"
	"go.fd.io/govpp/codec"

	"github.com/millrace/millrace/internal/netnstest"
)

func TestIntegrationTap(t *testing.T) {
	netnstest.NeedTun(t)
	ns := netnstest.New(t)
	_, path := start(t)
	conn := connect(t, path)
	ch := channel(t, conn)
	request := func() *tapv2.TapCreateV3 {
		return &tapv2.TapCreateV3{
			ID: none32, UseRandomMac: true, NumRxQueues: 2, TxRingSz: 1024, TapFlags: tapv2.TAP_API_FLAG_TUN | tapv2.TAP_API_FLAG_GSO,
			HostNamespaceSet: true, HostNamespace: ns.Path, HostIfNameSet: true, HostIfName: "eth0", HostMtuSet: true, HostMtuSize: 1400,
			HostIP4PrefixSet: true, HostIP4Prefix: ip4Prefix(t, "10.1.0.2/32"), HostIP6PrefixSet: true, HostIP6Prefix: ip6Prefix(t, "fd00::2/128"),
			Tag: "pod",
		}
	}
	made := &tapv2.TapCreateV3Reply{}
	if got := call(t, ch, request(), made); got != 0 {
		t.Fatalf("create: %d", got)
	}
	refused := &tapv2.TapCreateV3Reply{}
	for _, c := range []struct {
		what string
		edit func(*tapv2.TapCreateV3)
		want int32
	}{
		{"id taken", func(q *tapv2.TapCreateV3) { q.ID, q.HostIfName = 0, "eth1" }, -71},
		{"no such namespace", func(q *tapv2.TapCreateV3) { q.HostNamespace = "/run/netns/no-such-namespace" }, -12},
		{"no such bridge", func(q *tapv2.TapCreateV3) {
			q.TapFlags, q.HostIfName, q.HostBridgeSet, q.HostBridge = 0, "eth1", true, "br-none"
		}, -145},
	} {
		q := request()
		c.edit(q)
		if got := call(t, ch, q, refused); got != c.want || uint32(refused.SwIfIndex) != none32 {
			t.Errorf("%s: %d with index %d, want %d", c.what, got, refused.SwIfIndex, c.want)
		}
	}
	links := func() (names []string) {
		ns.Netlink(t, func(h *netlink.Handle) error {
			list, err := h.LinkList()
			for _, l := range list {
				names = append(names, l.Attrs().Name)
			}
			return err
		})
		return names
	}
	if got := links(); len(got) != 2 {
		t.Errorf("links in the namespace: %q, want lo and eth0", got)
	}
	d := dumpInterfaces(t, conn, &interfaces.SwInterfaceDump{SwIfIndex: made.SwIfIndex})
	if len(d) != 1 || d[0].InterfaceName != "tun0" || d[0].InterfaceDevType != "virtio" || d[0].Tag != "pod" || d[0].Mtu[0] != 1400 || d[0].Flags&2 == 0 {
		t.Errorf("interface: %+v", d)
	}
	stream, err := tapv2.NewServiceClient(conn).SwInterfaceTapV2Dump(t.Context(), &tapv2.SwInterfaceTapV2Dump{SwIfIndex: ^interface_types.InterfaceIndex(0)})
	if err != nil {
		t.Fatal(err)
	}
	tap, err := stream.Recv()
	if err != nil {
		t.Fatal(err)
	}
	want := tapv2.SwInterfaceTapV2Details{
		SwIfIndex: uint32(made.SwIfIndex), ID: 0, TxRingSz: 1024, RxRingSz: 256, HostMtuSize: 1400, TapFlags: 17, DevName: "tun0",
		HostIfName: "eth0", HostNamespace: ns.Path, HostIP4Prefix: ip4Prefix(t, "10.1.0.2/32"), HostIP6Prefix: ip6Prefix(t, "fd00::2/128"),
	}
	if *tap != want {
		t.Errorf("tap: %+v\nwant %+v", *tap, want)
	}
	if got := call(t, ch, &tapv2.TapDeleteV2{SwIfIndex: made.SwIfIndex}, &tapv2.TapDeleteV2Reply{}); got != 0 {
		t.Errorf("delete: %d", got)
	}
	if got := call(t, ch, &tapv2.TapDeleteV2{SwIfIndex: made.SwIfIndex}, &tapv2.TapDeleteV2Reply{}); got != -2 {
		t.Errorf("delete again: %d", got)
	}
	if got := links(); len(got) != 1 {
		t.Errorf("links after the delete: %q", got)
	}
	persistent := request()
	persistent.TapFlags |= tapv2.TAP_API_FLAG_PERSIST
	if got := call(t, ch, persistent, made); got != 0 {
		t.Errorf("create again, persistent: %d", got)
	}
	if got := call(t, ch, &tapv2.TapDeleteV2{SwIfIndex: made.SwIfIndex}, &tapv2.TapDeleteV2Reply{}); got != 0 || len(links()) != 1 {
		t.Errorf("delete of a persistent tap: %d, links %q", got, links())
	}
	if got := call(t, ch, request(), made); got != 0 {
		t.Errorf("create a third time: %d", got)
	}
}

func ip4Prefix(t *testing.T, s string) (w ip_types.IP4AddressWithPrefix) {
	p, err := netip.ParsePrefix(s)
	if err != nil {
		t.Fatal(err)
	}
	w.Address, w.Len = p.Addr().As4(), uint8(p.Bits())
	return w
}

func ip6Prefix(t *testing.T, s string) (w ip_types.IP6AddressWithPrefix) {
	p, err := netip.ParsePrefix(s)
	if err != nil {
		t.Fatal(err)
	}
	w.Address, w.Len = p.Addr().As16(), uint8(p.Bits())
	return w
}

// TestIntegrationAfPacket calls the server on a thread inside a namespace: the message
// has no field for one.
func TestIntegrationAfPacket(t *testing.T) {
	netnstest.NeedRoot(t)
	a, b := netnstest.New(t), netnstest.New(t)
	netnstest.Veth(t, a, "veth0", b, "veth1")
	s := testServer(t)
	t.Cleanup(func() { s.cancel(); s.watches.Wait() })
	call := func(m wireMessage, r wireMessage) error {
		return a.Do(func() error { return callDirect(t, s, m, r) })
	}
	for _, c := range []struct {
		what  string
		q     wireMessage
		index uint32
		want  error
	}{
		{"create", &af_packet.AfPacketCreateV3{HostIfName: "veth0", Mode: 1, Flags: 3, UseRandomHwAddr: true}, 1, nil},
		{"create again", &af_packet.AfPacketCreateV3{HostIfName: "veth0", Mode: 1}, 1, govppapi.IF_ALREADY_EXISTS},
		{"create on nothing", &af_packet.AfPacketCreateV3{HostIfName: "veth9", Mode: 1}, 0, govppapi.INVALID_INTERFACE},
		{"no mode", &af_packet.AfPacketCreateV3{HostIfName: "veth0"}, none32, govppapi.INVALID_VALUE},
	} {
		r := &af_packet.AfPacketCreateV3Reply{}
		if err := call(c.q, r); err != c.want || uint32(r.SwIfIndex) != c.index {
			t.Errorf("%s: %v with index %d, want %v with %d", c.what, err, r.SwIfIndex, c.want, c.index)
		}
	}
	i, err := s.plane.Interface(1)
	if err != nil || i.Name != "host-veth0" || i.DeviceType != "af-packet" || i.MTU[0] != 1500 {
		t.Errorf("interface: %+v, %v", i, err)
	}
	d := &af_packet.AfPacketDetails{}
	if err := call(&af_packet.AfPacketDump{}, d); err != nil || d.HostIfName != "veth0" || d.SwIfIndex != 1 {
		t.Errorf("dump: %+v, %v", d, err)
	}
	if err := call(&af_packet.AfPacketDelete{HostIfName: "veth0"}, &af_packet.AfPacketDeleteReply{}); err != nil {
		t.Errorf("delete: %v", err)
	}
	if err := call(&af_packet.AfPacketDelete{HostIfName: "veth0"}, &af_packet.AfPacketDeleteReply{}); err != error(govppapi.SYSCALL_ERROR_1) {
		t.Errorf("delete again: %v", err)
	}
	if err := call(&af_packet.AfPacketCreateV2{HostIfName: "veth0", UseRandomHwAddr: true}, &af_packet.AfPacketCreateV2Reply{}); err != nil {
		t.Errorf("create by version 2: %v", err)
	}
}

// callDirect serves one request on this goroutine and decodes the first answer.
func callDirect(t testing.TB, s *Server, q, r wireMessage) error {
	var answer bytes.Buffer
	c := quietSession(t, s)
	c.out = bufio.NewWriter(&answer)
	c.dispatch(encoded(t, s, q))
	if err := c.flush(); err != nil {
		return err
	}
	msg := answer.Bytes()
	if len(msg) < frameHeader+6 {
		return fmt.Errorf("no answer to %s", q.GetMessageName())
	}
	msg = msg[frameHeader:]
	if err := codec.DecodeMsg(msg, r); err != nil {
		return err
	}
	if e := s.table.find(binary.BigEndian.Uint16(msg)); e != nil && r.GetMessageName() == e.proto.GetMessageName() && isReply(r) {
		return govppapi.RetvalToVPPApiError(int32(binary.BigEndian.Uint32(msg[6:])))
	}
	return nil
}

func isReply(r wireMessage) bool {
	name := r.GetMessageName()
	return len(name) > 6 && name[len(name)-6:] == "_reply"
}
