package memif

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"

	"github.com/millrace/millrace/engine/packet"
	"github.com/millrace/millrace/memif"
)

// Socket is an address on which ports are opened, all with one role. A server listens
// from its first port on until the last is closed.
type Socket struct {
	config memif.SocketConfig

	mu     sync.Mutex // guards what follows
	server *running   // nil while no port is open
	ports  int
}

// NewSocket checks nothing yet: errors come from Open.
func NewSocket(c memif.SocketConfig) *Socket { return &Socket{config: c} }

// Open makes a port. Its server listens when Open returns; its client connects once it is
// set up (SetAdminUp). The error is a *memif.Error: of kind System when the address cannot
// be listened on, BadConfig when a field is wrong or the id is taken.
func (s *Socket) Open(c Config) (*Port, error) {
	p := &Port{mac: slices.Clone(c.HardwareAddr), socket: s}
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.server
	if r == nil {
		var err error
		if r, err = s.begin(); err != nil {
			return nil, err
		}
	}
	if err := p.build(r.socket, c); err != nil {
		if r != s.server {
			err = errors.Join(err, r.socket.Close())
		}
		return nil, err
	}
	s.ports++
	if s.config.Role == memif.Client {
		p.own = r
		return p, nil
	}
	s.server = r
	r.start()
	return p, nil
}

// begin makes a socket of the library that does not run yet.
func (s *Socket) begin() (*running, error) {
	inner, err := memif.NewSocket(s.config)
	if err != nil {
		return nil, err
	}
	if s.config.Role == memif.Server && s.config.Address[0] != '@' {
		if err := letGroupIn(s.config.Address); err != nil {
			return nil, errors.Join(err, inner.Close())
		}
	}
	return newRunning(inner), nil
}

// letGroupIn lets processes of our group connect, as VPP does.
func letGroupIn(path string) error {
	info, err := os.Stat(path)
	if err == nil {
		err = os.Chmod(path, info.Mode().Perm()|0o020)
	}
	if err != nil {
		return &memif.Error{Kind: memif.System, Err: fmt.Errorf("let group into socket: %w", err)}
	}
	return nil
}

// build adds the interface. From here on the connection may report to p.
func (p *Port) build(inner *memif.Socket, c Config) error {
	i, err := inner.Add(memif.Config{
		ID: c.ID, Mode: c.Mode, Name: c.Name[:min(len(c.Name), memif.MaxName)], Secret: c.Secret,
		RxQueues: c.RxQueues, TxQueues: c.TxQueues, RingSize: c.RingSize, BufferSize: c.BufferSize,
		MaxFrame: packet.MaxPacket, RxMode: memif.Interrupt, OnChange: p.changed,
	})
	if err != nil {
		return err
	}
	p.inner = i
	p.rx, p.tx = make([]rxQueue, i.Config().RxQueues), make([]txQueue, i.Config().TxQueues)
	for n := range p.rx {
		p.rx[n].inner, p.rx[n].want = i.RxQueue(n), firstWant
	}
	for n := range p.tx {
		p.tx[n].inner = i.TxQueue(n)
	}
	return nil
}

// close ends p, and what runs for it alone.
func (s *Socket) close(p *Port) error {
	err := p.inner.Close()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ports--
	if p.own != nil {
		return errors.Join(err, p.own.end())
	}
	if s.ports > 0 {
		return err
	}
	r := s.server
	s.server = nil
	return errors.Join(err, r.end())
}

// running is a socket of the library with the goroutine that runs it.
type running struct {
	socket *memif.Socket
	cancel context.CancelFunc
	ctx    context.Context
	done   chan error // Run's error; nil before start

	mu sync.Mutex // guards done
}

func newRunning(socket *memif.Socket) *running {
	r := &running{socket: socket}
	r.ctx, r.cancel = context.WithCancel(context.Background())
	return r
}

// start runs the socket unless it runs already.
func (r *running) start() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.done != nil {
		return
	}
	done := make(chan error, 1)
	r.done = done
	go func() { done <- r.socket.Run(r.ctx) }()
}

// end stops the socket, waits for it, and returns its error.
func (r *running) end() error {
	r.cancel()
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.done == nil {
		return r.socket.Close()
	}
	return <-r.done
}
