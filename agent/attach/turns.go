package attach

import (
	"context"
	"fmt"
	"sync"
)

// turns lets one verb at a time work on a container.
type turns struct {
	mu   sync.Mutex
	busy map[string]chan struct{} // closed when the verb at work is done
}

// take waits for the container's turn. The caller ends its turn with the returned function.
func (t *turns) take(ctx context.Context, container string) (done func(), err error) {
	for {
		ahead := t.begin(container)
		if ahead == nil {
			return func() { t.end(container) }, nil
		}
		select {
		case <-ahead:
		case <-ctx.Done():
			return nil, fmt.Errorf("wait for another verb on container %s: %w", container, ctx.Err())
		}
	}
}

// tryTake takes the turn only when nobody has it.
func (t *turns) tryTake(container string) (done func(), ok bool) {
	if t.begin(container) != nil {
		return nil, false
	}
	return func() { t.end(container) }, true
}

// begin takes the turn and returns nil, or returns what is closed when it may be free.
func (t *turns) begin(container string) chan struct{} {
	t.mu.Lock()
	defer t.mu.Unlock()
	if ahead, ok := t.busy[container]; ok {
		return ahead
	}
	if t.busy == nil {
		t.busy = map[string]chan struct{}{}
	}
	t.busy[container] = make(chan struct{})
	return nil
}

func (t *turns) end(container string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	close(t.busy[container])
	delete(t.busy, container)
}
