// Package pipe joins two ports in memory: what one transmits the other receives.
//
// It owns the packets on their way, in memory outside the Go heap. It is for tests and
// benchmarks, where it stands for a cable; it never drops what it took, and never
// changes a packet.
package pipe

import (
	"errors"
	"fmt"
	"io"
	"net"
	"sync/atomic"

	"github.com/millrace/millrace/engine/packet"
	"github.com/millrace/millrace/engine/port"
	"golang.org/x/sys/unix"
)

// Config is the kind of cable.
type Config struct {
	Link         port.Link
	Queues       int // each way; 0 = 1. Transmit queue q feeds the peer's receive queue q
	Depth        int // packets on their way per queue; 0 = 512
	Capabilities port.Capabilities
}

// Port is one end. It satisfies port.Port.
type Port struct {
	config Config
	mac    net.HardwareAddr
	rx, tx []*queue
	cable  *cable
	closed atomic.Bool
}

var _ port.Port = (*Port)(nil)

// cable is what both ends share.
type cable struct {
	queues []*queue
	ends   atomic.Int32 // still open
	cut    atomic.Bool
}

// New makes a cable and returns its ends. Their Ethernet addresses are 02:00:00:00:00:0a
// and :0b.
func New(c Config) (a, b *Port, err error) {
	if c.Queues < 0 || c.Depth < 0 {
		return nil, nil, fmt.Errorf("make pipe: %d queues of %d packets; want no negative numbers", c.Queues, c.Depth)
	}
	if c.Queues == 0 {
		c.Queues = 1
	}
	if c.Depth == 0 {
		c.Depth = 512
	}
	shared := &cable{}
	shared.ends.Store(2)
	a, b = &Port{config: c, cable: shared}, &Port{config: c, cable: shared}
	if c.Link == port.Ethernet {
		a.mac, b.mac = net.HardwareAddr{2, 0, 0, 0, 0, 0x0a}, net.HardwareAddr{2, 0, 0, 0, 0, 0x0b}
	}
	for range c.Queues {
		for _, ends := range [][2]*Port{{a, b}, {b, a}} {
			q, err := newQueue(c.Depth)
			if err != nil {
				return nil, nil, errors.Join(fmt.Errorf("make pipe: %w", err), shared.free())
			}
			shared.queues = append(shared.queues, q)
			ends[0].tx = append(ends[0].tx, q)
			ends[1].rx = append(ends[1].rx, q)
		}
	}
	return a, b, nil
}

func (p *Port) Link() port.Link                 { return p.config.Link }
func (p *Port) HardwareAddr() net.HardwareAddr  { return p.mac }
func (p *Port) Capabilities() port.Capabilities { return p.config.Capabilities }
func (p *Port) RxQueues() int                   { return len(p.rx) }
func (p *Port) TxQueues() int                   { return len(p.tx) }
func (p *Port) RxFD(q int) int                  { return p.rx[q].event }

// Receive copies packets out of queue q. The error, when an end was closed, is
// io.ErrClosedPipe.
func (p *Port) Receive(q int, bufs []*packet.Buffer) (int, error) {
	if p.cable.cut.Load() {
		return 0, io.ErrClosedPipe
	}
	return p.rx[q].receive(bufs)
}

// Transmit copies packets into queue q of the peer, as many as it has room for.
func (p *Port) Transmit(q int, bufs []*packet.Buffer) (int, error) {
	if p.cable.cut.Load() {
		return 0, io.ErrClosedPipe
	}
	return p.tx[q].transmit(bufs)
}

// Close cuts the cable for both ends. Its memory goes with the second end.
func (p *Port) Close() error {
	if p.closed.Swap(true) {
		return nil
	}
	p.cable.cut.Store(true)
	if p.cable.ends.Add(-1) > 0 {
		return nil
	}
	return p.cable.free()
}

func (c *cable) free() error {
	var errs []error
	for _, q := range c.queues {
		errs = append(errs, unix.Close(q.event), q.arena.Close())
	}
	return errors.Join(errs...)
}

// queue is one direction: a ring of packets with one writer and one reader.
//
//	slots: | . | . | p | p | p | . |
//	               ^ head      ^ tail
type queue struct {
	arena *packet.Arena
	slots []*packet.Buffer
	event int // eventfd, readable while there may be packets

	_    [64]byte
	head atomic.Uint64 // next to read; written by the reader
	_    [56]byte
	tail atomic.Uint64 // next to write; written by the writer
	_    [56]byte
	// armed asks for a signal. Whoever disarms it, the writer or the reader itself, owes
	// one write to event; only the reader that read it arms again.
	armed atomic.Bool
	one   [8]byte // what is written
	count [8]byte // what is read
}

func newQueue(depth int) (*queue, error) {
	arena, err := packet.NewArena(depth)
	if err != nil {
		return nil, err
	}
	event, err := unix.Eventfd(0, unix.EFD_NONBLOCK|unix.EFD_CLOEXEC)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("make eventfd: %w", err), arena.Close())
	}
	q := &queue{arena: arena, slots: make([]*packet.Buffer, depth), event: event, one: [8]byte{1}}
	arena.TakeBatch(q.slots)
	q.armed.Store(true)
	return q, nil
}

func (q *queue) transmit(bufs []*packet.Buffer) (int, error) {
	tail := q.tail.Load()
	n := min(len(bufs), len(q.slots)-int(tail-q.head.Load()))
	for i, b := range bufs[:n] {
		if !q.slots[(tail+uint64(i))%uint64(len(q.slots))].CopyFrom(b) {
			n = i
			break
		}
	}
	if n == 0 {
		return 0, nil
	}
	q.tail.Store(tail + uint64(n))
	return n, q.signal()
}

func (q *queue) receive(bufs []*packet.Buffer) (int, error) {
	head := q.head.Load()
	waiting := int(q.tail.Load() - head)
	n := min(len(bufs), waiting)
	for i, b := range bufs[:n] {
		from := q.slots[(head+uint64(i))%uint64(len(q.slots))]
		b.Reset(packet.Headroom)
		b.Append(from.Bytes())
		b.Offload = from.Offload
	}
	q.head.Store(head + uint64(n))
	if n < waiting || q.armed.Load() {
		return n, nil
	}
	return n, q.rearm()
}

// rearm takes the signal back. While a signal is still on its way nothing changes: the
// descriptor will wake the reader once more. A packet that came meanwhile brings the
// signal on again.
func (q *queue) rearm() error {
	if _, err := unix.Read(q.event, q.count[:]); err != nil {
		if err == unix.EAGAIN {
			return nil
		}
		return fmt.Errorf("read eventfd: %w", err)
	}
	q.armed.Store(true)
	if q.tail.Load() != q.head.Load() {
		return q.signal()
	}
	return nil
}

func (q *queue) signal() error {
	if !q.armed.CompareAndSwap(true, false) {
		return nil
	}
	if _, err := unix.Write(q.event, q.one[:]); err != nil {
		return fmt.Errorf("write eventfd: %w", err)
	}
	return nil
}
