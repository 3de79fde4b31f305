package vpp

import (
	"context"
	"fmt"
	"slices"
	"time"

	"go.fd.io/govpp/api"
	"go.fd.io/govpp/binapi/memclnt"
	"go.fd.io/govpp/binapi/vlib"
	"go.fd.io/govpp/codec"
)

// message is a pointer to a generated binapi struct T.
type message[T any] interface {
	*T
	api.Message
}

// Call sends req and returns its reply:
//
//	reply, err := vpp.Call[interfaces.CreateLoopbackReply](ctx, conn, &interfaces.CreateLoopback{})
//
// A return value other than 0 is an [*Error]; the reply then comes with it, since some
// carry more (af_packet_create_v3: the index of the interface that exists).
func Call[T any, P message[T]](ctx context.Context, conn *Conn, req api.Message) (*T, error) {
	reply := new(T)
	return reply, conn.Invoke(ctx, req, P(reply))
}

// Invoke sends req and decodes its answer into reply, like Call, for a reply whose type
// is not known at compile time.
func (c *Conn) Invoke(ctx context.Context, req, reply api.Message) error {
	w, err := c.await(reply)
	if err != nil {
		return failed(req, err)
	}
	defer c.forget(w)
	if err := c.send(ctx, w, req); err != nil {
		return failed(req, err)
	}
	return c.receive(ctx, w, req, reply)
}

// receive takes the next message of w as the reply to req.
func (c *Conn) receive(ctx context.Context, w *waiter, req, reply api.Message) error {
	frame, err := c.wait(ctx, w)
	if err != nil {
		return failed(req, err)
	}
	if err := decode(frame, reply); err != nil {
		return failed(req, err)
	}
	return checkRetval(req, c.retval(reply))
}

// Ping asks the peer for a sign of life through its API queue.
func (c *Conn) Ping(ctx context.Context) error {
	return c.Invoke(ctx, &memclnt.ControlPing{}, &memclnt.ControlPingReply{})
}

// CLI runs one debug CLI command and returns what it printed, also beside an error. VPP
// stops its workers meanwhile: no large show command in a loop.
func (c *Conn) CLI(ctx context.Context, command string) (string, error) {
	reply, err := Call[vlib.CliInbandReply](ctx, c, &vlib.CliInband{Cmd: command})
	return reply.Reply, err
}

// waiter is where the reader leaves the messages of one context. Its frames are guarded
// by Conn.mu.
type waiter struct {
	context uint32
	ids     []uint16
	frames  [][]byte
	signal  chan struct{}
}

func (w *waiter) takes(id uint16) bool { return slices.Contains(w.ids, id) }

// await prepares for the given messages before anything is sent.
func (c *Conn) await(msgs ...api.Message) (*waiter, error) {
	w := &waiter{signal: make(chan struct{}, 1)}
	for _, msg := range msgs {
		id, err := c.id(msg)
		if err != nil {
			return nil, err
		}
		w.ids = append(w.ids, id)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return nil, c.gone()
	}
	for i, msg := range msgs {
		if msg.GetMessageType() == api.RequestMessage {
			c.wide[w.ids[i]] = true
		}
	}
	for {
		c.next++
		if _, taken := c.pending[c.next]; !taken && c.next != 0 {
			break
		}
	}
	w.context = c.next
	c.pending[w.context] = w
	return w, nil
}

// forget makes what still comes for w stray.
func (c *Conn) forget(w *waiter) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.pending, w.context)
}

// send writes requests under w's context.
func (c *Conn) send(ctx context.Context, w *waiter, reqs ...api.Message) error {
	if err := c.lockWriter(ctx); err != nil {
		return err
	}
	defer c.unlockWriter()
	for _, req := range reqs {
		if err := c.queue(w, req); err != nil {
			return err
		}
	}
	return c.flush(ctx)
}

func (c *Conn) lockWriter(ctx context.Context) error {
	timer := time.NewTimer(c.cfg.Timeout)
	defer timer.Stop()
	select {
	case c.writing <- struct{}{}:
		c.out = c.out[:0]
		return nil
	case <-c.done:
		return c.goneNow()
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-timer.C:
		return silence(c.cfg.Timeout)
	}
}

func (c *Conn) unlockWriter() { <-c.writing }

// queue adds a request to what flush will write; the caller holds the writer.
func (c *Conn) queue(w *waiter, req api.Message) error {
	id, err := c.id(req)
	if err != nil {
		return err
	}
	c.out, err = appendFrame(c.out, req, id, c.client, w.context)
	return err
}

// flush writes the queue. A peer that does not read fills the socket: then the deadline
// strikes, and a half-written frame ends the connection.
func (c *Conn) flush(ctx context.Context) error {
	if len(c.out) == 0 {
		return nil
	}
	deadline, ok := ctx.Deadline()
	if !ok {
		deadline = time.Now().Add(c.cfg.Timeout)
	}
	if err := ctx.Err(); err != nil {
		return context.Cause(ctx)
	}
	if err := c.sock.SetWriteDeadline(deadline); err != nil {
		c.end(fmt.Errorf("%w: %w", ErrDisconnected, err))
		return c.goneNow()
	}
	n, err := c.sock.Write(c.out)
	c.out = c.out[:0]
	if err == nil {
		return nil
	}
	if timeout, ok := err.(interface{ Timeout() bool }); ok && timeout.Timeout() && n == 0 {
		return fmt.Errorf("the dataplane reads no requests: %w", context.DeadlineExceeded)
	}
	c.end(fmt.Errorf("%w: %w", ErrDisconnected, err))
	return c.goneNow()
}

// wait returns w's next message. What came before the end of the connection is handed
// out before its error.
func (c *Conn) wait(ctx context.Context, w *waiter) ([]byte, error) {
	var silent <-chan time.Time
	if _, ok := ctx.Deadline(); !ok {
		timer := time.NewTimer(c.cfg.Timeout)
		defer timer.Stop()
		silent = timer.C
	}
	for {
		if frame := c.take(w); frame != nil {
			return frame, nil
		}
		select {
		case <-w.signal:
			continue
		case <-c.done:
			if frame := c.take(w); frame != nil {
				return frame, nil
			}
			return nil, c.goneNow()
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-silent:
			return nil, silence(c.cfg.Timeout)
		}
	}
}

func (c *Conn) take(w *waiter) []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(w.frames) == 0 {
		return nil
	}
	frame := w.frames[0]
	w.frames[0] = nil
	w.frames = w.frames[1:]
	return frame
}

// decode reads a message; one shorter than its fields is an error, not a panic.
func decode(frame []byte, msg api.Message) error {
	if len(frame) < shortest && msg.GetMessageType() == api.RequestMessage || len(frame) < wideContext {
		return fmt.Errorf("decode %s: only %d bytes came", msg.GetMessageName(), len(frame))
	}
	if err := codec.DecodeMsg(frame, msg); err != nil {
		return fmt.Errorf("decode %s of %d bytes: %w", msg.GetMessageName(), len(frame), err)
	}
	return nil
}
