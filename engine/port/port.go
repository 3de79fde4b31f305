// Package port defines what the engine's workers ask of a packet device.
//
// It owns the interface and the values it speaks; the devices live in packages below
// it (tap, afpacket, pipe, memif). A port never looks into an IP header and never
// knows a table.
package port

import (
	"net"

	"github.com/millrace/millrace/engine/packet"
)

// Link is the kind of bytes a port carries.
type Link uint8

const (
	// Ethernet packets begin with a 14-byte MAC header.
	Ethernet Link = iota
	// IP packets begin with the IPv4 or IPv6 header (TUN, memif in IP mode).
	IP
)

// Capabilities of a port's transmit side.
type Capabilities struct {
	Checksum bool // accepts packet.NeedsChecksum
	TSO4     bool // accepts packet.GSOTCPv4
	TSO6     bool // accepts packet.GSOTCPv6
	USO      bool // accepts packet.GSOUDPL4
}

// Drops counts packets that a device dropped by itself, since it was opened. A port that
// drops any has a method Drops() Drops.
type Drops struct {
	RxInvalid uint64 // received: not where the device's peer said
	RxTooLong uint64 // received: longer than a buffer
	TxTooLong uint64 // sent: taken, but longer than the device can ever carry
}

// Port is a packet device with one or more receive and transmit queues. Receive and
// Transmit of different queues may run at the same time on different workers; a queue
// is used by one worker at a time. Close is called after the last user has left.
type Port interface {
	Link() Link
	// HardwareAddr is nil for IP links.
	HardwareAddr() net.HardwareAddr
	Capabilities() Capabilities
	RxQueues() int
	TxQueues() int
	// RxFD is the descriptor that becomes readable when receive queue q has packets,
	// or -1 when the queue can only be polled.
	RxFD(q int) int
	// Receive fills the leading buffers (each Reset by Receive: start, length and
	// Offload are set) and returns how many. It never blocks; 0, nil means empty.
	// An error is final: the device is gone.
	Receive(q int, bufs []*packet.Buffer) (int, error)
	// Transmit sends the buffers in order and returns how many the device took. It
	// never blocks and keeps no reference to a buffer after it returns. The rest is
	// the caller's to count as dropped. An error is final: the device is gone.
	Transmit(q int, bufs []*packet.Buffer) (int, error)
	Close() error
}
