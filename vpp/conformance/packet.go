package conformance

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"net"
	"net/netip"
	"strings"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
)

// build serializes layers with lengths and checksums filled in.
func build(all ...gopacket.SerializableLayer) []byte {
	buf := gopacket.NewSerializeBuffer()
	var network gopacket.NetworkLayer
	for _, l := range all {
		if n, ok := l.(gopacket.NetworkLayer); ok && network == nil {
			network = n
		}
		if l, ok := l.(interface {
			SetNetworkLayerForChecksum(gopacket.NetworkLayer) error
		}); ok && network != nil {
			if err := l.SetNetworkLayerForChecksum(network); err != nil {
				panic(err) // a case builds nonsense
			}
		}
	}
	if err := gopacket.SerializeLayers(buf, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, all...); err != nil {
		panic(err)
	}
	return buf.Bytes()
}

// ether is the header of a frame from the test to the machine.
func (p *Port) ether(t layers.EthernetType) *layers.Ethernet {
	return &layers.Ethernet{SrcMAC: p.Peer, DstMAC: p.MAC, EthernetType: t}
}

func ip4(src, dst string, ttl uint8, proto layers.IPProtocol) *layers.IPv4 {
	return &layers.IPv4{Version: 4, TTL: ttl, Id: 7, Protocol: proto, SrcIP: net.ParseIP(src).To4(), DstIP: net.ParseIP(dst).To4()}
}

func ip6(src, dst string, limit uint8, next layers.IPProtocol) *layers.IPv6 {
	return &layers.IPv6{Version: 6, HopLimit: limit, NextHeader: next, SrcIP: net.ParseIP(src), DstIP: net.ParseIP(dst)}
}

func payload(n int) gopacket.Payload {
	data := make([]byte, n)
	for i := range data {
		data[i] = byte(i)
	}
	return data
}

// udp is a datagram of either family with n bytes.
func (p *Port) udp(src, dst string, ttl uint8, n int) []byte {
	u := &layers.UDP{SrcPort: 1000, DstPort: 2000}
	if netip.MustParseAddr(src).Is4() {
		return build(p.ether(layers.EthernetTypeIPv4), ip4(src, dst, ttl, layers.IPProtocolUDP), u, payload(n))
	}
	return build(p.ether(layers.EthernetTypeIPv6), ip6(src, dst, ttl, layers.IPProtocolUDP), u, payload(n))
}

// echo is an echo request of either family with n bytes.
func (p *Port) echo(src, dst string, ttl uint8, n int) []byte {
	if netip.MustParseAddr(src).Is4() {
		return build(p.ether(layers.EthernetTypeIPv4), ip4(src, dst, ttl, layers.IPProtocolICMPv4),
			&layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(8, 0), Id: 1, Seq: 2}, payload(n))
	}
	return build(p.ether(layers.EthernetTypeIPv6), ip6(src, dst, ttl, layers.IPProtocolICMPv6),
		&layers.ICMPv6{TypeCode: layers.CreateICMPv6TypeCode(128, 0)}, &layers.ICMPv6Echo{Identifier: 1, SeqNumber: 2}, payload(n))
}

// arp is a request (op 1) or reply (op 2) of the test's end.
func (p *Port) arp(op uint16, sender, target string) []byte {
	dst, hw := net.HardwareAddr{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, make([]byte, 6)
	if op == 2 {
		dst, hw = p.MAC, p.MAC
	}
	return build(&layers.Ethernet{SrcMAC: p.Peer, DstMAC: dst, EthernetType: layers.EthernetTypeARP}, &layers.ARP{
		AddrType: layers.LinkTypeEthernet, Protocol: layers.EthernetTypeIPv4, HwAddressSize: 6, ProtAddressSize: 4, Operation: op,
		SourceHwAddress: p.Peer, SourceProtAddress: net.ParseIP(sender).To4(),
		DstHwAddress: hw, DstProtAddress: net.ParseIP(target).To4(),
	})
}

// solicit asks for target's MAC by its solicited-node multicast group.
func (p *Port) solicit(sender, target string) []byte {
	t := netip.MustParseAddr(target).As16()
	group := netip.AddrFrom16([16]byte{0xff, 2, 11: 1, 12: 0xff, 13: t[13], 14: t[14], 15: t[15]})
	return build(
		&layers.Ethernet{SrcMAC: p.Peer, DstMAC: net.HardwareAddr{0x33, 0x33, 0xff, t[13], t[14], t[15]}, EthernetType: layers.EthernetTypeIPv6},
		ip6(sender, group.String(), 255, layers.IPProtocolICMPv6),
		&layers.ICMPv6{TypeCode: layers.CreateICMPv6TypeCode(135, 0)},
		&layers.ICMPv6NeighborSolicitation{TargetAddress: net.ParseIP(target), Options: layers.ICMPv6Options{{Type: layers.ICMPv6OptSourceAddress, Data: p.Peer}}})
}

// advertise answers a solicitation for sender.
func (p *Port) advertise(sender, to string) []byte {
	return build(p.ether(layers.EthernetTypeIPv6), ip6(sender, to, 255, layers.IPProtocolICMPv6),
		&layers.ICMPv6{TypeCode: layers.CreateICMPv6TypeCode(136, 0)},
		&layers.ICMPv6NeighborAdvertisement{Flags: 0x60, TargetAddress: net.ParseIP(sender), Options: layers.ICMPv6Options{{Type: layers.ICMPv6OptTargetAddress, Data: p.Peer}}})
}

// background says that a frame is sent by a timer of the machine (router advertisements,
// multicast reports), whenever it likes.
func background(frame []byte) bool {
	if inner := insideVXLAN(frame); inner != nil {
		return background(inner)
	}
	if len(frame) < 55 || binary.BigEndian.Uint16(frame[12:]) != 0x86dd {
		return false
	}
	return backgroundIP6(frame)
}

// insideVXLAN is the frame in a frame, or nil.
func insideVXLAN(frame []byte) []byte {
	for _, o := range []struct {
		typ    uint16
		proto  int // where the protocol is, and
		header int // where UDP begins
	}{{0x0800, 23, 34}, {0x86dd, 20, 54}} {
		if len(frame) > o.header+16 && binary.BigEndian.Uint16(frame[12:]) == o.typ && frame[o.proto] == 17 &&
			binary.BigEndian.Uint16(frame[o.header+2:]) == vxlanPort {
			return frame[o.header+16:]
		}
	}
	return nil
}

// backgroundIP6 is background for a frame with an IPv6 packet.
func backgroundIP6(frame []byte) bool {
	packet := gopacket.NewPacket(frame, layers.LayerTypeEthernet, gopacket.Default)
	icmp, ok := packet.Layer(layers.LayerTypeICMPv6).(*layers.ICMPv6)
	if !ok {
		if hop, ok := packet.Layer(layers.LayerTypeIPv6HopByHop).(*layers.IPv6HopByHop); ok {
			return len(hop.Payload) > 0 && hop.NextHeader == layers.IPProtocolICMPv6 && hop.Payload[0] == 143
		}
		return false
	}
	t := icmp.TypeCode.Type()
	return t == 134 || t == 143
}

// describeFrame writes a frame on one line; what is as it should be (lengths, checksums)
// is not mentioned.
func describeFrame(frame []byte) string {
	if len(frame) < 14 {
		return fmt.Sprintf("%d bytes", len(frame))
	}
	head := fmt.Sprintf("%v>%v ", net.HardwareAddr(frame[6:12]), net.HardwareAddr(frame[:6]))
	switch t, rest := binary.BigEndian.Uint16(frame[12:]), frame[14:]; t {
	case 0x0800:
		return head + describeIP4(rest)
	case 0x86dd:
		return head + describeIP6(rest)
	case 0x0806:
		return head + describeARP(rest)
	default:
		return head + fmt.Sprintf("type %#04x %d bytes", t, len(rest))
	}
}

func describeARP(data []byte) string {
	var a layers.ARP
	if err := a.DecodeFromBytes(data, gopacket.NilDecodeFeedback); err != nil {
		return fmt.Sprintf("arp: %v", err)
	}
	return fmt.Sprintf("arp op %d %v %v target %v %v", a.Operation,
		net.HardwareAddr(a.SourceHwAddress), net.IP(a.SourceProtAddress), net.HardwareAddr(a.DstHwAddress), net.IP(a.DstProtAddress))
}

func describeIP4(data []byte) string {
	var h layers.IPv4
	if err := h.DecodeFromBytes(data, gopacket.NilDecodeFeedback); err != nil {
		return fmt.Sprintf("ip4: %v", err)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "ip4 %v>%v ttl %d id %s len %d", h.SrcIP, h.DstIP, h.TTL, describeID(h), h.Length)
	if h.TOS != 0 {
		fmt.Fprintf(&b, " tos %#x", h.TOS)
	}
	if h.Flags != 0 || h.FragOffset != 0 {
		fmt.Fprintf(&b, " %v offset %d", h.Flags, h.FragOffset)
	}
	if len(h.Options) > 0 {
		fmt.Fprintf(&b, " options %d", len(h.Options))
	}
	if sum(0, data[:4*int(h.IHL)]) != 0xffff {
		b.WriteString(" WRONG-HEADER-SUM")
	}
	whole := h.FragOffset == 0 && h.Flags&layers.IPv4MoreFragments == 0
	pseudo := sum(uint32(h.Protocol)+uint32(len(h.Payload)), append(append([]byte(nil), h.SrcIP.To4()...), h.DstIP.To4()...))
	return b.String() + describeTransport(h.Protocol, h.Payload, uint32(pseudo), h.FragOffset == 0, whole)
}

func describeIP6(data []byte) string {
	var h layers.IPv6
	if err := h.DecodeFromBytes(data, gopacket.NilDecodeFeedback); err != nil {
		return fmt.Sprintf("ip6: %v", err)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "ip6 %v>%v limit %d len %d", h.SrcIP, h.DstIP, h.HopLimit, h.Length)
	if h.TrafficClass != 0 || h.FlowLabel != 0 {
		fmt.Fprintf(&b, " class %#x flow %#x", h.TrafficClass, h.FlowLabel)
	}
	next, body, first, whole := h.NextHeader, h.Payload, true, true
	if next == layers.IPProtocolIPv6Fragment && len(body) >= 8 {
		offset := binary.BigEndian.Uint16(body[2:])
		fmt.Fprintf(&b, " fragment offset %d more %d", offset>>3, offset&1)
		next, first, whole, body = layers.IPProtocol(body[0]), offset>>3 == 0, offset == 0, body[8:]
	}
	pseudo := sum(uint32(next)+uint32(len(body)), append(append([]byte(nil), h.SrcIP...), h.DstIP...))
	return b.String() + describeTransport(next, body, uint32(pseudo), first, whole)
}

// describeID shows the ids that cases use and 0. Others are the machine's choice; so is
// that of a packet it cut in pieces.
func describeID(h layers.IPv4) string {
	echoReply := h.Protocol == layers.IPProtocolICMPv4 && len(h.Payload) > 0 && h.Payload[0] == 0
	if h.Flags&layers.IPv4MoreFragments != 0 || h.FragOffset != 0 || echoReply {
		return "any"
	}
	if h.Id == 0 || h.Id == 7 || h.Id == 0xffff {
		return fmt.Sprint(h.Id)
	}
	return "any"
}

// describeTransport describes what is in an IP packet; whole says that its checksum can
// be checked.
func describeTransport(proto layers.IPProtocol, data []byte, pseudo uint32, first, whole bool) string {
	wrong := func(from uint32) string {
		if whole && sum(from, data) != 0xffff {
			return " WRONG-SUM"
		}
		return ""
	}
	switch {
	case !first:
		return describeRest(fmt.Sprintf(" %v", proto), data)
	case proto == layers.IPProtocolUDP && len(data) >= 16 && binary.BigEndian.Uint16(data[2:]) == vxlanPort:
		check := wrong(pseudo)
		if binary.BigEndian.Uint16(data[6:]) == 0 {
			check = " no sum"
		}
		return check + describeVXLAN(data[8:])
	case proto == layers.IPProtocolUDP && len(data) >= 8:
		return describeRest(fmt.Sprintf(" udp %d>%d%s", binary.BigEndian.Uint16(data), binary.BigEndian.Uint16(data[2:]), wrong(pseudo)), data[8:])
	case proto == layers.IPProtocolTCP && len(data) >= 20:
		return describeRest(fmt.Sprintf(" tcp %d>%d seq %d flags %#x%s", binary.BigEndian.Uint16(data), binary.BigEndian.Uint16(data[2:]),
			binary.BigEndian.Uint32(data[4:]), data[13], wrong(pseudo)), data[20:])
	case proto == layers.IPProtocolICMPv4 && len(data) >= 8:
		return fmt.Sprintf(" icmp %d/%d", data[0], data[1]) + wrong(0) + describeICMP4(data)
	case proto == layers.IPProtocolICMPv6 && len(data) >= 8:
		return fmt.Sprintf(" icmp6 %d/%d", data[0], data[1]) + wrong(pseudo) + describeICMP6(data)
	default:
		return describeRest(fmt.Sprintf(" proto %d", proto), data)
	}
}

const vxlanPort = 4789

// describeVXLAN leaves the source port out: it is a hash of the machine's choice. What
// follows the header is a frame, or else an IP packet.
func describeVXLAN(data []byte) string {
	head := fmt.Sprintf(" vxlan flags %#x vni %d ", data[0], binary.BigEndian.Uint32(data[4:])>>8)
	if inner := data[8:]; len(inner) > 20 && inner[0] == 0x45 {
		return head + "[" + describeIP4(inner) + "]"
	}
	return head + "[" + describeFrame(data[8:]) + "]"
}

func describeRest(head string, data []byte) string {
	return fmt.Sprintf("%s +%d crc %08x", head, len(data), crc32.ChecksumIEEE(data))
}

func describeICMP4(data []byte) string {
	switch data[0] {
	case 0, 8:
		return describeRest(fmt.Sprintf(" id %d seq %d", binary.BigEndian.Uint16(data[4:]), binary.BigEndian.Uint16(data[6:])), data[8:])
	case 3, 11, 12:
		return fmt.Sprintf(" rest %#x [%s]", binary.BigEndian.Uint32(data[4:]), describeQuote(data[8:]))
	default:
		return describeRest("", data[4:])
	}
}

func describeICMP6(data []byte) string {
	switch data[0] {
	case 128, 129:
		return describeRest(fmt.Sprintf(" id %d seq %d", binary.BigEndian.Uint16(data[4:]), binary.BigEndian.Uint16(data[6:])), data[8:])
	case 1, 2, 3, 4:
		return fmt.Sprintf(" rest %#x [%s]", binary.BigEndian.Uint32(data[4:]), describeQuote(data[8:]))
	case 135, 136:
		if len(data) < 24 {
			return " short"
		}
		target, _ := netip.AddrFromSlice(data[8:24])
		text := fmt.Sprintf(" flags %#x target %v", data[4], target)
		for rest := data[24:]; len(rest) >= 8 && rest[1] > 0 && len(rest) >= 8*int(rest[1]); rest = rest[8*int(rest[1]):] {
			text += fmt.Sprintf(" option %d %x", rest[0], rest[2:8*int(rest[1])])
		}
		return text
	default:
		return describeRest("", data[4:])
	}
}

// describeQuote describes the start of a packet inside an ICMP error. Its TTL is left out:
// VPP quotes it before or after it counts down.
func describeQuote(data []byte) string {
	text := fmt.Sprintf("%d bytes", len(data))
	switch {
	case len(data) >= 28 && data[0] == 0x45:
		return fmt.Sprintf("%s of ip4 %v>%v len %d proto %d ports %d %d", text, net.IP(data[12:16]), net.IP(data[16:20]),
			binary.BigEndian.Uint16(data[2:]), data[9], binary.BigEndian.Uint16(data[20:]), binary.BigEndian.Uint16(data[22:]))
	case len(data) >= 48 && data[0]>>4 == 6:
		return fmt.Sprintf("%s of ip6 %v>%v len %d next %d", text, net.IP(data[8:24]), net.IP(data[24:40]),
			binary.BigEndian.Uint16(data[4:]), data[6])
	}
	return text
}

// sum is the ones' complement sum of 16-bit words (RFC 1071); 0xffff over data that
// holds its own checksum.
func sum(from uint32, data []byte) uint16 {
	for len(data) >= 2 {
		from += uint32(data[0])<<8 | uint32(data[1])
		data = data[2:]
	}
	if len(data) == 1 {
		from += uint32(data[0]) << 8
	}
	for from > 0xffff {
		from = from>>16 + from&0xffff
	}
	return uint16(from)
}
