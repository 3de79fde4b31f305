package worker

import (
	"encoding/binary"
	"math/bits"

	"github.com/millrace/millrace/engine/nat"
	"github.com/millrace/millrace/engine/packet"
)

// Packets of flows that address translation knows. Of a plain packet the addresses, the
// ports and what both mean to its checksums are written as the flow cache has them.

// change4 is what packets of an IPv4 flow get.
type change4 struct {
	addrs uint64
	ports uint32
	// What a checksum grows by (one's complement, of words read little endian), of the
	// header and of TCP or UDP.
	header, transport uint16
}

// change6 is what packets of an IPv6 flow get.
type change6 struct{ to nat.Tuple }

// keepChange notes the change of the flow that e, which put has returned, stands for.
func (c *flowCache) keepChange(ch *change, hash uint64, e *flowState) {
	at, i := c.where(&ch.key, hash, e)
	if ch.key.f&keyV6 != 0 {
		c.changes6[at], c.nat6[at] = change6{ch.to}, ch.crossings
		return
	}
	x := change4{addrs: ch.to.Addrs[0], ports: ch.to.Ports}
	header := difference(ch.key.a, x.addrs)
	x.header = fold16(header)
	x.transport = fold16(header + difference(uint64(bits.ReverseBytes32(uint32(ch.key.e))), uint64(bits.ReverseBytes32(x.ports))))
	c.changes4[at][i], c.nat4[at][i] = x, ch.crossings
}

// difference is by how much the sum of 16-bit words grows, not folded.
func difference(from, to uint64) uint64 { return words(^from) + words(to) }

// words is the sum of the four 16-bit words of x.
func words(x uint64) uint64 { return x&0xffff + x>>16&0xffff + x>>32&0xffff + x>>48 }

// fold16 brings a sum below 2^32 down to 16 bits, carries included.
func fold16(x uint64) uint16 {
	x = x>>16 + x&0xffff
	return uint16(x>>16 + x)
}

// grown is a checksum, read little endian, after its words grew (RFC 1624).
func grown(check, by uint16) uint16 { return ^fold16(uint64(^check) + uint64(by)) }

// keepsWay reports whether packet i of the flow s goes where the flow goes: not if it is too
// long or too old for that.
func (w *Worker) keepsWay(v *vector, i int, s *flowState) bool {
	a := w.state.adjs.Load(s.adj >> flowBits)
	return a != nil && (v.head[i] != nil && v.size[i] <= a.straight || a.Kind != KindRewrite || sent(v.buf[i], a))
}

// changeKnown changes packet i, which keeps the way of the flow s, and reports whether it
// could.
func (w *Worker) changeKnown(v *vector, i int, s *flowState) bool {
	flows, buf := &w.batch.flows, v.buf[i]
	at, j := flows.where(&v.key[i], v.hash[i], s)
	if h := v.head[i]; h != nil {
		if x := &flows.changes4[at][j]; x.apply(h, buf, v.size[i]) {
			return true
		}
	}
	v6 := v.key[i].f&keyV6 != 0
	var to nat.Tuple
	if v6 {
		to = flows.changes6[at].to
	} else {
		to = flows.changes4[at][j].to()
	}
	t := to.Target(v6)
	if nat.Rewrite(buf, &t, false) != packet.OK {
		return false // its transport header is cut off
	}
	if w.isSent(s) {
		buf.Meta[metaOwn] |= judgedBit
	}
	return true
}

// apply changes a plain packet, if it is one of TCP or UDP with a whole header.
func (x *change4) apply(h *packet.Head, buf *packet.Buffer, size uint32) bool {
	const transport = packet.EthLen + packet.IPv4Len
	switch h[23] {
	case packet.ProtoTCP:
		if size < packet.IPv4Len+packet.TCPLen {
			return false
		}
		check := buf.L3Bytes()[packet.IPv4Len+16:][:2]
		binary.LittleEndian.PutUint16(check, grown(binary.LittleEndian.Uint16(check), x.transport))
	case packet.ProtoUDP:
		if size < packet.IPv4Len+packet.UDPLen {
			return false
		}
		check := h[transport+6:][:2]
		if old := binary.LittleEndian.Uint16(check); old != 0 {
			now := grown(old, x.transport)
			if now == 0 {
				now = 0xffff // 0 would be none
			}
			binary.LittleEndian.PutUint16(check, now)
		}
	default:
		return false
	}
	header := h[packet.EthLen+10:][:2]
	binary.LittleEndian.PutUint16(header, grown(binary.LittleEndian.Uint16(header), x.header))
	binary.LittleEndian.PutUint64(h[26:34], x.addrs)
	binary.BigEndian.PutUint32(h[transport:transport+4], x.ports)
	return true
}

// renewNAT is renewSlow for address translation: it refreshes the sessions of a flow, and
// looks whether one has begun where it has none.
func (w *Worker) renewNAT(v *vector, i int, s *flowState, flags uint8) bool {
	b := &w.batch
	k := &v.key[i]
	in, ok := sessionKey(k)
	if !ok {
		return true
	}
	out := in
	out.Kind |= nat.KeyOutput
	var c crossings
	if s.adj&flowNAT != 0 {
		if begins(flags) {
			return false // it may go elsewhere than the last from this port
		}
		at, j := b.flows.where(k, v.hash[i], s)
		if k.f&keyV6 != 0 {
			c, out.Tuple = b.flows.nat6[at], b.flows.changes6[at].to
		} else {
			c = b.flows.nat4[at][j]
			out.Tuple = b.flows.changes4[at][j].to()
		}
	}
	return w.holdsOn(c.in, &in, flags) && w.holdsOn(c.out, &out, flags)
}

// holdsOn refreshes a session, or looks whether there is none still for the packets of key.
func (w *Worker) holdsOn(r nat.Ref, key *nat.SessionKey, flags uint8) bool {
	t := w.batch.nat.Sessions
	if r.Valid() {
		return t.Touch(r, w.batch.clock, flags)
	}
	var f nat.Found
	return !t.Find(key, &f)
}

// sessionKey is the key of the session that packets which come in with k have, if such
// packets have one.
func sessionKey(k *flowKey) (key nat.SessionKey, ok bool) {
	key.Kind = k.f & (nat.KeyIP6 | 0xff)
	key.Addrs[0], key.Ports = k.a, uint32(k.e)
	if k.f&keyV6 != 0 {
		key.Addrs = [4]uint64{k.a, k.b, k.c, k.d}
	}
	switch uint8(k.f) {
	case packet.ProtoTCP, packet.ProtoUDP, packet.ProtoSCTP:
	case packet.ProtoICMP, packet.ProtoICMPv6:
		key.Ports = uint32(k.e)&0xffff | uint32(k.e)<<16
	default:
		return key, false
	}
	return key, true
}

// to is what packets get.
func (x *change4) to() nat.Tuple { return nat.Tuple{Addrs: [4]uint64{x.addrs}, Ports: x.ports} }
