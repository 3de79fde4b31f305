package worker

import (
	"encoding/binary"
	"math/bits"
	"net/netip"

	"github.com/millrace/millrace/engine/nat"
	"github.com/millrace/millrace/engine/packet"
)

// Address translation: what comes from an interface gets another destination before all
// else, what goes out by one another source after all else, so that source checks, access
// lists and routes see pods where a service or the node was spoken to, as with VPP's cnat
// plugin. What a flow gets is a session, found before any translation or policy. The flow
// cache remembers both ends of the way as one change:
//
//	recall ─ known ─► change ─────────────────────────────────────┐
//	   └─ unknown ─► arrive ─► admit ─► match ─► release, depart ─┴─► rewrite
//
// What the flow cache does not keep (our own packets, ICMP errors, fragments, those that
// are looked at closer) goes through mayCross, right before its Ethernet header.

// NAT is what workers need to translate addresses on interfaces that ask for it. It is
// immutable.
type NAT struct {
	Tables   *nat.Tables
	Sessions *nat.Sessions
}

// SetNAT replaces it; nil translates nothing. The caller calls Bump afterwards.
func (s *State) SetNAT(n *NAT) { s.nat.Store(n) }

// crossing is a packet before the translation of an interface and direction.
type crossing struct {
	w      *Worker
	buf    *packet.Buffer
	output bool
	look   nat.Look
	found  nat.Found
}

// crossed is what became of it.
type crossed uint8

const (
	unchanged crossed = iota // nothing translates it
	changed
	gone // dropped
)

func (c *crossing) drop(r Reason) crossed {
	c.w.drop(natReason(r, c.output, c.ip6()), c.buf.RxInterface)
	return gone
}

func (c *crossing) ip6() bool { return c.look.Key.Kind&nat.KeyIP6 != 0 }

// in translates a packet that comes in; hash is that of its flow.
func (c *crossing) in(hash func(fields uint32) uint32, size uint32) crossed {
	b := &c.w.batch
	c.look.Look(c.buf, 0)
	if c.find() {
		return c.rewrite()
	}
	k := &c.look.Key
	_, dst := addressesOf(&k.Tuple, c.ip6())
	switch {
	case c.look.Later:
		if has, _ := b.nat.Tables.VIP(dst); has {
			return c.drop(natPiece)
		}
		return unchanged
	case !c.look.Known || c.look.Error || k.Protocol() == packet.ProtoICMP || k.Protocol() == packet.ProtoICMPv6:
		return unchanged
	}
	t := b.nat.Tables.Find(dst, uint16(k.Ports), k.Protocol())
	if t == nil {
		return unchanged
	}
	to := t.Pick(hash(t.HashFields))
	if to == nil {
		return unchanged
	}
	f := nat.Flow{Key: *k, To: k.Tuple, Translation: t.ID, Epoch: b.generation, OneWay: t.NoReturn}
	setDestination(&f.To, to.Dst)
	if row := c.w.count.Translations; uint64(t.ID) < uint64(len(row)) {
		row[t.ID].add(1, uint64(size))
	}
	return c.begin(&f)
}

// out translates a packet that goes out by an interface. Our own have no flows.
func (c *crossing) out(out uint32) crossed {
	b := &c.w.batch
	c.output = true
	c.look.Look(c.buf, nat.KeyOutput)
	if c.find() {
		return c.rewrite()
	}
	k := &c.look.Key
	if !c.look.Known && !c.look.Later || c.look.Error || c.w.isOwn(c.buf) {
		return unchanged
	}
	o := nat.Outgoing{In: c.buf.RxInterface, Out: out, Served: c.served()}
	o.Src, o.Dst = addressesOf(&k.Tuple, c.ip6())
	source := b.nat.Tables.Policy.Source(&o)
	if !source.IsValid() {
		return unchanged
	}
	if c.look.Later {
		return c.drop(natPiece)
	}
	f := nat.Flow{Key: *k, To: k.Tuple, Translation: nat.NoTranslation, Epoch: b.generation, OwnPort: true}
	setSource(&f.To, source)
	return c.begin(&f)
}

// served reports whether a packet that goes out was sent to its destination by a
// translation: answers are then known to it.
func (c *crossing) served() bool {
	k := nat.SessionKey{Tuple: c.look.Key.Reversed(c.ip6()), Kind: c.look.Key.Kind}
	var f nat.Found
	return c.look.Known && c.w.batch.nat.Sessions.Find(&k, &f) && f.Back && f.Translation != nat.NoTranslation
}

// find looks for the packet's session, or for what is noted of the packet that it is a
// fragment of.
func (c *crossing) find() bool {
	s := c.w.batch.nat.Sessions
	if c.look.Later {
		return s.Find(&c.look.Piece, &c.found)
	}
	if !c.look.Known || !s.Find(&c.look.Key, &c.found) {
		return false
	}
	return c.look.Error || c.holds() && s.Touch(c.found.Ref, c.w.batch.clock, c.look.Flags)
}

// begin makes a session of the packet.
func (c *crossing) begin(f *nat.Flow) crossed {
	s, now := c.w.batch.nat.Sessions, c.w.batch.clock
	ref, how := s.Add(f, now)
	if how == nat.Clash && !f.OwnPort {
		// The client speaks to this backend as another service from the same port. As
		// Linux does, the backend is shown another; VPP would confuse the answers.
		f.OwnPort = true
		ref, how = s.Add(f, now)
	}
	switch how {
	case nat.NoPorts, nat.Clash:
		return c.drop(natNoPorts)
	case nat.Full:
		return c.drop(natFull)
	}
	s.Touch(ref, now, c.look.Flags)
	c.found = nat.Found{Ref: ref, To: f.To}
	return c.rewrite()
}

// rewrite gives the packet what its session says.
func (c *crossing) rewrite() crossed {
	t := c.found.To.Target(c.ip6())
	if nat.Rewrite(c.buf, &t, c.look.FromEnd) != packet.OK {
		return unchanged // an error about something that cannot be told
	}
	if c.look.Fragment && !c.look.Later {
		c.w.batch.nat.Sessions.AddPiece(&c.look.Piece, &c.found.To, c.w.batch.clock)
	}
	return changed
}

// holds reports whether a session still holds after the tables may have changed, and ends
// it if not. VPP has a session outlive its backend until it times out, which busy UDP
// never does. Here only an open TCP connection does, and SCTP.
func (c *crossing) holds() bool {
	b, f := &c.w.batch, &c.found
	if f.Epoch == b.generation || f.Back {
		return true
	}
	k, s := &c.look.Key, b.nat.Sessions
	of, right := f.Translation, false
	if c.output {
		right = c.sourceHolds()
	} else {
		_, dst := addressesOf(&k.Tuple, c.ip6())
		_, to := endsOf(&f.To, c.ip6())
		if t := b.nat.Tables.Find(dst, uint16(k.Ports), k.Protocol()); t != nil && t.Alive(to) {
			of, right = t.ID, true
		}
	}
	switch {
	case right:
		s.SetEpoch(f.Ref, b.generation, of)
		return true
	case k.Protocol() == packet.ProtoSCTP, !begins(c.look.Flags) && (s.Open(f.Ref) || s.Closed(f.Ref)):
		return true
	}
	s.End(f.Ref)
	return false
}

// begins reports whether a packet of TCP is the first of a connection, by its flags.
func begins(flags uint8) bool {
	return flags&(packet.TCPSyn|packet.TCPAck) == packet.TCPSyn
}

// sourceHolds reports whether a flow has the source that flows get now, if they do.
func (c *crossing) sourceHolds() bool {
	p := &c.w.batch.nat.Tables.Policy
	source := p.Source4
	if c.ip6() {
		source = p.Source6
	}
	src, _ := addressesOf(&c.found.To, c.ip6())
	return !source.IsValid() || source.IsUnspecified() || source == src
}

// mayCross translates a packet that is about to go out by an interface, and reports whether
// it may.
func (w *Worker) mayCross(buf *packet.Buffer, out *Interface) bool {
	if w.batch.nat == nil || !out.natOut(buf.L3Bytes()[0]>>4 == 6) {
		return true
	}
	c := crossing{w: w, buf: buf}
	return c.out(out.Index) != gone
}

func (i *Interface) natIn(ip6 bool) bool  { return ip6 && i.NATIn6 || !ip6 && i.NATIn4 }
func (i *Interface) natOut(ip6 bool) bool { return ip6 && i.NATOut6 || !ip6 && i.NATOut4 }

// endsOf are the ends of t.
func endsOf(t *nat.Tuple, ip6 bool) (src, dst netip.AddrPort) {
	s, d := addressesOf(t, ip6)
	return netip.AddrPortFrom(s, uint16(t.Ports>>16)), netip.AddrPortFrom(d, uint16(t.Ports))
}

// addressesOf are the addresses of t.
func addressesOf(t *nat.Tuple, ip6 bool) (src, dst netip.Addr) {
	to := t.Target(ip6)
	if ip6 {
		return netip.AddrFrom16(to.Src), netip.AddrFrom16(to.Dst)
	}
	return netip.AddrFrom4([4]byte(to.Src[:4])), netip.AddrFrom4([4]byte(to.Dst[:4]))
}

func setDestination(t *nat.Tuple, to netip.AddrPort) {
	if a := to.Addr(); a.Is4() {
		b := a.As4()
		t.SetDestination(b[:])
	} else {
		b := a.As16()
		t.SetDestination(b[:])
	}
	t.Ports = t.Ports&^0xffff | uint32(to.Port())
}

func setSource(t *nat.Tuple, a netip.Addr) {
	if a.Is4() {
		b := a.As4()
		t.SetSource(b[:])
		return
	}
	b := a.As16()
	t.SetSource(b[:])
}

// change is what address translation did to a packet.
type change struct {
	key flowKey   // that it came with
	to  nat.Tuple // that it has
	crossings
}

// crossings are the sessions that a flow has where it comes in and where it goes out.
type crossings struct{ in, out nat.Ref }

// arrive gives those of which that come in for a translated address another destination.
// It returns those that go on.
func (w *Worker) arrive(v *vector, which []uint8) []uint8 {
	ifc := w.batch.iface
	if w.batch.nat == nil || !ifc.NATIn4 && !ifc.NATIn6 {
		return which
	}
	good := which[:0]
	for _, i := range which {
		k := &v.key[i]
		if !ifc.natIn(k.f&keyV6 != 0) || toGroup(k) || w.arriveOne(v, i) {
			good = append(good, i)
		} else {
			v.adj[i] = noAdjacency
		}
	}
	return good
}

func (w *Worker) arriveOne(v *vector, i uint8) bool {
	n, from := &v.note[i], v.key[i]
	c := crossing{w: w, buf: v.buf[i]}
	switch c.in(from.fields, v.size[i]) {
	case gone:
		return false
	case changed:
		v.change[i] = change{key: from, to: c.found.To, crossings: crossings{in: c.found.Ref}}
		v.rekey(i)
		n.bits |= flowNAT
	default:
		n.bits |= flowWatch
	}
	n.lone = c.lone(&from)
	return true
}

// depart gives packet i, which goes out by an interface, the source that it goes out with,
// or drops it.
func (w *Worker) depart(v *vector, i uint8, out *Interface) {
	if !out.natOut(v.key[i].f&keyV6 != 0) {
		return
	}
	n := &v.note[i]
	c := crossing{w: w, buf: v.buf[i]}
	switch c.out(out.Index) {
	case gone:
		v.adj[i] = noAdjacency
		return
	case changed:
		if n.bits&flowNAT == 0 {
			v.change[i] = change{key: v.key[i]}
		}
		v.change[i].out, v.change[i].to = c.found.Ref, c.found.To
		n.bits |= flowNAT
	default:
		n.bits |= flowWatch
	}
	n.lone = n.lone || c.lone(&v.key[i])
}

// lone reports whether what was found holds for the packet only.
func (c *crossing) lone(k *flowKey) bool {
	return c.look.Error || c.look.Fragment || !c.look.Known && nat.Translates(uint8(k.f))
}

// fields is the hash of the given fields of the flow.
func (k *flowKey) fields(f uint32) uint32 {
	if f == 0 {
		f = HashDefault
	}
	only := k.only(f)
	return uint32(only.hash() >> 32)
}

// rekey has the key of packet i say what the packet says now.
func (v *vector) rekey(i uint8) {
	k := &v.key[i]
	if h := v.head[i]; h != nil {
		v.dst[i] = bits.ReverseBytes32(le32(h, 30))
		v.flow(int(i))
		return
	}
	buf := v.buf[i]
	p := buf.L3Bytes()
	if k.f&keyV6 == 0 {
		k.a, v.dst[i] = binary.LittleEndian.Uint64(p[12:]), packet.IPv4(p).DstUint32()
	} else {
		k.a, k.b = binary.LittleEndian.Uint64(p[8:]), binary.LittleEndian.Uint64(p[16:])
		k.c, k.d = binary.LittleEndian.Uint64(p[24:]), binary.LittleEndian.Uint64(p[32:])
	}
	if buf.L4 != 0 && k.f&keyFragment == 0 {
		k.e = k.e>>32<<32 | uint64(ports(uint8(k.f), buf.L4Bytes()))
	}
}
