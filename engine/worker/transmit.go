package worker

import (
	"github.com/millrace/millrace/engine/packet"
	"github.com/millrace/millrace/engine/port"
)

// Stage 5: packets grouped per interface go to the port, cut or with finished checksums
// where the port cannot do that itself.

// box holds what goes out by one interface.
type box struct {
	n     int
	buf   *[packet.BatchSize]*packet.Buffer
	bytes uint64 // of the packets that came straight from rewrite
	mixed bool   // some packet came by send: any length, any kind of address
	cut   bool   // some packet is to be fragmented or segmented
	work  bool   // some packet has an Offload
}

// outbox is a box per interface and the list of those in use.
type outbox struct {
	boxes  []box
	active []uint32
	free   []*[packet.BatchSize]*packet.Buffer
}

func (o *outbox) reset() {
	for _, i := range o.active {
		o.release(i)
	}
	o.active = o.active[:0]
}

func (o *outbox) release(i uint32) {
	b := &o.boxes[i]
	o.free = append(o.free, b.buf)
	*b = box{}
}

// send puts buf, complete with its Ethernet header, into the box of interface tx.
func (w *Worker) send(buf *packet.Buffer, tx uint32) {
	o := &w.outbox
	if int(tx) >= len(o.boxes) {
		w.drop(TxGone, buf.RxInterface)
		return
	}
	b := &o.boxes[tx]
	if b.buf == nil {
		o.open(tx)
	}
	b.mixed = true
	if buf.Offload != (packet.Offload{}) {
		b.work = true
	}
	if buf.Meta[metaFragment] != 0 {
		b.cut = true
	}
	b.buf[b.n] = buf
	if b.n++; b.n == len(b.buf) {
		w.emptyBox(tx)
	}
}

// open gives the box of interface tx room for packets.
func (o *outbox) open(tx uint32) {
	b := &o.boxes[tx]
	if k := len(o.free); k > 0 {
		b.buf, o.free = o.free[k-1], o.free[:k-1]
	} else { // once per interface that is in use at the same time as all others
		b.buf = new([packet.BatchSize]*packet.Buffer)
	}
	o.active = append(o.active, tx)
}

// emptyBox sends what the box holds before the batch is over.
func (w *Worker) emptyBox(tx uint32) {
	w.flushBox(tx)
	b := &w.outbox.boxes[tx]
	*b = box{buf: b.buf}
}

// flush empties all boxes.
func (w *Worker) flush() {
	o := &w.outbox
	for i := 0; i < len(o.active); i++ { // tunnels fill other boxes
		tx := o.active[i]
		w.flushBox(tx)
		o.release(tx)
	}
	o.active = o.active[:0]
}

func (w *Worker) flushBox(tx uint32) {
	b := &w.outbox.boxes[tx]
	bufs := b.buf[:b.n]
	var ifc *Interface
	if int(tx) < len(w.batch.ifs) {
		ifc = w.batch.ifs[tx]
	}
	switch {
	case len(bufs) == 0:
	case ifc == nil:
		w.dropAll(bufs, TxGone, tx)
	case !ifc.Up || ifc.NoLink || ifc.Port == nil && ifc.Tunnel == nil:
		w.dropAll(bufs, TxInterfaceDown, tx)
	case b.cut || b.work:
		w.transmitCut(ifc, bufs)
	case b.mixed || ifc.Tunnel != nil:
		w.transmit(ifc, bufs)
	default:
		if n := w.give(ifc, bufs); n == len(bufs) {
			w.countUnicast(ifc, n, b.bytes)
		} else {
			w.countTx(ifc, bufs[:n])
		}
	}
}

func (w *Worker) dropAll(bufs []*packet.Buffer, r Reason, tx uint32) {
	w.count.Errors[r] += uint64(len(bufs))
	w.count.Drops[tx] += uint64(len(bufs))
}

// transmit gives bufs, which the port takes as they are, to the port and counts them.
func (w *Worker) transmit(ifc *Interface, bufs []*packet.Buffer) {
	if ifc.Tunnel != nil {
		w.encapsulate(ifc, bufs)
		return
	}
	n := w.give(ifc, bufs)
	w.countTx(ifc, bufs[:n])
}

// give gives bufs to the port and returns how many it took; it counts the others.
func (w *Worker) give(ifc *Interface, bufs []*packet.Buffer) int {
	q := 0
	if ifc.TxQueues > 1 {
		q = w.cfg.Index % ifc.TxQueues
	}
	if ifc.Locks != nil {
		ifc.Locks[q].Lock()
		defer ifc.Locks[q].Unlock()
	}
	n, err := ifc.Port.Transmit(q, bufs)
	n = max(0, min(n, len(bufs)))
	if n == len(bufs) {
		return n
	}
	w.count.TxError[ifc.Index] += uint64(len(bufs) - n)
	why := TxFull
	if err != nil {
		why = TxGone
	}
	w.dropAll(bufs[n:], why, ifc.Index)
	return n
}

// countUnicast counts n sent packets with the given sum of lengths.
func (w *Worker) countUnicast(ifc *Interface, n int, bytes uint64) {
	w.count.TX[ifc.Index].add(uint64(n), bytes)
	if ifc.Link == port.Ethernet {
		w.count.TxUnicast[ifc.Index].add(uint64(n), bytes)
	}
}

func (w *Worker) countTx(ifc *Interface, bufs []*packet.Buffer) {
	var bytes uint64
	var unicast, multicast, broadcast Combined
	if ifc.Link != port.Ethernet {
		for _, buf := range bufs {
			bytes += uint64(buf.Len())
		}
		w.count.TX[ifc.Index].add(uint64(len(bufs)), bytes)
		return
	}
	for _, buf := range bufs {
		p := buf.Bytes()
		n := uint64(len(p))
		bytes += n
		switch {
		case len(p) < packet.EthLen:
		case p[0]&1 == 0:
			unicast.add(1, n)
		case packet.Ethernet(p).IsBroadcast():
			broadcast.add(1, n)
		default:
			multicast.add(1, n)
		}
	}
	i := ifc.Index
	w.count.TX[i].add(uint64(len(bufs)), bytes)
	w.count.TxUnicast[i].add(unicast.Packets, unicast.Bytes)
	w.count.TxMulticast[i].add(multicast.Packets, multicast.Bytes)
	w.count.TxBroadcast[i].add(broadcast.Packets, broadcast.Bytes)
}

// transmitCut sends bufs in order when some need cutting or a finished checksum.
func (w *Worker) transmitCut(ifc *Interface, bufs []*packet.Buffer) {
	whole := 0 // bufs[whole:i] are ready and not sent yet
	for i, buf := range bufs {
		cut := buf.Meta[metaFragment] != 0 || buf.Offload.GSO&^packet.GSOECN != packet.GSONone && !takes(ifc.Caps, buf.Offload.GSO)
		if !cut {
			if buf.Offload.Flags&packet.NeedsChecksum != 0 && buf.Offload.GSO&^packet.GSOECN == packet.GSONone && !ifc.Caps.Checksum {
				if packet.FinishChecksum(buf) == packet.OK {
					continue
				}
			} else {
				continue
			}
		}
		if i > whole {
			w.transmit(ifc, bufs[whole:i])
		}
		whole = i + 1
		switch {
		case !cut:
			w.drop(TxMalformed, buf.RxInterface)
		case buf.Offload.GSO&^packet.GSOECN != packet.GSONone:
			w.transmitSegments(ifc, buf)
		default:
			w.transmitFragments(ifc, buf)
		}
	}
	if whole < len(bufs) {
		w.transmit(ifc, bufs[whole:])
	}
}

func takes(c port.Capabilities, gso uint8) bool {
	switch gso &^ packet.GSOECN {
	case packet.GSOTCPv4:
		return c.TSO4
	case packet.GSOTCPv6:
		return c.TSO6
	case packet.GSOUDPL4:
		return c.USO
	}
	return false
}

// transmitSegments cuts a GSO packet. Datagrams that are still too long for the path are
// fragmented in turn.
func (w *Worker) transmitSegments(ifc *Interface, buf *packet.Buffer) {
	var s packet.Segmenter
	if s.Start(buf) != packet.OK {
		w.drop(SegmentFailed, buf.RxInterface)
		return
	}
	if buf.Meta[metaFragment] != 0 {
		seg := w.take()
		for seg != nil && s.Next(seg) {
			seg.Meta[metaFragment] = buf.Meta[metaFragment]
			w.transmitFragments(ifc, seg)
		}
		return
	}
	s.LeaveChecksum = ifc.Caps.Checksum
	w.pieces(ifc, buf, SegmentsSent, func(dst *packet.Buffer) bool {
		return s.Next(dst)
	})
}

// transmitFragments cuts an IPv4 packet, or an IPv6 packet of our own, to the MTU noted
// in it.
func (w *Worker) transmitFragments(ifc *Interface, buf *packet.Buffer) {
	var f packet.Fragmenter
	var f6 packet.Fragmenter6
	mtu, v6 := int(buf.Meta[metaFragment]), buf.L3Bytes()[0]>>4 == 6
	r := packet.OK
	if v6 {
		w.fragmentID++
		r = f6.Start(buf, mtu, w.fragmentID)
	} else {
		r = f.Start(buf, mtu)
	}
	if r != packet.OK {
		w.drop(FragmentFailed, buf.RxInterface)
		return
	}
	header := buf.Bytes()[:buf.L3]
	w.pieces(ifc, buf, FragmentsSent, func(dst *packet.Buffer) bool {
		if v6 && !f6.Next(dst) || !v6 && !f.Next(dst) {
			return false
		}
		if len(header) > 0 {
			copy(dst.Push(len(header)), header)
			dst.L3 = uint16(len(header))
		}
		dst.Meta[metaFragment] = 0
		return true
	})
}

// pieces sends what next makes, as many at a time as there are buffers.
func (w *Worker) pieces(ifc *Interface, buf *packet.Buffer, count Reason, next func(*packet.Buffer) bool) {
	var out [64]*packet.Buffer
	mark := w.batch.nMade
	for more := true; more; {
		n := 0
		for n < len(out) {
			dst := w.take()
			if dst == nil {
				break
			}
			if more = next(dst); !more {
				break
			}
			out[n] = dst
			n++
		}
		w.count.Errors[count] += uint64(n)
		if n > 0 {
			w.transmit(ifc, out[:n])
		} else if more {
			w.drop(NoBuffers, buf.RxInterface)
			more = false
		}
		w.arena.Put(w.batch.made[mark:w.batch.nMade]...)
		w.batch.nMade = mark
	}
}
