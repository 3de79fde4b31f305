package worker

import (
	"encoding/binary"

	"github.com/millrace/millrace/engine/packet"
)

// Stage 4: what each adjacency asks for. Plain packets get one less of TTL and another
// Ethernet header, in a loop over the batch; the others are looked at closer, and those
// that cannot simply be sent leave the straight path here.

func (w *Worker) rewrite(v *vector) {
	adjs, boxes := w.state.adjs.View(), w.outbox.boxes
	l3 := w.batch.l3
	heads, sizes, bufs := v.head[:v.n], v.size[:v.n], v.buf[:v.n]
	for i, index := range v.adj[:v.n] {
		if uint64(index) >= uint64(len(adjs)) {
			w.rewriteOne(bufs[i], index)
			continue
		}
		a, h, size := adjs[index].Load(), heads[i], sizes[i]
		if a == nil || h == nil || size > a.straight || uint64(a.Interface) >= uint64(len(boxes)) {
			w.rewriteOne(bufs[i], index)
			continue
		}
		age(h)
		to := uint32(a.HeaderLen)
		if to != l3 {
			reframe(bufs[i], int(to), int(l3))
		}
		if to != 0 {
			*(*[packet.EthLen]byte)(h[:]) = a.Header
		}
		b := &boxes[a.Interface]
		if b.buf == nil {
			w.outbox.open(a.Interface)
		}
		b.bytes += uint64(size + to)
		b.buf[uint8(b.n)] = bufs[i] // a box is as long as an uint8 counts
		if b.n++; b.n == len(b.buf) {
			w.emptyBox(a.Interface)
		}
	}
}

// rewriteOne deals with a packet that is not plain, or not simply sent.
func (w *Worker) rewriteOne(buf *packet.Buffer, index uint32) {
	if index == noAdjacency {
		return
	}
	a := w.state.adjs.Load(index)
	if a != nil && a.Kind == KindRewrite {
		w.forward(buf, a)
		return
	}
	w.divert(buf, a)
}

// age takes one from the TTL, which is above 1. The checksum rises by as much as the word
// falls that the TTL is the high byte of, with the end-around carry (RFC 1624).
func age(h *packet.Head) {
	x := binary.LittleEndian.Uint32(h[22:26])
	sum := x>>16 + 1 // of big-endian words, read little-endian
	sum += sum >> 16
	binary.LittleEndian.PutUint32(h[22:26], x&0xffff-1|sum<<16)
}

// reframe changes the length of what stands before the network header of a plain packet;
// there is room for an Ethernet header.
func reframe(buf *packet.Buffer, to, from int) {
	if to > from {
		buf.Push(to - from)
	} else {
		buf.Pull(from - to)
	}
}

// own reports whether buf was made by this worker in this batch: such a packet has no
// Ethernet header, keeps its TTL and causes no ICMP error.
func (w *Worker) isOwn(buf *packet.Buffer) bool { return buf.Meta[metaOwn]&ownBit != 0 }

// Words of Buffer.Meta.
const (
	metaOwn      = 0 // made here, or judged
	metaFragment = 1 // L3 MTU to cut the packet to, 0 for none

	// Bits of metaOwn.
	ownBit    = 1 // made here
	judgedBit = 2 // may go out by the interface of its adjacency
)

// forward sends buf by a: TTL, MTU, Ethernet header.
func (w *Worker) forward(buf *packet.Buffer, a *Adjacency) {
	p := buf.L3Bytes()
	if p[0]>>4 == 4 {
		ip := packet.IPv4(p)
		if !w.isOwn(buf) {
			if ip.TTL() <= 1 {
				w.timeExceeded4(buf)
				return
			}
		}
		if len(p) > a.MTU && !packet.Fits(buf, a.MTU) && !w.oversize4(buf, ip, a) || !w.mayLeave(buf, a) {
			return
		}
		if !w.isOwn(buf) {
			ip.DecrementTTL()
		}
	} else {
		ip := packet.IPv6(p)
		if !w.isOwn(buf) {
			if ip.HopLimit() <= 1 {
				w.timeExceeded6(buf)
				return
			}
			if packet.IsLinkLocal6(ip.Src()) && a.Interface != buf.RxInterface {
				w.drop(IP6Scope, buf.RxInterface)
				return
			}
		}
		if len(p) > a.MTU && !packet.Fits(buf, a.MTU) {
			if !w.isOwn(buf) {
				w.tooBig6(buf, a.MTU)
				return
			}
			buf.Meta[metaFragment] = uint16(min(a.MTU, 0xffff))
		}
		if !w.mayLeave(buf, a) {
			return
		}
		if !w.isOwn(buf) {
			ip.DecrementHopLimit()
		}
	}
	w.frame(buf, a)
}

// frame gives buf the adjacency's Ethernet header and puts it into the outbox.
func (w *Worker) frame(buf *packet.Buffer, a *Adjacency) {
	old, hl := int(buf.L3), int(a.HeaderLen)
	switch {
	case old > hl:
		buf.Pull(old - hl)
	case old < hl:
		if buf.Room() < hl-old {
			w.drop(NoBuffers, buf.RxInterface)
			return
		}
		buf.Push(hl - old)
	}
	if hl != 0 {
		copy(buf.Bytes()[:packet.EthLen], a.Header[:])
		buf.L3 = packet.EthLen
	}
	w.send(buf, a.Interface)
}

// oversize4 decides about an IPv4 packet longer than the MTU and reports whether it goes
// on, to be cut.
func (w *Worker) oversize4(buf *packet.Buffer, ip packet.IPv4, a *Adjacency) bool {
	if ip.DontFragment() {
		w.fragNeeded4(buf, a.MTU)
		return false
	}
	if buf.Offload.GSO&^packet.GSOECN == packet.GSOTCPv4 {
		// A stream has no borders: shorter segments do what fragments would.
		if size := int(buf.Offload.GSOSize) - (packet.WireLen(buf) - a.MTU); size > 0 {
			buf.Offload.GSOSize = uint16(size)
			return true
		}
		w.drop(FragmentFailed, buf.RxInterface)
		return false
	}
	buf.Meta[metaFragment] = uint16(min(a.MTU, 0xffff))
	return true
}

// divert deals with a packet that is not simply sent.
func (w *Worker) divert(buf *packet.Buffer, a *Adjacency) {
	rx := buf.RxInterface
	v4 := buf.L3Bytes()[0]>>4 == 4
	if a == nil {
		w.drop(Blackholed, rx)
		return
	}
	switch a.Kind {
	case KindLocal:
		switch {
		case w.isOwn(buf):
			w.drop(Blackholed, rx)
		case v4:
			w.local4(buf)
		default:
			w.local6(buf)
		}
	case KindUnresolved:
		w.solicit(buf, a, a.NextHop)
	case KindGlean:
		w.glean(buf, a)
	case KindUnreachable:
		w.unreachable(buf, Unreachable4, packet.ICMPv4HostUnreachable, packet.ICMPv6NoRoute)
	case KindProhibit:
		w.unreachable(buf, Prohibited4, icmpv4HostProhibited, packet.ICMPv6AdminProhibited)
	default:
		w.drop(Blackholed, rx)
	}
}

// icmpv4HostProhibited is RFC 1122's code 10, which VPP sends for a prohibited route.
const icmpv4HostProhibited uint8 = 10
