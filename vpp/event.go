package vpp

import (
	"fmt"
	"slices"
	"sync"

	"go.fd.io/govpp/api"
)

// backlog is how many events a subscription holds for a reader that is busy.
const backlog = 4096

// Subscription receives the events of one message type.
type Subscription[T any, P message[T]] struct {
	conn   *Conn
	id     uint16
	events chan *T

	// mu guards err; the reader sets it before it closes events.
	mu  sync.Mutex
	err error
}

// Subscribe starts to collect events of type T. The peer sends them once it is asked to,
// so subscribe first, then call its want message, then dump the state:
//
//	sub, err := vpp.Subscribe[interfaces.SwInterfaceEvent](conn)
//	_, err = vpp.Call[interfaces.WantInterfaceEventsReply](ctx, conn,
//		&interfaces.WantInterfaceEvents{EnableDisable: 1, PID: uint32(os.Getpid())})
//
// A second want message of one client is refused (-31) by VPP.
func Subscribe[T any, P message[T]](conn *Conn) (*Subscription[T, P], error) {
	msg := P(new(T))
	if msg.GetMessageType() != api.EventMessage {
		return nil, fmt.Errorf("subscribe to %s: it is no event", msg.GetMessageName())
	}
	id, err := conn.id(msg)
	if err != nil {
		return nil, fmt.Errorf("subscribe to %w", err)
	}
	s := &Subscription[T, P]{conn: conn, id: id, events: make(chan *T, backlog)}
	conn.mu.Lock()
	defer conn.mu.Unlock()
	if conn.err != nil {
		return nil, fmt.Errorf("subscribe to %s: %w", msg.GetMessageName(), conn.gone())
	}
	conn.events[id] = append(conn.events[id], s)
	return s, nil
}

// Events is closed when the connection ends, the reader fell behind, or by Close.
func (s *Subscription[T, P]) Events() <-chan *T { return s.events }

// Err tells after the close of Events why it was closed: ErrDisconnected, ErrEventsLost,
// a message that could not be decoded, or ErrClosed after Close.
func (s *Subscription[T, P]) Err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// Close stops the delivery; it does not tell the peer.
func (s *Subscription[T, P]) Close() {
	s.conn.mu.Lock()
	defer s.conn.mu.Unlock()
	sinks := s.conn.events[s.id]
	if i := slices.Index(sinks, sink(s)); i >= 0 {
		s.conn.events[s.id] = slices.Delete(slices.Clone(sinks), i, i+1)
		s.end(ErrClosed)
	}
}

func (s *Subscription[T, P]) deliver(frame []byte) (more bool) {
	event := new(T)
	if err := decode(frame, P(event)); err != nil {
		s.end(err)
		return false
	}
	select {
	case s.events <- event:
		return true
	default:
		s.end(ErrEventsLost)
		return false
	}
}

func (s *Subscription[T, P]) end(err error) {
	s.mu.Lock()
	s.err = err
	s.mu.Unlock()
	close(s.events)
}

// publish hands an event to its subscriptions and drops those that ended; mu is held.
func (c *Conn) publish(id uint16, sinks []sink, frame []byte) {
	keep := sinks[:0]
	for _, s := range sinks {
		if s.deliver(frame) {
			keep = append(keep, s)
		}
	}
	c.events[id] = keep
}
