package nat

import "github.com/millrace/millrace/engine/packet"

// quoted is how much of a quoted packet is rewritten at most: the longest header of IPv4,
// or IPv6 with some extensions, and that of TCP up to its checksum.
const quoted = 96

// rewriteError rewrites an ICMP error that is the packet p.
func (t *Target) rewriteError(p, icmp []byte, fromEnd bool) packet.Reason {
	inner := icmp[packet.ICMPLen:]
	u, r := upper(inner)
	switch {
	case r != packet.OK:
		return r
	case inner[0]>>4 != p[0]>>4 || !Translates(u.Proto):
		return packet.Unsupported
	}
	var before [quoted]byte
	n := min(len(inner), quoted) &^ 1
	if !u.Later && u.Offset+leastQuoted > n {
		return packet.Truncated
	}
	copy(before[:n], inner)
	back := t.reversed()
	old := back.network(inner)
	if !u.Later {
		back.quote(inner, inner[u.Offset:n], u.Proto, old)
	}
	update(icmp[checkICMP:], before[:n], inner[:n])
	outer := *t
	if !fromEnd {
		outer.keepSource(p)
	}
	was := outer.network(p)
	if p[0]>>4 == 6 {
		update(icmp[checkICMP:], was.bytes(), addressesOf(p))
	}
	return packet.OK
}

// leastQuoted is how much of a transport header is quoted at least (RFC 792).
const leastQuoted = 8

// Translates says whether packets of a protocol are rewritten.
func Translates(proto uint8) bool {
	switch proto {
	case packet.ProtoTCP, packet.ProtoUDP, packet.ProtoSCTP, packet.ProtoICMP, packet.ProtoICMPv6:
		return true
	}
	return false
}

// quote is transport for a quoted packet. The data that SCTP's checksum is about is
// missing: it stays, nobody can check it. An echo has one identifier for both ways.
func (t *Target) quote(p, l4 []byte, proto uint8, old addresses) {
	if proto == packet.ProtoSCTP {
		t.ports(l4, len(l4), nil, nil, false)
		return
	}
	t.transport(p, l4, proto, old, false)
}

// keepSource takes over the source that p has.
func (t *Target) keepSource(p []byte) {
	both := addressesOf(p)
	copy(t.Src[:], both[:len(both)/2])
}
