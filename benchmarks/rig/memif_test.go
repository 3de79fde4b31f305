package rig

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	types100 "github.com/containernetworking/cni/pkg/types/100"
	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	binapi "go.fd.io/govpp/binapi/memif"

	"github.com/millrace/millrace/memif"
	"github.com/millrace/millrace/vpp"
)

// secretText is what the pods' Secret holds.
const secretText = "open sesame"

// memifFacts make the agent know two pods: one asks for two memifs, the other for none.
const memifFacts = `apiVersion: v1
kind: Pod
metadata:
  namespace: rig
  name: function
  annotations:
    millrace.io/memif: '[{"name": "memif0", "secret": "keys/psk"}, {"name": "raw", "mode": "ip", "ringSize": 64}]'
---
apiVersion: v1
kind: Secret
metadata: {namespace: rig, name: keys}
stringData: {psk: "` + secretText + `"}
`

// TestIntegrationMemifPod: a pod with the annotation gets its sockets and addresses, a
// program in it is reached by other pods through them, and everything comes back by itself
// when the dataplane is killed, and goes with the pod.
func TestIntegrationMemifPod(t *testing.T) {
	eachMachine(t, func(t *testing.T, l *Launcher, bed *Bed, m *Millrace) {
		needMemif(t, m)
		if err := os.WriteFile(m.path("facts", "pods.yaml"), []byte(memifFacts), 0o644); err != nil {
			t.Fatal(err)
		}
		m.Agent().Kill() // another one reads the facts as it starts
		if err := m.StartAgent(t.Context()); err != nil {
			t.Fatal(err)
		}
		before := leftovers(t, m)
		client, function := add(t, bed, "client"), add(t, bed, "function")
		ethernet := attached(t, function, "memif0", "@millrace/memif0")
		ip := attached(t, function, "raw", "@millrace/raw")
		if len(ethernet.gateways) != 2 || len(ip.gateways) != 0 {
			t.Errorf("gateways are %v for ethernet and %v for ip mode, want two and none", ethernet.gateways, ip.gateways)
		}
		links := []*responder{
			respond(t, function, ethernet, memif.Config{Secret: secretText}),
			respond(t, function, ip, memif.Config{Mode: memif.IP}),
		}
		reach := func() {
			t.Helper()
			for _, r := range links {
				for _, a := range r.own.addresses {
					pingAddr(t, l, m, client, a)
				}
			}
		}
		reach()
		links[0].findGateways(t)
		spoofed(t, m, links)
		if err := bed.Subject.Wiring().Check(t.Context(), function); err != nil {
			t.Errorf("CHECK: %v", err)
		}
		was := links[0].ups.Load()
		killDataplane(t, m)
		reach()
		if now := links[0].ups.Load(); now <= was {
			t.Errorf("the link came up %d times, as before the dataplane was killed", now)
		}
		if err := bed.Subject.Wiring().Check(t.Context(), function); err != nil {
			t.Errorf("CHECK after the dataplane was killed: %v", err)
		}
		for _, pod := range []*Pod{function, client} {
			if err := bed.Subject.Wiring().Del(t.Context(), pod); err != nil {
				t.Fatal(err)
			}
		}
		if after := leftovers(t, m); len(after) != len(before) {
			t.Errorf("left over: %q, before there was %q", after, before)
		}
		if shown, err := m.CLI(t.Context(), "show interface"); err != nil || strings.Contains(shown, "memif") {
			t.Errorf("memifs are left, %v:\n%s", err, shown)
		}
		secretIsNowhere(t, m)
	})
}

// needMemif skips where the dataplane has no memif.
func needMemif(t *testing.T, m *Millrace) {
	t.Helper()
	conn, err := vpp.Dial(t.Context(), vpp.Config{Socket: m.APISocket()})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if missing := conn.Supports(&binapi.MemifCreateV2{}); len(missing) > 0 {
		t.Skipf("this %s lacks %s", m.Dataplane, missing[0])
	}
}

// port is one memif of a pod as its CNI result has it.
type port struct {
	socket    string
	addresses []netip.Addr
	gateways  []netip.Addr
	remoteMAC string // of the dataplane's end
}

func attached(t *testing.T, pod *Pod, name, socket string) port {
	t.Helper()
	var p port
	for i, link := range pod.Result.Interfaces {
		if link.Name != name || link.Sandbox == "" {
			continue
		}
		p.socket, p.remoteMAC = link.SocketPath, pod.Result.Interfaces[i-1].Mac
		for _, ip := range pod.Result.IPs {
			if *ip.Interface != i {
				continue
			}
			p.addresses = append(p.addresses, addrOf(ip))
			if g, ok := netip.AddrFromSlice(ip.Gateway); ok {
				p.gateways = append(p.gateways, g.Unmap())
			}
		}
	}
	if p.socket != socket || len(p.addresses) != 2 {
		t.Fatalf("the result has %+v for %s, want %s and an address of each family: %v", p, name, socket, pod.Result)
	}
	return p
}

func addrOf(ip *types100.IPConfig) netip.Addr {
	a, _ := netip.AddrFromSlice(ip.Address.IP)
	return a.Unmap()
}

// responder is a network function: it answers ARP, neighbour solicitations and echo
// requests for its own addresses.
type responder struct {
	own  port
	mode memif.Mode
	mac  net.HardwareAddr
	rx   *memif.RxQueue
	tx   *memif.TxQueue
	more *memif.TxQueue // the test's own
	ups  atomic.Int32
	told sync.Map // MAC addresses that we were told, by the address they belong to
}

// respond runs a responder in the pod until the test ends.
func respond(t *testing.T, pod *Pod, own port, c memif.Config) *responder {
	t.Helper()
	r := &responder{own: own, mode: c.Mode, mac: net.HardwareAddr{2, 0, 0, 0, 1, 1}}
	socket, err := memif.NewSocket(memif.SocketConfig{
		Role: memif.Client, Address: own.socket, Netns: pod.Namespace.Path, Retry: 50 * time.Millisecond,
	})
	if err != nil {
		t.Fatal(err)
	}
	c.OnChange = func(s memif.Status) {
		if s.Up {
			r.ups.Add(1)
		}
	}
	c.TxQueues = 2
	link, err := socket.Add(c)
	if err != nil {
		t.Fatal(err)
	}
	r.rx, r.tx, r.more = link.RxQueue(0), link.TxQueue(0), link.TxQueue(1)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 2)
	go func() { ended <- socket.Run(ctx) }()
	go func() { ended <- r.run(ctx) }()
	t.Cleanup(func() {
		cancel()
		for range 2 {
			if err := <-ended; err != nil && !errors.Is(err, context.Canceled) && !errors.Is(err, memif.ErrClosed) {
				t.Error(err)
			}
		}
		if err := socket.Close(); err != nil {
			t.Error(err)
		}
	})
	up, stop := context.WithTimeout(t.Context(), 20*time.Second)
	defer stop()
	if err := link.WaitUp(up); err != nil {
		t.Fatalf("connect to %s in the pod: %v", own.socket, err)
	}
	return r
}

func (r *responder) run(ctx context.Context) error {
	frames := make([][]byte, 64)
	for i := range frames {
		frames[i] = make([]byte, 0, 9216)
	}
	for {
		if err := r.rx.Wait(ctx); err != nil {
			return err
		}
		n, err := r.rx.Receive(frames)
		if err != nil {
			return err
		}
		for _, f := range frames[:n] {
			if answer := r.answer(f); answer != nil {
				if _, err := r.tx.Send([][]byte{answer}); err != nil {
					return err
				}
			}
		}
	}
}

// answer is nil for what asks nothing of us.
func (r *responder) answer(frame []byte) []byte {
	first := gopacket.LayerType(layers.LayerTypeEthernet)
	if r.mode == memif.IP {
		first = layers.LayerTypeIPv4
		if len(frame) > 0 && frame[0]>>4 == 6 {
			first = layers.LayerTypeIPv6
		}
	}
	p := gopacket.NewPacket(frame, first, gopacket.Default)
	var out []gopacket.SerializableLayer
	if e, ok := p.Layer(layers.LayerTypeEthernet).(*layers.Ethernet); ok {
		out = append(out, &layers.Ethernet{SrcMAC: r.mac, DstMAC: e.SrcMAC, EthernetType: e.EthernetType})
	}
	rest := r.answerARP(p)
	if rest == nil {
		rest = r.answer4(p)
	}
	if rest == nil {
		rest = r.answer6(p)
	}
	if rest == nil {
		return nil
	}
	return serialize(append(out, rest...)...)
}

func serialize(list ...gopacket.SerializableLayer) []byte {
	b := gopacket.NewSerializeBuffer()
	if err := gopacket.SerializeLayers(b, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, list...); err != nil {
		return nil
	}
	return b.Bytes()
}

func (r *responder) has(ip net.IP) bool {
	a, ok := netip.AddrFromSlice(ip)
	for _, own := range r.own.addresses {
		if ok && own == a.Unmap() {
			return true
		}
	}
	return false
}

func (r *responder) answerARP(p gopacket.Packet) []gopacket.SerializableLayer {
	a, ok := p.Layer(layers.LayerTypeARP).(*layers.ARP)
	if ok && a.Operation == layers.ARPReply {
		r.learn(a.SourceProtAddress, a.SourceHwAddress)
	}
	if !ok || a.Operation != layers.ARPRequest || !r.has(a.DstProtAddress) {
		return nil
	}
	return []gopacket.SerializableLayer{&layers.ARP{
		AddrType: a.AddrType, Protocol: a.Protocol, HwAddressSize: 6, ProtAddressSize: 4, Operation: layers.ARPReply,
		SourceHwAddress: r.mac, SourceProtAddress: a.DstProtAddress, DstHwAddress: a.SourceHwAddress, DstProtAddress: a.SourceProtAddress,
	}}
}

func (r *responder) answer4(p gopacket.Packet) []gopacket.SerializableLayer {
	ip, is4 := p.Layer(layers.LayerTypeIPv4).(*layers.IPv4)
	icmp, isICMP := p.Layer(layers.LayerTypeICMPv4).(*layers.ICMPv4)
	if !is4 || !isICMP || icmp.TypeCode.Type() != layers.ICMPv4TypeEchoRequest || !r.has(ip.DstIP) {
		return nil
	}
	return []gopacket.SerializableLayer{
		&layers.IPv4{Version: 4, TTL: 64, Protocol: layers.IPProtocolICMPv4, SrcIP: ip.DstIP, DstIP: ip.SrcIP},
		&layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(layers.ICMPv4TypeEchoReply, 0), Id: icmp.Id, Seq: icmp.Seq},
		gopacket.Payload(icmp.Payload),
	}
}

func (r *responder) answer6(p gopacket.Packet) []gopacket.SerializableLayer {
	ip, is6 := p.Layer(layers.LayerTypeIPv6).(*layers.IPv6)
	if !is6 {
		return nil
	}
	header := func(src, dst net.IP, hops uint8) *layers.IPv6 {
		return &layers.IPv6{Version: 6, HopLimit: hops, NextHeader: layers.IPProtocolICMPv6, SrcIP: src, DstIP: dst}
	}
	icmp := func(kind uint8, ip *layers.IPv6) *layers.ICMPv6 {
		l := &layers.ICMPv6{TypeCode: layers.CreateICMPv6TypeCode(kind, 0)}
		_ = l.SetNetworkLayerForChecksum(ip) // an IPv6 layer is one
		return l
	}
	if ask, ok := p.Layer(layers.LayerTypeICMPv6NeighborSolicitation).(*layers.ICMPv6NeighborSolicitation); ok && r.has(ask.TargetAddress) {
		h := header(ask.TargetAddress, ip.SrcIP, 255)
		return []gopacket.SerializableLayer{h, icmp(layers.ICMPv6TypeNeighborAdvertisement, h), &layers.ICMPv6NeighborAdvertisement{
			Flags: 0x60, TargetAddress: ask.TargetAddress, // solicited, override
			Options: layers.ICMPv6Options{{Type: layers.ICMPv6OptTargetAddress, Data: r.mac}},
		}}
	}
	if told, ok := p.Layer(layers.LayerTypeICMPv6NeighborAdvertisement).(*layers.ICMPv6NeighborAdvertisement); ok {
		for _, o := range told.Options {
			if o.Type == layers.ICMPv6OptTargetAddress {
				r.learn(net.IP(told.TargetAddress), o.Data)
			}
		}
	}
	if echo, ok := p.Layer(layers.LayerTypeICMPv6Echo).(*layers.ICMPv6Echo); ok && r.has(ip.DstIP) &&
		p.Layer(layers.LayerTypeICMPv6).(*layers.ICMPv6).TypeCode.Type() == layers.ICMPv6TypeEchoRequest {
		h := header(ip.DstIP, ip.SrcIP, 64)
		return []gopacket.SerializableLayer{h, icmp(layers.ICMPv6TypeEchoReply, h),
			&layers.ICMPv6Echo{Identifier: echo.Identifier, SeqNumber: echo.SeqNumber}, gopacket.Payload(echo.Payload)}
	}
	return nil
}

func (r *responder) learn(ip, mac []byte) {
	if a, ok := netip.AddrFromSlice(ip); ok {
		r.told.Store(a.Unmap(), net.HardwareAddr(mac).String())
	}
}

// findGateways asks for the gateways of the CNI result by ARP and neighbour discovery, and
// wants the MAC of the result for an answer.
func (r *responder) findGateways(t *testing.T) {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for i, gateway := range r.own.gateways {
		for {
			if _, err := r.more.Send([][]byte{r.question(r.own.addresses[i], gateway)}); err != nil {
				t.Fatal(err)
			}
			time.Sleep(20 * time.Millisecond)
			mac, ok := r.told.Load(gateway)
			if ok && mac != r.own.remoteMAC {
				t.Errorf("gateway %s is at %s, and the result says %s", gateway, mac, r.own.remoteMAC)
			}
			if ok {
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("nobody answers for the gateway %s", gateway)
			}
		}
	}
}

// question asks who has the gateway.
func (r *responder) question(own, gateway netip.Addr) []byte {
	if gateway.Is4() {
		return serialize(
			&layers.Ethernet{SrcMAC: r.mac, DstMAC: layers.EthernetBroadcast, EthernetType: layers.EthernetTypeARP},
			&layers.ARP{
				AddrType: layers.LinkTypeEthernet, Protocol: layers.EthernetTypeIPv4, HwAddressSize: 6, ProtAddressSize: 4,
				Operation: layers.ARPRequest, SourceHwAddress: r.mac, SourceProtAddress: own.AsSlice(),
				DstHwAddress: make([]byte, 6), DstProtAddress: gateway.AsSlice(),
			})
	}
	last := gateway.As16()
	group := net.ParseIP("ff02::1:ff00:0")
	copy(group[13:], last[13:])
	ip := &layers.IPv6{Version: 6, HopLimit: 255, NextHeader: layers.IPProtocolICMPv6, SrcIP: own.AsSlice(), DstIP: group}
	icmp := &layers.ICMPv6{TypeCode: layers.CreateICMPv6TypeCode(layers.ICMPv6TypeNeighborSolicitation, 0)}
	_ = icmp.SetNetworkLayerForChecksum(ip) // an IPv6 layer is one
	return serialize(
		&layers.Ethernet{SrcMAC: r.mac, DstMAC: net.HardwareAddr{0x33, 0x33, 0xff, last[13], last[14], last[15]}, EthernetType: layers.EthernetTypeIPv6},
		ip, icmp, &layers.ICMPv6NeighborSolicitation{
			TargetAddress: gateway.AsSlice(), Options: layers.ICMPv6Options{{Type: layers.ICMPv6OptSourceAddress, Data: r.mac}},
		})
}

// spoofed sends packets from an address that is not the memif's own; the dataplane must
// drop them for that.
func spoofed(t *testing.T, m *Millrace, links []*responder) {
	t.Helper()
	before := urpfDrops(t, m)
	const each = 20
	for _, r := range links {
		var list []gopacket.SerializableLayer
		if r.mode == memif.Ethernet {
			mac, err := net.ParseMAC(r.own.remoteMAC)
			if err != nil {
				t.Fatal(err)
			}
			list = append(list, &layers.Ethernet{SrcMAC: r.mac, DstMAC: mac, EthernetType: layers.EthernetTypeIPv4})
		}
		list = append(list,
			&layers.IPv4{Version: 4, TTL: 64, Protocol: layers.IPProtocolICMPv4, SrcIP: net.IP{198, 51, 100, 1}, DstIP: net.IP{192, 0, 2, 10}},
			&layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(layers.ICMPv4TypeEchoRequest, 0)})
		for range each {
			if n, err := r.more.Send([][]byte{serialize(list...)}); n != 1 || err != nil {
				t.Fatalf("send: %d, %v", n, err)
			}
		}
	}
	deadline := time.Now().Add(10 * time.Second)
	for urpfDrops(t, m) < before+each*len(links) {
		if time.Now().After(deadline) {
			shown, err := m.CLI(t.Context(), "show errors")
			t.Fatalf("of %d spoofed packets %d were dropped by the source check; %v\n%s", each*len(links), urpfDrops(t, m)-before, err, shown)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// urpfDrops adds up what the source checks dropped.
func urpfDrops(t *testing.T, m *Millrace) (drops int) {
	t.Helper()
	shown, err := m.CLI(t.Context(), "show errors")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(shown) {
		if f := strings.Fields(line); strings.Contains(strings.ToLower(line), "urpf") && len(f) > 1 {
			n, err := strconv.Atoi(f[0])
			if err != nil {
				t.Fatalf("read %q: %v", line, err)
			}
			drops += n
		}
	}
	return drops
}

// secretIsNowhere wants no log to hold the secret.
func secretIsNowhere(t *testing.T, m *Millrace) {
	t.Helper()
	for _, p := range []*Process{m.Manager(), m.Agent()} {
		if strings.Contains(string(p.Output()), secretText) {
			t.Errorf("the secret stands in a log:\n%s", p.Output())
		}
	}
}

// pingAddr pings until an answer comes.
func pingAddr(t *testing.T, l *Launcher, m *Millrace, from *Pod, to netip.Addr) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	for {
		_, err := l.Run(ctx, from.Namespace, Command("ping", "-n", "-c", "1", "-W", "0.3", to.String()))
		if err == nil {
			return
		}
		if ctx.Err() != nil {
			errs, _ := m.CLI(context.WithoutCancel(ctx), "show errors")
			links, _ := m.CLI(context.WithoutCancel(ctx), "show interface")
			t.Fatalf("no ping from %s to the memif's %s came through: %v\n%s\n%s", from.Name, to, err, errs, links)
		}
	}
}

func killDataplane(t *testing.T, m *Millrace) {
	t.Helper()
	before, err := m.DataplanePID()
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(before, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if err := m.Manager().Await(ctx, func(context.Context) error {
		now, err := m.DataplanePID()
		if err == nil && now == before {
			err = fmt.Errorf("process %d is still the dataplane", before)
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
}
