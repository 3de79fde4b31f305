package worker

import (
	"github.com/millrace/millrace/engine/packet"
)

// What is addressed to ourselves: echo requests and neighbour discovery are answered,
// everything else goes where the receiving interface's punt adjacency says, or nowhere.
// Damaged UDP, and TCP over IPv4, is not handed on, as in VPP; fragments are, unchecked,
// for whoever puts them together.

func (w *Worker) local4(buf *packet.Buffer) {
	rx := buf.RxInterface
	ifc := w.batch.ifs[rx]
	ip := packet.IPv4(buf.L3Bytes())
	if r := w.sourceRoute(ip, ifc); r == nil || len(r.RPF) == 0 && !r.Local {
		w.drop(IP4NoSource, rx)
		return
	} else if r.Local {
		w.drop(IP4Spoofed, rx)
		return
	}
	u := ip.Upper()
	if u.Proto == packet.ProtoICMP && !u.Fragment {
		if len(ip) >= u.Offset+packet.ICMPLen && packet.ICMPv4(ip[u.Offset:]).Type() == packet.ICMPv4Echo {
			w.echo4(buf)
			return
		}
		w.punt(buf, ICMP4Type, ifc.Punt4)
		return
	}
	switch {
	case u.Proto == packet.ProtoUDP && !u.Later && !(u.Fragment && ifc.PuntUDP4):
		if r := w.checkUDP(buf, ip[u.Offset:]); r != packet.OK {
			w.drop(udpReason(r, IP4UDPLength, IP4TransportChecksum), rx)
			return
		}
		if !u.Fragment && w.localTunnel(buf, u.Offset) {
			return
		}
		if !ifc.PuntUDP4 {
			w.unreachable(buf, UDPNoListener4, packet.ICMPv4PortUnreachable, packet.ICMPv6PortUnreachable)
			return
		}
	case u.Proto == packet.ProtoTCP && !u.Fragment && packet.VerifyTransportChecksum(buf) != packet.OK:
		w.drop(IP4TransportChecksum, rx)
		return
	}
	w.punt(buf, IP4Protocol, ifc.Punt4)
}

func (w *Worker) echo4(buf *packet.Buffer) {
	rx := buf.RxInterface
	switch packet.MakeEchoReply4(buf) {
	case packet.OK:
		w.count.Errors[ICMP4Echo]++
		w.respond(buf, rx)
	case packet.BadChecksum:
		w.drop(ICMP4Checksum, rx)
	default:
		w.drop(ICMP4Type, rx)
	}
}

// checkUDP checks length and checksum of the datagram at buf's L4.
func (w *Worker) checkUDP(buf *packet.Buffer, p []byte) packet.Reason {
	if _, r := packet.ParseUDP(p); r != packet.OK {
		return r
	}
	if packet.IPv4(buf.L3Bytes())[0]>>4 == 4 && packet.IPv4(buf.L3Bytes()).IsFragment() {
		return packet.OK
	}
	return packet.VerifyTransportChecksum(buf)
}

func udpReason(r packet.Reason, length, checksum Reason) Reason {
	if r == packet.BadChecksum {
		return checksum
	}
	return length
}

// punt hands a packet that nobody here listens to to the host, if there is a way.
func (w *Worker) punt(buf *packet.Buffer, why Reason, adj uint32) {
	rx := buf.RxInterface
	if adj != NoIndex {
		if a := w.state.adjs.Load(adj); a != nil && a.Kind == KindRewrite {
			w.count.Punt[rx]++
			if len(buf.L3Bytes()) > a.MTU && !packet.Fits(buf, a.MTU) {
				w.drop(IP4MTU, rx)
				return
			}
			if w.mayLeave(buf, a) {
				w.frame(buf, a)
			}
			return
		} else if a != nil && a.Kind == KindUnresolved {
			w.solicit(buf, a, a.NextHop)
			return
		}
	}
	w.drop(why, rx)
}

func (w *Worker) local6(buf *packet.Buffer) {
	rx := buf.RxInterface
	ifc := w.batch.ifs[rx]
	ip := packet.IPv6(buf.L3Bytes())
	u, r := ip.Upper()
	if r != packet.OK {
		w.drop(IP6Extension, rx)
		return
	}
	if u.Proto == packet.ProtoICMPv6 && !u.Fragment {
		w.icmp6(buf, ip, u, ifc, ip.Dst())
		return
	}
	if !packet.IsLinkLocal6(ip.Src()) {
		if r := w.sourceRoute(ip, ifc); r == nil || len(r.RPF) == 0 && !r.Local {
			w.drop(IP6NoSource, rx)
			return
		} else if r.Local {
			w.drop(IP6Spoofed, rx)
			return
		}
	}
	if u.Proto == packet.ProtoUDP && !u.Later && !(u.Fragment && ifc.PuntUDP6) {
		if r := w.checkUDP(buf, ip[u.Offset:]); r != packet.OK {
			w.drop(udpReason(r, IP6UDPLength, IP6TransportChecksum), rx)
			return
		}
		if !u.Fragment && w.localTunnel(buf, u.Offset) {
			return
		}
		if !ifc.PuntUDP6 {
			w.unreachable(buf, UDPNoListener4, packet.ICMPv4PortUnreachable, packet.ICMPv6PortUnreachable)
			return
		}
	}
	w.punt(buf, IP6Protocol, ifc.Punt6)
}

// icmp6 deals with an ICMPv6 message to us; self is the address to answer from.
func (w *Worker) icmp6(buf *packet.Buffer, ip packet.IPv6, u packet.Upper, ifc *Interface, self [16]byte) {
	rx := buf.RxInterface
	if len(ip) < u.Offset+packet.ICMPLen {
		w.drop(ICMP6Short, rx)
		return
	}
	switch packet.ICMPv6(ip[u.Offset:]).Type() {
	case packet.ICMPv6Echo:
		switch packet.MakeEchoReply6(buf, self) {
		case packet.OK:
			w.count.Errors[ICMP6Echo]++
			w.respond(buf, rx)
		case packet.BadChecksum:
			w.drop(ICMP6Checksum, rx)
		default:
			w.drop(ICMP6Type, rx)
		}
	case packet.ICMPv6NeighborSolicit, packet.ICMPv6NeighborAdvert:
		w.neighbor6(buf, ip, u, ifc)
	default:
		w.punt(buf, ICMP6Type, ifc.Punt6)
	}
}

// multicast6 deals with a packet to an IPv6 group: we listen to link-local groups only,
// and hear ICMPv6 there.
func (w *Worker) multicast6(buf *packet.Buffer, ifc *Interface) {
	ip := packet.IPv6(buf.L3Bytes())
	u, r := ip.Upper()
	scope := ip[25] & 0x0f
	if w.isOwn(buf) || r != packet.OK || scope > 2 || u.Proto != packet.ProtoICMPv6 || u.Fragment {
		w.drop(IP6Multicast, buf.RxInterface)
		return
	}
	self, ok := ifc.Source6(ip.Src())
	if !ok {
		w.drop(IP6Multicast, buf.RxInterface)
		return
	}
	w.icmp6(buf, ip, u, ifc, self)
}
