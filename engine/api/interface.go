package api

import (
	"net"
	"slices"
	"strings"

	"go.fd.io/govpp/api"
	"go.fd.io/govpp/binapi/interface"
	"go.fd.io/govpp/binapi/interface_types"

	"github.com/millrace/millrace/engine/vnet"
)

// interfaceMessages are those of interface.api that every interface has.
func (s *Server) interfaceMessages() []*entry {
	return slices.Concat(
		handleDump(s.swInterfaceDump),
		handle(s.swInterfaceSetFlags),
		handle(s.swInterfaceSetMtu),
		handle(s.hwInterfaceSetMtu),
		handle(s.swInterfaceSetTable),
		handle(s.swInterfaceGetTable),
		handle(s.swInterfaceSetMacAddress),
		handle(s.swInterfaceGetMacAddress),
		handle(s.swInterfaceTagAddDel),
		handle(s.swInterfaceSetInterfaceName),
		handle(s.swInterfaceSetRxMode),
		handle(s.swInterfaceSetRxPlacement),
		handleDump(s.swInterfaceRxPlacementDump),
		handle(s.swInterfaceSetPromisc),
		handle(s.swInterfaceClearStats),
		handle(s.wantInterfaceEvents),
	)
}

// swInterfaceDump sends all interfaces for the indexes 0 and ~0, which clients that do
// not set the field send.
func (s *Server) swInterfaceDump(_ *session, q *interfaces.SwInterfaceDump, send func(*interfaces.SwInterfaceDetails)) {
	if !q.NameFilterValid && q.SwIfIndex != 0 && uint32(q.SwIfIndex) != vnet.NoIndex {
		if i, err := s.plane.Interface(uint32(q.SwIfIndex)); err == nil {
			send(interfaceDetails(i))
		}
		return
	}
	filter := strings.ToLower(q.NameFilter)
	for i := range s.plane.Interfaces() {
		if q.NameFilterValid && !strings.Contains(strings.ToLower(i.Name), filter) {
			continue
		}
		send(interfaceDetails(i))
	}
}

func interfaceDetails(i vnet.Interface) *interfaces.SwInterfaceDetails {
	return &interfaces.SwInterfaceDetails{
		SwIfIndex:        interface_types.InterfaceIndex(i.Index),
		SupSwIfIndex:     i.Index,
		L2Address:        wireMAC(i.HardwareAddr),
		Flags:            statusFlags(i.AdminUp, i.LinkUp),
		Type:             interface_types.IF_API_TYPE_HARDWARE,
		LinkMtu:          i.LinkMTU,
		Mtu:              i.MTU[:],
		InterfaceName:    i.Name,
		InterfaceDevType: i.DeviceType,
		Tag:              i.Tag,
	}
}

func statusFlags(admin, link bool) (f interface_types.IfStatusFlags) {
	if admin {
		f |= interface_types.IF_STATUS_API_FLAG_ADMIN_UP
	}
	if link {
		f |= interface_types.IF_STATUS_API_FLAG_LINK_UP
	}
	return f
}

func (s *Server) swInterfaceSetFlags(_ *session, q *interfaces.SwInterfaceSetFlags, _ *interfaces.SwInterfaceSetFlagsReply) error {
	return s.plane.SetAdminUp(uint32(q.SwIfIndex), q.Flags&interface_types.IF_STATUS_API_FLAG_ADMIN_UP != 0)
}

func (s *Server) swInterfaceSetMtu(_ *session, q *interfaces.SwInterfaceSetMtu, _ *interfaces.SwInterfaceSetMtuReply) error {
	return s.plane.SetMTU(uint32(q.SwIfIndex), [4]uint32(q.Mtu))
}

// hwInterfaceSetMtu: only Ethernet devices have one, and loopbacks do not let it be
// changed. An af_packet device answers a size it cannot have as a failed syscall.
func (s *Server) hwInterfaceSetMtu(_ *session, q *interfaces.HwInterfaceSetMtu, _ *interfaces.HwInterfaceSetMtuReply) error {
	i, err := s.plane.Interface(uint32(q.SwIfIndex))
	switch {
	case err != nil:
		return err
	case i.HardwareAddr == nil:
		return api.FEATURE_DISABLED
	case i.DeviceType == deviceLoopback && q.Mtu == i.LinkMTU:
		return nil
	case i.DeviceType == deviceLoopback, i.DeviceType == deviceAfXDP:
		return api.UNSUPPORTED
	}
	err = s.plane.SetLinkMTU(i.Index, q.Mtu)
	if i.DeviceType == deviceAfPacket && err == error(api.INVALID_VALUE) {
		return api.SYSCALL_ERROR_1
	}
	return err
}

func (s *Server) swInterfaceSetTable(_ *session, q *interfaces.SwInterfaceSetTable, _ *interfaces.SwInterfaceSetTableReply) error {
	return s.plane.SetTable(uint32(q.SwIfIndex), familyFlag(q.IsIPv6), q.VrfID)
}

func (s *Server) swInterfaceGetTable(_ *session, q *interfaces.SwInterfaceGetTable, r *interfaces.SwInterfaceGetTableReply) error {
	r.VrfID = vnet.NoIndex
	i, err := s.plane.Interface(uint32(q.SwIfIndex))
	if err != nil {
		return err
	}
	r.VrfID = i.Table4
	if q.IsIPv6 {
		r.VrfID = i.Table6
	}
	return nil
}

func (s *Server) swInterfaceSetMacAddress(_ *session, q *interfaces.SwInterfaceSetMacAddress, _ *interfaces.SwInterfaceSetMacAddressReply) error {
	return s.plane.SetMAC(uint32(q.SwIfIndex), net.HardwareAddr(q.MacAddress[:]))
}

func (s *Server) swInterfaceGetMacAddress(_ *session, q *interfaces.SwInterfaceGetMacAddress, r *interfaces.SwInterfaceGetMacAddressReply) error {
	i, err := s.plane.Interface(uint32(q.SwIfIndex))
	if err != nil {
		return err
	}
	r.MacAddress = wireMAC(i.HardwareAddr)
	return nil
}

func (s *Server) swInterfaceTagAddDel(_ *session, q *interfaces.SwInterfaceTagAddDel, _ *interfaces.SwInterfaceTagAddDelReply) error {
	if _, err := s.plane.Interface(uint32(q.SwIfIndex)); err != nil {
		return err
	}
	if q.IsAdd && q.Tag == "" {
		return api.INVALID_VALUE
	}
	if !q.IsAdd {
		q.Tag = ""
	}
	return s.plane.SetTag(uint32(q.SwIfIndex), q.Tag[:min(len(q.Tag), 63)])
}

func (s *Server) swInterfaceSetInterfaceName(_ *session, q *interfaces.SwInterfaceSetInterfaceName, _ *interfaces.SwInterfaceSetInterfaceNameReply) error {
	if _, err := s.plane.Interface(uint32(q.SwIfIndex)); err != nil {
		return err
	}
	if q.Name == "" {
		return api.INVALID_VALUE
	}
	if err := s.plane.SetName(uint32(q.SwIfIndex), q.Name[:min(len(q.Name), 63)]); err != nil {
		return err
	}
	i, err := s.plane.Interface(uint32(q.SwIfIndex))
	if err != nil {
		return err
	}
	return s.stats.SetInterface(i.Index, i.Name)
}

// swInterfaceSetRxMode of all queues of an interface that has none does nothing. The
// devices' default mode is polling.
func (s *Server) swInterfaceSetRxMode(_ *session, q *interfaces.SwInterfaceSetRxMode, _ *interfaces.SwInterfaceSetRxModeReply) error {
	i, err := s.plane.Interface(uint32(q.SwIfIndex))
	if err != nil {
		return err
	}
	mode := vnet.RxMode(q.Mode)
	if q.Mode == interface_types.RX_MODE_API_DEFAULT {
		mode = vnet.RxPolling
	}
	switch {
	case q.QueueIDValid:
		return s.plane.SetRxMode(i.Index, int(q.QueueID), mode)
	case i.RxQueues == 0:
		return nil
	default:
		return s.plane.SetRxMode(i.Index, -1, mode)
	}
}

// swInterfaceSetRxPlacement: the main thread never polls a device here.
func (s *Server) swInterfaceSetRxPlacement(_ *session, q *interfaces.SwInterfaceSetRxPlacement, _ *interfaces.SwInterfaceSetRxPlacementReply) error {
	if _, err := s.plane.Interface(uint32(q.SwIfIndex)); err != nil {
		return err
	}
	if q.IsMain {
		return api.UNIMPLEMENTED
	}
	return s.plane.SetRxPlacement(uint32(q.SwIfIndex), int(q.QueueID), int(q.WorkerID))
}

// swInterfaceRxPlacementDump sends thread numbers, of which 0 is main, where
// set_rx_placement takes worker numbers.
func (s *Server) swInterfaceRxPlacementDump(_ *session, q *interfaces.SwInterfaceRxPlacementDump, send func(*interfaces.SwInterfaceRxPlacementDetails)) {
	for p := range s.plane.RxPlacements() {
		if uint32(q.SwIfIndex) != vnet.NoIndex && uint32(q.SwIfIndex) != p.Interface {
			continue
		}
		send(&interfaces.SwInterfaceRxPlacementDetails{
			SwIfIndex: interface_types.InterfaceIndex(p.Interface),
			QueueID:   uint32(p.Queue),
			WorkerID:  uint32(p.Worker) + 1,
			Mode:      interface_types.RxMode(p.Mode),
		})
	}
}

// swInterfaceSetPromisc: only Ethernet devices have it; VPP's loopbacks refuse it.
func (s *Server) swInterfaceSetPromisc(_ *session, q *interfaces.SwInterfaceSetPromisc, _ *interfaces.SwInterfaceSetPromiscReply) error {
	i, err := s.plane.Interface(uint32(q.SwIfIndex))
	switch {
	case err != nil:
		return err
	case i.HardwareAddr == nil:
		return api.INVALID_VALUE
	case i.DeviceType == deviceLoopback:
		return api.UNSPECIFIED
	}
	return s.plane.SetPromisc(i.Index, q.PromiscOn)
}

// wantInterfaceEvents refuses to enable or disable twice, as VPP does.
func (s *Server) wantInterfaceEvents(c *session, q *interfaces.WantInterfaceEvents, _ *interfaces.WantInterfaceEventsReply) error {
	c.eventsMu.Lock()
	defer c.eventsMu.Unlock()
	if want := q.EnableDisable != 0; want == (c.ifEvents != nil) {
		return api.INVALID_REGISTRATION
	} else if want {
		c.ifEvents = &q.PID
	} else {
		c.ifEvents = nil
	}
	return nil
}

// interfaceChanged tells those who want to know. It never blocks.
func (s *Server) interfaceChanged(e vnet.InterfaceEvent) {
	s.everyone(func(c *session) {
		c.eventsMu.Lock()
		defer c.eventsMu.Unlock()
		if c.ifEvents == nil {
			return
		}
		c.enqueue(s.ifEvent, &interfaces.SwInterfaceEvent{
			PID:       *c.ifEvents,
			SwIfIndex: interface_types.InterfaceIndex(e.Index),
			Flags:     statusFlags(e.AdminUp, e.LinkUp),
			Deleted:   e.Deleted,
		})
	})
}
