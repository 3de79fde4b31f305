package api

import (
	"bufio"
	"flag"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	govppapi "go.fd.io/govpp/api"
	"go.fd.io/govpp/binapi/af_packet"
	"go.fd.io/govpp/binapi/fib_types"
	"go.fd.io/govpp/binapi/interface"
	"go.fd.io/govpp/binapi/interface_types"
	"go.fd.io/govpp/binapi/ip"
	"go.fd.io/govpp/binapi/ip_neighbor"
	"go.fd.io/govpp/binapi/ip_types"
	"go.fd.io/govpp/binapi/tapv2"
	"go.fd.io/govpp/binapi/urpf"
	"go.fd.io/govpp/codec"

	"github.com/millrace/millrace/engine/vnet"
)

// quietSession is a client whose answers nobody reads.
func quietSession(t testing.TB, s *Server) *session {
	t.Helper()
	return &session{server: s, ctx: t.Context(), index: firstClient, conn: discardConn{}, out: bufio.NewWriterSize(io.Discard, outBuffer), wake: make(chan struct{}, 1)}
}

// encoded is the message m as a client sends it.
func encoded(t testing.TB, s *Server, m wireMessage) []byte {
	t.Helper()
	for _, e := range s.table.entries {
		if e.proto.GetMessageName() == m.GetMessageName() {
			b, err := codec.EncodeMsg(m, e.id)
			if err != nil {
				t.Fatal(err)
			}
			return b
		}
	}
	t.Fatalf("%s is not in the table", m.GetMessageName())
	return nil
}

// call sends one request and returns VPP's number.
func call(t testing.TB, ch govppapi.Channel, q, r govppapi.Message) int32 {
	t.Helper()
	err := ch.SendRequest(q).ReceiveReply(r)
	if err == nil {
		return 0
	}
	code, ok := err.(govppapi.VPPApiError)
	if !ok {
		t.Fatalf("%s: %v", q.GetMessageName(), err)
	}
	return int32(code)
}

func channel(t testing.TB, conn interface {
	NewAPIChannel() (govppapi.Channel, error)
}) govppapi.Channel {
	t.Helper()
	ch, err := conn.NewAPIChannel()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(ch.Close)
	ch.SetReplyTimeout(20 * time.Second)
	return ch
}

func address(t testing.TB, s string) ip_types.Address {
	t.Helper()
	a, err := ip_types.ParseAddress(s)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func prefix(t testing.TB, s string) ip_types.Prefix {
	t.Helper()
	a, l, _ := strings.Cut(s, "/")
	n := 0
	for _, d := range l {
		n = 10*n + int(d-'0')
	}
	return ip_types.Prefix{Address: address(t, a), Len: uint8(n)}
}

func withLength(t testing.TB, s string) ip_types.AddressWithPrefix {
	return ip_types.AddressWithPrefix(prefix(t, s))
}

func via(t testing.TB, next string, index uint32) fib_types.FibPath {
	p := fib_types.FibPath{SwIfIndex: index}
	if next != "" {
		a := address(t, next)
		p.Nh.Address = a.Un
		p.Proto = fib_types.FibPathNhProto(a.Af)
	}
	return p
}

func route(t testing.TB, add, multipath bool, table uint32, p string, paths ...fib_types.FibPath) *ip.IPRouteAddDel {
	return &ip.IPRouteAddDel{IsAdd: add, IsMultipath: multipath, Route: ip.IPRoute{
		TableID: table, Prefix: prefix(t, p), NPaths: uint8(len(paths)), Paths: paths,
	}}
}

// vppAPI runs TestRetvals on a freshly started VPP, which is right where we differ.
var vppAPI = flag.String("vpp-api", "", "run TestRetvals on the VPP behind this API socket")

// TestRetvals: what VPP 25.10 answers to right and wrong calls, in order on one server
// with the loopbacks 1 to 3.
func TestRetvals(t *testing.T) {
	path := *vppAPI
	if path == "" {
		_, path = start(t)
	}
	ch := channel(t, connect(t, path))
	const none = ^interface_types.InterfaceIndex(0)
	neighbor := func(index interface_types.InterfaceIndex, a string) ip_neighbor.IPNeighbor {
		return ip_neighbor.IPNeighbor{SwIfIndex: index, IPAddress: address(t, a), MacAddress: [6]byte{2, 0, 0, 0, 0, 9}}
	}
	deag := fib_types.FibPath{SwIfIndex: ^uint32(0), TableID: 7}
	for _, c := range []struct {
		what string
		q, r govppapi.Message
		want int32
	}{
		{"loopback", &interfaces.CreateLoopback{}, &interfaces.CreateLoopbackReply{}, 0},
		{"another", &interfaces.CreateLoopbackInstance{IsSpecified: true, UserInstance: 5}, &interfaces.CreateLoopbackInstanceReply{}, 0},
		{"a third", &interfaces.CreateLoopback{}, &interfaces.CreateLoopbackReply{}, 0},
		{"instance taken", &interfaces.CreateLoopbackInstance{IsSpecified: true, UserInstance: 5}, &interfaces.CreateLoopbackInstanceReply{}, -31},
		{"instance too high", &interfaces.CreateLoopbackInstance{IsSpecified: true, UserInstance: maxLoops}, &interfaces.CreateLoopbackInstanceReply{}, -31},
		{"delete no loopback", &interfaces.DeleteLoopback{SwIfIndex: 0}, &interfaces.DeleteLoopbackReply{}, -2},
		{"delete nothing", &interfaces.DeleteLoopback{SwIfIndex: 77}, &interfaces.DeleteLoopbackReply{}, -2},

		{"up", &interfaces.SwInterfaceSetFlags{SwIfIndex: 1, Flags: 1}, &interfaces.SwInterfaceSetFlagsReply{}, 0},
		{"up nothing", &interfaces.SwInterfaceSetFlags{SwIfIndex: 77, Flags: 1}, &interfaces.SwInterfaceSetFlagsReply{}, -2},
		{"mtu", &interfaces.SwInterfaceSetMtu{SwIfIndex: 1, Mtu: []uint32{1500, 0, 0, 0}}, &interfaces.SwInterfaceSetMtuReply{}, 0},
		{"mtu of nothing", &interfaces.SwInterfaceSetMtu{SwIfIndex: 77, Mtu: make([]uint32, 4)}, &interfaces.SwInterfaceSetMtuReply{}, -2},
		{"hardware mtu of nothing", &interfaces.HwInterfaceSetMtu{SwIfIndex: 77, Mtu: 1500}, &interfaces.HwInterfaceSetMtuReply{}, -2},
		{"tag", &interfaces.SwInterfaceTagAddDel{IsAdd: true, SwIfIndex: 1, Tag: "pod"}, &interfaces.SwInterfaceTagAddDelReply{}, 0},
		{"empty tag", &interfaces.SwInterfaceTagAddDel{IsAdd: true, SwIfIndex: 1}, &interfaces.SwInterfaceTagAddDelReply{}, -7},
		{"tag nothing", &interfaces.SwInterfaceTagAddDel{IsAdd: true, SwIfIndex: 77, Tag: "x"}, &interfaces.SwInterfaceTagAddDelReply{}, -2},
		{"empty name", &interfaces.SwInterfaceSetInterfaceName{SwIfIndex: 1}, &interfaces.SwInterfaceSetInterfaceNameReply{}, -7},
		{"name nothing", &interfaces.SwInterfaceSetInterfaceName{SwIfIndex: 77, Name: "x"}, &interfaces.SwInterfaceSetInterfaceNameReply{}, -2},
		{"mac of nothing", &interfaces.SwInterfaceGetMacAddress{SwIfIndex: 77}, &interfaces.SwInterfaceGetMacAddressReply{}, -2},
		{"rx mode of nothing", &interfaces.SwInterfaceSetRxMode{SwIfIndex: 77, Mode: 1}, &interfaces.SwInterfaceSetRxModeReply{}, -2},
		{"placement of nothing", &interfaces.SwInterfaceSetRxPlacement{SwIfIndex: 77}, &interfaces.SwInterfaceSetRxPlacementReply{}, -2},
		{"placement of no queue", &interfaces.SwInterfaceSetRxPlacement{SwIfIndex: 1, QueueID: 3}, &interfaces.SwInterfaceSetRxPlacementReply{}, -9},
		{"rx mode of a loopback", &interfaces.SwInterfaceSetRxMode{SwIfIndex: 1, Mode: 1}, &interfaces.SwInterfaceSetRxModeReply{}, 0},
		{"rx mode of no queue", &interfaces.SwInterfaceSetRxMode{SwIfIndex: 1, QueueIDValid: true, QueueID: 3, Mode: 1}, &interfaces.SwInterfaceSetRxModeReply{}, -9},
		{"hardware mtu of a loopback", &interfaces.HwInterfaceSetMtu{SwIfIndex: 1, Mtu: 1500}, &interfaces.HwInterfaceSetMtuReply{}, -126},
		{"hardware mtu of local0", &interfaces.HwInterfaceSetMtu{SwIfIndex: 0, Mtu: 1500}, &interfaces.HwInterfaceSetMtuReply{}, -30},
		{"promisc of a loopback", &interfaces.SwInterfaceSetPromisc{SwIfIndex: 1, PromiscOn: true}, &interfaces.SwInterfaceSetPromiscReply{}, -1},
		{"promisc of local0", &interfaces.SwInterfaceSetPromisc{SwIfIndex: 0, PromiscOn: true}, &interfaces.SwInterfaceSetPromiscReply{}, -7},
		{"mac of a loopback", &interfaces.SwInterfaceSetMacAddress{SwIfIndex: 1, MacAddress: [6]byte{2, 0, 0, 0, 0, 1}}, &interfaces.SwInterfaceSetMacAddressReply{}, 0},
		{"promisc of nothing", &interfaces.SwInterfaceSetPromisc{SwIfIndex: 77}, &interfaces.SwInterfaceSetPromiscReply{}, -2},

		{"table", &ip.IPTableAddDelV2{IsAdd: true, Table: ip.IPTable{TableID: 7}}, &ip.IPTableAddDelV2Reply{}, 0},
		{"table again", &ip.IPTableAddDelV2{IsAdd: true, Table: ip.IPTable{TableID: 7}}, &ip.IPTableAddDelV2Reply{}, 0},
		{"table 0", &ip.IPTableAddDelV2{Table: ip.IPTable{TableID: 0}}, &ip.IPTableAddDelV2Reply{}, 0},
		{"delete missing table", &ip.IPTableAddDelV2{Table: ip.IPTable{TableID: 70}}, &ip.IPTableAddDelV2Reply{}, 0},
		{"flush missing table", &ip.IPTableFlush{Table: ip.IPTable{TableID: 70}}, &ip.IPTableFlushReply{}, -3},
		{"bind", &interfaces.SwInterfaceSetTable{SwIfIndex: 2, VrfID: 7}, &interfaces.SwInterfaceSetTableReply{}, 0},
		{"bind missing table", &interfaces.SwInterfaceSetTable{SwIfIndex: 2, VrfID: 70}, &interfaces.SwInterfaceSetTableReply{}, -3},
		{"bind table of the other family", &interfaces.SwInterfaceSetTable{SwIfIndex: 2, IsIPv6: true, VrfID: 7}, &interfaces.SwInterfaceSetTableReply{}, -3},
		{"table of nothing", &interfaces.SwInterfaceGetTable{SwIfIndex: 77}, &interfaces.SwInterfaceGetTableReply{}, -2},

		{"address", &interfaces.SwInterfaceAddDelAddress{SwIfIndex: 1, IsAdd: true, Prefix: withLength(t, "10.1.0.1/24")}, &interfaces.SwInterfaceAddDelAddressReply{}, 0},
		{"address again", &interfaces.SwInterfaceAddDelAddress{SwIfIndex: 1, IsAdd: true, Prefix: withLength(t, "10.1.0.1/24")}, &interfaces.SwInterfaceAddDelAddressReply{}, -105},
		{"address of the same subnet", &interfaces.SwInterfaceAddDelAddress{SwIfIndex: 1, IsAdd: true, Prefix: withLength(t, "10.1.0.7/24")}, &interfaces.SwInterfaceAddDelAddressReply{}, 0},
		{"overlapping address", &interfaces.SwInterfaceAddDelAddress{SwIfIndex: 1, IsAdd: true, Prefix: withLength(t, "10.1.0.9/16")}, &interfaces.SwInterfaceAddDelAddressReply{}, -105},
		{"v6 address", &interfaces.SwInterfaceAddDelAddress{SwIfIndex: 1, IsAdd: true, Prefix: withLength(t, "fd00::1/64")}, &interfaces.SwInterfaceAddDelAddressReply{}, 0},
		{"v6 address again", &interfaces.SwInterfaceAddDelAddress{SwIfIndex: 1, IsAdd: true, Prefix: withLength(t, "fd00::1/64")}, &interfaces.SwInterfaceAddDelAddressReply{}, -127},
		{"v6 address on another", &interfaces.SwInterfaceAddDelAddress{SwIfIndex: 2, IsAdd: true, Prefix: withLength(t, "fd00::1/64")}, &interfaces.SwInterfaceAddDelAddressReply{}, -127},
		{"delete missing v6 address", &interfaces.SwInterfaceAddDelAddress{SwIfIndex: 1, Prefix: withLength(t, "fd09::1/64")}, &interfaces.SwInterfaceAddDelAddressReply{}, -60},
		{"link-local with a length", &interfaces.SwInterfaceAddDelAddress{SwIfIndex: 1, IsAdd: true, Prefix: withLength(t, "fe80::9/64")}, &interfaces.SwInterfaceAddDelAddressReply{}, -59},
		{"delete missing address", &interfaces.SwInterfaceAddDelAddress{SwIfIndex: 1, Prefix: withLength(t, "10.9.0.1/24")}, &interfaces.SwInterfaceAddDelAddressReply{}, -60},
		{"address of nothing", &interfaces.SwInterfaceAddDelAddress{SwIfIndex: 77, IsAdd: true, Prefix: withLength(t, "10.1.0.1/24")}, &interfaces.SwInterfaceAddDelAddressReply{}, -2},
		{"bind with an address", &interfaces.SwInterfaceSetTable{SwIfIndex: 1, VrfID: 7}, &interfaces.SwInterfaceSetTableReply{}, -114},
		{"ip6", &ip.SwInterfaceIP6EnableDisable{SwIfIndex: 2, Enable: true}, &ip.SwInterfaceIP6EnableDisableReply{}, 0},
		{"ip6 twice", &ip.SwInterfaceIP6EnableDisable{SwIfIndex: 2, Enable: true}, &ip.SwInterfaceIP6EnableDisableReply{}, -81},
		{"no ip6", &ip.SwInterfaceIP6EnableDisable{SwIfIndex: 2}, &ip.SwInterfaceIP6EnableDisableReply{}, 0},
		{"no ip6 twice", &ip.SwInterfaceIP6EnableDisable{SwIfIndex: 2}, &ip.SwInterfaceIP6EnableDisableReply{}, 0},
		{"no ip6 a third time", &ip.SwInterfaceIP6EnableDisable{SwIfIndex: 2}, &ip.SwInterfaceIP6EnableDisableReply{}, -62},
		{"ip6 of nothing", &ip.SwInterfaceIP6EnableDisable{SwIfIndex: 77, Enable: true}, &ip.SwInterfaceIP6EnableDisableReply{}, -2},
		{"unnumbered across tables", &interfaces.SwInterfaceSetUnnumbered{SwIfIndex: 1, UnnumberedSwIfIndex: 2, IsAdd: true}, &interfaces.SwInterfaceSetUnnumberedReply{}, -74},
		{"unnumbered", &interfaces.SwInterfaceSetUnnumbered{SwIfIndex: 1, UnnumberedSwIfIndex: 3, IsAdd: true}, &interfaces.SwInterfaceSetUnnumberedReply{}, 0},
		{"unnumbered no more", &interfaces.SwInterfaceSetUnnumbered{SwIfIndex: 1, UnnumberedSwIfIndex: 3}, &interfaces.SwInterfaceSetUnnumberedReply{}, 0},
		{"unnumbered no more twice", &interfaces.SwInterfaceSetUnnumbered{SwIfIndex: 1, UnnumberedSwIfIndex: 3}, &interfaces.SwInterfaceSetUnnumberedReply{}, 0},
		{"unnumbered nothing", &interfaces.SwInterfaceSetUnnumbered{SwIfIndex: 1, UnnumberedSwIfIndex: 77, IsAdd: true}, &interfaces.SwInterfaceSetUnnumberedReply{}, -2},
		{"unnumbered from nothing", &interfaces.SwInterfaceSetUnnumbered{SwIfIndex: 77, UnnumberedSwIfIndex: 1, IsAdd: true}, &interfaces.SwInterfaceSetUnnumberedReply{}, -10},

		{"route", route(t, true, false, 0, "10.2.0.0/16", via(t, "10.1.0.2", 1)), &ip.IPRouteAddDelReply{}, 0},
		{"route again", route(t, true, false, 0, "10.2.0.0/16", via(t, "10.1.0.2", 1)), &ip.IPRouteAddDelReply{}, 0},
		{"another path", route(t, true, true, 0, "10.2.0.0/16", via(t, "10.1.0.3", 1)), &ip.IPRouteAddDelReply{}, 0},
		{"remove a path that is not there", route(t, false, true, 0, "10.2.0.0/16", via(t, "10.1.0.4", 1)), &ip.IPRouteAddDelReply{}, 0},
		{"remove a path of no route", route(t, false, true, 0, "10.77.0.0/16", via(t, "10.1.0.4", 1)), &ip.IPRouteAddDelReply{}, 0},
		{"host bits in a prefix", route(t, true, false, 0, "10.4.0.1/16", via(t, "10.1.0.2", 1)), &ip.IPRouteAddDelReply{}, 0},
		{"classify path", route(t, true, false, 0, "10.5.0.0/16", fib_types.FibPath{Type: fib_types.FIB_API_PATH_TYPE_CLASSIFY}), &ip.IPRouteAddDelReply{}, -65},
		{"path of no protocol", route(t, true, false, 0, "10.5.0.0/16", fib_types.FibPath{Proto: 99}), &ip.IPRouteAddDelReply{}, -1},
		{"drop", route(t, true, false, 0, "10.6.0.0/16", fib_types.FibPath{Type: fib_types.FIB_API_PATH_TYPE_DROP, SwIfIndex: none32}), &ip.IPRouteAddDelReply{}, 0},
		{"local", route(t, true, false, 0, "10.7.0.1/32", fib_types.FibPath{Type: fib_types.FIB_API_PATH_TYPE_LOCAL, SwIfIndex: none32}), &ip.IPRouteAddDelReply{}, 0},
		{"unreachable", route(t, true, false, 0, "10.8.0.0/16", fib_types.FibPath{Type: fib_types.FIB_API_PATH_TYPE_ICMP_UNREACH}), &ip.IPRouteAddDelReply{}, 0},
		{"route without paths", route(t, true, false, 0, "10.2.0.0/16"), &ip.IPRouteAddDelReply{}, -52},
		{"paths to add: none", route(t, true, true, 0, "10.2.0.0/16"), &ip.IPRouteAddDelReply{}, -52},
		{"paths to remove: none", route(t, false, true, 0, "10.2.0.0/16"), &ip.IPRouteAddDelReply{}, -52},
		{"route in a missing table", route(t, true, false, 70, "10.2.0.0/16", via(t, "10.1.0.2", 1)), &ip.IPRouteAddDelReply{}, -3},
		{"route by a missing interface", route(t, true, false, 0, "10.2.0.0/16", via(t, "10.1.0.2", 77)), &ip.IPRouteAddDelReply{}, -54},
		{"lookup in a table", route(t, true, false, 0, "10.3.0.0/16", deag), &ip.IPRouteAddDelReply{}, 0},
		{"lookup in a missing table", route(t, true, false, 0, "10.3.0.0/16", fib_types.FibPath{SwIfIndex: ^uint32(0), TableID: 70}), &ip.IPRouteAddDelReply{}, -3},
		{"prefix too long", route(t, true, false, 0, "10.3.0.0/33", via(t, "10.1.0.2", 1)), &ip.IPRouteAddDelReply{}, -171},
		{"delete a route", route(t, false, false, 0, "10.2.0.0/16"), &ip.IPRouteAddDelReply{}, 0},
		{"delete it again", route(t, false, false, 0, "10.2.0.0/16"), &ip.IPRouteAddDelReply{}, 0},
		{"look up", &ip.IPRouteLookup{Prefix: prefix(t, "10.3.1.1/32")}, &ip.IPRouteLookupReply{}, 0},
		{"look up exactly", &ip.IPRouteLookup{Exact: 1, Prefix: prefix(t, "10.3.1.1/32")}, &ip.IPRouteLookupReply{}, -6},
		{"look up in a missing table", &ip.IPRouteLookup{TableID: 70, Prefix: prefix(t, "10.3.1.1/32")}, &ip.IPRouteLookupReply{}, -3},
		{"flow hash", &ip.SetIPFlowHashV2{FlowHashConfig: 0x1f}, &ip.SetIPFlowHashV2Reply{}, 0},
		{"flow hash of a missing table", &ip.SetIPFlowHashV3{TableID: 70, FlowHashConfig: 0x1f}, &ip.SetIPFlowHashV3Reply{}, -3},
		{"flow hash of no family", &ip.SetIPFlowHashV2{Af: 9}, &ip.SetIPFlowHashV2Reply{}, -97},
		{"path mtu", &ip.IPPathMtuUpdate{Pmtu: ip.IPPathMtu{Nh: address(t, "10.1.0.2"), PathMtu: 1400}}, &ip.IPPathMtuUpdateReply{}, 0},
		{"path mtu in a missing table", &ip.IPPathMtuUpdate{Pmtu: ip.IPPathMtu{TableID: 70, Nh: address(t, "10.1.0.2")}}, &ip.IPPathMtuUpdateReply{}, -65},

		{"neighbour", &ip_neighbor.IPNeighborAddDel{IsAdd: true, Neighbor: neighbor(1, "10.1.0.2")}, &ip_neighbor.IPNeighborAddDelReply{}, 0},
		{"neighbour on nothing", &ip_neighbor.IPNeighborAddDel{IsAdd: true, Neighbor: neighbor(77, "10.1.0.2")}, &ip_neighbor.IPNeighborAddDelReply{}, -2},
		{"neighbour again", &ip_neighbor.IPNeighborAddDel{IsAdd: true, Neighbor: neighbor(1, "10.1.0.2")}, &ip_neighbor.IPNeighborAddDelReply{}, 0},
		{"neighbour off the subnet", &ip_neighbor.IPNeighborAddDel{IsAdd: true, Neighbor: neighbor(1, "192.0.2.1")}, &ip_neighbor.IPNeighborAddDelReply{}, 0},
		{"delete missing neighbour", &ip_neighbor.IPNeighborAddDel{Neighbor: neighbor(1, "10.1.0.3")}, &ip_neighbor.IPNeighborAddDelReply{}, -6},
		{"flush nothing", &ip_neighbor.IPNeighborFlush{SwIfIndex: 77}, &ip_neighbor.IPNeighborFlushReply{}, -2},
		{"flush no family", &ip_neighbor.IPNeighborFlush{SwIfIndex: none, Af: 9}, &ip_neighbor.IPNeighborFlushReply{}, -97},
		{"config of no family", &ip_neighbor.IPNeighborConfig{Af: 9}, &ip_neighbor.IPNeighborConfigReply{}, -97},
		{"events on nothing", &ip_neighbor.WantIPNeighborEventsV2{Enable: true, SwIfIndex: 77}, &ip_neighbor.WantIPNeighborEventsV2Reply{}, -2},

		{"urpf", &urpf.UrpfUpdateV2{IsInput: true, Mode: 2, SwIfIndex: 1, TableID: ^uint32(0)}, &urpf.UrpfUpdateV2Reply{}, 0},
		{"urpf of nothing", &urpf.UrpfUpdateV2{SwIfIndex: 77}, &urpf.UrpfUpdateV2Reply{}, -2},
		{"urpf of no mode", &urpf.UrpfUpdateV2{SwIfIndex: 1, Mode: 9}, &urpf.UrpfUpdateV2Reply{}, -7},
		{"urpf of no family", &urpf.UrpfUpdateV2{SwIfIndex: 1, Af: 9}, &urpf.UrpfUpdateV2Reply{}, -97},
		{"urpf of a missing table", &urpf.UrpfUpdateV2{SwIfIndex: 1, TableID: 70}, &urpf.UrpfUpdateV2Reply{}, -7},

		{"delete no tap", &tapv2.TapDeleteV2{SwIfIndex: 1}, &tapv2.TapDeleteV2Reply{}, -2},
		{"tap attach without a name", &tapv2.TapCreateV3{ID: none32, TapFlags: tapv2.TAP_API_FLAG_ATTACH}, &tapv2.TapCreateV3Reply{}, -13},
		{"tap of an id too high", &tapv2.TapCreateV3{ID: maxTaps}, &tapv2.TapCreateV3Reply{}, -1},
		{"af_packet without mode", &af_packet.AfPacketCreateV3{HostIfName: "lo"}, &af_packet.AfPacketCreateV3Reply{}, -7},
		{"af_packet on nothing", &af_packet.AfPacketCreateV3{HostIfName: "no-such-if", Mode: 1}, &af_packet.AfPacketCreateV3Reply{}, -71},
		{"delete no af_packet", &af_packet.AfPacketDelete{HostIfName: "no-such-if"}, &af_packet.AfPacketDeleteReply{}, -11},

		{"want events", &interfaces.WantInterfaceEvents{EnableDisable: 1}, &interfaces.WantInterfaceEventsReply{}, 0},
		{"want them twice", &interfaces.WantInterfaceEvents{EnableDisable: 1}, &interfaces.WantInterfaceEventsReply{}, -31},
		{"want no more", &interfaces.WantInterfaceEvents{}, &interfaces.WantInterfaceEventsReply{}, 0},
		{"want no more twice", &interfaces.WantInterfaceEvents{}, &interfaces.WantInterfaceEventsReply{}, -31},
		{"delete", &interfaces.DeleteLoopback{SwIfIndex: 1}, &interfaces.DeleteLoopbackReply{}, 0},
		{"delete it again", &interfaces.DeleteLoopback{SwIfIndex: 1}, &interfaces.DeleteLoopbackReply{}, -2},
	} {
		if got := call(t, ch, c.q, c.r); got != c.want {
			t.Errorf("%s (%s): retval %d, want %d", c.what, c.q.GetMessageName(), got, c.want)
		}
	}
}

const none32 = ^uint32(0)

// TestRetvalsOfOurs: where VPP reads memory that is not the message's, takes what breaks
// it (two interfaces of one name, a multicast source address), or needs what this
// machine may lack, we answer what fits best.
func TestRetvalsOfOurs(t *testing.T) {
	_, path := start(t)
	ch := channel(t, connect(t, path))
	if got := call(t, ch, &interfaces.CreateLoopback{}, &interfaces.CreateLoopbackReply{}); got != 0 {
		t.Fatal(got)
	}
	noFamily := ip_types.AddressWithPrefix{Address: ip_types.Address{Af: 9}, Len: 24}
	for _, c := range []struct {
		what string
		q, r govppapi.Message
		want int32
	}{
		{"address of no family", &interfaces.SwInterfaceAddDelAddress{SwIfIndex: 1, Prefix: noFamily}, &interfaces.SwInterfaceAddDelAddressReply{}, -97},
		{"address of a bad length", &interfaces.SwInterfaceAddDelAddress{SwIfIndex: 1, IsAdd: true, Prefix: withLength(t, "192.168.99.1/33")}, &interfaces.SwInterfaceAddDelAddressReply{}, -59},
		{"tap ring of 3", &tapv2.TapCreateV3{ID: none32, RxRingSz: 3}, &tapv2.TapCreateV3Reply{}, -144},
		{"tap of a host mtu of 1", &tapv2.TapCreateV3{ID: none32, HostMtuSet: true, HostMtuSize: 1}, &tapv2.TapCreateV3Reply{}, -145},
		{"a name that is taken", &interfaces.SwInterfaceSetInterfaceName{SwIfIndex: 1, Name: "local0"}, &interfaces.SwInterfaceSetInterfaceNameReply{}, -2},
		{"multicast mac", &interfaces.SwInterfaceSetMacAddress{SwIfIndex: 1, MacAddress: [6]byte{3, 0, 0, 0, 0, 1}}, &interfaces.SwInterfaceSetMacAddressReply{}, -9},
		{"path with labels", route(t, true, false, 0, "10.5.0.0/16", fib_types.FibPath{SwIfIndex: 1, NLabels: 1}), &ip.IPRouteAddDelReply{}, -9},
		{"path into a UDP tunnel", route(t, true, false, 0, "10.5.0.0/16", fib_types.FibPath{Type: fib_types.FIB_API_PATH_TYPE_UDP_ENCAP}), &ip.IPRouteAddDelReply{}, -9},
	} {
		if got := call(t, ch, c.q, c.r); got != c.want {
			t.Errorf("%s (%s): retval %d, want %d", c.what, c.q.GetMessageName(), got, c.want)
		}
	}
}

func TestInterfaceSettingsAreDumped(t *testing.T) {
	_, path := start(t)
	conn := connect(t, path)
	ch := channel(t, conn)
	ok := func(q, r govppapi.Message) {
		t.Helper()
		if got := call(t, ch, q, r); got != 0 {
			t.Errorf("%s: %d", q.GetMessageName(), got)
		}
	}
	loop := &interfaces.CreateLoopbackReply{}
	ok(&interfaces.CreateLoopback{}, loop)
	i := loop.SwIfIndex
	ok(&interfaces.SwInterfaceTagAddDel{IsAdd: true, SwIfIndex: i, Tag: "owner"}, &interfaces.SwInterfaceTagAddDelReply{})
	ok(&interfaces.SwInterfaceSetMtu{SwIfIndex: i, Mtu: []uint32{1400, 1300, 1280, 0}}, &interfaces.SwInterfaceSetMtuReply{})
	ok(&interfaces.SwInterfaceSetInterfaceName{SwIfIndex: i, Name: "gateway"}, &interfaces.SwInterfaceSetInterfaceNameReply{})
	ok(&interfaces.SwInterfaceSetFlags{SwIfIndex: i, Flags: interface_types.IF_STATUS_API_FLAG_ADMIN_UP}, &interfaces.SwInterfaceSetFlagsReply{})
	d := dumpInterfaces(t, conn, &interfaces.SwInterfaceDump{SwIfIndex: i})
	if len(d) != 1 {
		t.Fatalf("%d details", len(d))
	}
	got := *d[0]
	if got.InterfaceName != "gateway" || got.Tag != "owner" || got.Flags&1 == 0 || got.InterfaceDevType != "Loopback" ||
		got.L2Address != [6]byte{0xde, 0xad, 0, 0, 0, 0} || got.SupSwIfIndex != uint32(i) || !cmp.Equal(got.Mtu, []uint32{1400, 1300, 1280, 0}) {
		t.Errorf("details: %+v", got)
	}
	mac := &interfaces.SwInterfaceGetMacAddressReply{}
	ok(&interfaces.SwInterfaceSetMacAddress{SwIfIndex: i, MacAddress: [6]byte{2, 3, 4, 5, 6, 7}}, &interfaces.SwInterfaceSetMacAddressReply{})
	if ok(&interfaces.SwInterfaceGetMacAddress{SwIfIndex: i}, mac); mac.MacAddress != [6]byte{2, 3, 4, 5, 6, 7} {
		t.Errorf("address is %v", mac.MacAddress)
	}
	ok(&ip.IPTableAddDelV2{IsAdd: true, Table: ip.IPTable{TableID: 9, IsIP6: true, Name: "nine"}}, &ip.IPTableAddDelV2Reply{})
	ok(&interfaces.SwInterfaceSetTable{SwIfIndex: i, IsIPv6: true, VrfID: 9}, &interfaces.SwInterfaceSetTableReply{})
	table := &interfaces.SwInterfaceGetTableReply{}
	if ok(&interfaces.SwInterfaceGetTable{SwIfIndex: i, IsIPv6: true}, table); table.VrfID != 9 {
		t.Errorf("table is %d", table.VrfID)
	}
}

func TestRoutesAndNeighboursAreDumped(t *testing.T) {
	_, path := start(t)
	conn := connect(t, path)
	ch := channel(t, conn)
	ok := func(q, r govppapi.Message) {
		t.Helper()
		if got := call(t, ch, q, r); got != 0 {
			t.Errorf("%s: %d", q.GetMessageName(), got)
		}
	}
	ok(&interfaces.CreateLoopback{}, &interfaces.CreateLoopbackReply{})
	ok(&interfaces.SwInterfaceAddDelAddress{SwIfIndex: 1, IsAdd: true, Prefix: withLength(t, "fd00::1/64")}, &interfaces.SwInterfaceAddDelAddressReply{})
	added := &ip.IPRouteAddDelReply{}
	ok(route(t, true, false, 0, "fd00:1::/64", via(t, "fd00::2", 1)), added)
	if added.StatsIndex == none32 {
		t.Error("no stats_index for a new route")
	}
	stream, err := ip.NewServiceClient(conn).IPRouteV2Dump(t.Context(), &ip.IPRouteV2Dump{Src: vnet.SourceAPI, Table: ip.IPTable{IsIP6: true}})
	if err != nil {
		t.Fatal(err)
	}
	r, err := stream.Recv()
	if err != nil {
		t.Fatal(err)
	}
	want := via(t, "fd00::2", 1)
	if r.Route.Prefix != prefix(t, "fd00:1::/64") || r.Route.Src != vnet.SourceAPI || r.Route.StatsIndex != added.StatsIndex ||
		len(r.Route.Paths) != 1 || r.Route.Paths[0].Nh.Address != want.Nh.Address || r.Route.Paths[0].SwIfIndex != 1 ||
		r.Route.Paths[0].Proto != want.Proto || r.Route.Paths[0].Weight != 1 {
		t.Errorf("route: %+v", r.Route)
	}
	if more, err := stream.Recv(); err == nil {
		t.Errorf("a second API route: %+v", more)
	}
	missing, err := ip.NewServiceClient(conn).IPRouteV2Dump(t.Context(), &ip.IPRouteV2Dump{Table: ip.IPTable{TableID: 99}})
	if err != nil {
		t.Fatal(err)
	}
	if m, err := missing.Recv(); err == nil {
		t.Errorf("a route of a missing table: %+v", m)
	}

	n := ip_neighbor.IPNeighbor{SwIfIndex: 1, Flags: ip_neighbor.IP_API_NEIGHBOR_FLAG_STATIC, MacAddress: [6]byte{2, 1, 1, 1, 1, 1}, IPAddress: address(t, "fd00::2")}
	keep := n
	keep.IPAddress = address(t, "fd00::3")
	ok(&ip_neighbor.IPNeighborAddDel{IsAdd: true, Neighbor: n}, &ip_neighbor.IPNeighborAddDelReply{})
	ok(&ip_neighbor.IPNeighborAddDel{IsAdd: true, Neighbor: keep}, &ip_neighbor.IPNeighborAddDelReply{})
	neighbors := func() (list []ip_neighbor.IPNeighbor) {
		s, err := ip_neighbor.NewServiceClient(conn).IPNeighborDump(t.Context(), &ip_neighbor.IPNeighborDump{SwIfIndex: ^interface_types.InterfaceIndex(0), Af: ip_types.ADDRESS_IP6})
		if err != nil {
			t.Fatal(err)
		}
		for {
			d, err := s.Recv()
			if err != nil {
				return list
			}
			list = append(list, d.Neighbor)
		}
	}
	if got := neighbors(); len(got) != 2 {
		t.Errorf("neighbours: %+v", got)
	}
	ok(&ip_neighbor.IPNeighborReplaceBegin{}, &ip_neighbor.IPNeighborReplaceBeginReply{})
	ok(&ip_neighbor.IPNeighborAddDel{IsAdd: true, Neighbor: keep}, &ip_neighbor.IPNeighborAddDelReply{})
	ok(&ip_neighbor.IPNeighborReplaceEnd{}, &ip_neighbor.IPNeighborReplaceEndReply{})
	if diff := cmp.Diff([]ip_neighbor.IPNeighbor{keep}, neighbors()); diff != "" {
		t.Errorf("after the replace (-want +got):\n%s", diff)
	}
	ok(&ip_neighbor.IPNeighborConfig{Af: ip_types.ADDRESS_IP6, MaxNumber: 10, MaxAge: 20, Recycle: true}, &ip_neighbor.IPNeighborConfigReply{})
	config := &ip_neighbor.IPNeighborConfigGetReply{}
	ok(&ip_neighbor.IPNeighborConfigGet{Af: ip_types.ADDRESS_IP6}, config)
	if config.Af != ip_types.ADDRESS_IP6 || config.MaxNumber != 10 || config.MaxAge != 20 || !config.Recycle {
		t.Errorf("config: %+v", config)
	}
}

func TestPuntAndURPFAreDumpedAndForgotten(t *testing.T) {
	_, path := start(t)
	conn := connect(t, path)
	ch := channel(t, conn)
	ok := func(q, r govppapi.Message) {
		t.Helper()
		if got := call(t, ch, q, r); got != 0 {
			t.Errorf("%s: %d", q.GetMessageName(), got)
		}
	}
	const any = ^interface_types.InterfaceIndex(0)
	ok(&interfaces.CreateLoopback{}, &interfaces.CreateLoopbackReply{})
	ok(&interfaces.SwInterfaceAddDelAddress{SwIfIndex: 1, IsAdd: true, Prefix: withLength(t, "10.1.0.1/24")}, &interfaces.SwInterfaceAddDelAddressReply{})
	punt := ip.PuntRedirectV2{RxSwIfIndex: any, NPaths: 1, Paths: []fib_types.FibPath{via(t, "10.1.0.2", 1)}}
	ok(&ip.AddDelIPPuntRedirectV2{IsAdd: true, Punt: punt}, &ip.AddDelIPPuntRedirectV2Reply{})
	ok(&urpf.UrpfUpdateV2{IsInput: true, Mode: urpf.URPF_API_MODE_STRICT, SwIfIndex: 1, TableID: none32}, &urpf.UrpfUpdateV2Reply{})
	count := func() (punts, modes int) {
		ps, err := ip.NewServiceClient(conn).IPPuntRedirectV2Dump(t.Context(), &ip.IPPuntRedirectV2Dump{SwIfIndex: any})
		if err != nil {
			t.Fatal(err)
		}
		for d, err := ps.Recv(); err == nil; d, err = ps.Recv() {
			if d.Punt.RxSwIfIndex != any || len(d.Punt.Paths) != 1 || d.Punt.Paths[0].SwIfIndex != 1 {
				t.Errorf("punt: %+v", d.Punt)
			}
			punts++
		}
		us, err := urpf.NewServiceClient(conn).UrpfInterfaceDump(t.Context(), &urpf.UrpfInterfaceDump{SwIfIndex: any})
		if err != nil {
			t.Fatal(err)
		}
		for d, err := us.Recv(); err == nil; d, err = us.Recv() {
			if d.SwIfIndex != 1 || d.Mode != urpf.URPF_API_MODE_STRICT || !d.IsInput || d.TableID != 0 {
				t.Errorf("urpf: %+v", d)
			}
			modes++
		}
		return punts, modes
	}
	if p, u := count(); p != 1 || u != 1 {
		t.Errorf("%d punt redirects, %d uRPF settings, want 1 and 1", p, u)
	}
	ok(&ip.AddDelIPPuntRedirectV2{Punt: punt}, &ip.AddDelIPPuntRedirectV2Reply{})
	ok(&interfaces.DeleteLoopback{SwIfIndex: 1}, &interfaces.DeleteLoopbackReply{})
	if p, u := count(); p != 0 || u != 0 {
		t.Errorf("%d punt redirects, %d uRPF settings remain", p, u)
	}
}

func TestInterfaceEvents(t *testing.T) {
	_, path := start(t)
	conn := connect(t, path)
	events, err := conn.WatchEvent(t.Context(), &interfaces.SwInterfaceEvent{})
	if err != nil {
		t.Fatal(err)
	}
	defer events.Close()
	client := interfaces.NewServiceClient(conn)
	if _, err := client.WantInterfaceEvents(t.Context(), &interfaces.WantInterfaceEvents{EnableDisable: 1, PID: 4711}); err != nil {
		t.Fatal(err)
	}
	other := interfaces.NewServiceClient(connect(t, path))
	loop, err := other.CreateLoopback(t.Context(), &interfaces.CreateLoopback{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := other.SwInterfaceSetFlags(t.Context(), &interfaces.SwInterfaceSetFlags{SwIfIndex: loop.SwIfIndex, Flags: 1}); err != nil {
		t.Fatal(err)
	}
	if _, err := other.DeleteLoopback(t.Context(), &interfaces.DeleteLoopback{SwIfIndex: loop.SwIfIndex}); err != nil {
		t.Fatal(err)
	}
	created, up := false, false
	for deadline := time.After(20 * time.Second); ; {
		select {
		case m := <-events.Events():
			e := m.(*interfaces.SwInterfaceEvent)
			if e.PID != 4711 || e.SwIfIndex != loop.SwIfIndex {
				t.Fatalf("event: %+v", e)
			}
			switch {
			case e.Deleted && created && up:
				return
			case e.Deleted:
				t.Fatalf("deleted before created %v and up %v", created, up)
			case e.Flags&1 != 0:
				up = true
			default:
				created = true
			}
		case <-deadline:
			t.Fatalf("events missing: created %v, up %v", created, up)
		}
	}
}

func TestNeighborEvents(t *testing.T) {
	_, path := start(t)
	conn := connect(t, path)
	ch := channel(t, conn)
	events, err := conn.WatchEvent(t.Context(), &ip_neighbor.IPNeighborEventV2{})
	if err != nil {
		t.Fatal(err)
	}
	defer events.Close()
	call(t, ch, &interfaces.CreateLoopback{}, &interfaces.CreateLoopbackReply{})
	call(t, ch, &interfaces.SwInterfaceAddDelAddress{SwIfIndex: 1, IsAdd: true, Prefix: withLength(t, "10.1.0.1/24")}, &interfaces.SwInterfaceAddDelAddressReply{})
	want := &ip_neighbor.WantIPNeighborEventsV2{Enable: true, PID: 9, IP: address(t, "10.1.0.3"), SwIfIndex: 1}
	if got := call(t, ch, want, &ip_neighbor.WantIPNeighborEventsV2Reply{}); got != 0 {
		t.Fatal(got)
	}
	for _, a := range []string{"10.1.0.2", "10.1.0.3"} {
		n := ip_neighbor.IPNeighbor{SwIfIndex: 1, IPAddress: address(t, a), MacAddress: [6]byte{2, 0, 0, 0, 0, 1}}
		if got := call(t, ch, &ip_neighbor.IPNeighborAddDel{IsAdd: true, Neighbor: n}, &ip_neighbor.IPNeighborAddDelReply{}); got != 0 {
			t.Fatal(got)
		}
	}
	select {
	case m := <-events.Events():
		e := m.(*ip_neighbor.IPNeighborEventV2)
		if e.PID != 9 || e.Flags != ip_neighbor.IP_NEIGHBOR_API_EVENT_FLAG_ADDED || e.Neighbor.IPAddress != address(t, "10.1.0.3") {
			t.Errorf("event: %+v", e)
		}
	case <-time.After(20 * time.Second):
		t.Error("no event")
	}
}

// TestEventsToAClientThatDoesNotReadCutItOff: what waits is bounded.
func TestEventsToAClientThatDoesNotReadCutItOff(t *testing.T) {
	s := tableOnly(t)
	closed := make(chan struct{})
	c := quietSession(t, s)
	c.conn = closeConn{closed: sync.OnceFunc(func() { close(closed) })}
	c.eventsMu.Lock()
	defer c.eventsMu.Unlock()
	for range maxEvents {
		c.enqueue(s.ifEvent, &interfaces.SwInterfaceEvent{})
	}
	select {
	case <-closed:
		t.Fatal("cut off too early")
	default:
	}
	c.enqueue(s.ifEvent, &interfaces.SwInterfaceEvent{})
	<-closed
	if len(c.events) != maxEvents {
		t.Errorf("%d events wait", len(c.events))
	}
}

type closeConn struct {
	discardConn
	closed func()
}

func (c closeConn) Close() error { c.closed(); return nil }

func TestDispatchAllocatesLittle(t *testing.T) {
	s := testServer(t)
	c := quietSession(t, s)
	msg := encoded(t, s, &interfaces.SwInterfaceSetFlags{})
	c.dispatch(msg)
	if n := testing.AllocsPerRun(100, func() { c.dispatch(msg) }); n > 8 {
		t.Errorf("%v allocations per call", n)
	}
}
