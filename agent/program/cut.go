package program

import (
	"go.fd.io/govpp/binapi/gso"
	"go.fd.io/govpp/binapi/interface_types"

	"github.com/millrace/millrace/dataplane"
	"github.com/millrace/millrace/vpp"
)

// cuts says whether the machine has to be told to cut what leaves by an interface into
// segments of its MTU, where the hardware does not. The kernel's ends hand over up to 64 kB at
// once (OffloadGSO), and VPP would put that onto a wire or into a tunnel as it is, or drop it. A packet socket
// takes it whole. A machine that lacks the message is our engine, which cuts by itself.
func (p *Program) cuts(o dataplane.Interface) bool {
	switch d := o.Device.(type) {
	case dataplane.NIC:
		if d.Driver == dataplane.NICAFPacket {
			return false
		}
	case dataplane.Bond, dataplane.VLAN, dataplane.VXLAN:
	default:
		return false
	}
	return len(p.conn.Supports(&gso.FeatureGsoEnableDisable{})) == 0
}

func cutExchange(index interface_types.InterfaceIndex) vpp.Exchange {
	return vpp.Exchange{
		Request: &gso.FeatureGsoEnableDisable{SwIfIndex: index, EnableDisable: true},
		Reply:   &gso.FeatureGsoEnableDisableReply{},
	}
}
