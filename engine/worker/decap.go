package worker

import (
	"github.com/millrace/millrace/engine/packet"
)

// entered are packets that came out of tunnels in this batch.
type entered struct {
	n   int
	buf [packet.BatchSize]*packet.Buffer
	by  [packet.BatchSize]uint32 // the tunnel's interface
}

// bypass takes the plain packets out of v that are for tunnels: VPP's ip4-vxlan-bypass. It
// stands before all lookups, so that it matters not whose the tunnel's address is.
func (w *Worker) bypass(v *vector) {
	n := 0
	for i := range v.n {
		h := v.head[i]
		if h != nil && h[23] == packet.ProtoUDP && w.enters4(v.buf[i]) {
			continue
		}
		if n != i {
			v.buf[n], v.head[n], v.size[n], v.key[n], v.dst[n] = v.buf[i], v.head[i], v.size[i], v.key[i], v.dst[i]
		}
		n++
	}
	v.n = n
}

// enters4 takes an IPv4 packet without options that is for a tunnel, and reports whether
// it was.
func (w *Worker) enters4(buf *packet.Buffer) bool {
	ip := packet.IPv4(buf.L3Bytes())
	if ip.Protocol() != packet.ProtoUDP || ip.IsFragment() || ip.HeaderLen() != packet.IPv4Len {
		return false
	}
	return w.enters(buf, packet.IPv4Len)
}

// enters6 is enters4 for IPv6.
func (w *Worker) enters6(buf *packet.Buffer) bool {
	p := buf.L3Bytes()
	return p[6] == packet.ProtoUDP && w.enters(buf, packet.IPv6Len)
}

// enters is for a whole packet whose UDP header is l4 bytes behind its IP header.
func (w *Worker) enters(buf *packet.Buffer, l4 int) bool {
	p := buf.L3Bytes()
	if len(p) < l4+packet.UDPLen+packet.VXLANLen {
		return false
	}
	if !w.batch.entrances.hears(packet.UDP(p[l4:]).DstPort()) {
		return false
	}
	e, r := w.entrance(p, l4)
	if r != packet.OK {
		return false // whoever else it is for
	}
	length, checksum := IP4UDPLength, IP4TransportChecksum
	if l4 == packet.IPv6Len {
		length, checksum = IP6UDPLength, IP6TransportChecksum
	}
	rx := buf.RxInterface
	switch {
	case int(packet.UDP(p[l4:]).Length()) > len(p)-l4:
		w.drop(length, rx)
	case !w.sound(buf, l4):
		w.drop(checksum, rx)
	default:
		w.enter(buf, l4, e)
	}
	return true
}

// sound checks the datagram's checksum; none is right over IPv4, and by RFC 6935 over IPv6.
// One that the sender left to the device was not damaged on the way.
func (w *Worker) sound(buf *packet.Buffer, l4 int) bool {
	if buf.Offload.GSO != packet.GSONone || packet.UDP(buf.L3Bytes()[l4:]).Checksum() == 0 {
		return true
	}
	buf.L4 = buf.L3 + uint16(l4)
	return packet.VerifyTransportChecksum(buf) == packet.OK
}

// entrance finds the tunnel of a packet.
func (w *Worker) entrance(p []byte, l4 int) (*Entrance, packet.Reason) {
	v, r := packet.ParseVXLAN(p[l4+packet.UDPLen:])
	if r != packet.OK {
		return nil, r
	}
	k := TunnelKey{VNI: v.VNI(), Port: packet.UDP(p[l4:]).DstPort()}
	ifc := w.batch.iface
	if l4 == packet.IPv4Len {
		copy(k.Remote[:4], p[12:])
		copy(k.Local[:4], p[16:])
		if ifc.Table4 != nil {
			k.Table = ifc.Table4.ID
		}
	} else {
		copy(k.Remote[:], p[8:])
		copy(k.Local[:], p[24:])
		k.V6 = true
		if ifc.Table6 != nil {
			k.Table = ifc.Table6.ID
		}
	}
	if e := w.batch.entrances.find(&k); e != nil {
		return e, packet.OK
	}
	return nil, packet.Unsupported
}

// enter makes buf a packet that came in by a tunnel.
func (w *Worker) enter(buf *packet.Buffer, l4 int, e *Entrance) {
	rx := buf.RxInterface
	ifc := w.batch.interfaceAt(e.Interface)
	in := w.batch.entering
	switch {
	case ifc == nil || e.Decap == DecapDrop:
		w.drop(Blackholed, rx)
		return
	case e.Decap == DecapBridge:
		w.drop(NoBridge, rx)
		return
	case in.n == len(in.buf):
		w.drop(NoBuffers, rx)
		return
	}
	decapsulated := VXLAN4Decapsulated
	if l4 == packet.IPv6Len {
		decapsulated = VXLAN6Decapsulated
	}
	w.count.Errors[decapsulated]++
	buf.Unwrap(int(buf.L3) + l4 + packet.UDPLen + packet.VXLANLen)
	in.buf[in.n], in.by[in.n] = buf, e.Interface
	in.n++
}

// localTunnel takes a datagram to an address of ours if its port is a tunnel's. Here it has
// to be one of a tunnel: that it is not is an error.
func (w *Worker) localTunnel(buf *packet.Buffer, l4 int) bool {
	p := buf.L3Bytes()
	if !w.batch.entrances.hears(packet.UDP(p[l4:]).DstPort()) {
		return false
	}
	noTunnel, badFlags := VXLAN4NoTunnel, VXLAN4BadFlags
	if p[0]>>4 == 6 {
		noTunnel, badFlags = VXLAN6NoTunnel, VXLAN6BadFlags
	}
	e, r := w.entrance(p, l4)
	switch r {
	case packet.OK:
		w.enter(buf, l4, e)
	case packet.BadVersion:
		w.drop(badFlags, buf.RxInterface)
	default:
		w.drop(noTunnel, buf.RxInterface)
	}
	return true
}

// unwrapped sends what came out of tunnels through all stages, one tunnel after the other,
// and reports whether there was anything.
func (w *Worker) unwrapped() bool {
	b := &w.batch
	if b.entering.n == 0 {
		return false
	}
	in := b.entering
	b.entering, b.inside = b.inside, in
	b.entering.n = 0
	for i := range in.n {
		if in.buf[i] == nil {
			continue
		}
		by, n := in.by[i], 0
		for j := i; j < in.n; j++ {
			if in.by[j] == by && in.buf[j] != nil {
				b.group[n], in.buf[j] = in.buf[j], nil
				n++
			}
		}
		b.iface = b.interfaceAt(by)
		w.stages(b.group[:n])
	}
	return true
}
