package api

import (
	"context"
	"errors"
	"maps"
	"net"
	"slices"

	"go.fd.io/govpp/api"
	"go.fd.io/govpp/binapi/af_packet"
	"go.fd.io/govpp/binapi/ethernet_types"
	"go.fd.io/govpp/binapi/interface_types"

	"github.com/millrace/millrace/engine/port/afpacket"
	"github.com/millrace/millrace/engine/vnet"
)

// afPacketMessages are those of af_packet.api.
func (s *Server) afPacketMessages() []*entry {
	return slices.Concat(
		handle(s.afPacketCreateV2),
		handle(s.afPacketCreateV3),
		handle(s.afPacketDelete),
		handleDump(s.afPacketDump),
	)
}

// hostDevice is one af_packet interface.
type hostDevice struct {
	index uint32 // NoIndex while it opens or closes
	stop  func() // ends the watch of the host's interface
}

// afPacketCreateV2 has checksum and segmentation offload on, where version 3 takes the
// client's flags.
func (s *Server) afPacketCreateV2(_ *session, q *af_packet.AfPacketCreateV2, r *af_packet.AfPacketCreateV2Reply) (err error) {
	r.SwIfIndex, err = s.addAfPacket(afpacket.Config{
		HostIfName: q.HostIfName, Mode: afpacket.ModeEthernet, Flags: afpacket.QdiscBypass | afpacket.ChecksumGSO,
		HardwareAddr: clientMAC(q.HwAddr, q.UseRandomHwAddr), RxQueues: int(q.NumRxQueues),
		RxFrameSize: int(q.RxFrameSize), RxFramesPerBlock: int(q.RxFramesPerBlock),
		TxFrameSize: int(q.TxFrameSize), TxFramesPerBlock: int(q.TxFramesPerBlock),
	})
	return err
}

func (s *Server) afPacketCreateV3(_ *session, q *af_packet.AfPacketCreateV3, r *af_packet.AfPacketCreateV3Reply) (err error) {
	if q.Mode != af_packet.AF_PACKET_API_MODE_ETHERNET && q.Mode != af_packet.AF_PACKET_API_MODE_IP {
		r.SwIfIndex = interface_types.InterfaceIndex(vnet.NoIndex)
		return api.INVALID_VALUE
	}
	r.SwIfIndex, err = s.addAfPacket(afpacket.Config{
		HostIfName: q.HostIfName, Mode: afpacket.Mode(q.Mode), Flags: afpacket.Flags(q.Flags),
		HardwareAddr: clientMAC(q.HwAddr, q.UseRandomHwAddr), RxQueues: int(q.NumRxQueues), TxQueues: int(q.NumTxQueues),
		RxFrameSize: int(q.RxFrameSize), RxFramesPerBlock: int(q.RxFramesPerBlock),
		TxFrameSize: int(q.TxFrameSize), TxFramesPerBlock: int(q.TxFramesPerBlock),
	})
	return err
}

// clientMAC: as in VPP, a client that asks for no random address gets the one it sent,
// be it zero.
func clientMAC(m ethernet_types.MacAddress, random bool) net.HardwareAddr {
	if random {
		return nil
	}
	return net.HardwareAddr(m[:])
}

// addAfPacket makes host-<name>. As in VPP, the index that goes with an error is that of
// the interface in the way, or 0.
func (s *Server) addAfPacket(c afpacket.Config) (interface_types.InterfaceIndex, error) {
	s.devices.mu.Lock()
	d, taken := s.devices.hosts[c.HostIfName]
	if !taken {
		s.devices.hosts[c.HostIfName] = hostDevice{index: vnet.NoIndex}
	}
	s.devices.mu.Unlock()
	if taken {
		return interface_types.InterfaceIndex(d.index), api.IF_ALREADY_EXISTS
	}
	d, err := s.openAfPacket(c)
	s.devices.mu.Lock()
	defer s.devices.mu.Unlock()
	if err != nil {
		delete(s.devices.hosts, c.HostIfName)
		return 0, err
	}
	s.devices.hosts[c.HostIfName] = d
	return interface_types.InterfaceIndex(d.index), nil
}

func (s *Server) openAfPacket(c afpacket.Config) (hostDevice, error) {
	c.TxQueues = max(c.TxQueues, 1)
	port, err := afpacket.Open(c)
	if err != nil {
		return hostDevice{}, afPacketError(err)
	}
	host := port.Host()
	mtu := min(host.MTU, 65535)
	index, err := s.addInterface(vnet.InterfaceSpec{
		Name: "host-" + c.HostIfName, DeviceType: deviceAfPacket,
		MTU: uint32(mtu), LinkMTU: uint16(mtu), LinkUp: host.Up,
	}, port, nil)
	if err != nil {
		return hostDevice{}, err
	}
	ctx, stop := context.WithCancel(s.ctx)
	s.watches.Go(func() {
		last := host
		err := port.Watch(ctx, func(now afpacket.Host) {
			s.followHost(index, last, now)
			last = now
		})
		if err != nil && ctx.Err() == nil {
			s.log.Warn("af_packet interface no longer follows its host interface", "host", c.HostIfName, "err", err)
		}
	})
	return hostDevice{index: index, stop: stop}, nil
}

// followHost gives the interface the link state and MTU that the host's interface got.
func (s *Server) followHost(index uint32, last, now afpacket.Host) {
	err := s.plane.SetLinkUp(index, now.Up && !now.Deleted)
	if now.MTU != last.MTU && !now.Deleted {
		err = errors.Join(err, s.plane.SetLinkMTU(index, uint16(min(now.MTU, 65535))))
	}
	if err != nil {
		s.log.Warn("interface does not follow its host interface", "interface", index, "host", now.IfName, "err", err)
	}
}

func afPacketError(err error) error {
	a, ok := errors.AsType[*afpacket.Error](err)
	if !ok {
		return err
	}
	code := api.SYSCALL_ERROR_1
	switch a.Kind {
	case afpacket.BadConfig:
		code = api.INVALID_VALUE
	case afpacket.NoNamespace, afpacket.NoInterface:
		code = api.INVALID_INTERFACE
	case afpacket.NoSocket:
	}
	return &deviceError{code, err}
}

// afPacketDelete answers a name that is not there with VPP's odd -11.
func (s *Server) afPacketDelete(_ *session, q *af_packet.AfPacketDelete, _ *af_packet.AfPacketDeleteReply) error {
	s.devices.mu.Lock()
	d, ok := s.devices.hosts[q.HostIfName]
	if ok = ok && d.index != vnet.NoIndex; ok {
		s.devices.hosts[q.HostIfName] = hostDevice{index: vnet.NoIndex} // ours alone to delete
	}
	s.devices.mu.Unlock()
	if !ok {
		return api.SYSCALL_ERROR_1
	}
	err := s.deleteInterface(d.index)
	s.devices.mu.Lock()
	defer s.devices.mu.Unlock()
	if err != nil {
		s.devices.hosts[q.HostIfName] = d
		return err
	}
	d.stop()
	delete(s.devices.hosts, q.HostIfName)
	return nil
}

func (s *Server) afPacketDump(_ *session, _ *af_packet.AfPacketDump, send func(*af_packet.AfPacketDetails)) {
	s.devices.mu.Lock()
	hosts := maps.Clone(s.devices.hosts)
	s.devices.mu.Unlock()
	byIndex := func(a, b string) int { return int(int64(hosts[a].index) - int64(hosts[b].index)) }
	for _, name := range slices.SortedFunc(maps.Keys(hosts), byIndex) {
		if hosts[name].index == vnet.NoIndex {
			continue
		}
		send(&af_packet.AfPacketDetails{SwIfIndex: interface_types.InterfaceIndex(hosts[name].index), HostIfName: name})
	}
}
