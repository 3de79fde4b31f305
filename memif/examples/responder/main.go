// Responder answers ARP requests, neighbour solicitations and pings (ICMP and ICMPv6) for
// every unicast address, so that a link can be tried with nothing but ping.
//
//	responder --socket @millrace/memif0
package main

import (
	"context"
	"log"
	"net"
	"os/signal"
	"syscall"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/millrace/millrace/memif"
	"github.com/millrace/millrace/memif/examples/link"
)

func main() {
	at, config := link.Flags("")
	link.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	decoder := map[memif.Mode]gopacket.Decoder{memif.Ethernet: layers.LinkTypeEthernet, memif.IP: layers.LinkTypeRaw}[config.Mode]
	err := memif.Attach(ctx, *at, *config, func(ctx context.Context, rx *memif.RxQueue, tx *memif.TxQueue) error {
		defer func() { log.Printf("received %+v, sent %+v", rx.Stats(), tx.Stats()) }()
		frames, reply := [][]byte{make([]byte, memif.DefaultMaxFrame)}, gopacket.NewSerializeBuffer()
		for {
			if err := rx.Wait(ctx); err != nil {
				return err
			}
			n, err := rx.Receive(frames)
			if n == 1 && answer(gopacket.NewPacket(frames[0], decoder, gopacket.NoCopy), reply) {
				_, err = tx.Send([][]byte{reply.Bytes()})
			}
			if err != nil {
				return err
			}
		}
	})
	if err != nil {
		log.Fatal(err)
	}
}

// answer writes the reply to a request, and says whether there is one. A host that asks
// before it has an address, or for its own, wants to be alone with it: no reply.
func answer(request gopacket.Packet, to gopacket.SerializeBuffer) (done bool) {
	var reply []gopacket.SerializableLayer
	var ip6 *layers.IPv6
	var unicast bool
	mac := net.HardwareAddr{0x02, 0xfe, 0, 0, 0, 1}
	for _, l := range request.Layers() {
		switch l := l.(type) {
		case *layers.Ethernet:
			l.DstMAC, l.SrcMAC = l.SrcMAC, mac
			reply = append(reply, l)
		case *layers.ARP:
			asker, target := net.IP(l.SourceProtAddress), net.IP(l.DstProtAddress)
			done = l.Operation == layers.ARPRequest && !asker.IsUnspecified() && !asker.Equal(target)
			l.Operation, l.SourceProtAddress, l.DstProtAddress = layers.ARPReply, target, asker
			l.SourceHwAddress, l.DstHwAddress = mac, l.SourceHwAddress
			reply = append(reply, l)
		case *layers.IPv4:
			unicast = !l.DstIP.IsMulticast() && !l.DstIP.Equal(net.IPv4bcast)
			l.SrcIP, l.DstIP, l.TTL = l.DstIP, l.SrcIP, 64
			reply = append(reply, l)
		case *layers.ICMPv4:
			done = unicast && l.TypeCode.Type() == layers.ICMPv4TypeEchoRequest
			l.TypeCode = layers.CreateICMPv4TypeCode(layers.ICMPv4TypeEchoReply, 0)
			reply = append(reply, l)
		case *layers.IPv6:
			unicast = !l.DstIP.IsMulticast()
			l.SrcIP, l.DstIP, ip6 = l.DstIP, l.SrcIP, l
			reply = append(reply, l)
		case *layers.ICMPv6:
			done = unicast && l.TypeCode.Type() == layers.ICMPv6TypeEchoRequest
			l.TypeCode += 1 << 8 // from request to reply, from solicitation to advertisement
			if ip6 == nil || l.SetNetworkLayerForChecksum(ip6) != nil {
				return false
			}
			reply = append(reply, l)
		case *layers.ICMPv6NeighborSolicitation:
			done = ip6.HopLimit == 255 && !ip6.DstIP.IsUnspecified()
			ip6.SrcIP = l.TargetAddress
			reply = append(reply, &layers.ICMPv6NeighborAdvertisement{Flags: 0x60, TargetAddress: l.TargetAddress,
				Options: layers.ICMPv6Options{{Type: layers.ICMPv6OptTargetAddress, Data: mac}}})
		case *layers.ICMPv6Echo: // does not hold the data, the layer below does
			reply = append(reply, gopacket.Payload(request.Layer(layers.LayerTypeICMPv6).LayerPayload()))
		case *gopacket.Payload:
			reply = append(reply, l)
		default:
			return false
		}
	}
	return done && gopacket.SerializeLayers(to, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, reply...) == nil
}
