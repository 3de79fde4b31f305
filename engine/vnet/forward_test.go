package vnet

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/netip"
	"testing"

	"github.com/google/gopacket/layers"

	"github.com/millrace/millrace/engine/packet"
	"github.com/millrace/millrace/engine/port"
	"github.com/millrace/millrace/engine/port/pipe"
)

func TestForwardsBetweenIPLinks(t *testing.T) {
	r := newRig(t, 1)
	a, b := r.tun("10.0.0.1/24", "fd00:a::1/64"), r.tun("10.0.1.1/24", "fd00:b::1/64")
	for _, d := range []pkt{
		{src: "10.0.0.2", dst: "10.0.1.2", sport: 1, dport: 2, size: 10},
		{src: "fd00:a::2", dst: "fd00:b::2", sport: 1, dport: 2, size: 10},
	} {
		for range 3 { // the second comes from the flow cache
			in := a.frame(d)
			a.send(in)
			got := b.next()
			if netip.MustParseAddr(d.src).Is4() {
				if ip := got.ip4(); ip.TTL != 63 || ip.DstIP.String() != d.dst {
					t.Errorf("TTL %d to %v, want 63 to %s", ip.TTL, ip.DstIP, d.dst)
				}
			} else if ip := got.ip6(); ip.HopLimit != 63 || ip.DstIP.String() != d.dst {
				t.Errorf("hop limit %d to %v, want 63 to %s", ip.HopLimit, ip.DstIP, d.dst)
			}
			if want := len(in); len(got.Data()) != want {
				t.Errorf("%d bytes, want %d", len(got.Data()), want)
			}
		}
	}
	r.p.barrier()
	c := r.p.cfg.Counters[1]
	if c.RX[a.index].Packets != 6 || c.TX[b.index].Packets != 6 || c.IP4[a.index] != 3 || c.IP6[a.index] != 3 {
		t.Errorf("rx %v tx %v ip4 %d ip6 %d, want 6, 6, 3, 3", c.RX[a.index], c.TX[b.index], c.IP4[a.index], c.IP6[a.index])
	}
	if want := uint64(3*38 + 3*58); c.RX[a.index].Bytes != want || c.TX[b.index].Bytes != want {
		t.Errorf("rx %d bytes, tx %d, want %d", c.RX[a.index].Bytes, c.TX[b.index].Bytes, want)
	}
}

func TestForwardsBetweenEthernets(t *testing.T) {
	r := newRig(t, 1)
	a, b := r.eth("10.0.0.1/24"), r.eth("10.0.1.1/24", "fd00:b::1/64")
	u := r.tun("10.0.2.1/24")
	b.neighbor("10.0.1.2")
	a.neighbor("10.0.0.2")
	a.send(a.frame(pkt{src: "10.0.0.2", dst: "10.0.1.2", size: 3})) // shorter than Ethernet's least
	got := b.next()
	if e := got.eth(); !bytes.Equal(e.DstMAC, b.peer) || !bytes.Equal(e.SrcMAC, b.mac) {
		t.Errorf("to %v from %v, want %v from %v", e.DstMAC, e.SrcMAC, b.peer, b.mac)
	}
	u.send(u.frame(pkt{src: "10.0.2.9", dst: "10.0.1.2", size: 3}))
	if e := b.next().eth(); e.EthernetType != layers.EthernetTypeIPv4 {
		t.Errorf("type %v after an IP link", e.EthernetType)
	}
	a.send(append(a.frame(pkt{src: "10.0.0.2", dst: "10.0.2.9", size: 3}), make([]byte, 15)...))
	if n := len(u.next().Data()); n != 20+8+3 {
		t.Errorf("%d bytes after padding was to be cut, want 31", n)
	}
	other := a.build(pkt{src: "10.0.0.2", dst: "10.0.1.2"}, a.peer, b.peer)
	a.send(other)
	b.quiet(a)
	r.wantCount("l3 mac mismatch", 1)
}

func TestECMPSpreadsFlowsNotPackets(t *testing.T) {
	r := newRig(t, 1)
	in, a, b := r.tun("10.0.0.1/24"), r.tun("10.0.1.1/24"), r.tun("10.0.2.1/24")
	qa, qb := a.via("10.0.1.2"), b.via("10.0.2.2")
	qb.Weight = 3
	stats := r.route(RouteReplace, "192.0.2.0/24", qa, qb)
	counts := map[*end]int{}
	for flow := range 400 {
		d := pkt{src: "10.0.0.9", dst: "192.0.2.1", sport: uint16(flow), dport: 80}
		in.send(in.frame(d), in.frame(d))
		r.settle(in)
		for _, e := range []*end{a, b} {
			n, err := e.port.Receive(0, e.bufs)
			r.must(err)
			if n == 1 {
				t.Fatal("one flow took both ways")
			}
			counts[e] += n
		}
	}
	if counts[a]+counts[b] != 800 || counts[a] < 120 || counts[a] > 280 {
		t.Errorf("%d and %d packets, want about 200 and 600", counts[a], counts[b])
	}
	if got := r.p.cfg.Counters[1].RouteTo[stats]; got.Packets != 800 || got.Bytes != 800*28 {
		t.Errorf("route counted %v, want 800 packets of 28 bytes", got)
	}
}

// The hash of only the source keeps all flows of a host on one way.
func TestFlowHashFields(t *testing.T) {
	r := newRig(t, 1)
	in, a, b := r.tun("10.0.0.1/24"), r.tun("10.0.1.1/24"), r.tun("10.0.2.1/24")
	r.route(RouteReplace, "192.0.2.0/24", a.via("10.0.1.2"), b.via("10.0.2.2"))
	r.must(r.p.SetFlowHash(Table{Family: IPv4}, 1))
	for flow := range 50 {
		in.send(in.frame(pkt{src: "10.0.0.9", dst: fmt.Sprintf("192.0.2.%d", flow), sport: uint16(flow)}))
	}
	r.settle(in)
	na, err := a.port.Receive(0, a.bufs)
	r.must(err)
	nb, err := b.port.Receive(0, b.bufs)
	r.must(err)
	if na+nb != 50 || na != 0 && nb != 0 {
		t.Errorf("%d and %d packets, want all 50 on one way", na, nb)
	}
}

func TestTTLExpired(t *testing.T) {
	r := newRig(t, 1)
	a, b := r.tun("10.0.0.1/24", "fd00:a::1/64"), r.tun("10.0.1.1/24", "fd00:b::1/64")
	for _, ttl := range []uint8{1, 255} {
		if ttl == 255 {
			// A TTL of 0 cannot be asked of gopacket by the zero value.
			p := a.frame(pkt{src: "10.0.0.2", dst: "10.0.1.2"})
			ip := packet.IPv4(p)
			ip.SetTTL(0)
			ip.UpdateHeaderChecksum()
			a.send(p)
		} else {
			a.send(a.frame(pkt{src: "10.0.0.2", dst: "10.0.1.2", ttl: ttl}))
		}
		got := a.next()
		got.icmp4(11, 0)
		if ip := got.ip4(); ip.SrcIP.String() != "10.0.0.1" || ip.DstIP.String() != "10.0.0.2" {
			t.Errorf("from %v to %v, want 10.0.0.1 to 10.0.0.2", ip.SrcIP, ip.DstIP)
		}
	}
	a.send(a.frame(pkt{src: "fd00:a::2", dst: "fd00:b::2", ttl: 1}))
	got := a.next()
	got.icmp6(3, 0)
	if ip := got.ip6(); ip.SrcIP.String() != "fd00:a::1" {
		t.Errorf("from %v, want fd00:a::1", ip.SrcIP)
	}
	b.quiet(a)
	r.wantCount("ip4 ttl <= 1", 2)
	r.wantCount("ip6 ttl <= 1", 1)
}

func TestTooBig(t *testing.T) {
	r := newRig(t, 1)
	a, b := r.tun("10.0.0.1/24", "fd00:a::1/64"), r.tun("10.0.1.1/24", "fd00:b::1/64")
	r.must(r.p.SetMTU(a.index, [4]uint32{9000}))
	r.must(r.p.SetMTU(b.index, [4]uint32{1500, 1400, 1300}))
	a.send(a.frame(pkt{src: "10.0.0.2", dst: "10.0.1.2", df: true, size: 1373}))
	if m := a.next().icmp4(3, 4); m.Seq != 1400 {
		t.Errorf("next hop MTU %d, want 1400", m.Seq)
	}
	a.send(a.frame(pkt{src: "fd00:a::2", dst: "fd00:b::2", size: 1300}))
	got := a.next().icmp6(2, 0)
	if mtu := binary.BigEndian.Uint32(got.Payload); mtu != 1300 {
		t.Errorf("MTU %d, want 1300", mtu)
	}
	a.send(a.frame(pkt{src: "10.0.0.2", dst: "10.0.1.2", df: true, size: 1372}))
	if n := len(b.next().Data()); n != 1400 {
		t.Errorf("%d bytes, want the 1400 that fit", n)
	}
	b.quiet(a)
}

func TestFragments(t *testing.T) {
	r := newRig(t, 1)
	a, b := r.tun("10.0.0.1/24"), r.eth("10.0.1.1/24")
	b.neighbor("10.0.1.2")
	r.must(r.p.SetMTU(a.index, [4]uint32{9000}))
	a.send(a.frame(pkt{src: "10.0.0.2", dst: "10.0.1.2", size: 4000}))
	total := 0
	for i := range 3 {
		q := b.next()
		ip := q.ip4()
		if int(ip.FragOffset)*8 != total || (ip.Flags&layers.IPv4MoreFragments != 0) != (i < 2) {
			t.Errorf("fragment %d at %d, flags %v", i, ip.FragOffset*8, ip.Flags)
		}
		if !bytes.Equal(q.eth().DstMAC, b.peer) {
			t.Errorf("fragment to %v, want %v", q.eth().DstMAC, b.peer)
		}
		total += int(ip.Length) - 20
	}
	if total != 4008 {
		t.Errorf("%d bytes in fragments, want 4008", total)
	}
	r.wantCount("number of sent fragments", 3)
}

func TestUnreachableRoutes(t *testing.T) {
	r := newRig(t, 1)
	a := r.tun("10.0.0.1/24", "fd00:a::1/64")
	r.route(RouteReplace, "192.0.2.0/24", Path{Type: PathUnreachable, Interface: NoIndex})
	r.route(RouteReplace, "198.51.100.0/24", Path{Type: PathProhibit, Interface: NoIndex})
	r.route(RouteReplace, "203.0.113.0/24", Path{Type: PathDrop, Interface: NoIndex})
	r.route(RouteReplace, "2001:db8::/64", Path{Type: PathUnreachable, Interface: NoIndex})
	a.send(a.frame(pkt{src: "10.0.0.2", dst: "192.0.2.1"}))
	a.next().icmp4(3, 1)
	a.send(a.frame(pkt{src: "10.0.0.2", dst: "198.51.100.1"}))
	a.next().icmp4(3, 10)
	a.send(a.frame(pkt{src: "fd00:a::2", dst: "2001:db8::1"}))
	a.next().icmp6(1, 0)
	a.send(a.frame(pkt{src: "10.0.0.2", dst: "203.0.113.1"}), a.frame(pkt{src: "10.0.0.2", dst: "8.8.8.8"}))
	a.quiet(a)
	r.wantCount("blackholed packets", 2)
}

func TestAnswersForItself(t *testing.T) {
	r := newRig(t, 1)
	a := r.tun("10.0.0.1/24", "fd00:a::1/64")
	a.send(a.frame(pkt{src: "10.0.0.2", dst: "10.0.0.1", icmp: true, sport: 7, dport: 9, size: 56}))
	if m := a.next().icmp4(0, 0); m.Id != 7 || m.Seq != 9 {
		t.Errorf("reply %d/%d, want 7/9", m.Id, m.Seq)
	}
	a.send(a.frame(pkt{src: "fd00:a::2", dst: "fd00:a::1", icmp: true, sport: 7, dport: 9, size: 56}))
	a.next().icmp6(129, 0)
	a.send(a.frame(pkt{src: "10.0.0.2", dst: "10.0.0.1", dport: 9}))
	a.next().icmp4(3, 3)
	a.send(a.frame(pkt{src: "fd00:a::2", dst: "fd00:a::1", dport: 9}))
	a.next().icmp6(1, 4)
	r.wantCount("No listener for dst port", 2)
	// Spoofed: from our own address, and from where there is no way back.
	a.send(a.frame(pkt{src: "10.0.0.1", dst: "10.0.0.1", icmp: true}), a.frame(pkt{src: "9.9.9.9", dst: "10.0.0.1", icmp: true}))
	a.quiet(a)
	r.wantCount("ip4 spoofed local-address packet drops", 1)
	r.wantCount("ip4 source lookup miss", 1)
}

func TestPuntRedirect(t *testing.T) {
	r := newRig(t, 1)
	a, host := r.tun("10.0.0.1/24"), r.tun("10.0.9.1/24")
	r.must(r.p.SetPuntRedirect(NoIndex, IPv4, []Path{host.via("")}))
	a.send(a.frame(pkt{src: "10.0.0.2", dst: "10.0.0.1", dport: 22}))
	a.next().icmp4(3, 3) // UDP only when asked for
	r.must(r.p.SetPuntUDP(IPv4, true))
	a.send(a.frame(pkt{src: "10.0.0.2", dst: "10.0.0.1", dport: 22}))
	if ip := host.next().ip4(); ip.TTL != 64 || ip.DstIP.String() != "10.0.0.1" {
		t.Errorf("punted with TTL %d to %v", ip.TTL, ip.DstIP)
	}
	a.send(a.frame(pkt{src: "10.0.0.2", dst: "10.0.0.1", icmp: true}))
	a.next().icmp4(0, 0)
	broken := a.frame(pkt{src: "10.0.0.2", dst: "10.0.0.1", dport: 22, size: 4})
	broken[len(broken)-1] ^= 1
	a.send(broken)
	host.quiet(a)
	r.wantCount("bad tcp or udp checksum", 1)
	// A first fragment shows neither length nor checksum to be right.
	first := packet.IPv4(broken)
	first[6] |= 0x20
	first.UpdateHeaderChecksum()
	a.send(broken)
	if ip := host.next().ip4(); ip.Flags&layers.IPv4MoreFragments == 0 {
		t.Error("punted another packet than the fragment")
	}
	r.must(r.p.SetPuntRedirect(NoIndex, IPv4, nil))
	a.send(a.frame(pkt{src: "10.0.0.2", dst: "10.0.0.1", dport: 22}))
	a.quiet(a)
	r.must(r.p.SetPuntUDP(IPv4, false))
	a.send(a.frame(pkt{src: "10.0.0.2", dst: "10.0.0.1", dport: 22}))
	a.next().icmp4(3, 3)
}

func TestURPF(t *testing.T) {
	r := newRig(t, 1)
	a, b := r.tun("10.0.0.1/24", "fd00:a::1/64"), r.tun("10.0.1.1/24", "fd00:b::1/64")
	good, stray := pkt{src: "10.0.0.2", dst: "10.0.1.2"}, pkt{src: "10.0.1.77", dst: "10.0.1.2"}
	unknown := pkt{src: "9.9.9.9", dst: "10.0.1.2"}
	good6, stray6 := pkt{src: "fd00:a::2", dst: "fd00:b::2"}, pkt{src: "fd00:b::77", dst: "fd00:b::2"}
	steps := []struct {
		mode URPFMode
		pass []pkt
		drop []pkt
	}{
		{URPFOff, []pkt{good, stray, unknown, good6, stray6}, nil},
		{URPFStrict, []pkt{good, good6}, []pkt{stray, unknown, stray6}},
		{URPFLoose, []pkt{good, stray, good6, stray6}, []pkt{unknown}},
		{URPFOff, []pkt{unknown}, nil},
	}
	for _, s := range steps {
		r.must(r.p.SetURPF(a.index, IPv4, true, s.mode, NoIndex))
		r.must(r.p.SetURPF(a.index, IPv6, true, s.mode, NoIndex))
		for _, d := range s.pass {
			a.send(a.frame(d))
			b.next()
		}
		for _, d := range s.drop {
			a.send(a.frame(d))
			b.quiet(a)
		}
	}
	r.wantCount("uRPF Drop", 4)
}

// A route changed in the middle of a flow takes effect with the next packet.
func TestEditsReachLiveFlows(t *testing.T) {
	r := newRig(t, 2)
	in, a, b := r.tun("10.0.0.1/24"), r.tun("10.0.1.1/24"), r.tun("10.0.2.1/24")
	d := pkt{src: "10.0.0.9", dst: "192.0.2.1", sport: 5, dport: 6}
	send := func() { in.send(in.frame(d)) }
	r.route(RouteReplace, "192.0.2.0/24", a.via("10.0.1.2"))
	send()
	a.next()
	r.route(RouteReplace, "192.0.2.0/24", b.via("10.0.2.2"))
	send()
	b.next()
	r.route(RouteReplace, "192.0.2.1/32", a.via("10.0.1.2"))
	send()
	a.next()
	r.route(RouteDelete, "192.0.2.1/32")
	send()
	b.next()
	r.must(r.p.SetAdminUp(b.index, false))
	send()
	b.quiet(in)
	r.must(r.p.SetAdminUp(b.index, true))
	send()
	b.next()
	r.must(r.p.SetLinkUp(b.index, false))
	send()
	b.quiet(in)
	r.route(RouteAddPaths, "192.0.2.0/24", a.via("10.0.1.2"))
	send()
	a.next()
}

func TestRecursiveRoutes(t *testing.T) {
	r := newRig(t, 1)
	in, a, b := r.tun("10.0.0.1/24"), r.tun("10.0.1.1/24"), r.tun("10.0.2.1/24")
	d := pkt{src: "10.0.0.9", dst: "192.0.2.1", sport: 5, dport: 6}
	send := func() { in.send(in.frame(d)) }
	recursive := func(nh string) Path { return Path{Interface: NoIndex, NextHop: netip.MustParseAddr(nh)} }
	r.route(RouteReplace, "192.0.2.0/24", recursive("172.16.0.1"))
	send()
	a.quiet(in)
	r.route(RouteReplace, "172.16.0.0/24", recursive("172.17.0.1"))
	r.route(RouteReplace, "172.17.0.0/16", a.via("10.0.1.2"))
	send()
	a.next()
	r.route(RouteReplace, "172.17.0.0/24", b.via("10.0.2.2"))
	send()
	b.next()
	r.route(RouteDelete, "172.17.0.0/24")
	send()
	a.next()
	// A loop drops, and its end brings the flow back.
	r.route(RouteReplace, "172.17.0.0/16", recursive("172.16.0.9"))
	send()
	a.quiet(in)
	r.route(RouteReplace, "172.17.0.0/16", b.via("10.0.2.2"))
	send()
	b.next()
	r.route(RouteReplace, "192.0.2.0/24", a.via(""))
	send()
	a.next()
	if len(r.p.vias) != 1 {
		t.Errorf("%d vias left, want the one of 172.16.0.0/24", len(r.p.vias))
	}
}

func TestTables(t *testing.T) {
	r := newRig(t, 1)
	r.must(r.p.AddTable(Table{ID: 7, Family: IPv4}))
	a := r.tun()
	r.must(r.p.SetTable(a.index, IPv4, 7))
	r.must(r.p.AddAddress(a.index, netip.MustParsePrefix("10.0.0.1/24")))
	b, c := r.tun("10.0.1.1/24"), r.tun("10.0.2.1/24")
	d := pkt{src: "10.0.0.2", dst: "10.0.1.2"}
	a.send(a.frame(d))
	b.quiet(a) // the route is in table 0 only
	_, err := r.p.EditRoute(Route{Table: 7, Prefix: netip.MustParsePrefix("0.0.0.0/0"), Paths: []Path{{Interface: NoIndex, Table: 0}}}, RouteReplace)
	r.must(err)
	a.send(a.frame(d))
	b.next()
	_, err = r.p.EditRoute(Route{Table: 7, Prefix: netip.MustParsePrefix("10.0.1.0/24"), Paths: []Path{c.via("10.0.2.9")}}, RouteReplace)
	r.must(err)
	a.send(a.frame(d))
	c.next()
	// Two tables that point at each other end in a drop.
	r.route(RouteReplace, "0.0.0.0/0", Path{Interface: NoIndex, Table: 7})
	a.send(a.frame(pkt{src: "10.0.0.2", dst: "8.8.8.8"}))
	b.quiet(a)
	r.wantCount("too many tables looked up in turn", 1)
}

func TestOffload(t *testing.T) {
	r := newRig(t, 1)
	caps := port.Capabilities{Checksum: true, TSO4: true, TSO6: true}
	a := r.link(pipe.Config{Link: port.IP, Capabilities: caps}, "10.0.0.1/24")
	whole := r.link(pipe.Config{Link: port.IP, Capabilities: caps}, "10.0.1.1/24")
	plain := r.link(pipe.Config{Link: port.IP}, "10.0.2.1/24")
	eth := r.eth("10.0.3.1/24")
	eth.neighbor("10.0.3.2")
	gso := func(dst string) *packet.Buffer {
		b := packet.FromBytes(make([]byte, 40+8000))
		p := b.Bytes()
		ip := packet.MakeIPv4(p, [4]byte{10, 0, 0, 2}, netip.MustParseAddr(dst).As4(), packet.ProtoTCP, 64)
		p[20+12] = 5 << 4
		b.L4 = 20
		if r := packet.LeaveChecksum(b); r != packet.OK {
			t.Fatal(r)
		}
		_ = ip
		b.Offload.GSO, b.Offload.GSOSize, b.Offload.HeaderLen = packet.GSOTCPv4, 1400, 40
		return b
	}
	a.sendBuffer(gso("10.0.1.2"))
	if n := len(whole.recv()); n != 8040 {
		t.Errorf("%d bytes, want the whole GSO packet of 8040", n)
	}
	for _, e := range []*end{plain, eth} {
		a.sendBuffer(gso([]string{"10.0.2.2", "10.0.3.2"}[map[*end]int{plain: 0, eth: 1}[e]]))
		sum := 0
		for sum < 8000 {
			sum += int(e.next().ip4().Length) - 40
		}
		if sum != 8000 {
			t.Errorf("%d bytes in segments, want 8000", sum)
		}
	}
	// Segments longer than the path: DF not set, so shorter ones are cut.
	r.must(r.p.SetMTU(whole.index, [4]uint32{1000}))
	a.sendBuffer(gso("10.0.1.2"))
	n, err := whole.port.Receive(0, whole.bufs)
	for n == 0 {
		r.p.barrier()
		n, err = whole.port.Receive(0, whole.bufs)
	}
	r.must(err)
	if size := whole.bufs[0].Offload.GSOSize; size != 960 {
		t.Errorf("segments of %d bytes, want 960", size)
	}
	bad := gso("10.0.2.2")
	bad.Offload.CsumStart = 9000
	a.sendBuffer(bad)
	plain.quiet(a)
	r.wantCount("offload contradicts the packet", 1)
}
