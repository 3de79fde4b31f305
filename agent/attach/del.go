package attach

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/containernetworking/cni/pkg/types"

	"github.com/millrace/millrace/cluster"
	"github.com/millrace/millrace/cni"
	"github.com/millrace/millrace/cni/cnipb"
)

// del removes an attachment and answers when nothing of it is left. What was never there,
// or belongs to another network, is none of its business: success.
func (s *Server) del(ctx context.Context, id cluster.AttachmentID, network string) error {
	done, err := s.turns.take(ctx, id.ContainerID)
	if err != nil {
		return err
	}
	defer done()
	if err := s.journal.clearDamaged(id); err != nil {
		return cni.Errorf(cni.CodeNotStored, "%v", err)
	}
	have, found := s.journal.find(id)
	if !found {
		if err := s.awaitStart(ctx, id); err != nil {
			return err
		}
		return s.settle(ctx, id)
	}
	// A DEL that follows a refused ADD of another network must not hit the one that was
	// there first, unless that one's namespace is gone with the container.
	if have.Network != network && s.alive(have) {
		return nil
	}
	return s.remove(ctx, have)
}

// remove takes a fact out of the journal and waits until that is applied; then its
// addresses are free.
func (s *Server) remove(ctx context.Context, r record) error {
	revision, err := s.forget(r)
	if err != nil {
		return cni.Errorf(cni.CodeNotStored, "%v", err)
	}
	if err := s.waitRemoved(ctx, r.ID, revision); err != nil {
		return cni.Errorf(types.ErrTryAgainLater, "%v", err)
	}
	return nil
}

// forget takes a fact out of the journal and holds its addresses until the returned
// revision is applied.
func (s *Server) forget(r record) (uint64, error) {
	s.pool.hold(r.ID, slices.Collect(r.AllAddresses()))
	revision, err := s.journal.remove(r.ID)
	if err != nil {
		s.pool.drop(r.ID)
		return 0, err
	}
	s.pool.leave(r.ID, revision)
	return revision, nil
}

// gc removes a network's attachments that are not in valid. Containers with a verb in
// flight are alive and left alone; so is what was added after the call came in.
func (s *Server) gc(ctx context.Context, network string, valid []cluster.AttachmentID) ([]cluster.AttachmentID, error) {
	keep := make(map[cluster.AttachmentID]bool, len(valid))
	for _, id := range valid {
		keep[id] = true
	}
	var deleted []cluster.AttachmentID
	errs := []error{s.journal.clearDamagedExcept(valid)}
	before, stored := s.journal.all()
	for _, r := range stored {
		if r.Network != network || keep[r.ID] {
			continue
		}
		ok, err := s.collect(ctx, r.ID, before)
		if ok {
			deleted = append(deleted, r.ID)
		}
		errs = append(errs, err)
	}
	if err := errors.Join(errs...); err != nil {
		return deleted, cni.Errorf(types.ErrTryAgainLater, "collect garbage of network %s: %v", network, err)
	}
	return deleted, nil
}

func (s *Server) collect(ctx context.Context, id cluster.AttachmentID, before uint64) (bool, error) {
	done, idle := s.turns.tryTake(id.ContainerID)
	if !idle {
		return false, nil
	}
	defer done()
	have, found := s.journal.find(id)
	if !found || have.Revision > before {
		return false, nil
	}
	if err := s.remove(ctx, have); err != nil {
		return false, fmt.Errorf("%s: %w", id, err)
	}
	return true, nil
}

func wireIDs(ids []cluster.AttachmentID) []*cnipb.AttachmentID {
	var out []*cnipb.AttachmentID
	for _, id := range ids {
		out = append(out, &cnipb.AttachmentID{ContainerId: id.ContainerID, IfName: id.IfName})
	}
	return out
}
