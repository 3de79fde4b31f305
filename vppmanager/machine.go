package vppmanager

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/millrace/millrace/vpp"
	"github.com/millrace/millrace/vppmanager/change"
	"github.com/millrace/millrace/vppmanager/startup"
	"github.com/millrace/millrace/vppmanager/uplink"
)

// machine is the host this runs on, with the journal of its changes, and the wiring of its
// uplinks. It is what a run changes unless it is given something else.
type machine struct {
	host     change.Host
	stateDir string
	journal  *change.Journal // nil before it is needed: opening it makes the state directory
	mute     *uplink.Mute
}

func newMachine(stateDir string, log *slog.Logger) *machine {
	return &machine{
		host:     change.Host{Root: "/", Tell: func(text string) { log.Info("host", "change", text) }},
		stateDir: stateDir,
	}
}

// open opens the journal, which locks it.
func (m *machine) open() error {
	if m.journal != nil {
		return nil
	}
	j, err := change.Open(m.stateDir)
	if err != nil {
		return err
	}
	m.journal = j
	return nil
}

// Pending looks at the journal, where there is one.
func (m *machine) Pending() (bool, error) {
	if m.journal == nil {
		_, err := os.Lstat(filepath.Join(m.stateDir, change.JournalFile))
		if errors.Is(err, fs.ErrNotExist) {
			return false, nil
		}
		if err := m.open(); err != nil {
			return false, err
		}
	}
	return len(m.journal.Pending()) > 0, nil
}

func (m *machine) Apply(ctx context.Context, changes []startup.Change) error {
	if err := m.open(); err != nil {
		return err
	}
	return m.host.Apply(ctx, m.journal, changes)
}

func (m *machine) Undo(ctx context.Context) error {
	if err := m.open(); err != nil {
		return err
	}
	return m.host.Undo(ctx, m.journal)
}

// Wire sets up the uplinks and puts what the host had on its NICs onto its own links. The
// kernel's links below are muted from the first time on, until Release.
func (m *machine) Wire(ctx context.Context, conn *vpp.Conn, plan startup.Plan) error {
	if len(plan.Uplinks) == 0 {
		return nil
	}
	if m.mute == nil {
		mute, err := uplink.MuteLinks(plan.Uplinks)
		if err != nil {
			return err
		}
		m.mute = mute
	}
	if err := uplink.Wire(ctx, conn, plan.Uplinks); err != nil {
		return err
	}
	if err := m.settle(ctx, plan); err != nil {
		return err
	}
	return uplink.Dress(plan.Uplinks)
}

// settle puts saved settings onto the links that the plan announces in their place.
func (m *machine) settle(ctx context.Context, plan startup.Plan) error {
	for _, c := range plan.Changes {
		if c.Kind != startup.HostTap {
			continue
		}
		if err := m.host.Settle(ctx, m.journal, c.Link, c.Link); err != nil {
			return err
		}
	}
	return nil
}

// Release lets the kernel read its links again.
func (m *machine) Release() error {
	mute := m.mute
	m.mute = nil
	return mute.Close()
}

// close gives the journal back.
func (m *machine) close() error {
	if m.journal == nil {
		return nil
	}
	if err := m.journal.Close(); err != nil {
		return fmt.Errorf("close the journal: %w", err)
	}
	return nil
}
