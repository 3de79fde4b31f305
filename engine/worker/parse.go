package worker

import (
	"encoding/binary"

	"github.com/millrace/millrace/engine/packet"
	"github.com/millrace/millrace/engine/port"
)

// Stage 1: what is each packet, and is it whole? Ethernet headers are checked and left in
// place; L3 says where the IP header is, and the packet ends where that header says.

// parse puts the IP packets of bufs into the current vector and deals with the rest.
func (w *Worker) parse(bufs []*packet.Buffer) {
	ifc := w.batch.iface
	c, rx := w.count, ifc.Index
	var bytes, n4, n6 uint64
	var unicast, multicast, broadcast Combined
	for _, buf := range bufs {
		buf.RxInterface = rx
		p := buf.Bytes()
		bytes += uint64(len(p))
		typ := uint16(0)
		if ifc.Link == port.Ethernet {
			if len(p) < packet.EthLen {
				w.drop(EthernetTruncated, rx)
				continue
			}
			switch {
			case p[0]&1 == 0:
				unicast.add(1, uint64(len(p)))
				if packet.MAC(p[:6]) != ifc.MAC {
					w.drop(EthernetMAC, rx)
					continue
				}
			case binary.BigEndian.Uint32(p) == 0xffffffff && p[4] == 0xff && p[5] == 0xff:
				broadcast.add(1, uint64(len(p)))
			default:
				multicast.add(1, uint64(len(p)))
			}
			typ = binary.BigEndian.Uint16(p[12:])
			buf.L3 = packet.EthLen
		} else if len(p) > 0 {
			buf.L3 = 0
			typ = etherTypeOf(p[0])
		}
		if !ifc.Up {
			w.drop(InterfaceDown, rx)
			continue
		}
		switch typ {
		case packet.EtherTypeIPv4:
			n4++
			w.parse4(buf)
		case packet.EtherTypeIPv6:
			n6++
			w.parse6(buf)
		case packet.EtherTypeARP:
			w.arp(buf)
		case packet.EtherTypeVLAN, packet.EtherTypeQinQ:
			w.drop(EthernetVLAN, rx)
		default:
			w.drop(EthernetType, rx)
		}
	}
	c.RX[rx].add(uint64(len(bufs)), bytes)
	c.RxUnicast[rx].add(unicast.Packets, unicast.Bytes)
	c.RxMulticast[rx].add(multicast.Packets, multicast.Bytes)
	c.RxBroadcast[rx].add(broadcast.Packets, broadcast.Bytes)
	c.IP4[rx] += n4
	c.IP6[rx] += n6
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
	k.a = binary.LittleEndian.Uint64(ip[12:])
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
	v.buf[v.n] = buf
	v.n++
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
	v.buf[v.n] = buf
	v.n++
}

// ports are the four bytes that tell flows between two hosts apart: both ports, or the
// identifier of an echo. p has at least four bytes.
func ports(proto uint8, p []byte) uint32 {
	switch proto {
	case packet.ProtoTCP, packet.ProtoUDP, packet.ProtoSCTP, packet.ProtoUDPLite:
		return binary.BigEndian.Uint32(p)
	case packet.ProtoICMP, packet.ProtoICMPv6:
		if len(p) >= 6 {
			return uint32(p[0])<<16 | uint32(binary.BigEndian.Uint16(p[4:]))
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
