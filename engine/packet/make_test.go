package packet

import (
	"math/rand/v2"
	"net"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
)

// serialize builds a packet with gopacket, lengths fixed and checksums computed.
func serialize(t testing.TB, ls ...gopacket.SerializableLayer) []byte {
	t.Helper()
	b := gopacket.NewSerializeBuffer()
	if err := gopacket.SerializeLayers(b, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, ls...); err != nil {
		t.Fatal(err)
	}
	return append([]byte(nil), b.Bytes()...)
}

func decode(t testing.TB, p []byte, first gopacket.LayerType) gopacket.Packet {
	t.Helper()
	d := gopacket.NewPacket(p, first, gopacket.DecodeOptions{})
	if e := d.ErrorLayer(); e != nil {
		t.Fatalf("gopacket cannot decode %x: %v", p[:min(len(p), 80)], e.Error())
	}
	return d
}

func randomBytes(r *rand.Rand, n int) []byte {
	p := make([]byte, n)
	for i := range p {
		p[i] = byte(r.Uint32())
	}
	return p
}

// sample is one random packet from its IP header on, with what is in it.
type sample struct {
	bytes []byte
	ip4   *layers.IPv4
	ip6   *layers.IPv6
	tcp   *layers.TCP
	udp   *layers.UDP
	body  []byte
}

// l4 is the offset of the transport header.
func (s *sample) l4() int {
	if s.ip4 != nil {
		return int(s.ip4.IHL) * 4
	}
	return IPv6Len
}

func (s *sample) first() gopacket.LayerType {
	if s.ip4 != nil {
		return layers.LayerTypeIPv4
	}
	return layers.LayerTypeIPv6
}

// randomSample makes a TCP or UDP packet with a payload of size bytes.
func randomSample(t testing.TB, r *rand.Rand, v6, tcp bool, size int) *sample {
	t.Helper()
	s := &sample{body: randomBytes(r, size)}
	proto := layers.IPProtocolUDP
	if tcp {
		proto = layers.IPProtocolTCP
	}
	var network gopacket.NetworkLayer
	if v6 {
		s.ip6 = &layers.IPv6{Version: 6, NextHeader: proto, HopLimit: uint8(2 + r.UintN(250)), TrafficClass: uint8(r.Uint32()),
			FlowLabel: r.Uint32N(1 << 20), SrcIP: randomBytes(r, 16), DstIP: randomBytes(r, 16)}
		s.ip6.SrcIP[0], s.ip6.DstIP[0] = 0x20, 0x20
		network = s.ip6
	} else {
		s.ip4 = &layers.IPv4{Version: 4, IHL: 5, TTL: uint8(2 + r.UintN(250)), TOS: uint8(r.Uint32()), Id: uint16(r.Uint32()), Protocol: proto,
			SrcIP: net.IPv4(10, byte(r.Uint32()), byte(r.Uint32()), 1).To4(), DstIP: net.IPv4(10, byte(r.Uint32()), byte(r.Uint32()), 2).To4()}
		if r.UintN(3) == 0 {
			s.ip4.Options = []layers.IPv4Option{{OptionType: 148, OptionLength: 4, OptionData: []byte{0, 0}}} // router alert, copied
		}
		network = s.ip4
	}
	ls := []gopacket.SerializableLayer{network.(gopacket.SerializableLayer)}
	if tcp {
		s.tcp = &layers.TCP{SrcPort: layers.TCPPort(r.Uint32()), DstPort: layers.TCPPort(r.Uint32()), Seq: r.Uint32(), Ack: r.Uint32(), Window: uint16(r.Uint32()),
			ACK: true, PSH: r.UintN(2) == 0, FIN: r.UintN(2) == 0, CWR: r.UintN(2) == 0}
		if r.UintN(2) == 0 {
			s.tcp.Options = []layers.TCPOption{{OptionType: layers.TCPOptionKindTimestamps, OptionLength: 10, OptionData: randomBytes(r, 8)}}
		}
		if err := s.tcp.SetNetworkLayerForChecksum(network); err != nil {
			t.Fatal(err)
		}
		ls = append(ls, s.tcp)
	} else {
		s.udp = &layers.UDP{SrcPort: layers.UDPPort(r.Uint32()), DstPort: layers.UDPPort(r.Uint32())}
		if err := s.udp.SetNetworkLayerForChecksum(network); err != nil {
			t.Fatal(err)
		}
		ls = append(ls, s.udp)
	}
	s.bytes = serialize(t, append(ls, gopacket.Payload(s.body))...)
	return s
}

// verify lets gopacket recompute the checksums of an IP packet; p must serialize to
// itself.
func verify(t testing.TB, p []byte, first gopacket.LayerType) gopacket.Packet {
	t.Helper()
	d := decode(t, p, first)
	var ls []gopacket.SerializableLayer
	for _, l := range d.Layers() {
		s, ok := l.(gopacket.SerializableLayer)
		if !ok {
			t.Fatalf("layer %v cannot be serialized", l.LayerType())
		}
		if c, ok := l.(interface {
			SetNetworkLayerForChecksum(gopacket.NetworkLayer) error
		}); ok {
			if err := c.SetNetworkLayerForChecksum(d.NetworkLayer()); err != nil {
				t.Fatal(err)
			}
		}
		ls = append(ls, s)
	}
	if again := serialize(t, ls...); string(again) != string(p) {
		t.Fatalf("gopacket would have written\n%x, not\n%x", again[:min(len(again), 120)], p[:min(len(p), 120)])
	}
	return d
}
