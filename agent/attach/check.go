package attach

import (
	"context"
	"net/netip"
	"slices"

	"github.com/containernetworking/cni/pkg/types"

	"github.com/millrace/millrace/cluster"
	"github.com/millrace/millrace/cni"
)

// check compares a container with what ADD promised: the fact, what is applied, and the
// container's own side.
func (s *Server) check(ctx context.Context, want cluster.Attachment, routes []LinkRoute, others map[string][]netip.Addr) error {
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
	if err := promised(have.Attachment, want.Addresses, others); err != nil {
		return err
	}
	return s.compare(have, routes)
}

// promised compares what a result gave the container with what the node gave it: no
// interface may have an address in it that is another's, and no memif may be missing. What
// other plugins added is theirs.
func promised(have cluster.Attachment, own []netip.Addr, others map[string][]netip.Addr) error {
	given := have.Addresses
	for i, m := range have.Memifs {
		name := ifNameOf(have, i)
		if name == have.ID.IfName {
			given = m.Addresses
			continue
		}
		addresses, listed := others[name]
		if !listed {
			return cni.Errorf(cni.CodeDiffers, "check %s: prevResult lacks its memif %s", have.ID, name)
		}
		if err := holds(have.ID, name, m.Addresses, addresses); err != nil {
			return err
		}
	}
	return holds(have.ID, have.ID.IfName, given, own)
}

func holds(id cluster.AttachmentID, name string, given, promised []netip.Addr) error {
	for _, a := range promised {
		if !slices.Contains(given, a) {
			return cni.Errorf(cni.CodeDiffers, "check %s: prevResult gives %s the address %s, the node gave it %v", id, name, a, given)
		}
	}
	return nil
}

func (s *Server) compare(have record, routes []LinkRoute) error {
	link, why, err := s.look(have)
	if err != nil {
		return cni.Errorf(cni.CodeDiffers, "check %s: %v", have.ID, err)
	}
	if why == "" && have.Device == cluster.DeviceKernel {
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
