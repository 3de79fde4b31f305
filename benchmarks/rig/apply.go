package rig

import (
	"context"
	"fmt"
	"time"

	"github.com/millrace/millrace/agent/program"
	"github.com/millrace/millrace/dataplane"
)

// Applied is what it took to bring a router's dataplane to a state.
type Applied struct {
	Messages int // steps of the plan, each an API message and its answer
	Took     time.Duration
	// Before and After are the process's resident memory in bytes.
	Before, After int64
}

// Apply brings the dataplane to a state as the agent does: it observes, plans the
// difference and applies it. Only the last counts. The router runs.
func (r *Router) Apply(ctx context.Context, want dataplane.State) (a Applied, err error) {
	p, err := program.New(ctx, r.conn, program.Agent("bench"))
	if err != nil {
		return a, err
	}
	have, err := p.Observe(ctx)
	if err != nil {
		return a, err
	}
	plan := dataplane.Diff(have, want)
	if a.Before, err = residentBytes(r.process.PID()); err != nil {
		return a, err
	}
	var failed error
	begin := time.Now()
	p.Apply(ctx, plan, nil, func(s dataplane.Step, err error) {
		a.Messages++
		if err != nil && failed == nil {
			failed = err
		}
	})
	err = r.conn.Ping(ctx) // the last message's work ends before the answer to the next
	a.Took = time.Since(begin)
	if failed != nil {
		return a, fmt.Errorf("apply to %s: %w%s", r.About.Name, failed, r.ended())
	}
	if err != nil {
		return a, err
	}
	a.After, err = residentBytes(r.process.PID())
	return a, err
}
