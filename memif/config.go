package memif

import (
	"fmt"
	"math/bits"
	"strings"
	"time"
)

// Role is the part a Socket plays. memif.h calls them master and slave.
type Role uint8

const (
	Server Role = 0 // listens, and maps the memory that the client brings
	Client Role = 1 // connects, and makes the memory
)

func (r Role) String() string {
	if r == Client {
		return "client"
	}
	return "server"
}

// Mode is what the frames are.
type Mode uint8

const (
	Ethernet Mode = 0 // frames with a MAC header
	IP       Mode = 1 // packets that begin with their IPv4 or IPv6 header
)

func (m Mode) String() string {
	switch m {
	case Ethernet:
		return "ethernet"
	case IP:
		return "ip"
	}
	return fmt.Sprintf("mode-%d", uint8(m))
}

// RxMode says how an RxQueue's Wait waits.
type RxMode uint8

const (
	Interrupt RxMode = iota // sleep until the peer signals
	Polling                 // never sleep: the peer need not signal at all
	Adaptive                // look again for Config.Spin, then sleep
)

// Limits and defaults of the protocol and of this package.
const (
	DefaultRingSize   = 1024
	DefaultBufferSize = 2048
	DefaultMaxFrame   = 65535 + 64 // a whole GSO packet with its Ethernet header, in bytes
	DefaultMaxMemory  = 1 << 30
	DefaultSpin       = 50 * time.Microsecond
	DefaultRetry      = 500 * time.Millisecond
	DefaultHandshake  = 5 * time.Second

	MaxRingSize  = 1 << 15
	MaxQueues    = 256
	MaxSecret    = 23 // bytes; C peers keep a final zero in the 24 of the message
	MaxName      = 31 // bytes; likewise of 32
	maxLogRing   = 15
	maxRegions   = 256
	minBuffer    = 64
	maxBuffer    = 1 << 20
	maxPending   = 64      // connections of one socket that have not said who they are
	maxDiscards  = 16      // of one socket at a time
	maxRegion    = 1 << 30 // bytes per region of a client
	cookie       = 0x3E31F20
	versionTwo   = 0x0200
	messageBytes = 128
)

// SocketConfig is an address and a role.
type SocketConfig struct {
	Role Role
	// Address is a path, or "@name" for the abstract socket of that name.
	Address string
	// Netns is the path of the network namespace that the socket lies in; "" = the
	// process's own. Only abstract sockets belong to a namespace.
	Netns string
	// Retry is the longest pause of a client between two attempts; 0 = DefaultRetry. A peer
	// that has just gone is looked for more often, one that refused us is not.
	Retry time.Duration
	// Handshake is how long a peer may take from connect to CONNECTED; 0 = DefaultHandshake.
	Handshake time.Duration
}

func (c *SocketConfig) complete() error {
	switch {
	case c.Role != Server && c.Role != Client:
		return badConfig("role %d: want Server or Client", uint8(c.Role))
	case c.Address == "" || c.Address == "@":
		return badConfig("address %q: want a path, or @name for an abstract socket", c.Address)
	case strings.ContainsRune(c.Address, 0):
		return badConfig("address %q holds a zero byte", c.Address)
	case c.Address[0] == '@' && len(c.Address) > 108, c.Address[0] != '@' && len(c.Address) > 107:
		return badConfig("address of %d bytes: a unix socket's name holds 107", len(c.Address))
	case c.Retry < 0 || c.Handshake < 0:
		return badConfig("retry %s, handshake %s: want no negative durations", c.Retry, c.Handshake)
	}
	if c.Retry == 0 {
		c.Retry = DefaultRetry
	}
	if c.Handshake == 0 {
		c.Handshake = DefaultHandshake
	}
	return nil
}

// Config is one interface of a Socket. The zero value is a usable one.
type Config struct {
	ID     uint32 // tells the interfaces of one socket apart
	Mode   Mode   // both peers must agree
	Name   string // what the peer calls us in its tools, at most MaxName bytes; "" = "memif"
	Secret string // at most MaxSecret bytes; "" = none. A server with one refuses clients without

	// RxQueues and TxQueues are the queues of this side; 0 = 1. A client makes a ring for
	// each, or fewer when the server allows no more. A server takes what the client makes:
	// with more rings than queues a receive queue serves several, with fewer a receive
	// queue stays empty and transmit queues share a ring.
	RxQueues, TxQueues int

	// RingSize and BufferSize are a client's: descriptors per ring, a power of two from 2
	// to MaxRingSize (0 = DefaultRingSize; less when the server allows no more), and bytes
	// per buffer (0 = DefaultBufferSize). DPDK servers write past buffers below 2048.
	RingSize, BufferSize int

	// MaxFrame is the longest frame to send or receive, in bytes; 0 = DefaultMaxFrame.
	// Longer ones are dropped and counted. Frames longer than a buffer are chained.
	MaxFrame int

	// MaxMemory is how many bytes a server maps for one client; 0 = DefaultMaxMemory.
	MaxMemory int64

	RxMode RxMode
	Spin   time.Duration // of Adaptive; 0 = DefaultSpin

	// OnChange, if set, is called by Run's goroutines when the link comes up or goes down,
	// and when the reason why there is none becomes another, in order. It must not block
	// and must not call Close.
	OnChange func(Status)
}

func (c *Config) complete() error {
	defaults(&c.Name, "memif")
	defaults(&c.RxQueues, 1)
	defaults(&c.TxQueues, 1)
	defaults(&c.RingSize, DefaultRingSize)
	defaults(&c.BufferSize, DefaultBufferSize)
	defaults(&c.MaxFrame, DefaultMaxFrame)
	defaults(&c.MaxMemory, DefaultMaxMemory)
	defaults(&c.Spin, DefaultSpin)
	switch {
	case c.Mode != Ethernet && c.Mode != IP:
		return badConfig("mode %d: want Ethernet or IP", uint8(c.Mode))
	case len(c.Name) > MaxName || strings.ContainsRune(c.Name, 0):
		return badConfig("name %q: want at most %d bytes and no zero", c.Name, MaxName)
	case len(c.Secret) > MaxSecret || strings.ContainsRune(c.Secret, 0):
		return badConfig("secret of %d bytes: want at most %d and no zero", len(c.Secret), MaxSecret)
	case c.RxQueues < 0 || c.RxQueues > MaxQueues || c.TxQueues < 0 || c.TxQueues > MaxQueues:
		return badConfig("%d receive and %d transmit queues: want 1 to %d of each", c.RxQueues, c.TxQueues, MaxQueues)
	case c.RingSize < 2 || c.RingSize > MaxRingSize || bits.OnesCount(uint(c.RingSize)) != 1:
		return badConfig("ring of %d descriptors: want a power of two from 2 to %d", c.RingSize, MaxRingSize)
	case c.BufferSize < minBuffer || c.BufferSize > maxBuffer:
		return badConfig("buffers of %d bytes: want %d to %d", c.BufferSize, minBuffer, maxBuffer)
	case c.MaxFrame < minBuffer || c.MaxFrame > 1<<30:
		return badConfig("frames of at most %d bytes: want %d to %d", c.MaxFrame, minBuffer, 1<<30)
	case c.MaxMemory < 1:
		return badConfig("at most %d bytes of memory: want more than 0", c.MaxMemory)
	case c.RxMode > Adaptive:
		return badConfig("rx mode %d: want Interrupt, Polling or Adaptive", uint8(c.RxMode))
	case c.Spin < 0:
		return badConfig("spin %s: want no negative duration", c.Spin)
	}
	return nil
}

func defaults[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}
