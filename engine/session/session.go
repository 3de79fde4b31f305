// Package session owns the sessions of the engine's ACLs: what a permit+reflect rule let
// through once, so that the rest of the flow, in both directions, needs no rule any more.
//
// Sessions are those of VPP's acl plugin: per interface, found before any rule, with its
// classes, timeouts and limit. All workers share one Table: the reply to a packet usually
// arrives at another worker. Who finds or refreshes a session takes no lock; who makes or
// deletes one takes the short lock of a shard. The package never looks at a packet or a
// rule, and reads no clock: callers say what time it is, in seconds since some beginning.
//
// What differs from VPP, and no client can see:
//   - One entry serves both directions, where VPP has two.
//   - When the table is full, the oldest of a few transient TCP sessions makes room at
//     once; VPP drops the packet that found it full, and has room for the next.
//   - Sessions of an interface that is cleared are gone at once, not after a sweep.
package session

import "math/bits"

// Protocols that have sessions of their own kind.
const (
	protoICMP   = 1
	protoTCP    = 6
	protoICMPv6 = 58
)

// Flow is one packet's addresses and ports, as the packet has them.
type Flow struct {
	// Addrs are source and destination, two words each. IPv4 is in word 0, the source in
	// the lower half. The order of bytes is the caller's, the same at each call.
	Addrs [4]uint64
	// Src and Dst are the ports, or type and code of ICMP, or 0 where neither is known: in
	// later fragments and other protocols.
	Src, Dst uint16
	Proto    uint8
	IP6      bool
	// Later is a fragment without a transport header: one of ICMP is no query.
	Later bool
}

// Key names a session. It is the same for both directions of a flow through an interface:
// it tells the near end, that behind the interface, from the far one.
type Key struct {
	a, b, c, d uint64 // near and far address; of IPv4 in a alone
	e          uint64 // interface, near port, far port
	f          uint32 // protocol and the bits below
}

// Bits of Key.f above the protocol.
const (
	keyIP6    = 1 << 8
	keyQuery  = 1 << 9  // an ICMP query and its answer
	keyOneWay = 1 << 10 // ICMP that has no answer
	keyOutput = 1 << 11 // asked by the far end, or goes to the near end
)

// Keys are the keys under which a packet's session may stand; the second only for answers
// of ICMP, which may belong to a query or stand for themselves. The last is that of the
// session that a rule makes for the packet.
type Keys struct {
	first, second Key
	two           bool
	hash          uint64 // of the first
}

// own is the key of the session that a rule makes for the packet.
func (k *Keys) own() *Key {
	if k.two {
		return &k.second
	}
	return &k.first
}

// set fills in all but the hash.
func (k *Keys) set(f *Flow, index uint32, input bool) {
	n := &k.first
	*n = Key{a: f.Addrs[0], e: uint64(index) << 32, f: uint32(f.Proto)}
	near, far := f.Src, f.Dst
	if f.IP6 {
		n.b, n.c, n.d, n.f = f.Addrs[1], f.Addrs[2], f.Addrs[3], n.f|keyIP6
		if !input {
			n.a, n.b, n.c, n.d = n.c, n.d, n.a, n.b
		}
	} else if !input {
		n.a = bits.RotateLeft64(n.a, 32)
	}
	k.two = false
	if !f.Later && (f.Proto == protoICMP && !f.IP6 || f.Proto == protoICMPv6 && f.IP6) {
		k.setICMP(f, input)
		return
	}
	if !input {
		near, far = far, near
	}
	n.e |= uint64(near)<<16 | uint64(far)
}

// setICMP ends what set began: a query and its answer share a session, all other messages
// have one that holds for their own direction only.
func (k *Keys) setICMP(f *Flow, input bool) {
	n := &k.first
	way := uint32(0)
	if !input {
		way = keyOutput
	}
	alone := *n
	alone.e |= uint64(f.Src)<<16 | uint64(f.Dst)
	alone.f |= keyOneWay | way
	if f.IP6 && f.Src < 128 {
		*n = alone
		return
	}
	switch query, answer := queryOf(f); {
	case !answer && query == f.Src:
		n.e |= uint64(query)<<16 | uint64(f.Dst)
		n.f |= keyQuery | way
	case answer:
		n.e |= uint64(query)<<16 | uint64(f.Dst)
		n.f |= keyQuery | way ^ keyOutput
		k.second, k.two = alone, true
	default:
		*n = alone
	}
}

// Query is the type of the ICMP query that f answers, if f is such an answer.
func Query(f *Flow) (uint16, bool) {
	if f.Later || f.IP6 && (f.Proto != protoICMPv6 || f.Src < 128) || !f.IP6 && f.Proto != protoICMP {
		return 0, false
	}
	query, answer := queryOf(f)
	return query, answer
}

// queryOf is the type of the query that f is, or answers. For neither it is another type
// than f's.
func queryOf(f *Flow) (query uint16, answer bool) {
	if f.IP6 {
		switch f.Src {
		case 128, 139: // echo, node information
			return f.Src, false
		case 129, 140:
			return f.Src - 1, true
		}
		return ^f.Src, false
	}
	switch f.Src {
	case 8, 13, 15, 17: // echo, timestamp, information, address mask
		return f.Src, false
	case 0:
		return 8, true
	case 14, 16, 18:
		return f.Src - 1, true
	}
	return ^f.Src, false
}

// hash spreads keys; seed makes it another one for each table, so that nobody outside can
// choose flows that collide.
func (k *Key) hash(seed uint64) uint64 {
	h, l := bits.Mul64(k.a^0x243f6a8885a308d3^seed, k.e^0xb7e151628aed2a6b)
	h ^= l
	if k.f&keyIP6 != 0 {
		h2, l2 := bits.Mul64(k.b^0x13198a2e03707345, k.c^0xa4093822299f31d1^seed)
		h3, l3 := bits.Mul64(k.d^0x452821e638d01377, h2^l2^0x9e3779b97f4a7c15)
		h ^= h3 ^ l3
	}
	h, l = bits.Mul64(h^uint64(k.f)<<32, 0x9e3779b97f4a7c15^seed)
	return h ^ l
}

func (k *Key) iface() uint32 { return uint32(k.e >> 32) }

// TCP flags that tell a session's class.
const (
	tcpFIN = 0x01
	tcpSYN = 0x02
	tcpRST = 0x04
	tcpACK = 0x10
	// TCPFlags are those that sessions take note of.
	TCPFlags = tcpFIN | tcpSYN | tcpRST | tcpACK
)

// Class is the kind of timeout that a session has.
type Class uint8

const (
	// UDPIdle is that of UDP and all other protocols but TCP.
	UDPIdle Class = iota
	// TCPIdle is that of a connection that both ends have opened and none has closed.
	TCPIdle
	// TCPTransient is that of any other TCP session.
	TCPTransient
	numClasses
)

// Default timeouts, in seconds, and the default limit of sessions: VPP's.
const (
	DefaultUDPIdle      = 600
	DefaultTCPIdle      = 24 * 3600
	DefaultTCPTransient = 120
	DefaultMax          = 500000
)

// classOf is the class of a session by its protocol and the flags seen each way.
func classOf(proto uint8, seen uint32) Class {
	switch {
	case proto != protoTCP:
		return UDPIdle
	case seen&(TCPFlags<<8|TCPFlags) == (tcpSYN|tcpACK)<<8|tcpSYN|tcpACK:
		return TCPIdle
	}
	return TCPTransient
}
