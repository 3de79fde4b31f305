package worker

import (
	"encoding/binary"
	"math/bits"

	"github.com/millrace/millrace/engine/acl"
	"github.com/millrace/millrace/engine/packet"
	"github.com/millrace/millrace/engine/session"
)

// Access lists: what comes from an interface is judged after the source check, what goes
// out by one before it is sent, by VPP's rules. A session passes; else the first rule that
// matches decides, and one that reflects makes a session. The flow cache remembers what
// passed, so that this is the way of first packets only:
//
//	recall ─ known ─► renew ──────────────────────────────┐
//	   └─ unknown ─► admit ─► match, follow ─► release ───┴─► rewrite
//
// What the flow cache does not keep (our own packets, fragments, those that are looked at
// closer) is judged in mayLeave, right before its Ethernet header.

// note is what admit and release found out about a packet.
type note struct {
	pass
	bits uint8 // of the flow
	seen uint8 // TCP flags that its sessions know of
	lone bool  // what was found holds for this packet only
}

// glance is what access lists look at in a packet.
type glance struct {
	flow     session.Flow
	key      acl.Key
	flags    uint8 // of TCP
	fragment bool
}

// look reads buf, which has a whole IP header.
func (g *glance) look(buf *packet.Buffer) {
	p := buf.L3Bytes()
	*g = glance{}
	var u packet.Upper
	if p[0]>>4 == 4 {
		g.flow.Addrs[0] = binary.LittleEndian.Uint64(p[12:])
		g.key.Src.Lo = uint64(binary.BigEndian.Uint32(p[12:]))
		g.key.Dst.Lo = uint64(binary.BigEndian.Uint32(p[16:]))
		u = packet.IPv4(p).Upper()
	} else {
		for i := range g.flow.Addrs {
			g.flow.Addrs[i] = binary.LittleEndian.Uint64(p[8+8*i:])
		}
		a := &g.flow.Addrs
		g.key.Src = acl.Addr{Hi: bits.ReverseBytes64(a[0]), Lo: bits.ReverseBytes64(a[1])}
		g.key.Dst = acl.Addr{Hi: bits.ReverseBytes64(a[2]), Lo: bits.ReverseBytes64(a[3])}
		g.key.Flags, g.flow.IP6 = acl.KeyIPv6, true
		u, _ = packet.IPv6(p).Upper() // parsed before
	}
	g.fragment = u.Fragment
	g.flow.Proto, g.key.Protocol, g.flow.Later = u.Proto, u.Proto, u.Later
	switch {
	case u.Later:
		g.key.Flags |= acl.KeyFragment
	case len(p) < u.Offset+8:
		g.key.Flags |= acl.KeyNoL4
	default:
		g.transport(p[u.Offset:])
	}
}

// transport reads at least 8 bytes of a transport header. That of SCTP counts, too: VPP
// does not see its ports, so that only rules for all ports, or for port 0, match.
func (g *glance) transport(p []byte) {
	switch g.flow.Proto {
	case packet.ProtoTCP:
		if len(p) >= packet.TCPLen {
			g.flags = packet.TCP(p).Flags()
			g.key.TCPFlags = g.flags
		}
		fallthrough
	case packet.ProtoUDP, packet.ProtoSCTP:
		g.flow.Src, g.flow.Dst = binary.BigEndian.Uint16(p), binary.BigEndian.Uint16(p[2:])
	case packet.ProtoICMP, packet.ProtoICMPv6:
		if (g.flow.Proto == packet.ProtoICMPv6) == g.flow.IP6 {
			g.flow.Src, g.flow.Dst = uint16(p[0]), uint16(p[1])
		}
	}
	g.key.SrcPort, g.key.DstPort = g.flow.Src, g.flow.Dst
}

// reversed is the key of the packet that g answers.
func (g *glance) reversed() acl.Key {
	k := g.key
	k.Src, k.Dst = k.Dst, k.Src
	if query, ok := session.Query(&g.flow); ok {
		k.SrcPort = query
		return k
	}
	k.SrcPort, k.DstPort = k.DstPort, k.SrcPort
	return k
}

// bench is how many first packets are judged side by side, so that their accesses to memory
// overlap.
const bench = 16

// admit returns those of which that may come in by the batch's interface, and drops the
// rest.
func (w *Worker) admit(v *vector, which []uint8) []uint8 {
	b := &w.batch
	if !b.guarded || b.iface.In == nil {
		return which
	}
	good, waiting := which[:0], b.judges[:0]
	for n, i := range which {
		// What is for a group takes another way, where VPP has no lists.
		if toGroup(&v.key[i]) {
			good = append(good, i)
		} else {
			waiting = append(waiting, judge{w: w, at: i, ifc: b.iface, input: true, rx: b.iface.Index, size: v.size[i]})
			waiting[len(waiting)-1].prepare(v.buf[i])
		}
		if len(waiting) == bench || n == len(which)-1 {
			w.warm(waiting)
			good = v.admitted(waiting, good)
			waiting = waiting[:0]
		}
	}
	return good
}

// warm has the memory on its way that all will read.
func (w *Worker) warm(all []judge) {
	t, sum := w.batch.stateful.Sessions, uint64(0)
	for k := range all {
		sum += t.Warm(&all[k].keys)
	}
	w.batch.warmed += sum
}

// admitted adds those of all that may come in to good.
func (v *vector) admitted(all []judge, good []uint8) []uint8 {
	for k := range all {
		j := &all[k]
		if !j.decide() {
			v.adj[j.at] = noAdjacency
			continue
		}
		n := &v.note[j.at]
		n.in, n.inRule, n.seen, n.lone = j.ref, j.rule, j.seen, n.lone || j.lone
		n.bits |= j.bits
		good = append(good, j.at)
	}
	return good
}

func toGroup(k *flowKey) bool {
	if k.f&keyV6 != 0 {
		return byte(k.c) == 0xff
	}
	return byte(k.a>>32)>>4 == 0xe
}

// release drops those packets of which that may not go out by where their adjacencies
// lead, and gives others the source that they go out by. Those that rewrite will look at
// closer are dealt with there.
func (w *Worker) release(v *vector, which []uint8) {
	b := &w.batch
	if !b.noted() {
		return
	}
	adjs, waiting, leaving := w.state.adjs.View(), b.judges[:0], b.leaving[:0]
	for n, i := range which {
		if adj := v.adj[i]; uint64(adj) < uint64(len(adjs)) {
			a := adjs[adj].Load()
			out := w.leaving(v, i, a)
			if out != nil && out.Out != nil {
				waiting = append(waiting, judge{w: w, at: i, ifc: out, rx: v.buf[i].RxInterface, size: v.size[i] + uint32(a.HeaderLen)})
				waiting[len(waiting)-1].prepare(v.buf[i])
			}
			if out != nil && b.nat != nil && (out.NATOut4 || out.NATOut6) {
				leaving = append(leaving, i)
			}
		}
		if len(waiting) == bench || n == len(which)-1 {
			w.warm(waiting)
			v.released(waiting)
			waiting = waiting[:0]
		}
	}
	for _, i := range leaving {
		if adj := v.adj[i]; adj != noAdjacency {
			w.depart(v, i, b.interfaceAt(adjs[adj].Load().Interface))
		}
	}
}

// released drops those of all that may not go out.
func (v *vector) released(all []judge) {
	for k := range all {
		j := &all[k]
		if !j.decide() {
			v.adj[j.at] = noAdjacency
			continue
		}
		n := &v.note[j.at]
		n.out, n.outRule, n.lone = j.ref, j.rule, n.lone || j.lone
		n.seen |= j.seen
		n.bits |= j.bits
	}
}

// leaving returns the interface that packet i simply goes out by with adjacency a, or nil.
func (w *Worker) leaving(v *vector, i uint8, a *Adjacency) *Interface {
	n, buf := &v.note[i], v.buf[i]
	if a == nil || a.Kind != KindRewrite {
		v.head[i] = nil // it is not plain: what it meets may be another adjacency by then
		n.lone = n.lone || a == nil || a.Kind != KindLocal
		return nil
	}
	out := w.batch.interfaceAt(a.Interface)
	if out == nil || out.Out == nil && !out.NATOut4 && !out.NATOut6 {
		return nil
	}
	if v.head[i] == nil || v.size[i] > a.straight {
		v.head[i] = nil
		if !sent(buf, a) {
			n.lone = true
			return nil
		}
		buf.Meta[metaOwn] |= judgedBit
	}
	return out
}

// sent reports whether forward sends buf by a, rather than answer it with an error.
func sent(buf *packet.Buffer, a *Adjacency) bool {
	p := buf.L3Bytes()
	fits := len(p) <= a.MTU || packet.Fits(buf, a.MTU)
	if p[0]>>4 == 4 {
		return packet.IPv4(p).TTL() > 1 && fits
	}
	ip := packet.IPv6(p)
	return ip.HopLimit() > 1 && fits && !packet.IsLinkLocal6(ip.Src())
}

// mayLeave judges and translates a packet that is about to go out by a, if nobody has yet,
// and drops it where it must not.
func (w *Worker) mayLeave(buf *packet.Buffer, a *Adjacency) bool {
	return w.mayLeaveBy(buf, a.Interface, uint32(a.HeaderLen))
}

// mayLeaveBy is mayLeave for a packet that gets an Ethernet header of the given length.
func (w *Worker) mayLeaveBy(buf *packet.Buffer, tx, header uint32) bool {
	if buf.Meta[metaOwn]&judgedBit != 0 || !w.batch.noted() {
		return true
	}
	out := w.batch.interfaceAt(tx)
	if out == nil {
		return true
	}
	if out.Out != nil {
		j := judge{w: w, ifc: out, rx: buf.RxInterface, size: uint32(buf.Len()) - uint32(buf.L3) + header}
		if !j.judge(buf) {
			return false
		}
	}
	return w.mayCross(buf, out)
}

func (b *batch) interfaceAt(i uint32) *Interface {
	if uint64(i) < uint64(len(b.ifs)) {
		return b.ifs[i]
	}
	return nil
}

// remember puts a flow that passed into the flow cache.
func (w *Worker) remember(v *vector, i int) {
	b := &w.batch
	s := flowState{generation: b.generation, adj: v.adj[i], leaf: v.leaf[i]}
	if (s.adj | s.leaf) >= flowLimit {
		return
	}
	s.adj, s.leaf = s.adj<<flowBits, s.leaf<<flowBits
	if !b.noted() {
		b.flows.put(&v.key[i], v.hash[i], s)
		return
	}
	n := &v.note[i]
	if n.lone {
		return
	}
	key := &v.key[i]
	if n.bits&flowNAT != 0 {
		key = &v.change[i].key
	}
	s.stamp = uint16(b.clock)
	s.adj |= uint32(n.bits)
	if n.bits&(flowInSession|flowOutSession|flowNAT) != 0 && uint8(key.f) == packet.ProtoTCP {
		s.adj |= flowTCP
	}
	s.note(n.seen)
	e := b.flows.put(key, v.hash[i], s)
	if n.bits&flowJudged != 0 {
		*b.flows.passOf(key, v.hash[i], e) = n.pass
	}
	if n.bits&flowNAT != 0 {
		b.flows.keepChange(&v.change[i], v.hash[i], e)
	}
}
