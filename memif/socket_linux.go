package memif

import (
	"context"
	"errors"
	"net"
	"os"
	"sync"
)

// Socket is an address with the interfaces on it, which their IDs tell apart. All have the
// Socket's role.
type Socket struct {
	config   SocketConfig
	listener *net.UnixListener // a server's
	discards chan struct{}     // holds one for each discard under way

	mu         sync.Mutex // guards what follows
	interfaces map[uint32]*Interface
	run        context.Context // Run's, nil before
	ended      bool
	work       sync.WaitGroup
}

// NewSocket checks the address; a server listens when it returns. Run does the rest.
func NewSocket(c SocketConfig) (*Socket, error) {
	if err := c.complete(); err != nil {
		return nil, err
	}
	s := &Socket{config: c, discards: make(chan struct{}, maxDiscards), interfaces: map[uint32]*Interface{}}
	if c.Role == Server {
		var err error
		if s.listener, err = listen(c); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// Add makes an interface. It may be called while Run runs.
func (s *Socket) Add(c Config) (*Interface, error) {
	i, err := newInterface(s, c)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, exists := s.interfaces[c.ID]; exists || s.ended {
		err := errors.Join(badConfig("id %d is taken on %s", c.ID, s.config.Address), i.free())
		if s.ended {
			err = ErrClosed
		}
		return nil, err
	}
	s.interfaces[c.ID] = i
	if s.run != nil && s.config.Role == Client {
		s.work.Go(func() { s.connect(s.run, i) })
	}
	return i, nil
}

func (s *Socket) remove(i *Interface) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.interfaces[i.config.ID] != i {
		return false
	}
	delete(s.interfaces, i.config.ID)
	return true
}

func (s *Socket) find(id uint32) *Interface {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.interfaces[id]
}

// Run connects, or accepts, and keeps doing so until ctx ends. Then it ends all links, has
// the queues answer ErrClosed, and returns nil. A Socket runs once. An error means that the
// listening socket broke.
func (s *Socket) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s.mu.Lock()
	if s.run != nil || s.ended {
		s.mu.Unlock()
		return badConfig("a socket runs once")
	}
	s.run = ctx
	if s.config.Role == Client {
		for _, i := range s.interfaces {
			s.work.Go(func() { s.connect(ctx, i) })
		}
	}
	s.mu.Unlock()
	var err error
	if s.config.Role == Server {
		err = s.accept(ctx)
	} else {
		<-ctx.Done()
	}
	cancel()
	s.mu.Lock()
	s.ended = true
	s.mu.Unlock()
	s.work.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, i := range s.interfaces {
		i.finish()
	}
	return errors.Join(err, s.shut())
}

// Close ends a Socket that never ran; one that did is closed by the end of Run. Interfaces
// are closed by their own Close.
func (s *Socket) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.run != nil || s.ended {
		return nil
	}
	s.ended = true
	return s.shut()
}

// shut closes the listener and removes its file.
func (s *Socket) shut() error {
	if s.listener == nil {
		return nil
	}
	err := s.listener.Close()
	if errors.Is(err, net.ErrClosed) {
		err = nil
	}
	if s.config.Address[0] != '@' {
		if gone := os.Remove(s.config.Address); gone != nil && !errors.Is(gone, os.ErrNotExist) {
			err = errors.Join(err, gone)
		}
	}
	if err != nil {
		return fail(System, "close %s: %w", s.config.Address, err)
	}
	return nil
}
