package agent

import (
	"context"
	"errors"
	"fmt"

	"github.com/millrace/millrace/cluster"
	"github.com/millrace/millrace/dataplane"
	"github.com/millrace/millrace/vpp"
)

// outcome is what a round came to, for those who wait for it. It does not change once
// published.
type outcome struct {
	down        error  // why no round is through on the present connection; nil = one is
	revision    uint64 // of the attachments it served
	attachments map[cluster.AttachmentID]cluster.Attachment
	refused     map[cluster.AttachmentID]error // why an attachment is not, or not all, applied
	stuck       error                          // what could not be deleted
	node        error                          // what fails of the node's own
}

// add notes a failed step under whom it concerns.
func (o *outcome) add(step dataplane.Step, err error, id cluster.AttachmentID, owned bool) {
	switch {
	case owned:
		if o.refused[id] == nil {
			o.refused[id] = err
		}
	case step.Verb == dataplane.Delete:
		o.stuck = errors.Join(o.stuck, err)
	case o.node == nil:
		o.node = err
	}
}

// publish makes an outcome the latest one and wakes who waits.
func (a *Agent) publish(o outcome) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.last = o
	close(a.next)
	a.next = make(chan struct{})
}

func (a *Agent) latest() (outcome, <-chan struct{}) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.last, a.next
}

// Ready is nil while the loop has the machine and has gone through all facts at least
// once on this connection, with nothing of the node's own failing.
func (a *Agent) Ready() error {
	o, _ := a.latest()
	if o.down != nil {
		return o.down
	}
	return o.node
}

// WaitApplied returns nil when the machine does what the facts up to revision say: the
// attachment stored with that revision is applied whole; if there is none any more, what
// was removed is gone. It returns the error that keeps that attachment from being applied
// when trying again would not help by itself, though the loop goes on trying. A machine
// that is away is waited for. When ctx ends, its error comes with what was waited for.
func (a *Agent) WaitApplied(ctx context.Context, revision uint64) error {
	for {
		o, next := a.latest()
		verdict, pending := o.judge(revision)
		if pending == nil {
			return verdict
		}
		select {
		case <-next:
		case <-ctx.Done():
			return fmt.Errorf("wait for revision %d: %w: %w", revision, context.Cause(ctx), pending)
		}
	}
}

// errComing says that a round has yet to see a revision.
var errComing = errors.New("no round has come to it yet")

// judge returns the verdict on a revision, or why there is none yet.
func (o outcome) judge(revision uint64) (verdict, pending error) {
	if o.down != nil {
		return nil, o.down
	}
	if o.revision < revision {
		return nil, errComing
	}
	for id, a := range o.attachments {
		if a.Revision != revision {
			continue
		}
		err := o.refused[id]
		if passing(err) {
			return nil, err
		}
		return err, nil
	}
	return nil, o.stuck
}

// passing tells the errors that say nothing about the step itself.
func passing(err error) bool {
	return errors.Is(err, vpp.ErrDisconnected) || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled)
}
