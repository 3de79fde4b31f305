package rig

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"github.com/millrace/millrace/memif"
)

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
	deadline := time.Now().Add(2 * time.Minute)
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
