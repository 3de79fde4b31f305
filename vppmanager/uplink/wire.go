package uplink

import (
	"context"
	"errors"
	"fmt"

	"github.com/millrace/millrace/agent/program"
	"github.com/millrace/millrace/dataplane"
	"github.com/millrace/millrace/vpp"
	"github.com/millrace/millrace/vppmanager/startup"
)

// owner marks the kernel's ends of host links; it is no node's name.
const owner = "millrace-node:uplinks"

// Wire makes the dataplane have what State says, from whatever it has: after each of its
// starts, and again when an attempt failed halfway or the uplinks' addresses have changed.
// What fails keeps nothing else from being done; the error names each object that is
// missing. The kernel's links of the uplinks are set up, and keep off IPv6. The host's links
// are not dressed: Dress comes after the host's own settings, each time.
func Wire(ctx context.Context, conn *vpp.Conn, uplinks []startup.Uplink) error {
	failed := errors.Join(readyLinks(uplinks)...)
	p, err := program.New(ctx, conn, program.Node(owner))
	if err != nil {
		return errors.Join(failed, fmt.Errorf("wire uplinks: %w", err))
	}
	have, err := p.Observe(ctx)
	if err != nil {
		return errors.Join(failed, fmt.Errorf("wire uplinks: %w", err))
	}
	tap, err := p.CanTap(ctx)
	if err != nil {
		return errors.Join(failed, fmt.Errorf("wire uplinks: %w", err))
	}
	want, err := State(uplinks, Options{Tap: tap})
	if err != nil {
		return errors.Join(failed, err)
	}
	errs := []error{failed}
	blocked := 0
	p.Apply(ctx, dataplane.Diff(have, want), nil, func(_ dataplane.Step, err error) {
		switch {
		case errors.Is(err, program.ErrBlocked):
			blocked++
		case err != nil:
			errs = append(errs, fmt.Errorf("wire uplinks: %w", err))
		}
	})
	if blocked > 0 {
		errs = append(errs, fmt.Errorf("wire uplinks: %d more objects wait for those", blocked))
	}
	if err := p.Sweep(ctx, want); err != nil {
		errs = append(errs, fmt.Errorf("wire uplinks: %w", err))
	}
	return errors.Join(errs...)
}
