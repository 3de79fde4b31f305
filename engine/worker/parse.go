package worker

import (
	"encoding/binary"
	"math/bits"

	"github.com/millrace/millrace/engine/packet"
	"github.com/millrace/millrace/engine/port"
)

// Stage 1: what is each packet, and is it whole? Ethernet headers are checked and left in
// place; L3 says where the IP header is, and the packet ends where that header says.
//
// A plain packet is whole unicast IPv4 to us without options, offload or fragments, whose
// TTL lasts for another hop. The loop over the batch knows these by a few loads and
// compares; the rest take the longer way, one by one, and keep their place.

// received counts a batch as it comes in.
type received struct {
	bytes, ip4, ip6               uint64
	unicast, multicast, broadcast Combined
}

// parse puts the IP packets of bufs into the current vector and deals with the rest.
func (w *Worker) parse(bufs []*packet.Buffer) {
	b := &w.batch
	ifc, v := b.iface, b.cur
	b.rx = received{}
	front := ifc.front()
	b.l3 = front.l3
	plain := 0
	for i := 0; i < len(bufs); {
		n, bytes := v.parsePlain(bufs[i:], &front)
		plain += n
		b.rx.ip4 += uint64(n)
		b.rx.bytes += bytes
		b.rx.unicast.add(uint64(n), bytes)
		if i += n; i < len(bufs) {
			bufs[i].RxInterface = ifc.Index
			w.parseOne(bufs[i])
			i++
		}
	}
	v.plain = plain == v.n
	w.countRx(ifc, len(bufs))
}

// parsePlain puts the packets before the first that is not plain into v and returns how
// many, and the sum of their lengths. Nothing is called in its loop.
func (v *vector) parsePlain(bufs []*packet.Buffer, f *front) (int, uint64) {
	l3, rx, mac, macMask, typ, typMask := f.l3, f.rx, f.mac, f.macMask, f.typ, f.typMask
	bytes := uint64(0)
	for j, buf := range bufs {
		h, room := buf.Head(l3)
		if h == nil {
			v.n += j
			return j, bytes + uint64(j)*uint64(l3)
		}
		// Version to fragment offset, TTL to checksum, both addresses.
		x, y, z := le64(h, 14), le32(h, 22), le64(h, 26)
		size := uint32(bits.ReverseBytes16(uint16(x >> 16)))
		const least = packet.HeadLen - packet.EthLen
		if buf.Offload.Asks()|x>>48&0xff3f|(le64(h, 0)^mac)&macMask|uint64(le32(h, 12)^typ)&typMask != 0 ||
			size-least > room-least || // below what is read here, or beyond the end
			uint8(y) < 2 || !sums(x, y, z) {
			v.n += j
			return j, bytes + uint64(j)*uint64(l3)
		}
		bytes += uint64(room)
		buf.RxInterface = rx
		buf.Settle(l3, size)
		i := uint8(v.n + j) // a vector is as long as an uint8 counts
		v.buf[i], v.head[i], v.size[i], v.dst[i] = buf, h, size, bits.ReverseBytes32(uint32(z>>32))
	}
	v.n += len(bufs)
	return len(bufs), bytes + uint64(len(bufs))*uint64(l3)
}

// front is where the network header of a plain packet on an interface is, and what its
// first bytes are, as little-endian words under a mask.
type front struct {
	l3, rx       uint32
	mac, macMask uint64 // at 0
	typ          uint32 // at 12: ethertype and IP version
	typMask      uint64
}

func (i *Interface) front() front {
	f := front{rx: i.Index, typ: 0x450000, typMask: 0xff0000}
	if i.Link == port.Ethernet {
		m := i.MAC
		f.l3 = packet.EthLen
		f.mac = uint64(m[0]) | uint64(m[1])<<8 | uint64(m[2])<<16 | uint64(m[3])<<24 | uint64(m[4])<<32 | uint64(m[5])<<40
		f.macMask = 1<<48 - 1
		f.typ |= uint32(bits.ReverseBytes16(packet.EtherTypeIPv4))
		f.typMask |= 0xffff
	}
	if !i.Up || !i.IP4 {
		f.l3 = 1 << 31 // beyond every packet: none is plain
	}
	return f
}

func le64(h *packet.Head, at int) uint64 { return binary.LittleEndian.Uint64(h[at : at+8]) }
func le32(h *packet.Head, at int) uint32 { return binary.LittleEndian.Uint32(h[at : at+4]) }

// sums reports whether the one's complement sum of the 16-bit words in x, y and z is all
// ones. A word added to itself turned by half leaves the halves' sum, carry included, in
// its upper half.
func sums(x uint64, y uint32, z uint64) bool {
	s, carry := bits.Add64(x, z, 0)
	s, carry = bits.Add64(s, uint64(y), carry)
	s += carry
	t := uint32((s + bits.RotateLeft64(s, 32)) >> 32)
	return (t+bits.RotateLeft32(t, 16))>>16 == 0xffff
}

func (w *Worker) countRx(ifc *Interface, n int) {
	c, r, i := w.count, &w.batch.rx, ifc.Index
	c.RX[i].add(uint64(n), r.bytes)
	c.RxUnicast[i].add(r.unicast.Packets, r.unicast.Bytes)
	c.RxMulticast[i].add(r.multicast.Packets, r.multicast.Bytes)
	c.RxBroadcast[i].add(r.broadcast.Packets, r.broadcast.Bytes)
	c.IP4[i] += r.ip4
	c.IP6[i] += r.ip6
}

// parseOne deals with a packet that is not plain.
func (w *Worker) parseOne(buf *packet.Buffer) {
	ifc, r := w.batch.iface, &w.batch.rx
	rx := ifc.Index
	p := buf.Bytes()
	n := uint64(len(p))
	r.bytes += n
	typ := uint16(0)
	if ifc.Link == port.Ethernet {
		if len(p) < packet.EthLen {
			w.drop(EthernetTruncated, rx)
			return
		}
		switch {
		case p[0]&1 == 0:
			r.unicast.add(1, n)
			if packet.MAC(p[:6]) != ifc.MAC {
				w.drop(EthernetMAC, rx)
				return
			}
		case binary.BigEndian.Uint32(p) == 0xffffffff && p[4] == 0xff && p[5] == 0xff:
			r.broadcast.add(1, n)
		default:
			r.multicast.add(1, n)
		}
		typ = binary.BigEndian.Uint16(p[12:])
		buf.L3 = packet.EthLen
	} else if len(p) > 0 {
		buf.L3 = 0
		typ = etherTypeOf(p[0])
	}
	if !ifc.Up {
		w.drop(InterfaceDown, rx)
		return
	}
	switch typ {
	case packet.EtherTypeIPv4:
		r.ip4++
		w.parse4(buf)
	case packet.EtherTypeIPv6:
		r.ip6++
		w.parse6(buf)
	case packet.EtherTypeARP:
		w.arp(buf)
	case packet.EtherTypeVLAN, packet.EtherTypeQinQ:
		w.drop(EthernetVLAN, rx)
	default:
		w.drop(EthernetType, rx)
	}
}

func etherTypeOf(first byte) uint16 {
	switch first >> 4 {
	case 4:
		return packet.EtherTypeIPv4
	case 6:
		return packet.EtherTypeIPv6
	}
	return 0
}

func (w *Worker) parse4(buf *packet.Buffer) {
	ifc := w.batch.iface
	l3 := buf.L3Bytes()
	ip, r := packet.ParseIPv4(l3)
	switch {
	case r != packet.OK:
		w.drop(reason4(r, l3), ifc.Index)
		return
	case !ifc.IP4:
		w.drop(IP4NotEnabled, ifc.Index)
		return
	}
	buf.SetLen(int(buf.L3) + len(ip))
	if ifc.Bypass4 && ip.TTL() > 0 && w.enters4(buf) {
		return
	}
	if buf.Offload != (packet.Offload{}) && packet.CheckOffload(buf) != packet.OK {
		w.drop(BadOffload, ifc.Index)
		return
	}
	if ip.TTL() == 0 {
		w.timeExceeded4(buf)
		return
	}
	if ip.HeaderLen() != packet.IPv4Len {
		w.drop(IP4Options, ifc.Index) // as VPP does with all but router alert
		return
	}
	v := w.batch.cur
	k := &v.key[v.n]
	k.a, v.dst[v.n] = binary.LittleEndian.Uint64(ip[12:]), ip.DstUint32()
	u := ip.Upper()
	k.f = uint32(u.Proto)
	k.e = uint64(ifc.Index) << 32
	if u.Fragment {
		k.f |= keyFragment
	}
	if !u.Later {
		buf.L4 = buf.L3 + uint16(u.Offset)
		if !u.Fragment && len(ip) >= u.Offset+4 {
			k.e |= uint64(ports(u.Proto, ip[u.Offset:]))
		}
	}
	v.add(buf, len(ip))
}

func (w *Worker) parse6(buf *packet.Buffer) {
	ifc := w.batch.iface
	l3 := buf.L3Bytes()
	ip, r := packet.ParseIPv6(l3)
	switch {
	case r != packet.OK:
		w.drop(reason6(r, l3), ifc.Index)
		return
	case !ifc.IP6:
		w.drop(IP6NotEnabled, ifc.Index)
		return
	}
	buf.SetLen(int(buf.L3) + len(ip))
	if ifc.Bypass6 && ip.HopLimit() > 0 && w.enters6(buf) {
		return
	}
	if buf.Offload != (packet.Offload{}) && packet.CheckOffload(buf) != packet.OK {
		w.drop(BadOffload, ifc.Index)
		return
	}
	if ip.HopLimit() == 0 {
		w.timeExceeded6(buf)
		return
	}
	u, r := ip.Upper()
	if r != packet.OK {
		w.drop(IP6Extension, ifc.Index)
		return
	}
	v := w.batch.cur
	k := &v.key[v.n]
	k.a, k.b = binary.LittleEndian.Uint64(ip[8:]), binary.LittleEndian.Uint64(ip[16:])
	k.c, k.d = binary.LittleEndian.Uint64(ip[24:]), binary.LittleEndian.Uint64(ip[32:])
	k.f = uint32(u.Proto) | keyV6
	k.e = uint64(ifc.Index) << 32
	if u.Fragment {
		k.f |= keyFragment
	}
	if !u.Later {
		buf.L4 = buf.L3 + uint16(u.Offset)
		if !u.Fragment && len(ip) >= u.Offset+4 {
			k.e |= uint64(ports(u.Proto, ip[u.Offset:]))
		}
	}
	v.add(buf, len(ip))
}

// ports are the four bytes that tell flows between two hosts apart: both ports, or type,
// code and identifier of an echo. p has at least four bytes.
func ports(proto uint8, p []byte) uint32 {
	switch proto {
	case packet.ProtoTCP, packet.ProtoUDP, packet.ProtoSCTP, packet.ProtoUDPLite:
		return binary.BigEndian.Uint32(p)
	case packet.ProtoICMP, packet.ProtoICMPv6:
		if len(p) >= 6 {
			return uint32(binary.BigEndian.Uint16(p))<<16 | uint32(binary.BigEndian.Uint16(p[4:]))
		}
	}
	return 0
}

func reason4(r packet.Reason, l3 []byte) Reason {
	switch r {
	case packet.Truncated:
		if len(l3) < packet.IPv4Len {
			return IP4Short
		}
		return IP4Length
	case packet.BadVersion:
		return IP4Version
	case packet.BadHeaderLength:
		return IP4HeaderLength
	case packet.BadLength:
		return IP4Short
	case packet.BadFragment:
		return IP4Fragment
	}
	return IP4Checksum
}

func reason6(r packet.Reason, l3 []byte) Reason {
	switch {
	case r == packet.BadVersion:
		return IP6Version
	case r == packet.Truncated && len(l3) < packet.IPv6Len:
		return IP6Short
	}
	return IP6Length
}
