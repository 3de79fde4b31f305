package program

import (
	"context"

	"go.fd.io/govpp/binapi/interface_types"
	"go.fd.io/govpp/binapi/ip_neighbor"
	"go.fd.io/govpp/binapi/ip_types"

	"github.com/millrace/millrace/dataplane"
	"github.com/millrace/millrace/vpp"
)

// observeNeighbors takes static entries on our interfaces and on shared uplinks, whose manager
// makes none; learned ones are the machine's.
func (p *Program) observeNeighbors(ctx context.Context, s *dataplane.State) error {
	for _, af := range []ip_types.AddressFamily{ip_types.ADDRESS_IP4, ip_types.ADDRESS_IP6} {
		req := &ip_neighbor.IPNeighborDump{SwIfIndex: interface_types.InterfaceIndex(none), Af: af}
		for d, err := range vpp.Dump[ip_neighbor.IPNeighborDetails](ctx, p.conn, req) {
			if err != nil {
				return err
			}
			name, ours := p.name(uint32(d.Neighbor.SwIfIndex))
			if !ours && p.uplinks[name].Mode != dataplane.UplinkShare || d.Neighbor.Flags&ip_neighbor.IP_API_NEIGHBOR_FLAG_STATIC == 0 {
				continue
			}
			s.Put(dataplane.Neighbor{
				Interface: name, Addr: addrOf(d.Neighbor.IPAddress), MAC: dataplane.MAC(d.Neighbor.MacAddress),
				Attached: d.Neighbor.Flags&ip_neighbor.IP_API_NEIGHBOR_FLAG_NO_FIB_ENTRY == 0,
			})
		}
	}
	return nil
}

func (p *Program) neighborExchange(n dataplane.Neighbor, add bool) (vpp.Exchange, error) {
	index, err := p.index(n.Interface)
	flags := ip_neighbor.IP_API_NEIGHBOR_FLAG_STATIC
	if !n.Attached {
		flags |= ip_neighbor.IP_API_NEIGHBOR_FLAG_NO_FIB_ENTRY
	}
	return vpp.Exchange{
		Request: &ip_neighbor.IPNeighborAddDel{
			IsAdd: add,
			Neighbor: ip_neighbor.IPNeighbor{
				SwIfIndex:  interface_types.InterfaceIndex(index),
				Flags:      flags,
				MacAddress: [6]byte(n.MAC), IPAddress: wireAddr(n.Addr),
			},
		},
		Reply: &ip_neighbor.IPNeighborAddDelReply{},
	}, err
}
