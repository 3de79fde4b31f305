package program

import (
	"context"
	"fmt"
	"os"

	interfaces "go.fd.io/govpp/binapi/interface"
	"go.fd.io/govpp/binapi/interface_types"
	"go.fd.io/govpp/binapi/ip_neighbor"
	"go.fd.io/govpp/binapi/ip_types"

	"github.com/millrace/millrace/dataplane"
	"github.com/millrace/millrace/vpp"
)

// LinkEvent is what a machine tells of an interface whose state changed.
type LinkEvent = interfaces.SwInterfaceEvent

// Links asks the machine to tell of links from now on.
func (p *Program) Links(ctx context.Context) (*vpp.Subscription[LinkEvent, *LinkEvent], error) {
	links, err := vpp.Subscribe[LinkEvent](p.conn)
	if err == nil {
		_, err = vpp.Call[interfaces.WantInterfaceEventsReply](ctx, p.conn, &interfaces.WantInterfaceEvents{EnableDisable: 1, PID: uint32(os.Getpid())})
	}
	if err != nil {
		return nil, fmt.Errorf("ask for link events: %w", err)
	}
	return links, nil
}

// LinkChanged takes up what an event means. It says whether the uplinks may be others than
// at the last Observe.
//
// A memif whose peer has gone forgets the neighbours it learned. The next peer may have
// another MAC address, and VPP would go on sending to the old one: it neither ages
// neighbours by default nor drops them with the link.
func (p *Program) LinkChanged(ctx context.Context, e *LinkEvent) (uplinks bool, err error) {
	name, ours := p.name(uint32(e.SwIfIndex))
	switch {
	case ours:
		return false, p.forgetNeighbors(ctx, name, e)
	case dataplane.IsUplink(name) && e.Deleted:
		return true, p.uplinkGone(ctx, name)
	}
	if dataplane.IsUplink(name) || e.Flags&interface_types.IF_STATUS_API_FLAG_ADMIN_UP == 0 {
		return false, nil
	}
	return p.isUplink(ctx, e.SwIfIndex)
}

func (p *Program) forgetNeighbors(ctx context.Context, name string, e *LinkEvent) error {
	if p.ports[name].driver != driverMemif || e.Deleted || e.Flags&interface_types.IF_STATUS_API_FLAG_LINK_UP != 0 {
		return nil
	}
	for _, af := range []ip_types.AddressFamily{ip_types.ADDRESS_IP4, ip_types.ADDRESS_IP6} {
		_, err := vpp.Call[ip_neighbor.IPNeighborFlushReply](ctx, p.conn, &ip_neighbor.IPNeighborFlush{Af: af, SwIfIndex: e.SwIfIndex})
		if err != nil {
			return fmt.Errorf("forget neighbours of %s: %w", name, err)
		}
	}
	return nil
}
