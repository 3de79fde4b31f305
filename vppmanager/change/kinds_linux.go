package change

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/millrace/millrace/vppmanager/startup"
)

// lookLink remembers which link a change is about, and the bond or bridge it is in.
func lookLink(_ Host, c startup.Change) (state, error) {
	l, err := linkByName(c.Link)
	if err != nil {
		return state{}, err
	}
	s := state{Link: &linkRef{Name: c.Link, Index: l.index()}}
	if master := int(l.number(unix.IFLA_MASTER)); master != 0 {
		m, err := linkByIndex(master)
		if err != nil {
			return state{}, err
		}
		s.Master = m.name()
	}
	return s, nil
}

// nothing is the doing, or the undoing, of what another change does.
func doNothing(context.Context, Host, *step) (*state, error)   { return nil, nil }
func undoNothing(context.Context, Host, *Journal, *step) error { return nil }
func doLinkDown(_ context.Context, h Host, s *step) (*state, error) {
	return nil, h.setDown(s.Before.Link.Index)
}

func doRename(_ context.Context, h Host, s *step) (*state, error) {
	return nil, h.rename(s.Before.Link.Index, s.Change.Name)
}

// undoRename renames the link back, unless it is gone: then it comes back with the name
// its driver or SaveLink gives it.
func undoRename(_ context.Context, h Host, _ *Journal, s *step) error {
	err := h.rename(s.Before.Link.Index, s.Change.Link)
	if errors.Is(err, errNoLink) {
		return nil
	}
	return err
}

func doFlush(_ context.Context, h Host, s *step) (*state, error) {
	if err := h.flushNexthops(s.Before.Link.Index); err != nil {
		return nil, err
	}
	if err := h.flushRoutes(s.Before.Link.Index); err != nil {
		return nil, err
	}
	return nil, h.flushAddresses(s.Before.Link.Index)
}

func doRelease(_ context.Context, h Host, s *step) (*state, error) {
	if s.Before.Master == "" {
		return nil, nil
	}
	return nil, h.setLink(s.Before.Link.Index, 0, 0, attr{unix.IFLA_MASTER, u32(0)})
}

func undoRelease(_ context.Context, h Host, _ *Journal, s *step) error {
	if s.Before.Master == "" {
		return nil
	}
	l, err := linkByName(s.Change.Link)
	if err != nil {
		return err
	}
	return h.enslave(l, s.Before.Master)
}

// lookTap remembers a link of that name which is not the one to come.
func lookTap(_ Host, c startup.Change) (state, error) {
	l, err := linkByName(c.Link)
	if errors.Is(err, errNoLink) {
		return state{}, nil
	}
	return state{Link: &linkRef{Name: c.Link, Index: l.index()}}, err
}

// undoTap deletes the host's link. A link that was there before, or is the NIC itself, is
// none.
func undoTap(_ context.Context, h Host, j *Journal, s *step) error {
	l, err := linkByName(s.Change.Link)
	if errors.Is(err, errNoLink) {
		return nil
	}
	if err != nil {
		return err
	}
	if s.Before.Link != nil && s.Before.Link.Index == l.index() {
		return nil
	}
	for _, other := range j.steps {
		if saved := other.Before.Saved; saved != nil && saved.Index == l.index() {
			return nil
		}
	}
	if kind := l.virtual(); kind != "tun" && kind != "veth" {
		return fmt.Errorf("%s is a link of kind %q, not the host's: it is left alone", s.Change.Link, kind)
	}
	if err := h.alter(unix.RTM_DELLINK, 0, infoHead(l.index(), 0, 0)); err != nil && !errors.Is(err, unix.ENODEV) {
		return fmt.Errorf("delete %s: %w", s.Change.Link, err)
	}
	return nil
}
