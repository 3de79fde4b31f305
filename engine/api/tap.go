package api

import (
	"errors"
	"fmt"
	"math/bits"
	"net/netip"
	"slices"

	"go.fd.io/govpp/api"
	"go.fd.io/govpp/binapi/interface_types"
	"go.fd.io/govpp/binapi/ip_types"
	"go.fd.io/govpp/binapi/tapv2"

	"github.com/millrace/millrace/engine/port/tap"
	"github.com/millrace/millrace/engine/vnet"
)

const (
	maxTaps     = 8192 + 1 // VPP's TAP_MAX_INSTANCE is itself a valid id
	defaultRing = 256
	maxRing     = 32768
	tunMTU      = 1500
)

// tapMessages are those of tapv2.api.
func (s *Server) tapMessages() []*entry {
	return slices.Concat(
		handle(s.tapCreateV3),
		handle(s.tapDeleteV2),
		handleDump(s.tapDump),
	)
}

func (s *Server) tapCreateV3(_ *session, q *tapv2.TapCreateV3, r *tapv2.TapCreateV3Reply) error {
	r.SwIfIndex = interface_types.InterfaceIndex(vnet.NoIndex)
	id, err := s.takeTapID(q.ID)
	if err != nil {
		return err
	}
	index, d, err := s.addTap(q, id)
	s.devices.mu.Lock()
	defer s.devices.mu.Unlock()
	if err != nil {
		delete(s.devices.taps.index, id)
		return err
	}
	s.devices.taps.index[id] = index
	s.devices.tap[index] = d
	r.SwIfIndex = interface_types.InterfaceIndex(index)
	return nil
}

func (s *Server) takeTapID(want uint32) (uint32, error) {
	s.devices.mu.Lock()
	defer s.devices.mu.Unlock()
	if want == vnet.NoIndex {
		id, ok := s.devices.taps.takeFree()
		if !ok {
			return 0, api.UNSPECIFIED
		}
		return id, nil
	}
	if want >= maxTaps {
		return 0, api.UNSPECIFIED
	}
	if !s.devices.taps.take(want) {
		return 0, api.INVALID_INTERFACE
	}
	return want, nil
}

// addTap opens the device and makes it an interface, or leaves nothing.
func (s *Server) addTap(q *tapv2.TapCreateV3, id uint32) (uint32, tapDevice, error) {
	c, err := s.tapConfig(q)
	if err != nil {
		return 0, tapDevice{}, err
	}
	d := tapDevice{id: id, rxRing: ring(q.RxRingSz), txRing: ring(q.TxRingSz), mtu: uint32(c.HostMTU)}
	port, err := tap.Open(c)
	if err != nil {
		return 0, d, tapError(err)
	}
	spec := vnet.InterfaceSpec{Name: fmt.Sprintf("tap%d", id), DeviceType: deviceTap, LinkUp: true}
	if c.Flags&tap.TUN != 0 {
		spec.Name = fmt.Sprintf("tun%d", id)
		spec.MTU, spec.LinkMTU = tunMTU, tunMTU
		if c.HostMTU != 0 {
			spec.MTU, spec.LinkMTU = uint32(c.HostMTU), uint16(c.HostMTU)
		}
	}
	d.host, d.port = port.Host(), port
	index, err := s.addInterface(spec, port, d.abandon)
	if err != nil {
		return 0, d, err
	}
	if q.Tag != "" {
		if err := s.plane.SetTag(index, q.Tag[:min(len(q.Tag), 63)]); err != nil {
			return 0, d, join(err, errors.Join(d.abandon(), s.deleteInterface(index)))
		}
	}
	return index, d, nil
}

// tapConfig translates the message. Fields without their _set flag are ignored; a zero
// prefix length counts as none, as in VPP.
func (s *Server) tapConfig(q *tapv2.TapCreateV3) (tap.Config, error) {
	if badRing(q.RxRingSz) || badRing(q.TxRingSz) {
		return tap.Config{}, api.INIT_FAILED
	}
	c := tap.Config{
		Flags:    tap.Flags(q.TapFlags),
		RxQueues: max(1, int(q.NumRxQueues)),
		TxQueues: max(int(q.NumTxQueues), len(s.threads())),

		HardwareAddr: clientMAC(q.MacAddress, q.UseRandomMac),
	}
	if q.HostIfNameSet {
		c.HostIfName = q.HostIfName
	}
	if q.HostNamespaceSet {
		c.Namespace = q.HostNamespace
	}
	if q.HostBridgeSet {
		c.HostBridge = q.HostBridge
	}
	if q.HostMacAddrSet {
		c.HostHardwareAddr = macOf(q.HostMacAddr)
	}
	if q.HostIP4GwSet {
		c.HostGateway4 = netip.AddrFrom4(q.HostIP4Gw)
	}
	if q.HostIP6GwSet {
		c.HostGateway6 = netip.AddrFrom16(q.HostIP6Gw)
	}
	if q.HostIP4PrefixSet && q.HostIP4Prefix.Len > 0 {
		c.HostPrefix4 = netip.PrefixFrom(netip.AddrFrom4(q.HostIP4Prefix.Address), int(q.HostIP4Prefix.Len))
		if !c.HostPrefix4.IsValid() {
			return c, api.NETLINK_ERROR
		}
	}
	if q.HostIP6PrefixSet && q.HostIP6Prefix.Len > 0 {
		c.HostPrefix6 = netip.PrefixFrom(netip.AddrFrom16(q.HostIP6Prefix.Address), int(q.HostIP6Prefix.Len))
		if !c.HostPrefix6.IsValid() {
			return c, api.NETLINK_ERROR
		}
	}
	if q.HostMtuSet {
		if q.HostMtuSize < 68 || q.HostMtuSize > 65535 {
			return c, api.NETLINK_ERROR
		}
		c.HostMTU = int(q.HostMtuSize)
	}
	return c, nil
}

// badRing: a ring's size is a power of two, or 0 for the default. The device here has no
// ring; the number is kept for the dump.
func badRing(size uint16) bool { return size > maxRing || bits.OnesCount16(size) > 1 }

func ring(size uint16) uint16 {
	if size == 0 {
		return defaultRing
	}
	return size
}

// deviceError is a device's error with VPP's number for it.
type deviceError struct {
	code api.VPPApiError
	err  error
}

func (e *deviceError) Error() string { return e.err.Error() }

// Unwrap lets errors.As find both.
func (e *deviceError) Unwrap() []error { return []error{e.code, e.err} }

func tapError(err error) error {
	t, ok := errors.AsType[*tap.Error](err)
	if !ok {
		return err
	}
	code := api.UNSPECIFIED
	switch t.Kind {
	case tap.BadConfig:
		code = api.INVALID_VALUE
	case tap.NoNamespace, tap.NoDriver:
		code = api.SYSCALL_ERROR_2
	case tap.NoHostName, tap.NoDevice:
		code = api.SYSCALL_ERROR_3
	case tap.HostSetup:
		code = api.NETLINK_ERROR
	}
	return &deviceError{code, err}
}

// join keeps err's number and adds what went wrong while undoing.
func join(err, undo error) error {
	if undo == nil {
		return err
	}
	return errors.Join(err, undo)
}

func (s *Server) tapDeleteV2(_ *session, q *tapv2.TapDeleteV2, _ *tapv2.TapDeleteV2Reply) error {
	index := uint32(q.SwIfIndex)
	s.devices.mu.Lock()
	d, ok := s.devices.tap[index]
	delete(s.devices.tap, index) // ours alone: nobody else deletes this index now
	s.devices.mu.Unlock()
	if !ok {
		return api.INVALID_SW_IF_INDEX
	}
	err := s.removeTap(index, d)
	s.devices.mu.Lock()
	defer s.devices.mu.Unlock()
	if err != nil {
		s.devices.tap[index] = d
		return err
	}
	delete(s.devices.taps.index, d.id)
	return nil
}

// removeTap takes the host's interface away also when it is persistent, as VPP does:
// persistence is for the end of the process, not for a deletion.
func (s *Server) removeTap(index uint32, d tapDevice) error {
	if err := d.port.Unpersist(); err != nil {
		return join(api.SYSCALL_ERROR_3, err)
	}
	return s.deleteInterface(index)
}

// tapDump sends nothing for an index that is no tap.
func (s *Server) tapDump(_ *session, q *tapv2.SwInterfaceTapV2Dump, send func(*tapv2.SwInterfaceTapV2Details)) {
	s.devices.mu.Lock()
	indexes := s.devices.tapIndexes()
	s.devices.mu.Unlock()
	for _, index := range indexes {
		if uint32(q.SwIfIndex) != vnet.NoIndex && uint32(q.SwIfIndex) != index {
			continue
		}
		s.devices.mu.Lock()
		d, ok := s.devices.tap[index]
		s.devices.mu.Unlock()
		i, err := s.plane.Interface(index)
		if !ok || err != nil {
			continue // deleted meanwhile
		}
		send(tapDetails(index, i.Name, d))
	}
}

func tapDetails(index uint32, name string, d tapDevice) *tapv2.SwInterfaceTapV2Details {
	r := &tapv2.SwInterfaceTapV2Details{
		SwIfIndex: index, ID: d.id, TxRingSz: d.txRing, RxRingSz: d.rxRing, HostMtuSize: d.mtu,
		HostMacAddr: wireMAC(d.host.HardwareAddr), TapFlags: tapv2.TapFlags(d.host.Flags), DevName: name,
		HostIfName: d.host.IfName, HostNamespace: d.host.Namespace, HostBridge: d.host.Bridge,
	}
	if p := d.host.Prefix4; p.IsValid() {
		r.HostIP4Prefix = ip_types.IP4AddressWithPrefix{Address: p.Addr().As4(), Len: uint8(p.Bits())}
	}
	if p := d.host.Prefix6; p.IsValid() {
		r.HostIP6Prefix = ip_types.IP6AddressWithPrefix{Address: p.Addr().As16(), Len: uint8(p.Bits())}
	}
	return r
}
