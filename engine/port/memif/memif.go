// Package memif is the port on a memif interface: packets to and from another process, by
// memory that both share.
//
// It owns how the interfaces of package memif (the protocol) are opened, one Socket per
// address, and moves packets between them and the worker's buffers by copying, since the
// peer can change its own memory at any time. It carries no offload: the worker finishes
// checksums and cuts segments before. It never looks into a packet and knows no table.
package memif

import (
	"net"
	"sync"
	"sync/atomic"

	"github.com/millrace/millrace/engine/packet"
	"github.com/millrace/millrace/engine/port"
	"github.com/millrace/millrace/memif"
)

// Config of a Port. The zero value is an interface with id 0, Ethernet, one queue each way.
type Config struct {
	ID     uint32
	Mode   memif.Mode
	Name   string // what the peer shows as our interface; cut to memif.MaxName bytes
	Secret string // "" = none

	// RxQueues and TxQueues are a client's rings; as a server the client decides about the
	// rings, and each queue serves its share of them. 0 = 1.
	RxQueues, TxQueues int
	// RingSize and BufferSize are a client's; 0 = the defaults of package memif.
	RingSize, BufferSize int
	// HardwareAddr is our Ethernet address; nil in IP mode.
	HardwareAddr net.HardwareAddr
}

// Port is one memif interface. It satisfies port.Port.
type Port struct {
	mac    net.HardwareAddr
	inner  *memif.Interface
	rx     []rxQueue
	tx     []txQueue
	socket *Socket
	own    *running // a client's; a server's is the socket's

	// open lets frames in: not before the follower has heard that the link is up, so that
	// what the first frame asks for can be answered.
	open atomic.Bool

	mu     sync.Mutex // guards what follows, and orders the calls of follow
	up     bool
	follow func(up bool)
	closed bool
}

var _ port.Port = (*Port)(nil)

func (p *Port) Link() port.Link {
	if p.inner.Config().Mode == memif.IP {
		return port.IP
	}
	return port.Ethernet
}

func (p *Port) HardwareAddr() net.HardwareAddr  { return p.mac }
func (p *Port) Capabilities() port.Capabilities { return port.Capabilities{} }
func (p *Port) RxQueues() int                   { return len(p.rx) }
func (p *Port) TxQueues() int                   { return len(p.tx) }

// RxFD is the same over all links of the port. It is readable while Receive may find
// something, and once for each change of the link.
func (p *Port) RxFD(q int) int { return p.rx[q].inner.FD() }

// Receive copies packets out of the peer's memory. The error is memif.ErrClosed when the
// socket has ended, or one of the operating system.
func (p *Port) Receive(q int, bufs []*packet.Buffer) (int, error) {
	return p.rx[q].receive(bufs, p.open.Load())
}

// Transmit copies packets into the peer's memory, as many as its ring has room for. A
// packet that no room would suffice for counts as taken; Drops tells of it.
func (p *Port) Transmit(q int, bufs []*packet.Buffer) (int, error) { return p.tx[q].transmit(bufs) }

// SetPolling says whether queue q is polled: its peer is then told not to signal. Nobody
// may be using the queue.
func (p *Port) SetPolling(q int, polling bool) { p.rx[q].setPolling(polling) }

// SetAdminUp has a client begin to look for its server. It goes on when it is set down
// again, as in VPP, where only the traffic stops.
func (p *Port) SetAdminUp(up bool) {
	if up && p.own != nil {
		p.own.start()
	}
}

// Follow has f called with each change of the link from now on, in order, and at once when
// it is up already; nil ends that. No packet is received of a link that f has not heard of.
// f may not call Follow or Close.
func (p *Port) Follow(f func(up bool)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.follow = f
	p.open.Store(false)
	if f != nil && p.up {
		f(true)
		p.open.Store(true)
	}
}

// changed is called by the connection.
func (p *Port) changed(s memif.Status) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.up == s.Up {
		return // another failed attempt
	}
	p.up = s.Up
	if p.follow == nil {
		return
	}
	if !s.Up {
		p.open.Store(false)
	}
	p.follow(s.Up)
	if s.Up {
		p.open.Store(true)
	}
}

// Status is the link's state, Config what the port was made with, defaults filled in.
func (p *Port) Status() memif.Status { return p.inner.Status() }
func (p *Port) Config() memif.Config { return p.inner.Config() }

// Drops counts the packets that were dropped here: those the peer described wrongly or
// made too long, and those too long for the whole ring. Anybody may call it.
func (p *Port) Drops() port.Drops {
	var d port.Drops
	for i := range p.rx {
		s := p.rx[i].inner.Stats()
		d.RxInvalid += s.Invalid
		d.RxTooLong += s.TooLong
	}
	for i := range p.tx {
		s := p.tx[i].inner.Stats()
		d.TxTooLong += s.TooLong + s.Invalid
	}
	return d
}

// Close tells the peer and frees everything; with the last port of a socket its file goes,
// too. A second Close does nothing.
func (p *Port) Close() error {
	p.mu.Lock()
	closed := p.closed
	p.closed, p.follow = true, nil
	p.mu.Unlock()
	if closed {
		return nil
	}
	return p.socket.close(p)
}
