// Package afpacket is the port on an interface of the host, through packet sockets: a
// veth end, a bridge port, a NIC that Linux keeps.
//
// It owns its sockets and receive rings. It never configures the interface beyond
// setting it up, and never sees what this machine's own sockets send by it.
package afpacket

import (
	"context"
	"fmt"
	"net"
	"sync/atomic"

	"github.com/millrace/millrace/engine/packet"
	"github.com/millrace/millrace/engine/port"
	"github.com/millrace/millrace/engine/port/hostlink"
)

// Flags as in af_packet.api, enum af_packet_flags.
type Flags uint32

const (
	QdiscBypass Flags = 1 // hand packets to the driver without the queueing discipline; not with ChecksumGSO
	ChecksumGSO Flags = 2 // leave checksums and segmentation to the host
	Version2    Flags = 8 // accepted: affects only what RxFramesPerBlock means

	known = QdiscBypass | ChecksumGSO | Version2
)

// Mode as in af_packet.api, enum af_packet_mode.
type Mode uint32

const (
	ModeEthernet Mode = 1
	ModeIP       Mode = 2 // for interfaces without a link-layer header (tun, ipip)
)

// MaxQueues is the kernel's limit of sockets in a fanout group.
const MaxQueues = 256

// Config is an af_packet_create_v3 in Go's terms.
//
// Receiving is by a TPACKET_V2 ring: the kernel hands packets over one by one, while
// version 3 holds back a block of them for a millisecond or more. Packets longer than a
// frame (GSO, jumbo) come whole through the socket's queue, so that frames stay small:
// 1024 of 2048 bytes by default. Sending copies straight into the kernel's packet, by
// sendmmsg; a transmit ring would have it copied twice on the way into a veth.
type Config struct {
	HostIfName   string // must exist
	Namespace    string // of the interface: "" = ours, "pid:N", "/path", or an "ip netns" name
	Mode         Mode
	Flags        Flags
	HardwareAddr net.HardwareAddr // of our end; nil = a random one. Not the host interface's own
	RxQueues     int              // 0 = 1
	TxQueues     int              // 0 = 1

	RxFrameSize      int // in bytes, 0 = 2048; a multiple of 16 from 256 to 131072
	RxFramesPerBlock int // 0 = 1024 frames in all; else times 160 blocks, or 1 with Version2, as in VPP
	TxFrameSize      int // accepted, without effect: there is no transmit ring
	TxFramesPerBlock int // accepted, without effect
}

// Defaults and limits of the receive ring.
const (
	defaultFrameSize = 2048
	defaultFrames    = 1024
	minFrameSize     = 256
	maxFrameSize     = 128 << 10
	maxRing          = 256 << 20 // bytes per queue
	blocksVersion3   = 160
)

// Host is the state of the host's interface.
type Host = hostlink.State

// Port is an open packet port. It satisfies port.Port.
type Port struct {
	host      Host
	namespace string
	mode      Mode
	flags     Flags
	mac       net.HardwareAddr
	caps      port.Capabilities
	rx        []*ring
	tx        []*sender
	closed    atomic.Bool
}

var _ port.Port = (*Port)(nil)

// Kind tells the failures of Open apart that a caller may want to treat differently.
type Kind uint8

const (
	BadConfig   Kind = iota + 1 // a field's value; nothing was tried
	NoNamespace                 // the namespace cannot be found or entered
	NoInterface                 // the host has no interface of that name
	NoSocket                    // a socket call failed: no privilege, no memory
)

// Error is why Open failed. It wraps the errno where there is one.
type Error struct {
	Kind Kind
	Err  error
}

func (e *Error) Error() string { return "open af_packet: " + e.Err.Error() }
func (e *Error) Unwrap() error { return e.Err }

func fail(k Kind, format string, args ...any) *Error {
	return &Error{Kind: k, Err: fmt.Errorf(format, args...)}
}

// check says what is wrong with c before anything is touched.
func (c *Config) check() error {
	switch {
	case c.HostIfName == "" || len(c.HostIfName) > 15:
		return fail(NoInterface, "host interface name %q; want 1 to 15 bytes", c.HostIfName)
	case c.Mode != ModeEthernet && c.Mode != ModeIP:
		return fail(BadConfig, "mode %d; want 1 (Ethernet) or 2 (IP)", c.Mode)
	case c.Flags&^known != 0:
		return fail(BadConfig, "unknown flags %#x", uint32(c.Flags&^known))
	case c.HardwareAddr != nil && len(c.HardwareAddr) != 6:
		return fail(BadConfig, "hardware address %v has not 6 bytes", c.HardwareAddr)
	case c.RxQueues < 0 || c.RxQueues > MaxQueues:
		return fail(BadConfig, "%d receive queues; want at most %d", c.RxQueues, MaxQueues)
	case c.TxQueues < 0 || c.TxQueues > MaxQueues:
		return fail(BadConfig, "%d transmit queues; want at most %d", c.TxQueues, MaxQueues)
	case c.RxFrameSize != 0 && (c.RxFrameSize < minFrameSize || c.RxFrameSize > maxFrameSize || c.RxFrameSize%16 != 0):
		return fail(BadConfig, "receive frame of %d bytes; want a multiple of 16 from %d to %d", c.RxFrameSize, minFrameSize, maxFrameSize)
	case c.RxFramesPerBlock < 0 || c.RxFramesPerBlock > maxRing/minFrameSize:
		return fail(BadConfig, "%d receive frames per block; want at most %d", c.RxFramesPerBlock, maxRing/minFrameSize)
	}
	if g := c.ring(); g.bytes() > maxRing {
		return fail(BadConfig, "a receive ring of %d bytes; want at most %d", g.bytes(), maxRing)
	}
	return nil
}

// ring is the geometry that c asks for.
func (c *Config) ring() geometry {
	size := c.RxFrameSize
	if size == 0 {
		size = defaultFrameSize
	}
	frames := defaultFrames
	switch {
	case c.RxFramesPerBlock != 0 && c.Flags&Version2 != 0:
		frames = c.RxFramesPerBlock
	case c.RxFramesPerBlock != 0:
		frames = c.RxFramesPerBlock * blocksVersion3
	}
	return newGeometry(size, frames)
}

// Host is the state of the host's interface when the port was opened; Watch tells what
// becomes of it.
func (p *Port) Host() Host { return p.host }

// Watch tells of the host's interface as hostlink.Watch does. It may run beside everything
// else the port does.
func (p *Port) Watch(ctx context.Context, changed func(Host)) error {
	return hostlink.Watch(ctx, p.namespace, p.host, changed)
}

// Flags are those of Config.
func (p *Port) Flags() Flags { return p.flags }

func (p *Port) Link() port.Link {
	if p.mode == ModeIP {
		return port.IP
	}
	return port.Ethernet
}

func (p *Port) HardwareAddr() net.HardwareAddr  { return p.mac }
func (p *Port) Capabilities() port.Capabilities { return p.caps }
func (p *Port) RxQueues() int                   { return len(p.rx) }
func (p *Port) TxQueues() int                   { return len(p.tx) }

// RxFD is the socket of receive queue q.
func (p *Port) RxFD(q int) int { return p.rx[q].fd }

// Receive copies packets out of queue q's ring, without a system call but for packets
// longer than a frame. VLAN tags that the host took off are put back.
func (p *Port) Receive(q int, bufs []*packet.Buffer) (int, error) { return p.rx[q].receive(bufs) }

// Transmit sends the packets, up to 64 with one system call. A packet that the host
// refuses (too long, its queue full) is not counted as taken; those after it are tried.
func (p *Port) Transmit(q int, bufs []*packet.Buffer) (int, error) { return p.tx[q].transmit(bufs) }
