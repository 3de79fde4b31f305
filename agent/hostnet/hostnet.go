// Package hostnet owns what the agent puts on the node's own kernel beside interfaces: the
// nftables table "millrace" by which the kernel translates for pods, and settings (sysctls)
// without which their packets would not pass.
//
// It writes, reads back and takes away. It never decides what should be there, and never
// changes a table, a chain or a setting that is not its own: what a setting was before stands
// in a file in the state directory, and comes back when the setting goes.
package hostnet

import (
	"errors"
	"fmt"

	"github.com/millrace/millrace/dataplane"
)

// Host is the kernel of the network namespace that the calling thread is in. It is not safe
// for concurrent use.
type Host struct {
	root  string // "/", or a tree that stands for it: proc is read and written below it
	notes notes
}

// Open reads what earlier agents noted in the state directory.
func Open(stateDir string) (*Host, error) {
	h := &Host{root: "/"}
	var err error
	if h.notes, err = openNotes(stateDir, h.root); err != nil {
		return nil, fmt.Errorf("open notes of the node's settings: %w", err)
	}
	return h, nil
}

// Observe adds what the kernel has of ours. What cannot be read counts as absent: to put it
// there meets the same error, as the error of its own step.
func (h *Host) Observe(s *dataplane.State) {
	for _, o := range h.settings() {
		s.Put(o)
	}
	if n, found, err := readTable(); found && err == nil {
		s.Put(n)
	}
}

// Carry carries out steps of a plan that are about HostSettings and HostNATs, and returns an
// error or nil for each.
func (h *Host) Carry(steps []dataplane.Step) []error {
	errs := make([]error, len(steps))
	for i, step := range steps {
		errs[i] = h.carry(step)
	}
	return errs
}

func (h *Host) carry(step dataplane.Step) error {
	switch o := step.Object.(type) {
	case dataplane.HostSetting:
		if step.Verb == dataplane.Delete {
			return h.restore(o.Name)
		}
		return h.set(o)
	case dataplane.HostNAT:
		if step.Verb == dataplane.Delete {
			return deleteTable()
		}
		if err := dataplane.Check(o); err != nil {
			return err
		}
		return writeTable(o)
	}
	return fmt.Errorf("package hostnet knows no %s", step.Object.Key().Kind)
}

// Clear takes everything of ours away and gives settings back. It goes on after an error, may
// be called again, and with nothing there does nothing.
func (h *Host) Clear() error {
	errs := []error{deleteTable()}
	for _, name := range h.notes.names() {
		errs = append(errs, h.restore(name))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("clear the node's kernel: %w", err)
	}
	return nil
}
