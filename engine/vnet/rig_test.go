package vnet

import (
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"golang.org/x/sys/unix"

	"github.com/millrace/millrace/engine/packet"
	"github.com/millrace/millrace/engine/port"
	"github.com/millrace/millrace/engine/port/pipe"
)

// rig is a running Plane whose ports end in the test.
type rig struct {
	*testing.T
	p     *Plane
	links int
}

// end is the test's side of one interface.
type end struct {
	*rig
	index uint32
	mac   net.HardwareAddr // the engine's
	peer  net.HardwareAddr // ours
	port  *pipe.Port
	bufs  []*packet.Buffer
	got   [][]byte
}

func newRig(t *testing.T, workers int) *rig {
	t.Helper()
	p, err := New(Config{Workers: workers, MaxInterfaces: 32, MaxRoutes: 1024})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- p.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("run: %v", err)
		}
	})
	return &rig{T: t, p: p}
}

func (r *rig) must(err error) {
	r.Helper()
	if err != nil {
		r.Fatal(err)
	}
}

// link adds an interface that is up and has the addresses.
func (r *rig) link(c pipe.Config, addrs ...string) *end {
	r.Helper()
	r.links++
	a, b, err := pipe.New(c)
	r.must(err)
	i, err := r.p.AddInterface(InterfaceSpec{Name: fmt.Sprintf("pipe%d", r.links), DeviceType: "pipe", LinkUp: true, MTU: 1500}, a)
	r.must(err)
	r.Cleanup(func() { r.must(b.Close()) })
	for _, s := range addrs {
		r.must(r.p.AddAddress(i, netip.MustParsePrefix(s)))
	}
	r.must(r.p.SetAdminUp(i, true))
	e := &end{rig: r, index: i, port: b, mac: a.HardwareAddr(), peer: b.HardwareAddr()}
	for range 64 {
		e.bufs = append(e.bufs, packet.FromBytes(nil))
	}
	return e
}

func (r *rig) eth(addrs ...string) *end { r.Helper(); return r.link(pipe.Config{}, addrs...) }
func (r *rig) tun(addrs ...string) *end {
	r.Helper()
	return r.link(pipe.Config{Link: port.IP}, addrs...)
}

func (e *end) send(pkts ...[]byte) {
	e.Helper()
	for _, p := range pkts {
		e.sendBuffer(packet.FromBytes(p))
	}
}

func (e *end) sendBuffer(b *packet.Buffer) {
	e.Helper()
	n, err := e.port.Transmit(0, []*packet.Buffer{b})
	if err != nil || n != 1 {
		e.Fatalf("transmit = %d, %v", n, err)
	}
}

// recv returns the next packet, or fails after two seconds without one.
func (e *end) recv() []byte {
	e.Helper()
	for len(e.got) == 0 {
		n, err := e.port.Receive(0, e.bufs)
		e.must(err)
		for _, b := range e.bufs[:n] {
			e.got = append(e.got, append([]byte(nil), b.Bytes()...))
		}
		if n > 0 {
			break
		}
		k, err := unix.Poll([]unix.PollFd{{Fd: int32(e.port.RxFD(0)), Events: unix.POLLIN}}, 2000)
		if err == unix.EINTR {
			continue
		}
		e.must(err)
		if k == 0 {
			e.Fatalf("no packet on interface %d; %s", e.index, e.why())
		}
	}
	p := e.got[0]
	e.got = e.got[1:]
	return p
}

// why lists the counters, for a failed test's message.
func (r *rig) why() string {
	s := "counters:"
	for _, c := range r.p.Errors() {
		s += fmt.Sprintf(" [%s %s: %d]", c.Node, c.Reason, c.Count)
	}
	return s
}

// settle returns when the workers have done with all that was sent before: each worker's
// queue found empty once after a barrier.
func (r *rig) settle(ends ...*end) {
	r.Helper()
	for _, e := range ends {
		// A frame that is nobody's, to be counted once all before it are through.
		before := e.counter("unknown ethernet type") + e.counter("ip4 version != 4")
		if e.peer != nil {
			e.send(append(append(append([]byte{}, e.mac...), e.peer...), 0x88, 0xb5, 0))
		} else {
			e.send([]byte{0x00})
		}
		for e.counter("unknown ethernet type")+e.counter("ip4 version != 4") == before {
			r.p.barrier()
		}
	}
	r.p.barrier()
}

// quiet fails when a packet came that nobody asked for.
func (e *end) quiet(from ...*end) {
	e.Helper()
	e.settle(from...)
	n, err := e.port.Receive(0, e.bufs)
	e.must(err)
	if n > 0 || len(e.got) > 0 {
		e.Fatalf("interface %d sent a packet nobody asked for: %v", e.index, gopacket.NewPacket(e.bufs[0].Bytes(), layers.LayerTypeEthernet, gopacket.Default))
	}
}

func (r *rig) counter(reason string) uint64 {
	var n uint64
	r.p.barrier()
	for _, c := range r.p.Errors() {
		if c.Reason == reason {
			n += c.Count
		}
	}
	return n
}

// wantCount fails unless the counter has risen to n.
func (r *rig) wantCount(reason string, n uint64) {
	r.Helper()
	if got := r.counter(reason); got != n {
		r.Errorf("%q counted %d times, want %d; %s", reason, got, n, r.why())
	}
}

// route edits a route of table 0.
func (r *rig) route(e RouteEdit, prefix string, paths ...Path) uint32 {
	r.Helper()
	i, err := r.p.EditRoute(Route{Prefix: netip.MustParsePrefix(prefix), Paths: paths}, e)
	r.must(err)
	return i
}

func (e *end) via(nh string) Path {
	q := Path{Interface: e.index, Weight: 1}
	if nh != "" {
		q.NextHop = netip.MustParseAddr(nh)
	}
	return q
}

func (e *end) neighbor(addr string) {
	e.Helper()
	e.must(e.p.AddNeighbor(Neighbor{Interface: e.index, Addr: netip.MustParseAddr(addr), MAC: [6]byte(e.peer), Static: true}))
}

// pkt describes a packet to build.
type pkt struct {
	src, dst     string
	sport, dport uint16
	ttl          uint8
	df           bool
	size         int // of the payload
	icmp         bool
	sctp         bool // a header and size bytes
}

// frame builds the packet as e sends it.
func (e *end) frame(d pkt) []byte {
	e.Helper()
	return e.build(d, e.peer, e.mac)
}

func (e *end) build(d pkt, src, dst net.HardwareAddr) []byte {
	e.Helper()
	if d.ttl == 0 {
		d.ttl = 64
	}
	var ls []gopacket.SerializableLayer
	s, t := netip.MustParseAddr(d.src), netip.MustParseAddr(d.dst)
	typ := layers.EthernetTypeIPv4
	if s.Is6() {
		typ = layers.EthernetTypeIPv6
	}
	if e.peer != nil {
		ls = append(ls, &layers.Ethernet{SrcMAC: src, DstMAC: dst, EthernetType: typ})
	}
	proto := layers.IPProtocolUDP
	if d.sctp {
		proto = layers.IPProtocolSCTP
	}
	var network gopacket.NetworkLayer
	if s.Is4() {
		if d.icmp {
			proto = layers.IPProtocolICMPv4
		}
		ip := &layers.IPv4{Version: 4, TTL: d.ttl, Protocol: proto, SrcIP: s.AsSlice(), DstIP: t.AsSlice(), Id: 7}
		if d.df {
			ip.Flags = layers.IPv4DontFragment
		}
		ls, network = append(ls, ip), ip
	} else {
		if d.icmp {
			proto = layers.IPProtocolICMPv6
		}
		ip := &layers.IPv6{Version: 6, HopLimit: d.ttl, NextHeader: proto, SrcIP: s.AsSlice(), DstIP: t.AsSlice()}
		ls, network = append(ls, ip), ip
	}
	switch {
	case d.icmp && s.Is4():
		ls = append(ls, &layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(8, 0), Id: d.sport, Seq: d.dport})
	case d.icmp:
		c := &layers.ICMPv6{TypeCode: layers.CreateICMPv6TypeCode(128, 0)}
		e.must(c.SetNetworkLayerForChecksum(network))
		ls = append(ls, c, &layers.ICMPv6Echo{Identifier: d.sport, SeqNumber: d.dport})
	case d.sctp:
		p := make([]byte, 12+d.size)
		binary.BigEndian.PutUint16(p, d.sport)
		binary.BigEndian.PutUint16(p[2:], d.dport)
		ls = append(ls, gopacket.Payload(p))
	default:
		u := &layers.UDP{SrcPort: layers.UDPPort(d.sport), DstPort: layers.UDPPort(d.dport)}
		e.must(u.SetNetworkLayerForChecksum(network))
		ls = append(ls, u)
	}
	ls = append(ls, gopacket.Payload(make([]byte, d.size)))
	buf := gopacket.NewSerializeBuffer()
	e.must(gopacket.SerializeLayers(buf, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, ls...))
	return buf.Bytes()
}

// parsed is a received packet, checksums verified.
type parsed struct {
	gopacket.Packet
	e *end
}

func (e *end) next() parsed {
	e.Helper()
	b := e.recv()
	first := gopacket.Decoder(layers.LayerTypeEthernet)
	if e.peer == nil {
		first = layers.LayerTypeIPv4
		if b[0]>>4 == 6 {
			first = layers.LayerTypeIPv6
		}
	}
	q := gopacket.NewPacket(b, first, gopacket.Default)
	if l := q.ErrorLayer(); l != nil {
		e.Fatalf("received packet does not parse: %v\n%v", l.Error(), q)
	}
	verifyChecksums(e.T, b, e.peer != nil)
	return parsed{q, e}
}

func verifyChecksums(t *testing.T, b []byte, ethernet bool) {
	t.Helper()
	buf := packet.FromBytes(b)
	if ethernet {
		buf.L3 = packet.EthLen
		if t := packet.Ethernet(b).Type(); t != packet.EtherTypeIPv4 && t != packet.EtherTypeIPv6 {
			return
		}
	}
	p := buf.L3Bytes()
	if p[0]>>4 == 4 {
		ip, r := packet.ParseIPv4(p)
		if r != packet.OK {
			t.Fatalf("received IPv4 packet is %v", r)
		}
		if ip.IsFragment() {
			return
		}
		buf.L4 = buf.L3 + uint16(ip.Upper().Offset)
	} else {
		ip, r := packet.ParseIPv6(p)
		if r != packet.OK {
			t.Fatalf("received IPv6 packet is %v", r)
		}
		u, _ := ip.Upper()
		buf.L4 = buf.L3 + uint16(u.Offset)
	}
	if r := packet.VerifyTransportChecksum(buf); r != packet.OK {
		t.Fatalf("received packet has %v", r)
	}
}

func (q parsed) ip4() *layers.IPv4 {
	q.e.Helper()
	l, ok := q.Layer(layers.LayerTypeIPv4).(*layers.IPv4)
	if !ok {
		q.e.Fatalf("not IPv4: %v", q)
	}
	return l
}

func (q parsed) ip6() *layers.IPv6 {
	q.e.Helper()
	l, ok := q.Layer(layers.LayerTypeIPv6).(*layers.IPv6)
	if !ok {
		q.e.Fatalf("not IPv6: %v", q)
	}
	return l
}

func (q parsed) eth() *layers.Ethernet {
	q.e.Helper()
	l, ok := q.Layer(layers.LayerTypeEthernet).(*layers.Ethernet)
	if !ok {
		q.e.Fatalf("not Ethernet: %v", q)
	}
	return l
}

func (q parsed) icmp4(typ, code uint8) *layers.ICMPv4 {
	q.e.Helper()
	l, ok := q.Layer(layers.LayerTypeICMPv4).(*layers.ICMPv4)
	if !ok || l.TypeCode != layers.CreateICMPv4TypeCode(typ, code) {
		q.e.Fatalf("not ICMPv4 %d/%d: %v", typ, code, q)
	}
	return l
}

func (q parsed) icmp6(typ, code uint8) *layers.ICMPv6 {
	q.e.Helper()
	l, ok := q.Layer(layers.LayerTypeICMPv6).(*layers.ICMPv6)
	if !ok || l.TypeCode != layers.CreateICMPv6TypeCode(typ, code) {
		q.e.Fatalf("not ICMPv6 %d/%d: %v", typ, code, q)
	}
	return l
}
