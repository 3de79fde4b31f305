package attach

import (
	"context"
	"net/netip"

	"github.com/containernetworking/cni/pkg/types"

	"github.com/millrace/millrace/cluster"
	"github.com/millrace/millrace/cni"
)

// check compares a container with what ADD promised: the fact, what is applied, and the
// container's own side.
func (s *Server) check(ctx context.Context, want cluster.Attachment, routes []LinkRoute) error {
	done, err := s.turns.take(ctx, want.ID.ContainerID)
	if err != nil {
		return err
	}
	defer done()
	have, found := s.journal.find(want.ID)
	if !found || have.Network != want.Network {
		return cni.Errorf(types.ErrUnknownContainer, "check %s: network %s has no such attachment; ADD it first", want.ID, want.Network)
	}
	if have.Netns != want.Netns {
		return cni.Errorf(cni.CodeDiffers, "check %s: it lives in %s, not in %s", want.ID, have.Netns, want.Netns)
	}
	if !s.alive(have) {
		return cni.Errorf(cni.CodeDiffers, "check %s: the network namespace it was made in is gone from %s", want.ID, have.Netns)
	}
	if err := s.loop.Ready(); err != nil {
		return cni.Errorf(types.ErrTryAgainLater, "check %s: %v", want.ID, err)
	}
	if err := s.wait(ctx, have.ID, have.Revision); err != nil {
		return err
	}
	return s.compare(have, want.Addresses, routes)
}

func (s *Server) compare(have record, promised []netip.Addr, routes []LinkRoute) error {
	for _, a := range promised {
		if !have.holds(a) {
			return cni.Errorf(cni.CodeDiffers, "check %s: prevResult gives it %s, the node gave it %v", have.ID, a, have.Addresses)
		}
	}
	link, err := s.pods.Link(have.Netns, have.ID.IfName)
	if err != nil {
		return cni.Errorf(cni.CodeDiffers, "check %s: %v", have.ID, err)
	}
	why := link.lacks(have.Addresses)
	if why == "" {
		why = link.lacksRoutes(routes)
	}
	if why != "" {
		return cni.Errorf(cni.CodeDiffers, "check %s: %s in %s: %s", have.ID, have.ID.IfName, have.Netns, why)
	}
	return nil
}

// status fails while an ADD could not work. An exhausted range is no reason: the node
// would be declared unfit, and its pods with it.
func (s *Server) status() error {
	err := s.loop.Ready()
	switch {
	case err == nil:
		s.started.Store(true)
		return nil
	case s.started.Load():
		return cni.Errorf(types.ErrLimitedConnectivity, "the node's dataplane is away: %v", err)
	}
	return cni.Errorf(types.ErrPluginNotAvailable, "the node's dataplane is not ready: %v", err)
}
