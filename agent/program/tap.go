package program

import (
	"go.fd.io/govpp/binapi/tapv2"

	"github.com/millrace/millrace/dataplane"
	"github.com/millrace/millrace/vpp"
)

// etherFlags are those of a Tap, for the reasons that tunFlags has.
const etherFlags = tapv2.TAP_API_FLAG_PERSIST | tapv2.TAP_API_FLAG_ATTACH

// tapDevice is what the machine tells of a tap: a Tun or a Tap, or nil when it is not as we
// make them and has to be made anew.
func tapDevice(d *tapv2.SwInterfaceTapV2Details, mac dataplane.MAC, queues uint16) dataplane.Device {
	offload := dataplane.OffloadNone
	if d.TapFlags&tapv2.TAP_API_FLAG_GSO != 0 {
		offload = dataplane.OffloadGSO
	}
	switch d.TapFlags &^ tapv2.TAP_API_FLAG_GSO {
	case tunFlags:
		return dataplane.Tun{
			Netns: d.HostNamespace, HostName: d.HostIfName, Queues: queues,
			RxRing: d.RxRingSz, TxRing: d.TxRingSz, Offload: offload,
		}
	case etherFlags:
		return dataplane.Tap{
			Netns: d.HostNamespace, HostName: d.HostIfName, HostMAC: dataplane.MAC(d.HostMacAddr), MAC: mac,
			Queues: queues, RxRing: d.RxRingSz, TxRing: d.TxRingSz, Offload: offload,
		}
	}
	return nil
}

// etherExchange makes a Tap. Its end in the kernel has the MTU of the interface, unless the
// wish says another.
func (p *Program) etherExchange(o dataplane.Interface, d dataplane.Tap) vpp.Exchange {
	req := &tapv2.TapCreateV3{
		ID: none, MacAddress: [6]byte(d.MAC), Tag: p.tag(o), TapFlags: etherFlags,
		NumRxQueues: d.Queues, NumTxQueues: d.Queues, RxRingSz: d.RxRing, TxRingSz: d.TxRing,
		HostIfNameSet: true, HostIfName: d.HostName, HostMacAddrSet: true, HostMacAddr: [6]byte(d.HostMAC),
		HostNamespaceSet: d.Netns != "", HostNamespace: d.Netns,
		HostMtuSet: true, HostMtuSize: endMTU(o),
	}
	if d.Offload == dataplane.OffloadGSO {
		req.TapFlags |= tapv2.TAP_API_FLAG_GSO
	}
	return vpp.Exchange{Request: req, Reply: &tapv2.TapCreateV3Reply{}}
}

// endMTU is what a new device gets in the kernel.
func endMTU(o dataplane.Interface) uint32 {
	if o.Host.MTU != 0 {
		return o.Host.MTU
	}
	return o.MTU
}
