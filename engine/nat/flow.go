package nat

import (
	"encoding/binary"
	"math/bits"

	"github.com/millrace/millrace/engine/packet"
)

// Tuple is the addresses and ports of a packet.
type Tuple struct {
	// Addrs are source and destination, two words each, the bytes of a packet read as
	// little endian. IPv4 is in word 0, the source in the lower half.
	Addrs [4]uint64
	// Ports is the source port above the destination port. The identifier of an ICMP echo
	// is both.
	Ports uint32
}

// Bits of SessionKey.Kind above the protocol.
const (
	KeyIP6 = 1 << 8
	// KeyOutput tells packets that go out by an interface from those that come in: VPP's
	// location of a session.
	KeyOutput = 1 << 9
	// KeyPiece tells the fragments of a packet, by an identification instead of ports.
	KeyPiece = 1 << 10

	keyBits = KeyPiece<<1 - 1
)

// SessionKey names a direction of a session.
type SessionKey struct {
	Tuple
	Kind uint32 // the protocol and the bits above
}

// Protocol is the IP protocol.
func (k *SessionKey) Protocol() uint8 { return uint8(k.Kind) }

// Reversed is what a packet has that answers one with t.
func (t *Tuple) Reversed(ip6 bool) Tuple {
	a := &t.Addrs
	r := Tuple{Ports: bits.RotateLeft32(t.Ports, 16)}
	if ip6 {
		r.Addrs = [4]uint64{a[2], a[3], a[0], a[1]}
	} else {
		r.Addrs[0] = bits.RotateLeft64(a[0], 32)
	}
	return r
}

// Target is t for Rewrite.
func (t *Tuple) Target(ip6 bool) Target {
	to := Target{SrcPort: uint16(t.Ports >> 16), DstPort: uint16(t.Ports)}
	if ip6 {
		binary.LittleEndian.PutUint64(to.Src[:], t.Addrs[0])
		binary.LittleEndian.PutUint64(to.Src[8:], t.Addrs[1])
		binary.LittleEndian.PutUint64(to.Dst[:], t.Addrs[2])
		binary.LittleEndian.PutUint64(to.Dst[8:], t.Addrs[3])
		return to
	}
	binary.LittleEndian.PutUint32(to.Src[:], uint32(t.Addrs[0]))
	binary.LittleEndian.PutUint32(to.Dst[:], uint32(t.Addrs[0]>>32))
	return to
}

// SetSource gives t another source address, as the bytes of a packet have it; ports stay.
func (t *Tuple) SetSource(addr []byte) {
	if len(addr) == 4 {
		t.Addrs[0] = t.Addrs[0]&^0xffffffff | uint64(binary.LittleEndian.Uint32(addr))
		return
	}
	t.Addrs[0], t.Addrs[1] = binary.LittleEndian.Uint64(addr), binary.LittleEndian.Uint64(addr[8:])
}

// SetDestination is SetSource for the other end.
func (t *Tuple) SetDestination(addr []byte) {
	if len(addr) == 4 {
		t.Addrs[0] = t.Addrs[0]&0xffffffff | uint64(binary.LittleEndian.Uint32(addr))<<32
		return
	}
	t.Addrs[2], t.Addrs[3] = binary.LittleEndian.Uint64(addr), binary.LittleEndian.Uint64(addr[8:])
}

// setSourcePort gives t another source port. One of an echo stands for both.
func (t *Tuple) setSourcePort(port uint16, proto uint8) {
	t.Ports = uint32(port)<<16 | t.Ports&0xffff
	if proto == packet.ProtoICMP || proto == packet.ProtoICMPv6 {
		t.Ports = uint32(port)<<16 | uint32(port)
	}
}

// sameSource reports whether two tuples of one family have one source address.
func (t *Tuple) sameSource(o *Tuple, ip6 bool) bool {
	if ip6 {
		return t.Addrs[0] == o.Addrs[0] && t.Addrs[1] == o.Addrs[1]
	}
	return uint32(t.Addrs[0]) == uint32(o.Addrs[0])
}

// hash spreads keys; seed makes it another one for each table, so that nobody outside can
// choose flows that collide.
func (k *SessionKey) hash(seed uint64) uint64 {
	a := &k.Addrs
	h, l := bits.Mul64(a[0]^0x243f6a8885a308d3^seed, (uint64(k.Ports)|uint64(k.Kind)<<32)^0xb7e151628aed2a6b)
	h ^= l
	if k.Kind&KeyIP6 != 0 {
		h2, l2 := bits.Mul64(a[1]^0x13198a2e03707345, a[2]^0xa4093822299f31d1^seed)
		h3, l3 := bits.Mul64(a[3]^0x452821e638d01377, h2^l2^0x9e3779b97f4a7c15)
		h ^= h3 ^ l3
	}
	h, l = bits.Mul64(h^0x9e3779b97f4a7c15, 0xd6e8feb86659fd93^seed)
	return h ^ l
}

// Look is what a packet is to sessions.
type Look struct {
	Key   SessionKey
	Known bool // packets of its kind have sessions
	Error bool // it is an ICMP error; Key is of what answers the packet that it quotes
	// FromEnd says of an error that it comes from the far end of its flow itself.
	FromEnd bool
	Flags   uint8 // of TCP
	// Piece names the packet that it is a fragment of, if Fragment; Later is one without a
	// transport header.
	Piece           SessionKey
	Fragment, Later bool
}

// Look reads buf, a whole IP packet that comes in, or goes out with output KeyOutput.
// Packets have sessions that are TCP, UDP, SCTP or an ICMP echo, or an ICMP error about
// one of these.
func (l *Look) Look(buf *packet.Buffer, output uint32) {
	*l = Look{}
	p := buf.L3Bytes()
	u, r := upper(p)
	if r != packet.OK {
		return
	}
	l4 := p[u.Offset:]
	l.Key.read(p, u.Proto, output)
	if l.Fragment = u.Fragment && Translates(u.Proto); l.Fragment {
		l.Piece, l.Later = pieceOf(&l.Key, p, u), u.Later
	}
	if u.Later {
		return
	}
	if isError(u.Proto, l4) {
		l.lookError(p, l4, output, u.Fragment)
		return
	}
	if whole(u, l4) == packet.OK {
		l.Known = l.Key.readPorts(l4)
	}
	if l.Known && u.Proto == packet.ProtoTCP {
		l.Flags = packet.TCP(l4).Flags()
	}
}

// pieceOf names the packet that p is a fragment of.
func pieceOf(k *SessionKey, p []byte, u packet.Upper) SessionKey {
	piece := SessionKey{Tuple: k.Tuple, Kind: k.Kind | KeyPiece}
	if k.Kind&KeyIP6 != 0 {
		piece.Ports = packet.Fragment(p[u.FragmentHeader:]).ID()
	} else {
		piece.Ports = uint32(packet.IPv4(p).ID())
	}
	return piece
}

func (l *Look) lookError(p, icmp []byte, output uint32, fragment bool) {
	if fragment || len(icmp) < packet.ICMPLen {
		return
	}
	inner := icmp[packet.ICMPLen:]
	u, r := upper(inner)
	if r != packet.OK || u.Later || inner[0]>>4 != p[0]>>4 || len(inner) < u.Offset+leastQuoted {
		return
	}
	from := l.Key.Tuple
	l.Key.read(inner, u.Proto, output)
	l.Known = l.Key.readPorts(inner[u.Offset:])
	l.Key.Tuple = l.Key.Reversed(l.Key.Kind&KeyIP6 != 0)
	l.Error, l.FromEnd = true, from.sameSource(&l.Key.Tuple, l.Key.Kind&KeyIP6 != 0)
}

// read sets all but the ports.
func (k *SessionKey) read(p []byte, proto uint8, output uint32) {
	*k = SessionKey{Kind: uint32(proto) | output}
	if p[0]>>4 == 4 {
		k.Addrs[0] = binary.LittleEndian.Uint64(p[addrs4:])
		return
	}
	k.Kind |= KeyIP6
	for i := range k.Addrs {
		k.Addrs[i] = binary.LittleEndian.Uint64(p[addrs6+8*i:])
	}
}

// readPorts sets the ports by a transport header of at least eight bytes, and reports
// whether such packets have sessions.
func (k *SessionKey) readPorts(l4 []byte) bool {
	switch proto := k.Protocol(); proto {
	case packet.ProtoTCP, packet.ProtoUDP, packet.ProtoSCTP:
		k.Ports = binary.BigEndian.Uint32(l4)
		return true
	case packet.ProtoICMP, packet.ProtoICMPv6:
		id := uint32(binary.BigEndian.Uint16(l4[echoID:]))
		k.Ports = id<<16 | id
		return isEcho(proto, l4)
	}
	return false
}
