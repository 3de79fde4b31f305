package program

import (
	"context"
	"errors"

	"github.com/millrace/millrace/dataplane"
)

// Host is the node's own kernel, beside the ends of interfaces that it has.
type Host interface {
	Observe(*dataplane.State)
	// Carry carries out steps about HostSettings and HostNATs: an error or nil for each.
	Carry([]dataplane.Step) []error
}

// UseHost has HostSettings and HostNATs observed and programmed there. Without it there are
// none, and no plan may have one.
func (p *Program) UseHost(h Host) { p.host = h }

func (p *Program) observeKernel(_ context.Context, s *dataplane.State) error {
	if p.host != nil {
		p.host.Observe(s)
	}
	return nil
}

var errNoHostKernel = errors.New("the node's kernel is not ours to change")

func (p *Program) tellKernel(_ context.Context, steps []dataplane.Step) []error {
	if p.host != nil {
		return p.host.Carry(steps)
	}
	errs := make([]error, len(steps))
	for i := range errs {
		errs[i] = errNoHostKernel
	}
	return errs
}
