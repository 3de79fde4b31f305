// Package steer owns the XDP program by which a network card is shared with the kernel, and
// the maps that say what it takes: which packets go to the dataplane's AF_XDP sockets, while
// all others stay with the kernel.
//
// It never opens a socket and never decides what is steered. The machine that holds the
// program puts its sockets in; whoever programs the machine finds the maps by the interface
// (see Open), since they are pinned nowhere and so are gone with the machine's process.
//
// # What the program does
//
// A packet is taken when it is addressed to the card's own MAC address, carries no VLAN tag,
// is IPv4 or IPv6, and
//   - its destination lies in a steered prefix, be it a fragment or not, or
//   - its destination, protocol (TCP, UDP, SCTP) and destination port are those of a steered
//     port, and it is no fragment. The fragments of such a packet, the first one included, all
//     go to the kernel: only it could put them together, and a part is of no use to either.
//
// Up to four extension headers (hop-by-hop, routing, destination options) are passed over in
// search of the port. Neighbour and router discovery (ICMPv6 types 133 to 137) are always the
// kernel's. Everything else, whatever cannot be parsed, and what a queue without a socket
// receives, is passed on untouched.
package steer

import (
	"fmt"
	"net"
	"net/netip"
)

// Name is that of the program, in the kernel's lists; nameAll that of the one which takes
// everything, for a card that is not shared.
const (
	Name    = "millrace_share"
	nameAll = "millrace_all"
)

// Prog is the "prog" of af_xdp_create_v3 that asks the engine for the program.
const Prog = "millrace:share"

// Names of the maps, at most 15 bytes. Addresses and ports lie in them in network order.
const (
	mapConfig   = "mr_config"   // array of one: the card's MAC address, two bytes of padding
	mapPrefix4  = "mr_prefix4"  // LPM trie: length (native), address of 4 bytes; the value is 1
	mapPrefix6  = "mr_prefix6"  // LPM trie: length (native), address of 16 bytes; the value is 1
	mapPorts    = "mr_ports"    // hash: address of 16 bytes (IPv4 mapped), port, protocol, zero; the value is 1
	mapSockets  = "mr_sockets"  // XSKMAP by receive queue
	mapVerdicts = "mr_verdicts" // per-CPU array of counters, by Verdict
)

// Limits of what can be steered.
const (
	MaxPrefixes = 16384 // of each family
	MaxPorts    = 65536
	MaxQueues   = 256
)

// Protocols whose ports can be steered.
const (
	TCP  uint8 = 6
	UDP  uint8 = 17
	SCTP uint8 = 132
)

// Port is an address with a destination port of a protocol.
type Port struct {
	Addr     netip.Addr
	Protocol uint8 // TCP, UDP or SCTP
	Port     uint16
}

func (p Port) String() string { return fmt.Sprintf("%s,%d,%d", p.Addr, p.Protocol, p.Port) }

// Verdict is what became of a packet.
type Verdict uint32

const (
	Passed       Verdict = iota // nothing steered fits it, or it cannot be parsed
	PassedAlien                 // its MAC address is not the card's
	PassedTagged                // it has a VLAN tag
	PassedPart                  // a fragment, and its destination is in no prefix
	PassedSocket                // steered, but its queue has no socket
	TakenPrefix                 // its destination is in a prefix
	TakenPort                   // its destination, protocol and port are steered
	TakenAll                    // the program takes everything
	verdicts
)

var verdictNames = [verdicts]string{
	Passed: "passed", PassedAlien: "passed-other-mac", PassedTagged: "passed-vlan", PassedPart: "passed-fragment",
	PassedSocket: "passed-no-socket", TakenPrefix: "steered-prefix", TakenPort: "steered-port", TakenAll: "steered",
}

func (v Verdict) String() string {
	if v < verdicts {
		return verdictNames[v]
	}
	return fmt.Sprintf("verdict-%d", uint32(v))
}

// config is the value of mr_config.
type config struct {
	MAC [6]byte
	_   [2]byte
}

func configOf(mac net.HardwareAddr) (config, error) {
	var c config
	if len(mac) != len(c.MAC) {
		return c, fmt.Errorf("MAC address %v has not 6 bytes", mac)
	}
	copy(c.MAC[:], mac)
	return c, nil
}

// Keys of the maps, as the kernel has them.
type (
	key4 struct {
		Bits uint32
		Addr [4]byte
	}
	key6 struct {
		Bits uint32
		Addr [16]byte
	}
	portKey struct {
		Addr     [16]byte
		Port     [2]byte
		Protocol uint8
		_        uint8
	}
)

func keyOfPort(p Port) (portKey, error) {
	switch {
	case !p.Addr.IsValid() || p.Addr.Is4In6() || p.Addr.Zone() != "":
		return portKey{}, fmt.Errorf("address %v: want one without a zone, IPv4 not mapped", p.Addr)
	case p.Protocol != TCP && p.Protocol != UDP && p.Protocol != SCTP:
		return portKey{}, fmt.Errorf("protocol %d: want TCP (6), UDP (17) or SCTP (132)", p.Protocol)
	case p.Port == 0:
		return portKey{}, fmt.Errorf("port 0 of %s is none", p.Addr)
	}
	return portKey{Addr: p.Addr.As16(), Port: [2]byte{byte(p.Port >> 8), byte(p.Port)}, Protocol: p.Protocol}, nil
}

func (k portKey) port() Port {
	return Port{Addr: netip.AddrFrom16(k.Addr).Unmap(), Protocol: k.Protocol, Port: uint16(k.Port[0])<<8 | uint16(k.Port[1])}
}
