package program

import (
	"context"
	"errors"
	"fmt"
	"os"

	interfaces "go.fd.io/govpp/binapi/interface"
	"go.fd.io/govpp/binapi/interface_types"
	"go.fd.io/govpp/binapi/tapv2"

	"github.com/millrace/millrace/dataplane"
	"github.com/millrace/millrace/vpp"
)

// tunFlags: PERSIST keeps the kernel's device, with its addresses and routes, while the
// machine is away; ATTACH takes it over again. Deleting the interface ends both.
const tunFlags = tapv2.TAP_API_FLAG_TUN | tapv2.TAP_API_FLAG_PERSIST | tapv2.TAP_API_FLAG_ATTACH

func tapFlags(o dataplane.Offload) tapv2.TapFlags {
	if o == dataplane.OffloadGSO {
		return tunFlags | tapv2.TAP_API_FLAG_GSO
	}
	return tunFlags
}

func (p *Program) observeTaps(ctx context.Context, seen *observed) error {
	if len(p.lackForTaps()) > 0 {
		return nil // then none was made
	}
	queues := map[uint32]uint16{}
	placements := &interfaces.SwInterfaceRxPlacementDump{SwIfIndex: interface_types.InterfaceIndex(none)}
	for d, err := range vpp.Dump[interfaces.SwInterfaceRxPlacementDetails](ctx, p.conn, placements) {
		if err != nil {
			return err
		}
		queues[uint32(d.SwIfIndex)]++
	}
	for d, err := range vpp.Dump[tapv2.SwInterfaceTapV2Details](ctx, p.conn, &tapv2.SwInterfaceTapV2Dump{SwIfIndex: interface_types.InterfaceIndex(none)}) {
		if err != nil {
			return err
		}
		name, ours := seen.names[d.SwIfIndex]
		if !ours {
			continue
		}
		port := p.ports[name]
		port.driver, port.host = driverTap, hostEnd{d.HostNamespace, d.HostIfName}
		p.ports[name] = port
		if device := tapDevice(d, dataplane.MAC(seen.details[name].L2Address), queues[d.SwIfIndex]); device != nil {
			seen.devices[name] = device
		}
	}
	return nil
}

func (p *Program) tapExchange(o dataplane.Interface, d dataplane.Tun) vpp.Exchange {
	req := &tapv2.TapCreateV3{
		ID: none, UseRandomMac: true, Tag: p.tag(o), TapFlags: tapFlags(d.Offload),
		NumRxQueues: d.Queues, NumTxQueues: d.Queues, RxRingSz: d.RxRing, TxRingSz: d.TxRing,
		HostIfNameSet: true, HostIfName: d.HostName,
		HostNamespaceSet: d.Netns != "", HostNamespace: d.Netns,
		HostMtuSet: o.Host.MTU != 0, HostMtuSize: o.Host.MTU,
	}
	return vpp.Exchange{Request: req, Reply: &tapv2.TapCreateV3Reply{}}
}

func createdTap(end hostEnd, e vpp.Exchange) (port, bool) {
	r, ok := e.Reply.(*tapv2.TapCreateV3Reply)
	if !ok || e.Err != nil {
		return port{}, false
	}
	return port{index: uint32(r.SwIfIndex), driver: driverTap, host: end}, true
}

func deleteTap(index interface_types.InterfaceIndex) vpp.Exchange {
	return vpp.Exchange{Request: &tapv2.TapDeleteV2{SwIfIndex: index}, Reply: &tapv2.TapDeleteV2Reply{}}
}

// CanTun says whether the machine can make tuns here, by what it has of ours or else by
// making one: VPP needs /dev/vhost-net for it, the embedded engine does not.
func (p *Program) CanTun(ctx context.Context) (bool, error) {
	return p.canMake(ctx, tapv2.TAP_API_FLAG_TUN)
}

// CanTap is CanTun for a Tap.
func (p *Program) CanTap(ctx context.Context) (bool, error) { return p.canMake(ctx, 0) }

// lackForTaps are messages without which no tap is made: one that could not be looked at
// would be made again and again.
func (p *Program) lackForTaps() []string {
	return p.conn.Supports(
		&tapv2.TapCreateV3{}, &tapv2.TapCreateV3Reply{}, &tapv2.TapDeleteV2{}, &tapv2.TapDeleteV2Reply{},
		&tapv2.SwInterfaceTapV2Dump{}, &tapv2.SwInterfaceTapV2Details{},
		&interfaces.SwInterfaceRxPlacementDump{}, &interfaces.SwInterfaceRxPlacementDetails{},
	)
}

func (p *Program) canMake(ctx context.Context, flags tapv2.TapFlags) (bool, error) {
	if len(p.lackForTaps()) > 0 {
		return false, nil
	}
	for _, port := range p.ports {
		switch port.driver {
		case driverTap:
			return true, nil
		case driverAFPacket:
			return false, nil
		}
	}
	reply, err := vpp.Call[tapv2.TapCreateV3Reply](ctx, p.conn, &tapv2.TapCreateV3{
		ID: none, UseRandomMac: true, NumRxQueues: 1, NumTxQueues: 1, RxRingSz: 64, TxRingSz: 64,
		TapFlags: flags, HostIfNameSet: true, HostIfName: fmt.Sprintf("mrtry%d", os.Getpid()),
	})
	switch {
	case err == nil:
		_, err = vpp.Call[tapv2.TapDeleteV2Reply](ctx, p.conn, &tapv2.TapDeleteV2{SwIfIndex: reply.SwIfIndex})
		return true, err
	case vpp.Retval(err) != 0, errors.Is(err, vpp.ErrUnsupported):
		return false, nil
	}
	return false, fmt.Errorf("probe for taps: %w", err)
}
