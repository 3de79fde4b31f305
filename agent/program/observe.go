package program

import (
	"context"
	"fmt"

	"github.com/millrace/millrace/dataplane"
)

// Observe returns what the machine has of ours, with the kernel's end of each interface.
// An interface whose end in the kernel is gone comes back without its device, so that it
// differs from every wish and is made anew.
func (p *Program) Observe(ctx context.Context) (dataplane.State, error) {
	var s dataplane.State
	// Uplinks and interfaces first: all others are told by the names they bring.
	for _, part := range []struct {
		kind    dataplane.Kind
		observe func(context.Context, *dataplane.State) error
	}{
		{dataplane.KindInterface, p.observeUplinks},
		{dataplane.KindInterface, p.observeInterfaces},
		{dataplane.KindTunnelBypass, p.observeBypasses},
		{dataplane.KindTable, p.observeTables},
		{dataplane.KindBondMember, p.observeMembers},
		{dataplane.KindACL, p.observeACLs},
		{dataplane.KindUnnumbered, p.observeUnnumbered},
		{dataplane.KindAddress, p.observeAddresses},
		{dataplane.KindNeighbor, p.observeNeighbors},
		{dataplane.KindRoute, p.observeRoutes},
		{dataplane.KindProxyARP, p.observeProxies},
		{dataplane.KindACLBinding, p.observeBindings},
		{dataplane.KindSteering, p.observeSteering},
		{dataplane.KindTranslation, p.observeNAT},
		{dataplane.KindHostNAT, p.observeKernel},
	} {
		if err := part.observe(ctx, &s); err != nil {
			return dataplane.State{}, fmt.Errorf("observe each %s: %w", part.kind, err)
		}
	}
	return s, nil
}
