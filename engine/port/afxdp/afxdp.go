// Package afxdp is the port on a network card, or another interface of the host, through
// AF_XDP sockets, one for each of its queues.
//
// It owns the sockets, their memory, and the XDP program on the interface, which is of package
// internal/steer: the program is attached by a link that only this process holds, so it is
// gone with it however the process ends. The port never changes the interface beyond that,
// and never takes the place of another XDP program.
package afxdp

import (
	"context"
	"fmt"
	"net"
	"sync/atomic"

	"github.com/cilium/ebpf/link"

	"github.com/millrace/millrace/engine/packet"
	"github.com/millrace/millrace/engine/port"
	"github.com/millrace/millrace/engine/port/hostlink"
	"github.com/millrace/millrace/internal/steer"
)

// Mode as in af_xdp.api, enum af_xdp_mode.
type Mode uint8

const (
	Auto     Mode = 0 // the card's memory where its driver can, else copies
	Copy     Mode = 1
	ZeroCopy Mode = 2
)

// AllQueues asks for every receive queue that the interface has.
const AllQueues = 65535

// Config is an af_xdp_create_v3 in Go's terms.
type Config struct {
	HostIfName string // must exist and be up
	Namespace  string // of the interface: "" = ours, "pid:N", "/path", or an "ip netns" name
	RxQueues   int    // 0 = 1; AllQueues = every one
	RxRing     int    // descriptors, 0 = 1024; a power of two from 256 to 32768
	TxRing     int    // likewise
	Mode       Mode
	// Share takes what is steered to the port, by the maps of the program, and leaves all else
	// to the kernel. Without it everything that comes in is the port's.
	Share bool
}

const (
	defaultRing = 1024
	minRing     = 256
	maxRing     = 32768
)

// Port is an open port. It satisfies port.Port.
type Port struct {
	host      hostlink.State
	namespace string
	program   *steer.Program
	xdp       link.Link
	how       steer.Mode
	mac       net.HardwareAddr
	queues    []*queue
	closed    atomic.Bool
}

var _ port.Port = (*Port)(nil)

// Kind tells the failures of Open apart that a caller may want to treat differently.
type Kind uint8

const (
	BadConfig   Kind = iota + 1 // a field's value; nothing was tried
	NoNamespace                 // the namespace cannot be found or entered
	NoInterface                 // there is no interface of that name, or not so many queues
	NoProgram                   // the XDP program cannot be loaded or attached, or another is there
	NoSocket                    // a socket call failed: no privilege, no memory, the interface is down
)

// Error is why Open failed. It wraps the errno where there is one.
type Error struct {
	Kind Kind
	Err  error
}

func (e *Error) Error() string { return "open af_xdp: " + e.Err.Error() }
func (e *Error) Unwrap() error { return e.Err }

func fail(k Kind, format string, args ...any) *Error {
	return &Error{Kind: k, Err: fmt.Errorf(format, args...)}
}

// check says what is wrong with c before anything is touched.
func (c *Config) check() error {
	switch {
	case c.HostIfName == "" || len(c.HostIfName) > 15:
		return fail(BadConfig, "host interface name %q; want 1 to 15 bytes", c.HostIfName)
	case c.RxQueues < 0 || c.RxQueues > steer.MaxQueues && c.RxQueues != AllQueues:
		return fail(BadConfig, "%d receive queues; want at most %d, or %d for all", c.RxQueues, steer.MaxQueues, AllQueues)
	case c.Mode > ZeroCopy:
		return fail(BadConfig, "mode %d; want 0 (auto), 1 (copy) or 2 (zero copy)", c.Mode)
	}
	for _, n := range []int{c.RxRing, c.TxRing} {
		if n != 0 && (n < minRing || n > maxRing || n&(n-1) != 0) {
			return fail(BadConfig, "a ring of %d descriptors; want a power of two from %d to %d", n, minRing, maxRing)
		}
	}
	return nil
}

// Host is the state of the host's interface when the port was opened; Watch tells what
// becomes of it.
func (p *Port) Host() hostlink.State { return p.host }

// Watch tells of the host's interface as hostlink.Watch does, and has the program follow its
// MAC address. It may run beside everything else the port does.
func (p *Port) Watch(ctx context.Context, changed func(hostlink.State)) error {
	var lost error
	err := hostlink.Watch(ctx, p.namespace, p.host, func(now hostlink.State) {
		if !now.Deleted && !p.closed.Load() {
			lost = p.program.SetMAC(now.HardwareAddr)
		}
		changed(now)
	})
	if err == nil && lost != nil {
		return fmt.Errorf("follow %s: %w", p.host.IfName, lost)
	}
	return err
}

// Attached is how the program is on the interface.
func (p *Port) Attached() steer.Mode { return p.how }

// ZeroCopy says whether the card and the port share memory.
func (p *Port) ZeroCopy() bool { return p.queues[0].zeroCopy }

func (p *Port) Link() port.Link                { return port.Ethernet }
func (p *Port) HardwareAddr() net.HardwareAddr { return p.mac }

// Capabilities are none: the kernel sends a socket's packets as they are.
func (p *Port) Capabilities() port.Capabilities { return port.Capabilities{} }
func (p *Port) RxQueues() int                   { return len(p.queues) }
func (p *Port) TxQueues() int                   { return len(p.queues) }

// RxFD is the socket of queue q.
func (p *Port) RxFD(q int) int { return p.queues[q].fd }

// Receive lends the packets where they lie, until the next Receive of the same queue.
func (p *Port) Receive(q int, bufs []*packet.Buffer) (int, error) {
	return p.queues[q].receive(bufs)
}

// Transmit copies the packets into the socket's memory. Those longer than MaxPacket are
// counted as TxTooLong.
func (p *Port) Transmit(q int, bufs []*packet.Buffer) (int, error) {
	return p.queues[q].transmit(bufs)
}

// Drops satisfies the interface that package port speaks of.
func (p *Port) Drops() port.Drops {
	var d port.Drops
	for _, q := range p.queues {
		d.RxInvalid += q.invalid.Load()
		d.TxTooLong += q.tooLong.Load()
	}
	return d
}
