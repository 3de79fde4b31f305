package vnet

import (
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"github.com/millrace/millrace/engine/packet"
)

func (e *end) arp(op uint16, srcMAC net.HardwareAddr, src, dst string) []byte {
	e.Helper()
	to := net.HardwareAddr{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
	if op == 2 {
		to = e.mac
	}
	buf := gopacket.NewSerializeBuffer()
	e.must(gopacket.SerializeLayers(buf, gopacket.SerializeOptions{},
		&layers.Ethernet{SrcMAC: srcMAC, DstMAC: to, EthernetType: layers.EthernetTypeARP},
		&layers.ARP{AddrType: 1, Protocol: 0x0800, HwAddressSize: 6, ProtAddressSize: 4, Operation: op,
			SourceHwAddress: srcMAC, SourceProtAddress: netip.MustParseAddr(src).AsSlice(),
			DstHwAddress: e.mac, DstProtAddress: netip.MustParseAddr(dst).AsSlice()}))
	return buf.Bytes()
}

func (q parsed) arp() *layers.ARP {
	q.e.Helper()
	l, ok := q.Layer(layers.LayerTypeARP).(*layers.ARP)
	if !ok {
		q.e.Fatalf("not ARP: %v", q)
	}
	return l
}

// awaitNeighbor returns when the neighbour is known, which the control thread learns on
// its own time.
func (r *rig) awaitNeighbor(index uint32, addr string) Neighbor {
	r.Helper()
	got := make(chan Neighbor, 16)
	stop := r.p.WatchNeighbors(func(e NeighborEvent) {
		if !e.Removed {
			got <- e.Neighbor
		}
	})
	defer stop()
	want := netip.MustParseAddr(addr)
	for _, n := range r.p.Neighbors(familyOf(want), index) {
		if n.Addr == want {
			return n
		}
	}
	for {
		select {
		case n := <-got:
			if n.Addr == want && n.Interface == index {
				return n
			}
		case <-time.After(2 * time.Second):
			r.Fatalf("neighbour %s not learned; %s", addr, r.why())
		}
	}
}

func TestResolvesByARP(t *testing.T) {
	r := newRig(t, 1)
	a, b := r.tun("10.0.0.1/24"), r.eth("10.0.1.1/24")
	d := pkt{src: "10.0.0.2", dst: "10.0.1.2"}
	a.send(a.frame(d))
	q := b.next()
	ask := q.arp()
	if ask.Operation != 1 || net.IP(ask.SourceProtAddress).String() != "10.0.1.1" || net.IP(ask.DstProtAddress).String() != "10.0.1.2" {
		t.Errorf("asked %v", ask)
	}
	a.send(a.frame(d)) // within the second: no other request
	b.quiet(a)
	r.wantCount("ARP requests sent", 1)
	r.wantCount("ARP requests throttled", 1)
	b.send(b.arp(2, b.peer, "10.0.1.2", "10.0.1.1"))
	n := r.awaitNeighbor(b.index, "10.0.1.2")
	if n.MAC != [6]byte(b.peer) || n.Static {
		t.Errorf("learned %+v", n)
	}
	a.send(a.frame(d))
	if ip := b.next().ip4(); ip.TTL != 63 {
		t.Errorf("TTL %d", ip.TTL)
	}
	r.must(r.p.DelNeighbor(n))
	a.send(a.frame(d))
	b.quiet(a) // asked less than a second ago
	r.wantCount("ARP requests throttled", 2)
}

func TestResolvesByND(t *testing.T) {
	r := newRig(t, 1)
	a, b := r.tun("fd00:a::1/64"), r.eth("fd00:b::1/64")
	d := pkt{src: "fd00:a::2", dst: "fd00:b::2"}
	a.send(a.frame(d))
	q := b.next()
	q.icmp6(135, 0)
	if got := q.ip6().DstIP.String(); got != "ff02::1:ff00:2" {
		t.Errorf("asked %s, want ff02::1:ff00:2", got)
	}
	advert := packet.FromBytes(nil)
	packet.MakeNeighborAdvert(advert, [6]byte(b.peer), [6]byte(b.mac), netip.MustParseAddr("fd00:b::1").As16(),
		netip.MustParseAddr("fd00:b::2").As16(), packet.NASolicited|packet.NAOverride)
	b.sendBuffer(advert)
	r.awaitNeighbor(b.index, "fd00:b::2")
	a.send(a.frame(d))
	if ip := b.next().ip6(); ip.HopLimit != 63 {
		t.Errorf("hop limit %d", ip.HopLimit)
	}
}

func TestAnswersARP(t *testing.T) {
	r := newRig(t, 1)
	a := r.eth("10.0.0.1/24")
	a.send(a.arp(1, a.peer, "10.0.0.2", "10.0.0.1"))
	if m := a.next().arp(); m.Operation != 2 || net.HardwareAddr(m.SourceHwAddress).String() != a.mac.String() {
		t.Errorf("answered %v", m)
	}
	r.awaitNeighbor(a.index, "10.0.0.2")
	tests := []struct {
		name, src, dst, reason string
	}{
		{"another's address", "10.0.0.2", "10.0.0.3", "IP4 destination address not local to subnet"},
		{"foreign sender", "192.0.2.1", "10.0.0.1", "IP4 source address not local to subnet"},
		{"our own address", "10.0.0.1", "10.0.0.1", "IP4 source address matches local interface"},
	}
	for _, tt := range tests {
		before := r.counter(tt.reason)
		a.send(a.arp(1, a.peer, tt.src, tt.dst))
		a.quiet(a)
		r.wantCount(tt.reason, before+1)
	}
	// A known neighbour that announces another address is believed.
	mac := net.HardwareAddr{2, 0, 0, 0, 0, 0x77}
	changed := make(chan Neighbor, 4)
	defer r.p.WatchNeighbors(func(e NeighborEvent) { changed <- e.Neighbor })()
	a.send(a.arp(1, mac, "10.0.0.2", "10.0.0.2"))
	select {
	case n := <-changed:
		if n.MAC != [6]byte(mac) {
			t.Errorf("neighbour is at %x, want %v", n.MAC, mac)
		}
	case <-time.After(2 * time.Second):
		t.Error("announcement was not believed")
	}
	// A stranger that announces itself is not.
	a.send(a.arp(1, mac, "10.0.0.9", "10.0.0.9"))
	a.quiet(a)
	if n := r.p.Neighbors(IPv4, a.index); len(n) != 1 {
		t.Errorf("%d neighbours, want 1: %v", len(n), n)
	}
}

func TestAnswersND(t *testing.T) {
	r := newRig(t, 1)
	a := r.eth("fd00:a::1/64")
	i, err := r.p.Interface(a.index)
	r.must(err)
	ll := netip.AddrFrom16(packet.LinkLocal([6]byte(i.HardwareAddr)))
	for _, target := range []string{"fd00:a::1", ll.String()} {
		q := packet.FromBytes(nil)
		packet.MakeNeighborSolicit(q, [6]byte(a.peer), netip.MustParseAddr("fe80::2").As16(), netip.MustParseAddr(target).As16())
		a.sendBuffer(q)
		got := a.next()
		got.icmp6(136, 0)
		if got.ip6().SrcIP.String() != target {
			t.Errorf("answered from %v, want %s", got.ip6().SrcIP, target)
		}
	}
	r.awaitNeighbor(a.index, "fe80::2")
	// Echo between link-local addresses, and to the group of all nodes.
	for _, dst := range []string{ll.String(), "ff02::1"} {
		a.send(a.frame(pkt{src: "fe80::2", dst: dst, icmp: true, sport: 1}))
		got := a.next()
		got.icmp6(129, 0)
		if got.ip6().SrcIP.String() != ll.String() || got.eth().DstMAC.String() != a.peer.String() {
			t.Errorf("echo reply from %v to %v", got.ip6().SrcIP, got.eth().DstMAC)
		}
	}
	q := packet.FromBytes(nil)
	packet.MakeNeighborSolicit(q, [6]byte(a.peer), netip.MustParseAddr("fe80::2").As16(), netip.MustParseAddr("fd00:a::99").As16())
	a.sendBuffer(q)
	a.quiet(a)
	r.wantCount("neighbor solicitations for unknown targets", 1)
}

// A pod wired as Kubernetes does it: its address is a host route, the interface borrows
// the address of a loopback, and a link-local gateway is answered for.
func TestUnnumbered(t *testing.T) {
	r := newRig(t, 1)
	loop, err := r.p.AddInterface(InterfaceSpec{Name: "loop0", DeviceType: "Loopback", LinkUp: true}, nil)
	r.must(err)
	r.must(r.p.SetAdminUp(loop, true))
	r.must(r.p.AddAddress(loop, netip.MustParsePrefix("169.254.1.1/32")))
	pod, other := r.eth(), r.tun("10.0.1.1/24")
	pod.send(pod.frame(pkt{src: "10.1.0.5", dst: "10.0.1.2"}))
	other.quiet(pod)
	r.wantCount("ip4 drop", 1)
	r.must(r.p.SetUnnumbered(pod.index, loop, true))
	r.route(RouteReplace, "10.1.0.5/32", pod.via("10.1.0.5"))
	if m := pod.next().arp(); net.IP(m.DstProtAddress).String() != "10.1.0.5" {
		t.Errorf("a new route asked for %v", m.DstProtAddress)
	}
	pod.send(pod.arp(1, pod.peer, "10.1.0.5", "169.254.1.1"))
	if m := pod.next().arp(); m.Operation != 2 || net.HardwareAddr(m.SourceHwAddress).String() != pod.mac.String() {
		t.Errorf("gateway answered %v", m)
	}
	r.awaitNeighbor(pod.index, "10.1.0.5")
	pod.send(pod.frame(pkt{src: "10.1.0.5", dst: "10.0.1.2"}))
	other.next()
	other.send(other.frame(pkt{src: "10.0.1.2", dst: "10.1.0.5"}))
	pod.next().ip4()
	pod.send(pod.frame(pkt{src: "10.1.0.5", dst: "169.254.1.1", icmp: true}))
	pod.next().icmp4(0, 0)
	pod.send(pod.frame(pkt{src: "10.1.0.5", dst: "10.0.1.2", ttl: 1}))
	if ip := pod.next().ip4(); ip.SrcIP.String() != "169.254.1.1" {
		t.Errorf("ICMP error from %v, want the lender's address", ip.SrcIP)
	}
	r.must(r.p.SetUnnumbered(pod.index, loop, false))
	pod.send(pod.frame(pkt{src: "10.1.0.5", dst: "10.0.1.2"}))
	other.quiet(pod)
}

func TestStaticNeighborStays(t *testing.T) {
	r := newRig(t, 1)
	a := r.eth("10.0.0.1/24")
	a.neighbor("10.0.0.2")
	mac := net.HardwareAddr{2, 0, 0, 0, 0, 0x77}
	a.send(a.arp(1, mac, "10.0.0.2", "10.0.0.1"))
	a.next()
	a.quiet(a)
	if err := r.p.AddNeighbor(Neighbor{Interface: a.index, Addr: netip.MustParseAddr("10.0.0.2"), MAC: [6]byte(mac)}); err == nil {
		t.Error("a dynamic entry overwrote a static one")
	}
	n := r.p.Neighbors(IPv4, NoIndex)
	if len(n) != 1 || n[0].MAC != [6]byte(a.peer) || !n[0].Static {
		t.Errorf("neighbours %+v", n)
	}
	r.must(r.p.SetAdminUp(a.index, false))
	r.must(r.p.SetAdminUp(a.index, true))
	if n := r.p.Neighbors(IPv4, NoIndex); len(n) != 1 {
		t.Errorf("static neighbour gone after down and up: %v", n)
	}
}

func TestNeighborLimitAndAge(t *testing.T) {
	p, err := New(Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := p.closeWorkers(); err != nil {
			t.Error(err)
		}
	}()
	clock := time.Unix(1000, 0)
	p.now = func() time.Time { return clock }
	i, err := p.AddInterface(InterfaceSpec{Name: "loop0", LinkUp: true}, nil)
	if err != nil {
		t.Fatal(err)
	}
	add := func(last byte, static bool) error {
		clock = clock.Add(time.Second)
		return p.AddNeighbor(Neighbor{Interface: i, Addr: netip.AddrFrom4([4]byte{10, 0, 0, last}), MAC: [6]byte{2, 0, 0, 0, 0, last}, Static: static})
	}
	if err := p.SetNeighborConfig(IPv4, NeighborConfig{MaxNumber: 3}); err != nil {
		t.Fatal(err)
	}
	for n := range byte(3) {
		if err := add(n+1, n == 0); err != nil {
			t.Fatal(err)
		}
	}
	if err := add(4, false); err == nil {
		t.Error("a fourth neighbour was taken")
	}
	if err := p.SetNeighborConfig(IPv4, NeighborConfig{MaxNumber: 3, Recycle: true, MaxAge: 30}); err != nil {
		t.Fatal(err)
	}
	if err := add(4, false); err != nil {
		t.Error(err)
	}
	var left []byte
	for _, n := range p.Neighbors(IPv4, NoIndex) {
		left = append(left, n.Addr.As4()[3])
	}
	if string(left) != "\x01\x03\x04" {
		t.Errorf("neighbours %v, want 1 (static), 3, 4", left)
	}
	clock = clock.Add(31 * time.Second)
	for range maxProbes {
		p.age()
	}
	if n := len(p.Neighbors(IPv4, NoIndex)); n != 3 {
		t.Errorf("%d neighbours while they are asked, want 3", n)
	}
	p.age()
	if n := p.Neighbors(IPv4, NoIndex); len(n) != 1 || !n[0].Static {
		t.Errorf("neighbours after their age: %v, want the static one", n)
	}
}

// A neighbour's host route counts only inside a prefix of its interface.
func TestNeighborRefinesItsCover(t *testing.T) {
	r := newRig(t, 1)
	in, a, b := r.tun("10.9.0.1/24"), r.eth("10.0.0.1/24"), r.tun("10.0.1.1/24")
	a.neighbor("10.0.1.5") // a lie: that subnet is b's
	in.send(in.frame(pkt{src: "10.9.0.2", dst: "10.0.1.5"}))
	b.next()
	r.must(r.p.DelAddress(b.index, netip.MustParsePrefix("10.0.1.1/24")))
	r.must(r.p.AddAddress(a.index, netip.MustParsePrefix("10.0.1.2/24")))
	in.send(in.frame(pkt{src: "10.9.0.2", dst: "10.0.1.5"}))
	a.next().ip4()
}
