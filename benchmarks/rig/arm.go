package rig

import (
	"context"
	"net/netip"

	"go.fd.io/govpp/binapi/ethernet_types"
	"go.fd.io/govpp/binapi/fib_types"
	interfaces "go.fd.io/govpp/binapi/interface"
	"go.fd.io/govpp/binapi/interface_types"
	"go.fd.io/govpp/binapi/ip"
	"go.fd.io/govpp/binapi/ip_neighbor"
	"go.fd.io/govpp/binapi/ip_types"
	vppmemif "go.fd.io/govpp/binapi/memif"
	"go.fd.io/govpp/binapi/urpf"

	"github.com/millrace/millrace/memif"
	"github.com/millrace/millrace/vpp"
)

// armSocket is the id of the socket that the memifs of a router share.
const armSocket = 7

// arm is a memif of a router, a network of its own whose one neighbour is the generator.
type arm struct {
	id                uint32
	prefix            netip.Prefix // of the router
	peer              netip.Addr   // of the generator
	router, generator [6]byte      // MAC addresses
	index             interface_types.InterfaceIndex
	client            *memif.Interface
}

func newArm(n int) arm {
	return arm{
		id: uint32(n), prefix: netip.PrefixFrom(netip.AddrFrom4([4]byte{198, 18, byte(n), 254}), 24), peer: netip.AddrFrom4([4]byte{198, 18, byte(n), 1}),
		router: [6]byte{2, 0xfe, 0, 0, byte(n), 0xfe}, generator: [6]byte{2, 0xfe, 0, 0, byte(n), 1},
	}
}

// create makes the memif and returns what else there is to call.
func (a *arm) create(ctx context.Context, conn *vpp.Conn) ([]vpp.Exchange, error) {
	made, err := vpp.Call[vppmemif.MemifCreateV2Reply](ctx, conn, &vppmemif.MemifCreateV2{
		Role: vppmemif.MEMIF_ROLE_API_MASTER, Mode: vppmemif.MEMIF_MODE_API_ETHERNET, ID: a.id, SocketID: armSocket,
		RxQueues: 1, TxQueues: 1, RingSize: memif.DefaultRingSize, BufferSize: memif.DefaultBufferSize, HwAddr: ethernet_types.MacAddress(a.router),
	})
	if err != nil {
		return nil, err
	}
	a.index = made.SwIfIndex
	return []vpp.Exchange{
		{Request: &interfaces.SwInterfaceSetFlags{SwIfIndex: a.index, Flags: interface_types.IF_STATUS_API_FLAG_ADMIN_UP}, Reply: &interfaces.SwInterfaceSetFlagsReply{}},
		{Request: &interfaces.SwInterfaceAddDelAddress{SwIfIndex: a.index, IsAdd: true, Prefix: ip_types.AddressWithPrefix(apiPrefix(a.prefix))},
			Reply: &interfaces.SwInterfaceAddDelAddressReply{}},
		{Request: &ip_neighbor.IPNeighborAddDel{IsAdd: true, Neighbor: ip_neighbor.IPNeighbor{
			SwIfIndex: a.index, Flags: ip_neighbor.IP_API_NEIGHBOR_FLAG_STATIC, MacAddress: ethernet_types.MacAddress(a.generator), IPAddress: ip_types.NewAddress(a.peer.AsSlice()),
		}}, Reply: &ip_neighbor.IPNeighborAddDelReply{}},
	}, nil
}

// route leads to the generator.
func (a *arm) route(p netip.Prefix) vpp.Exchange {
	route := ip.IPRoute{Prefix: apiPrefix(p), NPaths: 1, Paths: []fib_types.FibPath{{
		SwIfIndex: uint32(a.index), Proto: fib_types.FIB_API_PATH_NH_PROTO_IP4, Weight: 1,
		Nh: fib_types.FibPathNh{Address: ip_types.NewAddress(a.peer.AsSlice()).Un},
	}}}
	return vpp.Exchange{Request: &ip.IPRouteAddDel{IsAdd: true, Route: route}, Reply: &ip.IPRouteAddDelReply{}}
}

// checkSources drops what comes in from where no route leads out by the same memif.
func (a *arm) checkSources() vpp.Exchange {
	return vpp.Exchange{
		Request: &urpf.UrpfUpdateV2{IsInput: true, Mode: urpf.URPF_API_MODE_STRICT, Af: ip_types.ADDRESS_IP4, SwIfIndex: a.index, TableID: ^uint32(0)},
		Reply:   &urpf.UrpfUpdateV2Reply{},
	}
}

// join makes the generator's end.
func (a *arm) join(s *memif.Socket) (err error) {
	a.client, err = s.Add(memif.Config{ID: a.id, Name: "generator", RxMode: memif.Polling})
	return err
}

// poll has the router's end poll.
func (a *arm) poll(ctx context.Context, conn *vpp.Conn) error {
	_, err := vpp.Call[interfaces.SwInterfaceSetRxModeReply](ctx, conn, &interfaces.SwInterfaceSetRxMode{SwIfIndex: a.index, Mode: interface_types.RX_MODE_API_POLLING})
	return err
}
