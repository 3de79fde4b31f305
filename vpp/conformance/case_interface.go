package conformance

import (
	"net"
	"strings"
	"time"

	"go.fd.io/govpp/api"
	"go.fd.io/govpp/binapi/af_packet"
	interfaces "go.fd.io/govpp/binapi/interface"
	"go.fd.io/govpp/binapi/interface_types"

	"github.com/millrace/millrace/vpp"
)

// describable is what describeMessage takes.
type describable = api.Message

type interfaceIndex = interface_types.InterfaceIndex

const (
	none    = ^interfaceIndex(0)
	missing = interfaceIndex(99)
	adminUp = interface_types.IF_STATUS_API_FLAG_ADMIN_UP
)

func retvalOf(err error) int32 { return vpp.Retval(err) }

func interfaceCases() []Case {
	return []Case{
		{"interface-dump", interfaceDump},
		{"interface-loopback", loopbacks},
		{"interface-flags-events", flagsEvents},
		{"interface-events-client-gone", eventsClientGone},
		{"interface-mtu", mtus},
		{"interface-mac", macs},
		{"interface-tag-name", tagsNames},
		{"interface-rx-mode", rxModes},
		{"interface-bad-index", badIndex},
		{"interface-af-packet", afPackets},
		{"interface-index-reuse", indexReuse},
	}
}

func interfaceDump(s *Session) {
	s.Note("a machine without interfaces has local0")
	s.Dump(&interfaces.SwInterfaceDump{})
	s.Must(&interfaces.CreateLoopback{})
	s.Port()
	s.Note("0 and ~0 mean all")
	s.Dump(&interfaces.SwInterfaceDump{SwIfIndex: none})
	s.Dump(&interfaces.SwInterfaceDump{})
	s.Note("one, a missing one")
	s.Dump(&interfaces.SwInterfaceDump{SwIfIndex: 1})
	s.Dump(&interfaces.SwInterfaceDump{SwIfIndex: missing})
	s.Note("the filter: a part of the name, without case, or the whole")
	for _, filter := range []string{"loop0", "LOOP", "oo", "o", "host-m1", "nothing", ""} {
		s.Dump(&interfaces.SwInterfaceDump{SwIfIndex: none, NameFilterValid: true, NameFilter: filter})
	}
	s.Dump(&interfaces.SwInterfaceDump{SwIfIndex: 1, NameFilterValid: true, NameFilter: "host"})
}

func loopbacks(s *Session) {
	s.Call(&interfaces.CreateLoopback{})
	s.Call(&interfaces.CreateLoopback{MacAddress: [6]byte{2, 1, 2, 3, 4, 5}})
	s.Note("a given instance, the same again, the lowest free one")
	s.Call(&interfaces.CreateLoopbackInstance{IsSpecified: true, UserInstance: 5})
	s.Call(&interfaces.CreateLoopbackInstance{IsSpecified: true, UserInstance: 5})
	s.Call(&interfaces.CreateLoopbackInstance{IsSpecified: true, UserInstance: 2})
	s.Call(&interfaces.CreateLoopbackInstance{})
	s.Call(&interfaces.CreateLoopbackInstance{IsSpecified: true, UserInstance: 100000})
	s.Dump(&interfaces.SwInterfaceDump{SwIfIndex: none})
	s.Note("deletion: of one, again, of what is none")
	s.Call(&interfaces.DeleteLoopback{SwIfIndex: 2})
	s.Call(&interfaces.DeleteLoopback{SwIfIndex: 2})
	s.Call(&interfaces.DeleteLoopback{SwIfIndex: 0})
	s.Call(&interfaces.DeleteLoopback{SwIfIndex: missing})
	s.Call(&interfaces.CreateLoopback{})
	s.Dump(&interfaces.SwInterfaceDump{SwIfIndex: none})
}

// events writes down what comes within a moment, after a call that has an answer.
func events[T any, P interface {
	*T
	describable
}](s *Session, ch <-chan *T, n int) {
	s.T.Helper()
	var lines []string
	for len(lines) < n {
		select {
		case e := <-ch:
			lines = append(lines, "  "+describeMessage(P(e)))
		case <-time.After(patience / 5):
			s.Write("  only %d events", len(lines))
			n = 0
		}
	}
	for {
		select {
		case e := <-ch:
			lines = append(lines, "  "+describeMessage(P(e)))
			continue
		case <-time.After(quiet):
		}
		break
	}
	for _, l := range lines {
		s.Write("%s", l)
	}
}

func flagsEvents(s *Session) {
	sub, err := vpp.Subscribe[interfaces.SwInterfaceEvent](s.Conn)
	if err != nil {
		s.T.Fatal(err)
	}
	s.Call(&interfaces.WantInterfaceEvents{EnableDisable: 1, PID: 7})
	s.Note("a second subscription of the same client")
	s.Call(&interfaces.WantInterfaceEvents{EnableDisable: 1, PID: 7})
	s.Note("creation, up, up again, down, unknown flags, deletion")
	s.Call(&interfaces.CreateLoopback{})
	events(s, sub.Events(), 1)
	s.Call(&interfaces.SwInterfaceSetFlags{SwIfIndex: 1, Flags: adminUp})
	events(s, sub.Events(), 1)
	s.Call(&interfaces.SwInterfaceSetFlags{SwIfIndex: 1, Flags: adminUp})
	events(s, sub.Events(), 0)
	s.Dump(&interfaces.SwInterfaceDump{SwIfIndex: 1})
	s.Call(&interfaces.SwInterfaceSetFlags{SwIfIndex: 1})
	events(s, sub.Events(), 1)
	s.Call(&interfaces.SwInterfaceSetFlags{SwIfIndex: 1, Flags: 0x7e})
	events(s, sub.Events(), 0)
	s.Dump(&interfaces.SwInterfaceDump{SwIfIndex: 1})
	s.Call(&interfaces.SwInterfaceSetFlags{SwIfIndex: missing, Flags: adminUp})
	s.Call(&interfaces.DeleteLoopback{SwIfIndex: 1})
	events(s, sub.Events(), 1)
	s.Note("local0 can be set up")
	s.Call(&interfaces.SwInterfaceSetFlags{SwIfIndex: 0, Flags: adminUp})
	events(s, sub.Events(), 1)
	s.Note("end of the subscription, twice")
	s.Call(&interfaces.WantInterfaceEvents{PID: 7})
	s.Call(&interfaces.WantInterfaceEvents{PID: 7})
	s.Call(&interfaces.CreateLoopback{})
	events(s, sub.Events(), 0)
	s.Note("deleting an interface that is up")
	s.Call(&interfaces.WantInterfaceEvents{EnableDisable: 1, PID: 7})
	s.Call(&interfaces.SwInterfaceSetFlags{SwIfIndex: 1, Flags: adminUp})
	s.Call(&interfaces.DeleteLoopback{SwIfIndex: 1})
	events(s, sub.Events(), 2)
}

// eventsClientGone: a subscription ends with its client, and the number of clients that
// may subscribe is not one.
func eventsClientGone(s *Session) {
	want := func(conn *vpp.Conn) {
		_, err := vpp.Call[interfaces.WantInterfaceEventsReply](s.T.Context(), conn, &interfaces.WantInterfaceEvents{EnableDisable: 1, PID: 7})
		s.Write("want_interface_events: retval %d", vpp.Retval(err))
	}
	first, second := s.Dial(), s.Dial()
	want(first)
	want(second)
	sub, err := vpp.Subscribe[interfaces.SwInterfaceEvent](second)
	if err != nil {
		s.T.Fatal(err)
	}
	first.Close()
	s.Call(&interfaces.CreateLoopback{})
	events(s, sub.Events(), 1)
	want(s.Dial())
	s.Call(&interfaces.CreateLoopback{})
	events(s, sub.Events(), 1)
}

func mtus(s *Session) {
	s.Must(&interfaces.CreateLoopback{})
	s.Port()
	dump := func() {
		for _, d := range s.Details(&interfaces.SwInterfaceDump{SwIfIndex: none}) {
			d := d.(*interfaces.SwInterfaceDetails)
			s.Write("  %s link_mtu %d mtu %v", d.InterfaceName, d.LinkMtu, d.Mtu)
		}
	}
	dump()
	for _, mtu := range [][]uint32{{1500, 0, 0, 0}, {1400, 1300, 1280, 1200}, {0, 0, 0, 0}, {0, 1300, 0, 0}, {70000, 0, 0, 0}, {9000, 9000, 9000, 9000}, {67, 0, 0, 0}} {
		for _, index := range []interfaceIndex{1, 2} {
			s.Call(&interfaces.SwInterfaceSetMtu{SwIfIndex: index, Mtu: mtu})
		}
		dump()
	}
	for _, mtu := range []uint16{1500, 9216, 9000, 64, 0, 65535, 2000} {
		for _, index := range []interfaceIndex{0, 1, 2} {
			s.Call(&interfaces.HwInterfaceSetMtu{SwIfIndex: index, Mtu: mtu})
		}
		dump()
	}
	s.Call(&interfaces.SwInterfaceSetMtu{SwIfIndex: missing, Mtu: []uint32{1500, 0, 0, 0}})
	s.Call(&interfaces.HwInterfaceSetMtu{SwIfIndex: missing, Mtu: 1500})
}

func macs(s *Session) {
	s.Must(&interfaces.CreateLoopback{})
	s.Port()
	for _, a := range []net.HardwareAddr{{2, 1, 1, 1, 1, 1}, {0, 0, 0, 0, 0, 0}} {
		for _, index := range []interfaceIndex{0, 1, 2, missing} {
			s.Call(&interfaces.SwInterfaceSetMacAddress{SwIfIndex: index, MacAddress: mac(a)})
			if index != missing {
				s.Call(&interfaces.SwInterfaceGetMacAddress{SwIfIndex: index})
			}
		}
	}
	s.Call(&interfaces.SwInterfaceGetMacAddress{SwIfIndex: missing})
	s.Call(&interfaces.SwInterfaceSetPromisc{SwIfIndex: 1, PromiscOn: true})
	s.Call(&interfaces.SwInterfaceSetPromisc{SwIfIndex: missing, PromiscOn: true})
}

func tagsNames(s *Session) {
	s.Must(&interfaces.CreateLoopback{})
	dump := func() { s.Dump(&interfaces.SwInterfaceDump{SwIfIndex: 1}) }
	long := strings.Repeat("t", 63)
	s.Call(&interfaces.SwInterfaceTagAddDel{IsAdd: true, SwIfIndex: 1, Tag: "pod a"})
	dump()
	s.Note("a second replaces the first; 63 bytes fit")
	s.Call(&interfaces.SwInterfaceTagAddDel{IsAdd: true, SwIfIndex: 1, Tag: long})
	dump()
	s.Call(&interfaces.SwInterfaceTagAddDel{IsAdd: true, SwIfIndex: 1})
	dump()
	s.Call(&interfaces.SwInterfaceTagAddDel{SwIfIndex: 1})
	dump()
	s.Call(&interfaces.SwInterfaceTagAddDel{SwIfIndex: 1})
	s.Call(&interfaces.SwInterfaceTagAddDel{IsAdd: true, SwIfIndex: missing, Tag: "x"})
	s.Call(&interfaces.SwInterfaceTagAddDel{SwIfIndex: missing})
	s.Note("names: new, empty, long")
	s.Must(&interfaces.CreateLoopback{})
	for _, name := range []string{"pod0", "", strings.Repeat("n", 63)} {
		s.Call(&interfaces.SwInterfaceSetInterfaceName{SwIfIndex: 1, Name: name})
		dump()
	}
	s.Call(&interfaces.SwInterfaceSetInterfaceName{SwIfIndex: missing, Name: "x"})
	s.Note("the tag does not outlive its interface")
	s.Must(&interfaces.SwInterfaceTagAddDel{IsAdd: true, SwIfIndex: 1, Tag: "old"})
	s.Must(&interfaces.DeleteLoopback{SwIfIndex: 1})
	s.Must(&interfaces.CreateLoopback{})
	dump()
}

func rxModes(s *Session) {
	s.Must(&interfaces.CreateLoopback{})
	s.Port()
	s.Dump(&interfaces.SwInterfaceRxPlacementDump{SwIfIndex: none})
	for _, mode := range []interface_types.RxMode{1, 2, 4} {
		s.Call(&interfaces.SwInterfaceSetRxMode{SwIfIndex: 2, Mode: mode})
		s.Dump(&interfaces.SwInterfaceRxPlacementDump{SwIfIndex: 2})
	}
	s.Call(&interfaces.SwInterfaceSetRxMode{SwIfIndex: 2, QueueIDValid: true, QueueID: 0, Mode: 1})
	s.Call(&interfaces.SwInterfaceSetRxMode{SwIfIndex: 2, QueueIDValid: true, QueueID: 5, Mode: 1})
	s.Call(&interfaces.SwInterfaceSetRxMode{SwIfIndex: 1, Mode: 1})
	s.Call(&interfaces.SwInterfaceSetRxMode{SwIfIndex: 0, Mode: 1})
	s.Call(&interfaces.SwInterfaceSetRxMode{SwIfIndex: missing, Mode: 1})
	s.Dump(&interfaces.SwInterfaceRxPlacementDump{SwIfIndex: 1})
	s.Dump(&interfaces.SwInterfaceRxPlacementDump{SwIfIndex: missing})
}

func badIndex(s *Session) {
	s.Call(&interfaces.SwInterfaceSetFlags{SwIfIndex: none, Flags: adminUp})
	s.Call(&interfaces.SwInterfaceAddDelAddress{SwIfIndex: missing, IsAdd: true, Prefix: withPrefix("10.0.0.1/24")})
	s.Call(&interfaces.SwInterfaceAddDelAddress{SwIfIndex: none, IsAdd: true, Prefix: withPrefix("10.0.0.1/24")})
	s.Call(&interfaces.SwInterfaceSetTable{SwIfIndex: missing})
	s.Call(&interfaces.SwInterfaceGetTable{SwIfIndex: missing})
	s.Call(&interfaces.SwInterfaceSetUnnumbered{SwIfIndex: missing, UnnumberedSwIfIndex: 0, IsAdd: true})
	s.Call(&interfaces.SwInterfaceSetUnnumbered{SwIfIndex: 0, UnnumberedSwIfIndex: missing, IsAdd: true})
}

func afPackets(s *Session) {
	p := s.Port()
	s.Dump(&af_packet.AfPacketDump{})
	s.Note("the same again, a missing device, a bad mode")
	s.Call(&af_packet.AfPacketCreateV3{Mode: 1, HostIfName: "m1", NumRxQueues: 1, NumTxQueues: 1})
	s.Call(&af_packet.AfPacketCreateV3{Mode: 1, HostIfName: "nothing", NumRxQueues: 1, NumTxQueues: 1})
	s.Call(&af_packet.AfPacketCreateV3{Mode: 0, HostIfName: "lo", NumRxQueues: 1, NumTxQueues: 1})
	s.Call(&af_packet.AfPacketCreateV3{Mode: 7, HostIfName: "lo", NumRxQueues: 1, NumTxQueues: 1})
	s.Dump(&interfaces.SwInterfaceDump{SwIfIndex: none})
	s.Note("deletion, again, of nothing")
	s.Call(&af_packet.AfPacketDelete{HostIfName: "m1"})
	s.Call(&af_packet.AfPacketDelete{HostIfName: "m1"})
	s.Call(&af_packet.AfPacketDelete{HostIfName: ""})
	s.Dump(&af_packet.AfPacketDump{})
	s.Note("the device can be taken again")
	again := s.Must(&af_packet.AfPacketCreateV3{Mode: 1, HwAddr: mac(p.MAC), HostIfName: "m1", Flags: 3, NumRxQueues: 1, NumTxQueues: 1}).(*af_packet.AfPacketCreateV3Reply)
	s.Up(again.SwIfIndex)
	s.Must(&interfaces.SwInterfaceAddDelAddress{SwIfIndex: again.SwIfIndex, IsAdd: true, Prefix: withPrefix("10.0.1.1/24")})
	s.Drain()
	p.Play(p.arp(1, "10.0.1.2", "10.0.1.1"), p, 1)
	s.Note("several queues, default MAC is not the host's")
	s.Must(&af_packet.AfPacketDelete{HostIfName: "m1"})
	s.Call(&af_packet.AfPacketCreateV3{Mode: 1, HostIfName: "m1", HwAddr: mac(p.MAC), Flags: 3, NumRxQueues: 2, NumTxQueues: 2})
	s.Dump(&interfaces.SwInterfaceRxPlacementDump{SwIfIndex: none})
}

func indexReuse(s *Session) {
	for range 4 {
		s.Call(&interfaces.CreateLoopback{})
	}
	s.Call(&interfaces.DeleteLoopback{SwIfIndex: 2})
	s.Call(&interfaces.DeleteLoopback{SwIfIndex: 3})
	s.Note("the last freed index is given out first")
	s.Call(&interfaces.CreateLoopback{})
	s.Call(&interfaces.CreateLoopback{})
	s.Call(&interfaces.CreateLoopback{})
	var names []string
	for _, d := range s.Details(&interfaces.SwInterfaceDump{}) {
		names = append(names, d.(*interfaces.SwInterfaceDetails).InterfaceName)
	}
	s.Write("dump in the order of indexes: %v", strings.Join(names, " "))
}
