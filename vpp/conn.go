package vpp

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.fd.io/govpp/api"
	"go.fd.io/govpp/binapi/memclnt"
	"go.fd.io/govpp/codec"
)

// Conn is one connection to one life of the dataplane. Once it has ended it stays ended:
// a new one starts over with a new state. All methods are safe for concurrent use.
//
// One goroutine reads the socket; it hands each message to the call that waits for its
// context, and never waits for a caller.
type Conn struct {
	cfg        Config
	generation uint64
	sock       net.Conn
	client     uint32            // client_index given by the peer
	table      map[string]uint16 // name_crc to id; not changed after the handshake
	pingReply  uint16

	// writing is the right to write to sock: a channel of one, so that waiting for it
	// obeys a context. Its holder may use out.
	writing chan struct{}
	out     []byte

	// mu guards what the reader and the callers share.
	mu      sync.Mutex
	pending map[uint32]*waiter // by context
	next    uint32             // the last context given out
	wide    map[uint16]bool    // ids of awaited messages with the context at wideContext
	events  map[uint16][]sink
	err     error // why it ended

	fields sync.Map // reflect.Type to the field indexes a call needs, see field.go
	stray  atomic.Uint64
	done   chan struct{}
	wg     sync.WaitGroup
}

// sink is one subscription; both methods are called with Conn.mu held.
type sink interface {
	deliver(frame []byte) (more bool)
	end(err error)
}

// Dial connects and learns the peer's message table, or fails by ctx or Config.Timeout.
func Dial(ctx context.Context, cfg Config) (*Conn, error) { return dial(ctx, cfg, 1) }

func dial(ctx context.Context, cfg Config, generation uint64) (*Conn, error) {
	cfg = cfg.withDefaults()
	if len(cfg.Name) > 63 {
		return nil, fmt.Errorf("dial %s: client name %q is longer than 63 bytes", cfg.Socket, cfg.Name)
	}
	ctx, cancel := context.WithTimeout(ctx, cfg.Timeout)
	defer cancel()
	var dialer net.Dialer
	sock, err := dialer.DialContext(ctx, "unix", cfg.Socket)
	if err != nil {
		return nil, err // it says "dial unix <path>: ..." itself
	}
	c := &Conn{
		cfg: cfg, generation: generation, sock: sock,
		writing: make(chan struct{}, 1),
		pending: map[uint32]*waiter{}, wide: map[uint16]bool{}, events: map[uint16][]sink{},
		done: make(chan struct{}),
	}
	reader := bufio.NewReaderSize(sock, 64<<10)
	stop := context.AfterFunc(ctx, func() { sock.SetDeadline(time.Unix(1, 0)) })
	err = c.handshake(reader)
	if !stop() && err == nil {
		err = ctx.Err()
	}
	if err != nil {
		if ctx.Err() != nil {
			err = fmt.Errorf("%w (%v)", ctx.Err(), err)
		}
		return nil, errors.Join(fmt.Errorf("handshake with %s: %w", cfg.Socket, err), sock.Close())
	}
	c.wg.Go(func() { c.read(reader) })
	if cfg.Keepalive > 0 {
		c.wg.Go(c.keepalive)
	}
	return c, nil
}

func (c *Conn) handshake(r *bufio.Reader) error {
	out, err := appendFrame(nil, &memclnt.SockclntCreate{Name: c.cfg.Name}, idSockclntCreate, 0, 1)
	if err != nil {
		return err
	}
	if _, err := c.sock.Write(out); err != nil {
		return err
	}
	frame, err := readFrame(r)
	if err != nil {
		return err
	}
	if id := frameID(frame); id != idSockclntCreateReply {
		return fmt.Errorf("message %d came instead of sockclnt_create_reply (%d): is this VPP's API socket?", id, idSockclntCreateReply)
	}
	var reply memclnt.SockclntCreateReply
	if err := codec.DecodeMsg(frame, &reply); err != nil {
		return fmt.Errorf("decode sockclnt_create_reply: %w", err)
	}
	if reply.Response != 0 {
		return fmt.Errorf("sockclnt_create: response %d", reply.Response)
	}
	c.client = reply.Index
	c.table = make(map[string]uint16, len(reply.MessageTable))
	for _, entry := range reply.MessageTable {
		name, _, _ := strings.Cut(entry.Name, "\x00")
		c.table[strings.TrimSuffix(name, "\x13")] = entry.Index
	}
	if c.pingReply, err = c.id(&memclnt.ControlPingReply{}); err != nil {
		return fmt.Errorf("control_ping_reply: %w", err)
	}
	return nil
}

// Generation is 1 for a connection made by Dial, and counts up in Connections.
func (c *Conn) Generation() uint64 { return c.generation }

// Done is closed when the connection has ended, by the peer, by an error or by Close.
func (c *Conn) Done() <-chan struct{} { return c.done }

// Err is nil while the connection lives, then the reason of its end: ErrClosed,
// ErrSilent, or ErrDisconnected with what the socket said.
func (c *Conn) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// Stray counts messages nobody waited for: late replies of calls that timed out, and
// events without a subscription.
func (c *Conn) Stray() uint64 { return c.stray.Load() }

// Close ends the connection and waits for its reader. Calls in flight fail at once.
func (c *Conn) Close() {
	c.end(ErrClosed)
	c.wg.Wait()
}

// end closes the connection for the given reason, unless it has ended before.
func (c *Conn) end(reason error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return
	}
	c.err = reason
	c.sock.Close() // an error would change nothing: it is abandoned either way
	close(c.done)
	for _, sinks := range c.events {
		for _, s := range sinks {
			s.end(c.gone())
		}
	}
	clear(c.events)
}

// gone is the error of a call on an ended connection; mu is held.
func (c *Conn) gone() error {
	if errors.Is(c.err, ErrDisconnected) {
		return c.err
	}
	return fmt.Errorf("%w: %w", ErrDisconnected, c.err)
}

func (c *Conn) goneNow() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.gone()
}

func (c *Conn) read(r *bufio.Reader) {
	for {
		frame, err := readFrame(r)
		if err != nil {
			c.end(fmt.Errorf("%w: %w", ErrDisconnected, err))
			return
		}
		c.dispatch(frame)
	}
}

func (c *Conn) dispatch(frame []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	id := frameID(frame)
	if sinks := c.events[id]; len(sinks) > 0 {
		c.publish(id, sinks, frame)
		return
	}
	at := replyContext
	if c.wide[id] {
		at = wideContext
	}
	if len(frame) < at+4 {
		c.stray.Add(1)
		return
	}
	w := c.pending[binary.BigEndian.Uint32(frame[at:])]
	// An event nobody subscribed to has a client index where a reply has its context.
	if w == nil || !w.takes(id) {
		c.stray.Add(1)
		return
	}
	w.frames = append(w.frames, frame)
	select {
	case w.signal <- struct{}{}:
	default: // it has been told already
	}
}

func (c *Conn) keepalive() {
	tick := time.NewTicker(c.cfg.Keepalive)
	defer tick.Stop()
	for {
		select {
		case <-c.done:
			return
		case <-tick.C:
		}
		ctx, cancel := context.WithTimeout(context.Background(), c.cfg.Keepalive)
		err := c.Ping(ctx)
		cancel()
		if errors.Is(err, context.DeadlineExceeded) {
			c.end(fmt.Errorf("%w for %v", ErrSilent, c.cfg.Keepalive))
			return
		}
	}
}

// id finds a message in the peer's table.
func (c *Conn) id(msg api.Message) (uint16, error) {
	id, ok := c.table[tableName(msg)]
	if !ok {
		return 0, fmt.Errorf("%s: %w", tableName(msg), ErrUnsupported)
	}
	return id, nil
}

func tableName(msg api.Message) string { return msg.GetMessageName() + "_" + msg.GetCrcString() }
