package steer

import (
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"net/netip"
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"golang.org/x/sys/unix"
)

var (
	mac   = []byte{2, 0, 0, 0, 0, 1}
	other = []byte{2, 0, 0, 0, 0, 2}
)

func testRules() rules {
	return rules{
		mac: mac,
		prefixes: []netip.Prefix{
			netip.MustParsePrefix("10.244.1.0/24"), netip.MustParsePrefix("203.0.113.7/32"), netip.MustParsePrefix("fd00:1::/64"),
		},
		ports: []Port{
			{netip.MustParseAddr("192.0.2.1"), UDP, 4789}, {netip.MustParseAddr("192.0.2.1"), TCP, 30080},
			{netip.MustParseAddr("192.0.2.1"), SCTP, 30081},
			{netip.MustParseAddr("2001:db8::1"), UDP, 4789}, {netip.MustParseAddr("2001:db8::1"), TCP, 30080},
		},
	}
}

// loaded is the program with rules, and a socket on queue 0 if there is to be one.
func loaded(t testing.TB, r rules, socket bool) *Program {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: an XDP program is loaded")
	}
	p, err := Load(false)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	if err := p.SetMAC(r.mac); err != nil {
		t.Fatal(err)
	}
	for _, prefix := range r.prefixes {
		if err := p.PutPrefix(prefix); err != nil {
			t.Fatal(err)
		}
	}
	for _, port := range r.ports {
		if err := p.PutPort(port); err != nil {
			t.Fatal(err)
		}
	}
	if socket {
		giveSocket(t, p)
	}
	return p
}

// giveSocket puts an AF_XDP socket in place; that is not bound to anything is no matter to
// a program that is only tried. The kernel wants it to have a receive ring.
func giveSocket(t testing.TB, p *Program) {
	t.Helper()
	fd, err := unix.Socket(unix.AF_XDP, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Skipf("needs AF_XDP: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Close(fd); err != nil {
			t.Error(err)
		}
	})
	if err := unix.SetsockoptInt(fd, unix.SOL_XDP, unix.XDP_RX_RING, 64); err != nil {
		t.Fatal(err)
	}
	if err := p.SetSocket(0, fd); err != nil {
		t.Fatal(err)
	}
}

// run tries one packet and returns its verdict, which the counters tell, after it compared
// the program's answer with it.
func run(t testing.TB, p *Program, packet []byte) Verdict {
	t.Helper()
	before, err := p.Count()
	if err != nil {
		t.Fatal(err)
	}
	answer, out, err := p.XDP().Test(packet)
	if err != nil {
		t.Fatalf("run %x: %v", packet, err)
	}
	if string(out) != string(packet) {
		t.Fatalf("the program changed %x to %x", packet, out)
	}
	after, err := p.Count()
	if err != nil {
		t.Fatal(err)
	}
	got := verdicts
	for v := range verdicts {
		switch after[v] - before[v] {
		case 0:
		case 1:
			if got != verdicts {
				t.Fatalf("%x counted twice, as %s and as %s", packet, got, v)
			}
			got = v
		default:
			t.Fatalf("%x counted %d times as %s", packet, after[v]-before[v], v)
		}
	}
	if taken := got == TakenPrefix || got == TakenPort; taken != (answer == xdpRedirect) || !taken && answer != xdpPass {
		t.Fatalf("%x counted as %s, and the program answers %d", packet, got, answer)
	}
	return got
}

func build(t testing.TB, list ...gopacket.SerializableLayer) []byte {
	t.Helper()
	b := gopacket.NewSerializeBuffer()
	if err := gopacket.SerializeLayers(b, gopacket.SerializeOptions{FixLengths: true}, list...); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func eth(dst []byte, kind layers.EthernetType) *layers.Ethernet {
	return &layers.Ethernet{DstMAC: dst, SrcMAC: other, EthernetType: kind}
}

func ip4(dst string, proto layers.IPProtocol) *layers.IPv4 {
	return &layers.IPv4{Version: 4, TTL: 64, Protocol: proto, SrcIP: []byte{192, 0, 2, 9}, DstIP: netip.MustParseAddr(dst).AsSlice()}
}

func ip6(dst string, next layers.IPProtocol) *layers.IPv6 {
	return &layers.IPv6{Version: 6, HopLimit: 64, NextHeader: next, SrcIP: netip.MustParseAddr("2001:db8::9").AsSlice(), DstIP: netip.MustParseAddr(dst).AsSlice()}
}

func udp(port int) *layers.UDP { return &layers.UDP{SrcPort: 1, DstPort: layers.UDPPort(port)} }
func tcp(port int) *layers.TCP { return &layers.TCP{SrcPort: 1, DstPort: layers.TCPPort(port)} }

const (
	e4 = layers.EthernetTypeIPv4
	e6 = layers.EthernetTypeIPv6
)

func TestIntegrationProgramTakesWhatIsSteered(t *testing.T) {
	part := ip4("192.0.2.1", layers.IPProtocolUDP)
	part.Flags = layers.IPv4MoreFragments
	later := ip4("192.0.2.1", layers.IPProtocolUDP)
	later.FragOffset = 100
	podPart := ip4("10.244.1.9", layers.IPProtocolUDP)
	podPart.FragOffset = 100
	options := ip4("192.0.2.1", layers.IPProtocolUDP)
	options.Options = []layers.IPv4Option{{OptionType: 1}, {OptionType: 1}, {OptionType: 1}, {OptionType: 1}}
	hop := gopacket.Payload{17, 0, 1, 4, 0, 0, 0, 0} // hop-by-hop, then UDP
	fragment := gopacket.Payload{17, 0, 0, 0, 0, 0, 0, 1}
	tests := []struct {
		name   string
		want   Verdict
		packet []gopacket.SerializableLayer
	}{
		{"pod", TakenPrefix, []gopacket.SerializableLayer{eth(mac, e4), ip4("10.244.1.9", 6), tcp(80)}},
		{"pod, any protocol", TakenPrefix, []gopacket.SerializableLayer{eth(mac, e4), ip4("10.244.1.9", 99)}},
		{"pod, later fragment", TakenPrefix, []gopacket.SerializableLayer{eth(mac, e4), podPart}},
		{"beside the pods", Passed, []gopacket.SerializableLayer{eth(mac, e4), ip4("10.244.2.9", 6), tcp(80)}},
		{"one address", TakenPrefix, []gopacket.SerializableLayer{eth(mac, e4), ip4("203.0.113.7", 6), tcp(80)}},
		{"its neighbour", Passed, []gopacket.SerializableLayer{eth(mac, e4), ip4("203.0.113.8", 6), tcp(80)}},
		{"pod, frame for another", PassedAlien, []gopacket.SerializableLayer{eth(other, e4), ip4("10.244.1.9", 6), tcp(80)}},
		{"pod, in a VLAN", PassedTagged, []gopacket.SerializableLayer{eth(mac, layers.EthernetTypeDot1Q), &layers.Dot1Q{VLANIdentifier: 5, Type: e4}, ip4("10.244.1.9", 6), tcp(80)}},
		{"VXLAN", TakenPort, []gopacket.SerializableLayer{eth(mac, e4), ip4("192.0.2.1", 17), udp(4789)}},
		{"VXLAN, options", TakenPort, []gopacket.SerializableLayer{eth(mac, e4), options, udp(4789)}},
		{"VXLAN, first fragment", PassedPart, []gopacket.SerializableLayer{eth(mac, e4), part, udp(4789)}},
		{"VXLAN, later fragment", PassedPart, []gopacket.SerializableLayer{eth(mac, e4), later, udp(4789)}},
		{"VXLAN's port from the other side", Passed, []gopacket.SerializableLayer{eth(mac, e4), ip4("192.0.2.1", 17), &layers.UDP{SrcPort: 4789, DstPort: 1}}},
		{"VXLAN's port by TCP", Passed, []gopacket.SerializableLayer{eth(mac, e4), ip4("192.0.2.1", 6), tcp(4789)}},
		{"node port", TakenPort, []gopacket.SerializableLayer{eth(mac, e4), ip4("192.0.2.1", 6), tcp(30080)}},
		{"node port by SCTP", TakenPort, []gopacket.SerializableLayer{eth(mac, e4), ip4("192.0.2.1", 132), gopacket.Payload{0, 1, 0x75, 0x81}}},
		{"SSH", Passed, []gopacket.SerializableLayer{eth(mac, e4), ip4("192.0.2.1", 6), tcp(22)}},
		{"DHCP", PassedAlien, []gopacket.SerializableLayer{eth(layers.EthernetBroadcast, e4), ip4("255.255.255.255", 17), udp(68)}},
		{"ARP", Passed, []gopacket.SerializableLayer{eth(mac, layers.EthernetTypeARP), gopacket.Payload(make([]byte, 28))}},
		{"pod by IPv6", TakenPrefix, []gopacket.SerializableLayer{eth(mac, e6), ip6("fd00:1::9", 6), tcp(80)}},
		{"ping of a pod by IPv6", TakenPrefix, []gopacket.SerializableLayer{eth(mac, e6), ip6("fd00:1::9", 58), gopacket.Payload{128, 0, 0, 0}}},
		{"solicitation of a pod", Passed, []gopacket.SerializableLayer{eth(mac, e6), ip6("fd00:1::9", 58), gopacket.Payload{135, 0, 0, 0}}},
		{"VXLAN by IPv6", TakenPort, []gopacket.SerializableLayer{eth(mac, e6), ip6("2001:db8::1", 17), udp(4789)}},
		{"VXLAN behind hop-by-hop", TakenPort, []gopacket.SerializableLayer{eth(mac, e6), ip6("2001:db8::1", 0), hop, udp(4789)}},
		{"VXLAN by IPv6, fragment", PassedPart, []gopacket.SerializableLayer{eth(mac, e6), ip6("2001:db8::1", 44), fragment, udp(4789)}},
		{"SSH by IPv6", Passed, []gopacket.SerializableLayer{eth(mac, e6), ip6("2001:db8::1", 6), tcp(22)}},
	}
	p := loaded(t, testRules(), true)
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			packet := build(t, test.packet...)
			if len(packet) < 60 {
				packet = append(packet, make([]byte, 60-len(packet))...)
			}
			if got := run(t, p, packet); got != test.want {
				t.Errorf("it is %s; want %s", got, test.want)
			}
			if got := testRules().oracle(packet); got != test.want {
				t.Errorf("the oracle says %s; want %s", got, test.want)
			}
		})
	}
}

func TestIntegrationProgramPassesWithoutSocketOrMAC(t *testing.T) {
	p := loaded(t, testRules(), false)
	packet := build(t, eth(mac, e4), ip4("10.244.1.9", 6), tcp(80))
	if got := run(t, p, packet); got != PassedSocket {
		t.Errorf("without a socket it is %s", got)
	}
	if err := p.SetMAC(other); err != nil {
		t.Fatal(err)
	}
	if got := run(t, p, packet); got != PassedAlien {
		t.Errorf("with another MAC address it is %s", got)
	}
}

// TestIntegrationProgramAgreesWithOracle runs packets near to what is steered, bent and cut at
// random.
func TestIntegrationProgramAgreesWithOracle(t *testing.T) {
	r := testRules()
	p := loaded(t, r, true)
	rnd := rand.New(rand.NewPCG(1, 2))
	seen := map[Verdict]int{}
	for range 20000 {
		packet := randomPacket(rnd, r)
		want := r.oracle(packet)
		if got := run(t, p, packet); got != want {
			t.Fatalf("%x is %s; want %s", packet, got, want)
		}
		seen[want]++
	}
	for _, v := range []Verdict{Passed, PassedAlien, PassedTagged, PassedPart, TakenPrefix, TakenPort} {
		if seen[v] < 100 {
			t.Errorf("only %d packets are %s: the test tests little (%v)", seen[v], v, seen)
		}
	}
}

// randomPacket has at least the 14 bytes that the kernel's trial wants.
func randomPacket(rnd *rand.Rand, r rules) []byte {
	p := make([]byte, 14, 256)
	copy(p, mac)
	copy(p[6:], other)
	port := r.ports[rnd.IntN(len(r.ports))]
	switch rnd.IntN(10) {
	case 0:
		binary.BigEndian.PutUint16(p[12:], uint16([]int{0x8100, 0x88a8, 0x0806, rnd.IntN(65536)}[rnd.IntN(4)]))
	case 1, 2, 3, 4:
		p = random4(rnd, r, p, port)
	default:
		p = random6(rnd, r, p, port)
	}
	transport := make([]byte, 20+rnd.IntN(40))
	binary.BigEndian.PutUint16(transport[2:], port.Port)
	p = append(p, transport...)
	for range rnd.IntN(3) { // bend
		p[rnd.IntN(len(p))] ^= byte(1 << rnd.IntN(8))
	}
	if rnd.IntN(3) == 0 { // cut
		p = p[:14+rnd.IntN(len(p)-13)]
	}
	return p
}

func destination(rnd *rand.Rand, r rules, port Port) netip.Addr {
	if rnd.IntN(3) > 0 {
		return port.Addr
	}
	for {
		if p := r.prefixes[rnd.IntN(len(r.prefixes))]; p.Addr().Is4() == port.Addr.Is4() {
			return p.Addr()
		}
	}
}

func random4(rnd *rand.Rand, r rules, p []byte, port Port) []byte {
	if port.Addr.Is6() {
		port.Addr = r.ports[0].Addr
	}
	binary.BigEndian.PutUint16(p[12:], 0x0800)
	words := 5
	if rnd.IntN(3) == 0 {
		words += rnd.IntN(11)
	}
	h := make([]byte, 4*words)
	h[0], h[9] = 0x40|byte(words), port.Protocol
	if rnd.IntN(4) == 0 {
		binary.BigEndian.PutUint16(h[6:], uint16(rnd.IntN(65536)))
	}
	copy(h[16:], destination(rnd, r, port).AsSlice())
	return append(p, h...)
}

func random6(rnd *rand.Rand, r rules, p []byte, port Port) []byte {
	if port.Addr.Is4() {
		port.Addr = r.ports[3].Addr
	}
	binary.BigEndian.PutUint16(p[12:], 0x86dd)
	h := make([]byte, 40)
	h[0] = 0x60
	copy(h[24:], destination(rnd, r, port).AsSlice())
	next := 6 // where the number of the next header belongs
	for range rnd.IntN(7) {
		h[next] = []byte{0, 43, 60, 44, 58}[rnd.IntN(5)]
		next = len(h)
		n := rnd.IntN(3)
		h = append(h, make([]byte, 8*(n+1))...)
		h[next+1] = byte(n)
	}
	h[next] = port.Protocol
	if rnd.IntN(8) == 0 {
		h[next] = 58
	}
	return append(p, h...)
}

func TestIntegrationTablesReadBack(t *testing.T) {
	r := testRules()
	p := loaded(t, r, false)
	prefixes, err := p.Prefixes()
	if err != nil {
		t.Fatal(err)
	}
	addr := cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })
	if d := cmp.Diff(r.prefixes, prefixes, addr); d != "" {
		t.Errorf("prefixes (-want +got):\n%s", d)
	}
	ports, err := p.Ports()
	if err != nil {
		t.Fatal(err)
	}
	if len(ports) != len(r.ports) {
		t.Errorf("%d ports, want %d: %v", len(ports), len(r.ports), ports)
	}
	for _, port := range r.ports {
		for range 2 { // twice is no error
			if err := p.DeletePort(port); err != nil {
				t.Error(err)
			}
		}
	}
	for _, prefix := range r.prefixes {
		for range 2 {
			if err := p.DeletePrefix(prefix); err != nil {
				t.Error(err)
			}
		}
	}
	if got := run(t, p, build(t, eth(mac, e4), ip4("10.244.1.9", 6), tcp(80))); got != Passed {
		t.Errorf("after all is deleted it is %s", got)
	}
}

func TestIntegrationTablesRefuse(t *testing.T) {
	p := loaded(t, rules{mac: mac}, false)
	for _, port := range []Port{{netip.Addr{}, TCP, 1}, {netip.MustParseAddr("192.0.2.1"), 1, 1}, {netip.MustParseAddr("192.0.2.1"), TCP, 0}, {netip.MustParseAddr("fe80::1%eth0"), TCP, 1}} {
		if err := p.PutPort(port); err == nil {
			t.Errorf("port %s was taken", port)
		}
	}
	if err := p.PutPrefix(netip.PrefixFrom(netip.MustParseAddr("192.0.2.1"), 24)); err == nil {
		t.Error("a prefix with host bits was taken")
	}
	var full error
	for i := 0; full == nil && i <= MaxPrefixes; i++ {
		full = p.PutPrefix(netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), 32))
	}
	if !errors.Is(full, unix.ENOSPC) {
		t.Errorf("prefix number %d: %v; want one that says that there is no room", MaxPrefixes+1, full)
	}
}
