package worker

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/millrace/millrace/engine/fib"
	"github.com/millrace/millrace/engine/nat"
	"github.com/millrace/millrace/engine/packet"
	"github.com/millrace/millrace/engine/port"
)

// A rig is a node with two pods and an uplink, whose interfaces translate:
//
//	10.0.1.0/24 fd00:1::/64 ─ 1 ┐
//	                            ├─ node 10.0.0.1 fd00::1 ─ 3 ─ all else
//	10.0.2.0/24 fd00:2::/64 ─ 2 ┘
const uplinkIf = 3

type rig struct {
	tb     testing.TB
	w      *Worker
	ports  [4]*capture
	nat    NAT
	queues [4]*Queue
	raw    []*packet.Buffer // what play got last
}

// capture is a port that gives what it was given, and keeps what it is sent.
type capture struct {
	feed
	in  []*packet.Buffer
	out [][]byte
}

func (c *capture) Receive(_ int, bufs []*packet.Buffer) (int, error) {
	n := min(len(c.in), len(bufs))
	for i, from := range c.in[:n] {
		bufs[i].Reset(packet.Headroom)
		bufs[i].Append(from.Bytes())
		bufs[i].Offload = from.Offload
	}
	c.in = c.in[n:]
	return n, nil
}

func (c *capture) Transmit(_ int, bufs []*packet.Buffer) (int, error) {
	for _, b := range bufs {
		c.out = append(c.out, append([]byte{}, b.Bytes()...))
	}
	return len(bufs), nil
}

func newRig(tb testing.TB, set func(*Interface)) *rig {
	tb.Helper()
	r := &rig{tb: tb}
	r.w, _, _ = testWorker(tb, 1, port.IP, nil)
	s := r.w.state
	list := s.interfaces.Load().list[:2]
	t4, t6 := list[inIf].Table4, list[inIf].Table6
	hop := func(leaf, tx uint32, prefixes ...string) {
		a := &Adjacency{Kind: KindRewrite, Interface: tx, MTU: 1500}
		if tx == 0 {
			a.Kind = KindLocal
		}
		s.SetAdjacency(leaf, a)
		s.SetRoute(leaf, &Route{Balance: fib.NewBalance([]fib.Weighted{{Target: leaf, Weight: 1}}), RPF: []uint32{tx}, Local: tx == 0})
		s.SetLeaf(leaf, leaf)
		for _, p := range prefixes {
			if p := netip.MustParsePrefix(p); p.Addr().Is4() {
				a := p.Addr().As4()
				t4.Trie.Insert(binary.BigEndian.Uint32(a[:]), p.Bits(), leaf)
			} else {
				t6.Hash.Insert(p.Addr().As16(), p.Bits(), leaf)
			}
		}
	}
	hop(2, inIf, "10.0.1.0/24", "fd00:1::/64")
	hop(3, outIf, "10.0.2.0/24", "fd00:2::/64")
	hop(4, uplinkIf, "0.0.0.0/0", "::/0")
	hop(5, 0, "10.0.0.1/32", "fd00::1/128")
	ifs := []*Interface{nil}
	for i := inIf; i <= uplinkIf; i++ {
		ifc := *list[inIf]
		r.ports[i] = &capture{feed: feed{link: port.IP}}
		r.queues[i] = &Queue{Interface: uint32(i), Port: r.ports[i]}
		ifc.Index, ifc.Port = uint32(i), r.ports[i]
		ifc.NATIn4, ifc.NATIn6, ifc.NATOut4, ifc.NATOut6 = true, true, true, true
		ifc.Addrs4 = []Own4{{Addr: [4]byte{10, 0, 0, 1}}}
		ifc.Addrs6 = [][16]byte{netip.MustParseAddr("fd00::1").As16()}
		if set != nil {
			set(&ifc)
		}
		ifs = append(ifs, &ifc)
	}
	s.SetInterfaces(ifs)
	pods := nat.Interfaces{}.With(inIf, true).With(outIf, true)
	r.nat = NAT{Tables: &nat.Tables{Policy: nat.Policy{Kind: nat.PolicyKubernetes, Pods: pods, Include4: pods, Include6: pods,
		Source4: netip.MustParseAddr("10.0.0.1"), Source6: netip.MustParseAddr("fd00::1"),
		Excluded: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/16"), netip.MustParsePrefix("fd00::/16")},
	}}, Sessions: nat.NewSessions(1 << 16)}
	r.publish()
	return r
}

// publish makes the worker see r.nat.
func (r *rig) publish() {
	n := r.nat
	r.w.state.SetNAT(&n)
	r.w.state.Bump()
}

// service sets a translation; without backends it is one that has none.
func (r *rig) service(proto uint8, vip string, id uint32, set func(*nat.Translation), backends ...string) {
	a := netip.MustParseAddrPort(vip)
	t := nat.Translation{Endpoint: nat.Endpoint{Addr: a.Addr(), Port: a.Port(), Protocol: proto}, ID: id, Maglev: true, RealIP: true}
	for _, b := range backends {
		t.Backends = append(t.Backends, nat.Backend{Dst: netip.MustParseAddrPort(b)})
	}
	if set != nil {
		set(&t)
	}
	r.nat.Tables = r.nat.Tables.With(nat.NewTranslation(t))
	r.publish()
}

// wire is a packet for tests.
type wire struct {
	proto    uint8
	src, dst netip.AddrPort
	flags    uint8 // of TCP
	ttl      uint8
	data     int   // bytes behind the transport header
	bare     bool  // UDP without a checksum
	pending  bool  // its checksum is left to the device
	gso      int   // bytes of a segment
	echo     uint8 // type of ICMP
	about    *wire // ICMP: port unreachable, else too big
	later    bool
	first    bool
	id       uint16
}

func udp(src, dst string) wire {
	return wire{proto: packet.ProtoUDP, src: netip.MustParseAddrPort(src), dst: netip.MustParseAddrPort(dst), ttl: 64, data: 20}
}

func tcp(src, dst string, flags uint8) wire {
	p := udp(src, dst)
	p.proto, p.flags = packet.ProtoTCP, flags
	return p
}

// ping is an echo request, or a reply, whose identifier is the source port.
func ping(src, dst string, typ uint8) wire {
	p := udp(src, dst)
	p.proto, p.echo = packet.ProtoICMP, typ
	if p.src.Addr().Is6() {
		p.proto = packet.ProtoICMPv6
	}
	return p
}

// about is "port unreachable" about a packet.
func about(src, dst string, p wire) wire {
	typ := uint8(3)
	if strings.Contains(src, ":") {
		src, dst, typ = "["+src+"]", "["+dst+"]", 1
	}
	e := ping(src+":0", dst+":0", typ)
	e.about = &p
	return e
}

// buffer is the packet.
func (p wire) buffer() *packet.Buffer {
	b := packet.FromBytes(p.bytes())
	l3 := packet.IPv4Len
	if p.src.Addr().Is6() {
		l3 = packet.IPv6Len
	}
	if p.later || p.first {
		return b
	}
	b.L4 = uint16(l3)
	switch {
	case p.pending || p.gso > 0:
		if packet.LeaveChecksum(b) != packet.OK {
			panic("no checksum to leave")
		}
		if p.gso > 0 {
			b.Offload.GSO, b.Offload.GSOSize, b.Offload.HeaderLen = packet.GSOTCPv4, uint16(p.gso), b.L4+packet.TCPLen
			if l3 == packet.IPv6Len {
				b.Offload.GSO = packet.GSOTCPv6
			}
		}
	case !p.bare:
		packet.SetTransportChecksum(b)
	}
	return b
}

// bytes is the packet without a transport checksum.
func (p wire) bytes() []byte {
	var l4 []byte
	switch p.proto {
	case packet.ProtoTCP:
		l4 = make([]byte, packet.TCPLen+p.data)
		l4[12], l4[13] = 5<<4, p.flags
	case packet.ProtoUDP:
		l4 = make([]byte, packet.UDPLen+p.data)
		binary.BigEndian.PutUint16(l4[4:], uint16(len(l4)))
	case packet.ProtoICMP, packet.ProtoICMPv6:
		l4 = make([]byte, packet.ICMPLen+p.data)
		l4[0] = p.echo
		binary.BigEndian.PutUint16(l4[4:], p.src.Port())
		if p.about != nil {
			l4 = append(l4[:packet.ICMPLen], p.about.buffer().Bytes()...)
		}
	default:
		l4 = make([]byte, p.data)
	}
	if p.proto == packet.ProtoTCP || p.proto == packet.ProtoUDP {
		binary.BigEndian.PutUint16(l4, p.src.Port())
		binary.BigEndian.PutUint16(l4[2:], p.dst.Port())
	}
	if p.later {
		l4 = make([]byte, 16+p.data)
	}
	if p.src.Addr().Is4() {
		b := append(make([]byte, packet.IPv4Len), l4...)
		h := packet.MakeIPv4(b, p.src.Addr().As4(), p.dst.Addr().As4(), p.proto, p.ttl)
		h.SetID(p.id)
		if p.later {
			binary.BigEndian.PutUint16(b[6:], 4)
		} else if p.first {
			binary.BigEndian.PutUint16(b[6:], 0x2000)
		}
		h.UpdateHeaderChecksum()
		return b
	}
	next := p.proto
	if p.later || p.first {
		f := []byte{p.proto, 0, 0, 1, 0, 0, byte(p.id >> 8), byte(p.id)}
		if p.later {
			f[3] = 4 << 3
		}
		next, l4 = packet.ProtoFragment, append(f, l4...)
	}
	b := append(make([]byte, packet.IPv6Len), l4...)
	packet.MakeIPv6(b, p.src.Addr().As16(), p.dst.Addr().As16(), next, p.ttl)
	return b
}

// play sends packets by an interface, as one batch, and returns what comes out.
func (r *rig) play(by int, all ...wire) []string {
	r.tb.Helper()
	var bufs []*packet.Buffer
	for _, p := range all {
		bufs = append(bufs, p.buffer())
	}
	r.ports[by].in = bufs
	r.w.serve(r.queues[by])
	var out []string
	r.raw = nil
	for i, c := range r.ports {
		if c == nil {
			continue
		}
		for _, p := range c.out {
			out = append(out, fmt.Sprintf("%d: %s", i, describe(p)))
			r.raw = append(r.raw, packet.FromBytes(p))
		}
		c.out = nil
	}
	return out
}

// one is play for a packet that becomes one.
func (r *rig) one(by int, p wire) string {
	r.tb.Helper()
	out := r.play(by, p)
	if len(out) == 0 {
		return "-"
	}
	return strings.Join(out, "\n")
}

// describe is an IP packet as text.
func describe(p []byte) string {
	var src, dst netip.Addr
	var u packet.Upper
	ttl, bad := 0, ""
	if p[0]>>4 == 4 {
		ip := packet.IPv4(p)
		src, dst, u, ttl = ip.SrcAddr(), ip.DstAddr(), ip.Upper(), int(ip.TTL())
		if packet.Checksum(p[:packet.IPv4Len]) != 0 {
			bad = " bad header checksum"
		}
	} else {
		ip := packet.IPv6(p)
		src, dst, ttl = netip.AddrFrom16(ip.Src()), netip.AddrFrom16(ip.Dst()), int(ip.HopLimit())
		u, _ = ip.Upper()
	}
	l4 := p[u.Offset:]
	if u.Later {
		return fmt.Sprintf("later of %d %v>%v ttl %d%s", u.Proto, src, dst, ttl, bad)
	}
	b := packet.FromBytes(p)
	b.L4 = uint16(u.Offset)
	if !u.Fragment && packet.VerifyTransportChecksum(b) != packet.OK {
		bad += " bad checksum"
	}
	switch u.Proto {
	case packet.ProtoTCP, packet.ProtoUDP, packet.ProtoSCTP:
		name := map[uint8]string{packet.ProtoTCP: "tcp", packet.ProtoUDP: "udp", packet.ProtoSCTP: "sctp"}[u.Proto]
		s, d := binary.BigEndian.Uint16(l4), binary.BigEndian.Uint16(l4[2:])
		return fmt.Sprintf("%s %v>%v ttl %d%s", name, netip.AddrPortFrom(src, s), netip.AddrPortFrom(dst, d), ttl, bad)
	case packet.ProtoICMP, packet.ProtoICMPv6:
		if t := l4[0]; t >= 128 || t == 8 || t == 0 {
			return fmt.Sprintf("icmp %d %v>%v id %d ttl %d%s", t, src, dst, binary.BigEndian.Uint16(l4[4:]), ttl, bad)
		}
		return fmt.Sprintf("icmp %d %v>%v ttl %d%s [%s]", l4[0], src, dst, ttl, bad, strings.TrimSuffix(describe(l4[8:]), " bad checksum"))
	}
	return fmt.Sprintf("protocol %d %v>%v ttl %d%s", u.Proto, src, dst, ttl, bad)
}

// tick moves the clock, and has sessions that are over end.
func (r *rig) tick(seconds uint32) {
	r.w.state.clock.Add(seconds)
	r.nat.Sessions.Sweep(r.w.state.Clock(), 1<<20)
}

func withPort(a netip.AddrPort, port uint16) netip.AddrPort {
	return netip.AddrPortFrom(a.Addr(), port)
}
