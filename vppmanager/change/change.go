// Package change carries the changes of a start plan out on the host, one after the other,
// and takes them back.
//
// It owns the manager's journal (manager.journal in the state directory) and every change
// of the host that the manager makes: drivers of PCI devices, huge pages, modules, sysctls,
// and what hangs on links. Before each change the state at that moment is in the journal,
// on disk; so whatever ends the manager, Undo gives the host back from the journal alone.
// It never decides what to change, starts no dataplane and talks to none.
//
// What a reboot takes away by itself is not undone after one: no kind of change outlives
// a reboot, since drivers, huge pages, sysctls, modules and links start anew.
//
// What it does not put back: traffic classes and filters, memberships in multicast groups,
// VFs, the addresses of interrupts, and modules that others use by now. A NIC with an XDP
// program is not taken in the first place.
package change

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/millrace/millrace/vppmanager/startup"
)

// Host is the machine that is changed. Links are those of the network namespace of the
// calling thread.
type Host struct {
	Root     string        // "/", or a tree that stands for it: sys, proc and lib/modules are read and written below it
	Patience time.Duration // until a driver or a link has to be there; 0: 30 s
	Tell     func(string)  // gets a line for a person with each thing done; nil: nobody listens

	hook    func(string) // of tests: called after each thing that a crash could follow
	modules moduleCalls  // of tests; zero: the kernel's
}

// Apply carries the changes out. When one fails, or ctx ends, what was done is undone at
// once; the error then says so. It refuses while the journal has something to undo.
func (h Host) Apply(ctx context.Context, j *Journal, changes []startup.Change) error {
	if n := len(j.pending()); n > 0 {
		return fmt.Errorf("change the host: the journal %s holds %d changes that are not undone: run `millrace manager undo` first", j.path, n)
	}
	for _, c := range changes {
		if err := check(c); err != nil {
			return fmt.Errorf("change the host: %s: %w", c, err)
		}
	}
	if len(changes) == 0 {
		return nil
	}
	boot, err := h.bootID()
	if err != nil {
		return fmt.Errorf("change the host: %w", err)
	}
	if err := j.begin(boot, len(changes)); err != nil {
		return fmt.Errorf("change the host: nothing was changed: %w", errors.Join(err, j.finish()))
	}
	h.reached("begin")
	for _, c := range changes {
		err := ctx.Err()
		if err == nil {
			err = h.carryOut(ctx, j, c)
		}
		if err == nil {
			continue
		}
		err = fmt.Errorf("change the host: %s: %w", c, err)
		if undo := h.Undo(context.WithoutCancel(ctx), j); undo != nil {
			return errors.Join(err, undo)
		}
		return fmt.Errorf("%w (everything was undone)", err)
	}
	return nil
}

func (h Host) carryOut(ctx context.Context, j *Journal, c startup.Change) error {
	k := kindOf(c.Kind)
	before, err := k.look(h, c)
	if err != nil {
		return err
	}
	s, err := j.intend(c, before)
	if err != nil {
		return err
	}
	h.reached("intend")
	h.tell("%s", c)
	after, err := k.do(ctx, h, s)
	if err != nil {
		return err
	}
	if err := j.done(s, after); err != nil {
		return err
	}
	h.reached("done")
	return nil
}

// Undo takes back what the journal holds, the last change first, and removes the journal
// when all of it is undone. A step that fails stops none of the others; its error is
// returned, and the journal stays, so that Undo can be called again. With nothing to undo
// it does nothing.
func (h Host) Undo(ctx context.Context, j *Journal) error {
	if !j.exists() {
		return nil
	}
	boot, err := h.bootID()
	if err != nil {
		return fmt.Errorf("undo changes of the host: %w", err)
	}
	if pending := j.pending(); len(pending) > 0 && j.head.Boot != boot {
		h.tell("the machine has booted since: the %d changes in %s are gone with that", len(pending), j.path)
		if err := j.finish(); err != nil {
			return fmt.Errorf("undo changes of the host: %w", err)
		}
		return nil
	}
	var errs []error
	for _, s := range slices.Backward(j.steps) {
		if err := h.undoStep(ctx, j, s); err != nil {
			errs = append(errs, fmt.Errorf("undo %s: %w", s.Change, err))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("undo changes of the host: %w (the journal %s stays: run `millrace manager undo` when that is mended, or remove the journal when it never will be)", err, j.path)
	}
	if err := j.finish(); err != nil {
		return fmt.Errorf("undo changes of the host: all is undone, but: %w", err)
	}
	h.reached("finish")
	return nil
}

// undoStep undoes one step unless it is undone. That the journal cannot say so, on a full
// disk, hinders nothing: each undo may be done twice.
func (h Host) undoStep(ctx context.Context, j *Journal, s *step) error {
	if s.Undone {
		return nil
	}
	h.tell("undo %s", s.Change)
	if err := kindOf(s.Change.Kind).undo(ctx, h, j, s); err != nil {
		return err
	}
	s.Undone = true
	if err := j.undone(s); err != nil {
		h.tell("the journal could not be written: %v", err)
	}
	h.reached("undone")
	return nil
}

// kind is how a kind of change is looked at, done and undone. Undo finds out from the
// host how far do came, and may be called twice.
type kind struct {
	look func(Host, startup.Change) (state, error)
	do   func(context.Context, Host, *step) (*state, error) // the state after it, where undo needs it
	undo func(context.Context, Host, *Journal, *step) error
}

// kindOf returns the kind; check has refused those that there are not.
func kindOf(k startup.ChangeKind) kind {
	switch k {
	case startup.LoadModule:
		return kind{lookModule, doModule, undoModule}
	case startup.AddHugePages:
		return kind{lookPages, doPages, undoPages}
	case startup.SetSysctl:
		return kind{lookSysctl, doSysctl, undoSysctl}
	case startup.OverrideDriver:
		return kind{lookOverride, doOverride, undoOverride}
	case startup.Unbind:
		return kind{lookBound, doUnbind, undoUnbind}
	case startup.Probe:
		return kind{lookBound, doProbe, undoProbe}
	case startup.SaveLink:
		return kind{lookSave, doNothing, undoSave}
	case startup.ReleaseMember:
		return kind{lookLink, doRelease, undoRelease}
	case startup.LinkDown:
		return kind{lookLink, doLinkDown, undoNothing}
	case startup.RenameLink:
		return kind{lookLink, doRename, undoRename}
	case startup.FlushLink:
		return kind{lookLink, doFlush, undoNothing}
	case startup.HostTap:
		return kind{lookTap, doNothing, undoTap}
	case startup.XDPProgram:
		return kind{lookXDP, doNothing, undoXDP}
	}
	return kind{}
}

// state is what a step has to remember of the host. Each kind has its own fields.
type state struct {
	Modules []string  `json:"modules,omitempty"` // of LoadModule: before, those loaded of the ones it needs; after, those it loaded
	Pages   int       `json:"pages,omitempty"`   // of AddHugePages: persistent ones
	Value   string    `json:"value,omitempty"`   // of SetSysctl and OverrideDriver; of XDPProgram: where it is pinned
	Driver  string    `json:"driver,omitempty"`  // of Unbind and Probe; "" = none
	Module  string    `json:"module,omitempty"`  // of Unbind: the one Driver is in
	Links   []linkRef `json:"links,omitempty"`   // of Unbind: those on the device
	Link    *linkRef  `json:"link,omitempty"`    // of what is done to a link; of HostTap: one that had the name
	Master  string    `json:"master,omitempty"`  // of ReleaseMember
	Saved   *settings `json:"saved,omitempty"`   // of SaveLink
	Since   int64     `json:"since,omitempty"`   // of XDPProgram: seconds since boot at which the link had none
	Pins    bool      `json:"pins,omitempty"`    // of XDPProgram: libxdp's directory of pins was there
}

// linkRef is a link of a device as it was.
type linkRef struct {
	Name  string `json:"name"`
	Index int    `json:"index"`
	Port  int    `json:"port,omitempty"` // of a device with several (dev_port)
}

// await calls done until it is true or fails, at most for the host's patience. What it
// waits for goes into the error.
func (h Host) await(ctx context.Context, what string, done func() (bool, error)) error {
	patience := h.Patience
	if patience == 0 {
		patience = 30 * time.Second
	}
	for end := time.Now().Add(patience); ; {
		ok, err := done()
		if ok || err != nil {
			return err
		}
		if time.Now().After(end) {
			return fmt.Errorf("%s: not so after %s", what, patience)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s: %w", what, ctx.Err())
		case <-time.After(5 * time.Millisecond):
		}
	}
}

func (h Host) tell(format string, args ...any) {
	if h.Tell != nil {
		h.Tell(fmt.Sprintf(format, args...))
	}
}

// reached marks a point at which a crash is something else than at the one before.
func (h Host) reached(point string) {
	if h.hook != nil {
		h.hook(point)
	}
}
