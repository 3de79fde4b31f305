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

// changeKnown changes packet i of the flow s, and reports whether that is all: not of
// packets that leave their flow's way, being too long or too old for it.
func (w *Worker) changeKnown(v *vector, i int, s *flowState) bool {
	b, adj := &w.batch, s.adj>>flowBits
	a := w.state.adjs.Load(adj)
	if a == nil {
		return false
	}
	at, j := b.flows.where(&v.key[i], v.hash[i], s)
	if h := v.head[i]; h != nil && v.size[i] <= a.straight {
		if x := &b.flows.changes4[at][j]; x.apply(h, v.buf[i], v.size[i]) {
			return true
		}
	}
	buf := v.buf[i]
	if a.Kind == KindRewrite {
		if !sent(buf, a) {
			buf.Meta[metaOwn] &^= judgedBit
			return false
		}
		buf.Meta[metaOwn] |= judgedBit
	}
	v6 := v.key[i].f&keyV6 != 0
	to := nat.Tuple{}
	if v6 {
		to = b.flows.changes6[at].to
	} else {
		x := &b.flows.changes4[at][j]
		to.Addrs[0], to.Ports = x.addrs, x.ports
	}
	t := to.Target(v6)
	if nat.Rewrite(buf, &t, false) != packet.OK {
		buf.Meta[metaOwn] &^= judgedBit
		return false // its transport header is cut off
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

// renewNAT is renewSlow for address translation: it refreshes the sessions of a flow, or
// looks whether one has begun for a flow that has none.
func (w *Worker) renewNAT(v *vector, i int, s *flowState, flags uint8) bool {
	b := &w.batch
	t := b.nat.Sessions
	switch {
	case s.adj&flowNAT == 0:
		return !w.begun(&v.key[i])
	case begins(flags):
		return false // it may go elsewhere than the last from this port
	}
	c := b.flows.crossingsOf(&v.key[i], v.hash[i], s)
	return (!c.in.Valid() || t.Touch(c.in, b.clock, flags)) && (!c.out.Valid() || t.Touch(c.out, b.clock, flags))
}

// begun reports whether there is a session now for packets that nothing translated.
func (w *Worker) begun(k *flowKey) bool {
	key := nat.SessionKey{Kind: k.f & (nat.KeyIP6<<1 - 1)}
	key.Addrs, key.Ports = [4]uint64{k.a, k.b, k.c, k.d}, uint32(k.e)
	switch uint8(k.f) {
	case packet.ProtoTCP, packet.ProtoUDP, packet.ProtoSCTP:
	case packet.ProtoICMP, packet.ProtoICMPv6:
		key.Ports = uint32(k.e)&0xffff | uint32(k.e)<<16
	default:
		return false
	}
	if k.f&keyV6 == 0 {
		key.Addrs = [4]uint64{k.a}
	}
	var f nat.Found
	t := w.batch.nat.Sessions
	if t.Find(&key, &f) {
		return true
	}
	key.Kind |= nat.KeyOutput
	return t.Find(&key, &f)
}
