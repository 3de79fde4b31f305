package api

import (
	"fmt"
	"net"
	"slices"

	"go.fd.io/govpp/api"
	"go.fd.io/govpp/binapi/ethernet_types"
	"go.fd.io/govpp/binapi/interface"
	"go.fd.io/govpp/binapi/interface_types"

	"github.com/millrace/millrace/engine/vnet"
)

// maxLoops is VPP's LOOPBACK_MAX_INSTANCE.
const maxLoops = 16 << 10

// loopbackMessages are those of interface.api that make and delete loopbacks.
func (s *Server) loopbackMessages() []*entry {
	return slices.Concat(
		handle(s.createLoopback),
		handle(s.createLoopbackInstance),
		handle(s.deleteLoopback),
	)
}

func (s *Server) createLoopback(_ *session, q *interfaces.CreateLoopback, r *interfaces.CreateLoopbackReply) (err error) {
	r.SwIfIndex, err = s.addLoopback(q.MacAddress, false, 0)
	return err
}

func (s *Server) createLoopbackInstance(_ *session, q *interfaces.CreateLoopbackInstance, r *interfaces.CreateLoopbackInstanceReply) (err error) {
	r.SwIfIndex, err = s.addLoopback(q.MacAddress, q.IsSpecified, q.UserInstance)
	return err
}

// addLoopback makes loop<n> with the lowest free n, or the one specified. The default
// address is VPP's: de:ad:00:00:00:<n>.
func (s *Server) addLoopback(wire ethernet_types.MacAddress, specified bool, n uint32) (interface_types.InterfaceIndex, error) {
	const none = interface_types.InterfaceIndex(vnet.NoIndex)
	s.devices.mu.Lock()
	ok := false
	if specified {
		ok = s.devices.loops.take(n)
	} else {
		n, ok = s.devices.loops.takeFree()
	}
	s.devices.mu.Unlock()
	if !ok {
		return none, api.INVALID_REGISTRATION
	}
	mac := macOf(wire)
	if mac == nil {
		mac = net.HardwareAddr{0xde, 0xad, 0, 0, 0, byte(n)}
	}
	index, err := s.addInterface(vnet.InterfaceSpec{Name: fmt.Sprintf("loop%d", n), DeviceType: deviceLoopback}, nil, nil)
	if err == nil {
		if err = s.plane.SetMAC(index, mac); err != nil {
			err = join(err, s.deleteInterface(index))
		}
	}
	s.devices.mu.Lock()
	defer s.devices.mu.Unlock()
	if err != nil {
		delete(s.devices.loops.index, n)
		return none, err
	}
	s.devices.loops.index[n] = index
	return interface_types.InterfaceIndex(index), nil
}

// Device types, as sw_interface_details.interface_dev_type has them.
const (
	deviceLoopback = "Loopback"
	deviceTap      = "virtio"
	deviceAfPacket = "af-packet"
	deviceAfXDP    = "AF_XDP interface"
	deviceMemif    = "memif"
)

func (s *Server) deleteLoopback(_ *session, q *interfaces.DeleteLoopback, _ *interfaces.DeleteLoopbackReply) error {
	index := uint32(q.SwIfIndex)
	s.devices.mu.Lock()
	n, ok := s.devices.loops.of(index)
	if ok {
		s.devices.loops.index[n] = vnet.NoIndex // ours alone: nobody else deletes this index now
	}
	s.devices.mu.Unlock()
	if !ok {
		return api.INVALID_SW_IF_INDEX
	}
	err := s.deleteInterface(index)
	s.devices.mu.Lock()
	defer s.devices.mu.Unlock()
	if err != nil {
		s.devices.loops.index[n] = index
		return err
	}
	delete(s.devices.loops.index, n)
	return nil
}
