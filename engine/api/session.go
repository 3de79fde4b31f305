package api

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"sync"
	"syscall"

	"go.fd.io/govpp/codec"
)

// outBuffer is what is written at once at most.
const outBuffer = 64 << 10

// maxEvents bounds what waits for a client that does not read. Beyond it the client is
// cut off: it reconnects and dumps anew, where a lost event would go unnoticed.
const maxEvents = 1 << 16

// session is one client's connection. Its requests are served in order, each to its
// end, by one goroutine; events come from a second one.
type session struct {
	server *Server
	ctx    context.Context
	conn   net.Conn
	in     *frameReader
	name   string // as the client calls itself
	index  uint32 // its client_index; 0 before the handshake

	mu       sync.Mutex // guards out and writeErr
	out      *bufio.Writer
	writeErr error

	eventsMu sync.Mutex // guards the fields below
	events   []event
	wake     chan struct{}
	ifEvents *uint32 // pid of want_interface_events; nil = not wanted
	nbEvents []neighborWatch
}

// event is one message on its way to a client.
type event struct {
	entry *entry
	msg   wireMessage
}

func newSession(ctx context.Context, s *Server, conn net.Conn) *session {
	return &session{
		server: s, ctx: ctx, conn: conn, in: newFrameReader(conn),
		out: bufio.NewWriterSize(conn, outBuffer), wake: make(chan struct{}, 1),
	}
}

// run serves the client until it leaves, breaks the framing or ctx ends.
func (c *session) run() error {
	ctx, cancel := context.WithCancel(c.ctx)
	stop := context.AfterFunc(ctx, func() { c.conn.Close() })
	defer stop()
	var sender sync.WaitGroup
	sender.Go(func() { c.sendEvents(ctx) })
	defer sender.Wait()
	defer cancel()
	for {
		msg, err := c.in.next()
		if err != nil {
			return left(err)
		}
		if done := c.dispatch(msg); done {
			return c.flush()
		}
		if c.in.ready() {
			continue
		}
		if err := c.flush(); err != nil {
			return err
		}
	}
}

// dispatch serves one message. VPP leaves a message that it does not know, or that is
// too short, without an answer; so do we. It reports whether the client took its leave.
func (c *session) dispatch(msg []byte) (done bool) {
	if len(msg) < 2 {
		return false
	}
	e := c.server.table.find(binary.BigEndian.Uint16(msg))
	offset := 0
	if e != nil {
		offset = fieldsOffset(e.kind)
	}
	if e == nil || e.serve == nil || len(msg) < offset || (c.index == 0 && e.id != idSockclntCreate) {
		c.server.log.Debug("api message ignored", "id", binary.BigEndian.Uint16(msg), "bytes", len(msg), "client", c.name)
		return false
	}
	e.serve(c, msg[offset:], messageContext(e.kind, msg))
	return e == c.server.leave
}

// send queues a message; flush, or a full buffer, writes it. A client that is gone is
// noticed at the next read.
func (c *session) send(e *entry, m codec.Marshaler, context uint32, retval int32) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.writeErr != nil {
		return
	}
	offset := fieldsOffset(e.kind)
	length := offset + m.Size()
	frame := c.out.AvailableBuffer()
	if cap(frame) < frameHeader+length {
		if c.out.Buffered() > 0 {
			c.writeErr = c.out.Flush()
		}
		if frame = c.out.AvailableBuffer(); cap(frame) < frameHeader+length {
			frame = make([]byte, frameHeader+length)
		}
	}
	frame = frame[:frameHeader+length]
	clear(frame)
	binary.BigEndian.PutUint32(frame[8:], uint32(length))
	msg := frame[frameHeader:]
	putHeader(e.kind, msg, e.id, context, c.index)
	if _, err := m.Marshal(msg[offset:]); err != nil {
		c.server.log.Error("encode api message", "message", e.name, "err", err)
		return
	}
	if retval != 0 {
		e.putRetval(msg, retval)
	}
	if _, err := c.out.Write(frame); err != nil {
		c.writeErr = err
	}
}

func (c *session) flush() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.writeErr == nil {
		c.writeErr = c.out.Flush()
	}
	return left(c.writeErr)
}

// left returns nil for the ways in which a client, or the server's end, may close a
// connection between two frames.
func left(err error) error {
	if err == io.EOF || errors.Is(err, net.ErrClosed) || errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNRESET) {
		return nil
	}
	return err
}

// enqueue hands an event to the sender. It never blocks. Hold eventsMu.
func (c *session) enqueue(e *entry, m wireMessage) {
	if len(c.events) >= maxEvents {
		c.conn.Close()
		return
	}
	c.events = append(c.events, event{e, m})
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// sendEvents writes what enqueue collects.
func (c *session) sendEvents(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-c.wake:
		}
		c.eventsMu.Lock()
		events := c.events
		c.events = nil
		c.eventsMu.Unlock()
		for _, e := range events {
			c.send(e.entry, e.msg, 0, 0)
		}
		if c.flush() != nil {
			return // the reader ends the session
		}
	}
}
