// Package tap is the port on the kernel's TUN/TAP driver: one end is ours, a network
// interface of the host, in any of its network namespaces, is the other.
//
// It owns the descriptors of its queues and sets the host's end up once, as VPP's
// tap_create_v3 describes it. It never watches that end afterwards.
package tap

import (
	"fmt"
	"net"
	"net/netip"
	"sync/atomic"

	"github.com/millrace/millrace/engine/packet"
	"github.com/millrace/millrace/engine/port"
)

// Flags as in tapv2.api, enum tap_flags.
type Flags uint32

const (
	GSO             Flags = 1   // accept and send TCP and UDP GSO packets, implies checksum offload
	ChecksumOffload Flags = 2   // leave checksums to the receiver of a packet
	Persist         Flags = 4   // the host's interface outlives this process
	Attach          Flags = 8   // take over a persistent interface, which HostIfName names
	TUN             Flags = 16  // IP packets instead of Ethernet
	GROCoalesce     Flags = 32  // accepted, without effect: the kernel's GRO serves
	Packed          Flags = 64  // accepted, without effect: there is no ring
	InOrder         Flags = 128 // accepted, without effect: always so
	ConsistentQP    Flags = 256 // accepted, without effect: queue q is descriptor q both ways

	known = GSO | ChecksumOffload | Persist | Attach | TUN | GROCoalesce | Packed | InOrder | ConsistentQP
)

// MaxQueues is the kernel's limit of queues per device.
const MaxQueues = 256

// Config is a tap_create_v3 in Go's terms.
type Config struct {
	HostIfName string // at most 15 bytes; "" = the kernel's choice, tapN or tunN
	Namespace  string // of the host's end: "" = ours, "pid:N", "/path", or an "ip netns" name
	Flags      Flags
	RxQueues   int // 0 = 1
	TxQueues   int // 0 = 1; may exceed RxQueues, they share descriptors then

	HardwareAddr     net.HardwareAddr // of our end, TAP only; nil = a random one
	HostHardwareAddr net.HardwareAddr // of the host's end, TAP only; nil = the kernel's choice
	HostMTU          int              // in bytes; 0 = the kernel's default, 1500
	HostPrefix4      netip.Prefix     // address and length of the host's end; zero = none
	HostPrefix6      netip.Prefix
	HostGateway4     netip.Addr // default route of the host; zero = none
	HostGateway6     netip.Addr
	HostBridge       string // TAP only; "" = none
}

// Host is what there is on the host's side after Open.
type Host struct {
	IfName       string
	IfIndex      int
	HardwareAddr net.HardwareAddr // nil for TUN
	MTU          int
	Namespace    string // as Config has it
	Bridge       string
	Flags        Flags
	Prefix4      netip.Prefix
	Prefix6      netip.Prefix
}

// Port is an open TUN or TAP device. It satisfies port.Port. Transmit queues may be
// used at the same time as receive queues, by different workers.
type Port struct {
	host Host
	mac  net.HardwareAddr
	caps port.Capabilities
	fds  []int
	rx   []rxQueue
	tx   []txQueue

	closed atomic.Bool
}

var _ port.Port = (*Port)(nil)

// Kind tells the failures of Open apart that a caller may want to treat differently.
type Kind uint8

const (
	BadConfig   Kind = iota + 1 // a field's value; nothing was tried
	NoHostName                  // Attach without HostIfName
	NoNamespace                 // the namespace cannot be found or entered
	NoDriver                    // /dev/net/tun cannot be opened, or lacks a feature
	NoDevice                    // the driver refuses the interface: name taken, no privilege
	HostSetup                   // the host's end cannot be set up as asked (netlink)
)

// Error is why Open failed. It wraps the errno where there is one.
type Error struct {
	Kind Kind
	Err  error
}

func (e *Error) Error() string { return "open tap: " + e.Err.Error() }
func (e *Error) Unwrap() error { return e.Err }

func fail(k Kind, format string, args ...any) *Error {
	return &Error{Kind: k, Err: fmt.Errorf(format, args...)}
}

// check says what is wrong with c before anything is touched.
func (c *Config) check() error {
	tun := c.Flags&TUN != 0
	switch {
	case c.Flags&^known != 0:
		return fail(BadConfig, "unknown flags %#x", uint32(c.Flags&^known))
	case c.Flags&Attach != 0 && c.HostIfName == "":
		return fail(NoHostName, "flag ATTACH needs the name of the host's interface")
	case len(c.HostIfName) > 15:
		return fail(BadConfig, "host interface name %q is longer than 15 bytes", c.HostIfName)
	case c.RxQueues < 0 || c.RxQueues > MaxQueues:
		return fail(BadConfig, "%d receive queues; want at most %d", c.RxQueues, MaxQueues)
	case c.TxQueues < 0:
		return fail(BadConfig, "%d transmit queues; want 1 or more", c.TxQueues)
	case c.HostMTU != 0 && (c.HostMTU < 68 || c.HostMTU > 65535):
		return fail(BadConfig, "host MTU %d; want 68 to 65535", c.HostMTU)
	case c.HardwareAddr != nil && len(c.HardwareAddr) != 6:
		return fail(BadConfig, "hardware address %v has not 6 bytes", c.HardwareAddr)
	case c.HostHardwareAddr != nil && len(c.HostHardwareAddr) != 6:
		return fail(BadConfig, "host hardware address %v has not 6 bytes", c.HostHardwareAddr)
	case tun && c.HostBridge != "":
		return fail(BadConfig, "a TUN interface cannot join bridge %q: it carries no Ethernet", c.HostBridge)
	case c.HostPrefix4.IsValid() && !c.HostPrefix4.Addr().Is4():
		return fail(BadConfig, "host IPv4 prefix %v is not IPv4", c.HostPrefix4)
	case c.HostPrefix6.IsValid() && !c.HostPrefix6.Addr().Is6():
		return fail(BadConfig, "host IPv6 prefix %v is not IPv6", c.HostPrefix6)
	case c.HostGateway4.IsValid() && !c.HostGateway4.Is4():
		return fail(BadConfig, "host IPv4 gateway %v is not IPv4", c.HostGateway4)
	case c.HostGateway6.IsValid() && !c.HostGateway6.Is6():
		return fail(BadConfig, "host IPv6 gateway %v is not IPv6", c.HostGateway6)
	}
	return nil
}

// Host tells of the host's side, for sw_interface_tap_v2_dump.
func (p *Port) Host() Host { return p.host }

// Link is Ethernet for TAP, IP for TUN.
func (p *Port) Link() port.Link {
	if p.host.Flags&TUN != 0 {
		return port.IP
	}
	return port.Ethernet
}

// HardwareAddr is the Ethernet address of our end, nil for TUN.
func (p *Port) HardwareAddr() net.HardwareAddr { return p.mac }

// Capabilities follow the flags GSO and ChecksumOffload.
func (p *Port) Capabilities() port.Capabilities { return p.caps }

func (p *Port) RxQueues() int { return len(p.rx) }
func (p *Port) TxQueues() int { return len(p.tx) }

// RxFD is the descriptor of queue q.
func (p *Port) RxFD(q int) int { return p.rx[q].fd }

// Receive reads up to len(bufs) packets, one system call each: the driver knows no
// batch. The virtio-net header is read into the headroom, in one piece with the packet.
func (p *Port) Receive(q int, bufs []*packet.Buffer) (int, error) { return p.rx[q].receive(bufs) }

// Transmit writes the packets, one system call each. A packet that the host refuses
// (its interface is down, the packet is malformed) is not counted as taken; those after
// it are still tried unless the interface is down or full.
func (p *Port) Transmit(q int, bufs []*packet.Buffer) (int, error) { return p.tx[q].transmit(bufs) }
