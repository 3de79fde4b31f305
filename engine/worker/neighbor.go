package worker

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"time"

	"github.com/millrace/millrace/engine/packet"
	"github.com/millrace/millrace/engine/port"
)

// ARP and neighbour discovery: asking for unknown neighbours, answering for our own
// addresses, and telling the control thread what was learned.

// learn tells the control thread of a neighbour.
func (w *Worker) learn(ifc *Interface, addr netip.Addr, mac packet.MAC) {
	if mac[0]&1 != 0 || mac == (packet.MAC{}) {
		return
	}
	if w.knows(ifc, addr, mac) && !w.mayAsk(refreshKey(ifc.Index, addr)) {
		return // known, and its age was refreshed within the second
	}
	select {
	case w.cfg.Learn <- Learned{Interface: ifc.Index, Addr: addr, MAC: mac}:
	default:
		w.count.Errors[LearnQueueFull]++
	}
}

// knows reports whether the tables have this very neighbour already.
func (w *Worker) knows(ifc *Interface, addr netip.Addr, mac packet.MAC) bool {
	var r *Route
	if addr.Is4() {
		a := addr.As4()
		r = w.route4(ifc.Table4, binary.BigEndian.Uint32(a[:]))
	} else {
		a, t := addr.As16(), ifc.Table6
		if packet.IsLinkLocal6(a) {
			t = ifc.LinkLocals
		}
		r = w.route6(t, a[:])
	}
	if r == nil {
		return false
	}
	a := w.state.adjs.Load(r.Balance.Pick(0))
	return a != nil && a.Kind == KindRewrite && a.Interface == ifc.Index && a.NextHop == addr &&
		a.HeaderLen == packet.EthLen && packet.MAC(a.Header[:6]) == mac
}

func askKey(ifc uint32, addr netip.Addr) uint64 {
	b := addr.As16()
	k := flowKey{a: binary.LittleEndian.Uint64(b[:]), b: binary.LittleEndian.Uint64(b[8:]), e: uint64(ifc), f: keyV6}
	return k.hash() | 1
}

func refreshKey(ifc uint32, addr netip.Addr) uint64 { return askKey(ifc, addr) &^ 1 }

// glean asks for the destination of buf, which lies on a's link.
func (w *Worker) glean(buf *packet.Buffer, a *Adjacency) {
	p := buf.L3Bytes()
	if p[0]>>4 == 4 {
		w.solicit(buf, a, packet.IPv4(p).DstAddr())
		return
	}
	w.solicit(buf, a, packet.IPv6(p).DstAddr())
}

// solicit asks a's link who has addr. The packet that wanted to know is dropped, as VPP
// does: whoever sent it will send again.
func (w *Worker) solicit(buf *packet.Buffer, a *Adjacency, addr netip.Addr) {
	rx := buf.RxInterface
	sent, throttled, noSource := ARPSent, ARPThrottled, ARPNoSource
	if addr.Is6() {
		sent, throttled, noSource = NDSent, NDThrottled, NDNoSource
	}
	var out *Interface
	if int(a.Interface) < len(w.batch.ifs) {
		out = w.batch.ifs[a.Interface]
	}
	switch {
	case out == nil || !out.Up || out.Link != port.Ethernet:
		w.drop(TxInterfaceDown, rx)
	case !w.mayAsk(askKey(a.Interface, addr)):
		w.drop(throttled, rx)
	case !w.ask(out, a, addr):
		w.drop(noSource, rx)
	default:
		w.drop(sent, rx)
	}
}

// ask sends one request for addr by out and reports whether there was an address to ask
// from.
func (w *Worker) ask(out *Interface, a *Adjacency, addr netip.Addr) bool {
	if addr.Is4() {
		target := addr.As4()
		src, ok := out.Source4(binary.BigEndian.Uint32(target[:]))
		if a.Source.Is4() {
			src, ok = a.Source.As4(), true
		}
		buf := w.take()
		if !ok || buf == nil {
			return false
		}
		packet.MakeARPRequest(buf, out.MAC, src, target)
		w.send(buf, out.Index)
		return true
	}
	buf := w.take()
	if out.LinkLocal == ([16]byte{}) || buf == nil {
		return false
	}
	packet.MakeNeighborSolicit(buf, out.MAC, out.LinkLocal, addr.As16())
	// Unlike ARP and answers, a question goes by the lists of its interface, as in VPP.
	if buf.RxInterface = out.Index; w.mayLeaveBy(buf, out.Index, packet.EthLen) {
		w.send(buf, out.Index)
	}
	return true
}

// arp deals with an ARP message by VPP's rules: the sender must be on the link's subnet
// (or have a route by this interface), the target must be ours, here or at the lender.
func (w *Worker) arp(buf *packet.Buffer) {
	ifc := w.batch.iface
	rx := ifc.Index
	frame := packet.Ethernet(buf.Bytes())
	m, r := packet.ParseARP(buf.L3Bytes())
	switch {
	case r != packet.OK:
		w.drop(ARPFormat, rx)
		return
	case !ifc.IP4:
		w.drop(ARPNotEnabled, rx)
		return
	}
	senderIP, targetIP := m.SenderIP(), m.TargetIP()
	sender, target := binary.BigEndian.Uint32(senderIP[:]), binary.BigEndian.Uint32(targetIP[:])
	known := w.route4(ifc.Table4, target)
	owner := w.ownerOf(known)
	if why := w.onLink4(ifc, sender, owner); why == ARPSourceIsLocal {
		w.proxy(buf, m, why)
		return
	} else if why != None {
		w.drop(why, rx)
		return
	}
	if owner == NoIndex {
		why := ARPTargetNotLocal
		// Gratuitous ARP of a host we know tells its new address.
		if sender == target && w.isNeighbor(known, ifc, senderIP) {
			w.learn(ifc, netip.AddrFrom4(senderIP), m.SenderMAC())
			why = ARPLearned
		}
		w.proxy(buf, m, why)
		return
	}
	if frame.Src() != m.SenderMAC() {
		w.drop(ARPAddressMismatch, rx)
		return
	}
	if m.Op() == packet.ARPReply {
		w.learn(ifc, netip.AddrFrom4(senderIP), m.SenderMAC())
		w.drop(ARPRepliesReceived, rx)
		return
	}
	if owner != rx && owner != ifc.Lender {
		w.drop(ARPTargetNotLocal, rx)
		return
	}
	if sender == target {
		w.drop(ARPGratuitous, rx)
		return
	}
	w.learn(ifc, netip.AddrFrom4(senderIP), m.SenderMAC())
	w.count.Errors[ARPReplies]++
	w.answer(buf, m)
}

// proxy answers a request for an address that the interface answers for in the name of
// others, and drops any other.
func (w *Worker) proxy(buf *packet.Buffer, m packet.ARP, why Reason) {
	ifc := w.batch.iface
	ip := m.TargetIP()
	target := binary.BigEndian.Uint32(ip[:])
	in := func(s Span4) bool { return s.Low <= target && target <= s.High }
	if m.Op() != packet.ARPRequest || !slices.ContainsFunc(ifc.Proxied, in) {
		w.drop(why, ifc.Index)
		return
	}
	w.count.Errors[ARPProxied]++
	w.answer(buf, m)
}

// answer makes the request the reply, padding and all.
func (w *Worker) answer(buf *packet.Buffer, m packet.ARP) {
	ifc := w.batch.iface
	frame := packet.Ethernet(buf.Bytes())
	asker, asked := m.SenderIP(), m.TargetIP()
	frame.SetDst(frame.Src())
	frame.SetSrc(ifc.MAC)
	m.SetOp(packet.ARPReply)
	m.SetTargetMAC(m.SenderMAC())
	m.SetTargetIP(asker)
	m.SetSenderMAC(ifc.MAC)
	m.SetSenderIP(asked)
	w.send(buf, ifc.Index)
}

// ownerOf is the interface that has the address of ours that r is the route of, or NoIndex.
func (w *Worker) ownerOf(r *Route) uint32 {
	switch {
	case r != nil && r.Elsewhere:
		return r.Owner
	case r == nil || !r.Local:
		return NoIndex
	}
	if a := w.state.adjs.Load(r.Balance.Pick(0)); a != nil {
		return a.Interface
	}
	return NoIndex
}

// onLink4 says why addr may not speak ARP on ifc; None when it may. On an unnumbered
// interface everybody may ask for the lender's address.
func (w *Worker) onLink4(ifc *Interface, addr, owner uint32) Reason {
	r := w.route4(ifc.Table4, addr)
	if r != nil && (r.Local || r.Elsewhere) {
		return ARPSourceIsLocal
	}
	if ifc.Lender != NoIndex && owner == ifc.Lender {
		return None
	}
	if r == nil || r.Foreign || !slices.Contains(r.RPF, ifc.Index) {
		return ARPSourceNotLocal
	}
	a := w.state.adjs.Load(r.Balance.Pick(0))
	if a == nil || a.NextHop.IsValid() && (!a.NextHop.Is4() || uint32Of(a.NextHop) != addr) {
		return ARPSourceNotLocal
	}
	return None
}

func uint32Of(a netip.Addr) uint32 {
	b := a.As4()
	return binary.BigEndian.Uint32(b[:])
}

// isNeighbor reports whether r leads to the resolved neighbour addr on ifc.
func (w *Worker) isNeighbor(r *Route, ifc *Interface, addr [4]byte) bool {
	if r == nil {
		return false
	}
	a := w.state.adjs.Load(r.Balance.Pick(0))
	return a != nil && a.Kind == KindRewrite && a.Interface == ifc.Index && a.NextHop == netip.AddrFrom4(addr)
}

// neighbor6 deals with a neighbour solicitation or advertisement.
func (w *Worker) neighbor6(buf *packet.Buffer, ip packet.IPv6, u packet.Upper, ifc *Interface) {
	rx := ifc.Index
	m, r := packet.ParseNeighbor(ip, ip[u.Offset:])
	if r == packet.BadValue && isProbe(ip, ip[u.Offset:]) {
		m, r = packet.Neighbor(ip[u.Offset:]), packet.OK
	}
	if r != packet.OK || ifc.Link != port.Ethernet || buf.L3 != packet.EthLen {
		w.drop(NDMalformed, rx)
		return
	}
	src := ip.Src()
	if src != ([16]byte{}) && !packet.IsLinkLocal6(src) && !w.onLink6(ifc, ip) {
		w.drop(NDNotOnLink, rx)
		return
	}
	mac, hasMAC := m.LinkAddr()
	if !m.IsSolicit() {
		if hasMAC {
			w.learn(ifc, netip.AddrFrom16(m.Target()), mac)
		}
		w.drop(NDAdvertsReceived, rx)
		return
	}
	if !w.ownsTarget6(ifc, m.Target()) {
		w.drop(NDUnknownTarget, rx)
		return
	}
	if hasMAC && src != ([16]byte{}) {
		w.learn(ifc, netip.AddrFrom16(src), mac)
	}
	reply := w.take()
	if reply == nil {
		w.drop(NoBuffers, rx)
		return
	}
	// VPP's way for all askers, also those who look for doubles of their address.
	dst := src
	if dst == ([16]byte{}) {
		dst = [16]byte{0: 0xff, 1: 2, 15: 1}
	}
	packet.MakeNeighborAdvert(reply, ifc.MAC, packet.Ethernet(buf.Bytes()).Src(), dst, m.Target(),
		packet.NASolicited|packet.NAOverride)
	w.count.Errors[NDAdvertsSent]++
	w.send(reply, rx)
}

// isProbe reports whether p, whose checksum is right, looks for a double of its sender's
// future address. RFC 4861 wants no link-layer option in it; VPP does not care.
func isProbe(ip packet.IPv6, p []byte) bool {
	m := packet.ICMPv6(p)
	if m.Type() != packet.ICMPv6NeighborSolicit || m.Code() != 0 || ip.HopLimit() != 255 {
		return false
	}
	target := packet.Neighbor(p).Target()
	return ip.Src() == [16]byte{} && target[0] != 0xff && ip.Dst() == packet.SolicitedNode(target)
}

func (w *Worker) onLink6(ifc *Interface, ip packet.IPv6) bool {
	r := w.sourceRoute(ip, ifc)
	if r == nil || r.Local {
		return false
	}
	return slices.Contains(r.RPF, ifc.Index)
}

// ownsTarget6 reports whether we answer for addr on ifc: the link-local address is the
// interface's own, another any of ours in its table.
func (w *Worker) ownsTarget6(ifc *Interface, addr [16]byte) bool {
	if packet.IsLinkLocal6(addr) {
		return addr == ifc.LinkLocal
	}
	r := w.route6(ifc.Table6, addr[:])
	return r != nil && (r.Local || r.Elsewhere)
}

// askNow sends one request outside of any batch.
func (w *Worker) askNow(index uint32, addr netip.Addr) {
	b := &w.batch
	b.see(w.state)
	w.now = time.Time{}
	if int(index) >= len(b.ifs) || b.ifs[index] == nil {
		return
	}
	out := b.ifs[index]
	if !out.Up || out.Link != port.Ethernet || !w.mayAsk(askKey(index, addr)) {
		return
	}
	if w.ask(out, &Adjacency{Interface: index}, addr) {
		sent := ARPSent
		if addr.Is6() {
			sent = NDSent
		}
		w.count.Errors[sent]++
	}
	w.flush()
	w.giveBack()
}
