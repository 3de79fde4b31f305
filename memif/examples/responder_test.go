package examples_test

import (
	"bytes"
	"fmt"
	"net"
	"syscall"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/millrace/millrace/memif"
)

var (
	hostMAC = net.HardwareAddr{2, 0, 0, 0, 0, 9}
	nfMAC   = net.HardwareAddr{2, 0xfe, 0, 0, 0, 1}
	host4   = net.IP{10, 0, 0, 1}
	nf4     = net.IP{10, 0, 0, 2}
	host6   = net.ParseIP("fd00::1")
	nf6     = net.ParseIP("fd00::2")
)

// turn is a frame to the responder and what must come back; nil: nothing.
type turn struct {
	name       string
	ask, reply []gopacket.SerializableLayer
}

func ethernet(src, dst net.HardwareAddr, kind layers.EthernetType) *layers.Ethernet {
	return &layers.Ethernet{SrcMAC: src, DstMAC: dst, EthernetType: kind}
}

func ip4(src, dst net.IP, ttl uint8) *layers.IPv4 {
	return &layers.IPv4{SrcIP: src, DstIP: dst, TTL: ttl, Protocol: layers.IPProtocolICMPv4, Id: 77}
}

func ip6(src, dst net.IP, hops uint8) *layers.IPv6 {
	return &layers.IPv6{SrcIP: src, DstIP: dst, HopLimit: hops, NextHeader: layers.IPProtocolICMPv6}
}

func icmp4(kind uint8) *layers.ICMPv4 {
	return &layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(kind, 0), Id: 3, Seq: 4}
}

func icmp6(kind uint8) *layers.ICMPv6 {
	return &layers.ICMPv6{TypeCode: layers.CreateICMPv6TypeCode(kind, 0)}
}

type list = []gopacket.SerializableLayer

// ipTurns are the same in both modes.
func ipTurns() []turn {
	echo, data := &layers.ICMPv6Echo{Identifier: 5, SeqNumber: 6}, gopacket.Payload("whatever is sent comes back")
	return []turn{
		{"ping", list{ip4(host4, nf4, 3), icmp4(layers.ICMPv4TypeEchoRequest), data}, list{ip4(nf4, host4, 64), icmp4(layers.ICMPv4TypeEchoReply), data}},
		{"empty ping", list{ip4(host4, nf4, 3), icmp4(layers.ICMPv4TypeEchoRequest)}, list{ip4(nf4, host4, 64), icmp4(layers.ICMPv4TypeEchoReply)}},
		{"ping reply", list{ip4(host4, nf4, 3), icmp4(layers.ICMPv4TypeEchoReply), data}, nil},
		{"ping to a group", list{ip4(host4, net.IP{224, 0, 0, 1}, 3), icmp4(layers.ICMPv4TypeEchoRequest), data}, nil},
		{"UDP", list{&layers.IPv4{SrcIP: host4, DstIP: nf4, TTL: 9, Protocol: layers.IPProtocolUDP}, &layers.UDP{SrcPort: 1, DstPort: 2}, data}, nil},
		{"ICMPv6 within IPv4", list{&layers.IPv4{SrcIP: host4, DstIP: nf4, TTL: 9, Protocol: layers.IPProtocolICMPv6}, gopacket.Payload{128, 0, 0, 0, 0, 0, 0, 0}}, nil},
		{"ping IPv6", list{ip6(host6, nf6, 64), icmp6(layers.ICMPv6TypeEchoRequest), echo, data}, list{ip6(nf6, host6, 64), icmp6(layers.ICMPv6TypeEchoReply), echo, data}},
		{"ping reply IPv6", list{ip6(host6, nf6, 64), icmp6(layers.ICMPv6TypeEchoReply), echo, data}, nil},
		{"no packet", list{gopacket.Payload("x")}, nil},
	}
}

func ethernetTurns() []turn {
	arp := func(op uint16, fromMAC net.HardwareAddr, from net.IP, toMAC net.HardwareAddr, to net.IP) *layers.ARP {
		return &layers.ARP{AddrType: layers.LinkTypeEthernet, Protocol: layers.EthernetTypeIPv4, HwAddressSize: 6, ProtAddressSize: 4,
			Operation: op, SourceHwAddress: fromMAC, SourceProtAddress: from, DstHwAddress: toMAC, DstProtAddress: to}
	}
	all, none, group := net.HardwareAddr{255, 255, 255, 255, 255, 255}, make(net.HardwareAddr, 6), net.HardwareAddr{0x33, 0x33, 0xff, 0, 0, 2}
	solicit := func(from net.IP, hops uint8) list {
		return list{ethernet(hostMAC, group, layers.EthernetTypeIPv6), ip6(from, net.ParseIP("ff02::1:ff00:2"), hops), icmp6(layers.ICMPv6TypeNeighborSolicitation),
			&layers.ICMPv6NeighborSolicitation{TargetAddress: nf6, Options: layers.ICMPv6Options{{Type: layers.ICMPv6OptSourceAddress, Data: hostMAC}}}}
	}
	turns := []turn{
		{"ARP", list{ethernet(hostMAC, all, layers.EthernetTypeARP), arp(1, hostMAC, host4, none, nf4)},
			list{ethernet(nfMAC, hostMAC, layers.EthernetTypeARP), arp(2, nfMAC, nf4, hostMAC, host4)}},
		{"ARP announcement", list{ethernet(hostMAC, all, layers.EthernetTypeARP), arp(1, hostMAC, host4, none, host4)}, nil},
		{"ARP probe", list{ethernet(hostMAC, all, layers.EthernetTypeARP), arp(1, hostMAC, net.IP{0, 0, 0, 0}, none, nf4)}, nil},
		{"ARP reply", list{ethernet(hostMAC, all, layers.EthernetTypeARP), arp(2, hostMAC, host4, nfMAC, nf4)}, nil},
		{"neighbour solicitation", solicit(host6, 255), list{ethernet(nfMAC, hostMAC, layers.EthernetTypeIPv6), ip6(nf6, host6, 255), icmp6(layers.ICMPv6TypeNeighborAdvertisement),
			&layers.ICMPv6NeighborAdvertisement{Flags: 0x60, TargetAddress: nf6, Options: layers.ICMPv6Options{{Type: layers.ICMPv6OptTargetAddress, Data: nfMAC}}}}},
		{"solicitation from a router away", solicit(host6, 254), nil},
		{"duplicate address detection", solicit(net.IPv6unspecified, 255), nil},
	}
	for _, u := range ipTurns() {
		kind := layers.EthernetTypeIPv4
		if _, six := u.ask[0].(*layers.IPv6); six {
			kind = layers.EthernetTypeIPv6
		}
		u.ask = append(list{ethernet(hostMAC, nfMAC, kind)}, u.ask...)
		if u.reply != nil {
			u.reply = append(list{ethernet(nfMAC, hostMAC, kind)}, u.reply...)
		}
		turns = append(turns, u)
	}
	return turns
}

func TestResponder(t *testing.T) {
	for mode, turns := range map[memif.Mode][]turn{memif.Ethernet: ethernetTurns(), memif.IP: ipTurns()} {
		for _, role := range []memif.Role{memif.Server, memif.Client} {
			t.Run(fmt.Sprintf("%s,%s", mode, role), func(t *testing.T) {
				at := memif.SocketConfig{Role: other(role), Address: address(t)}
				nf := start(t, "responder", "--socket", at.Address, "--role", role.String(), "--mode", mode.String(), "--id", "7", "--secret", "psst")
				if role == memif.Server {
					waitForFile(t, at.Address)
				}
				p := newPeer(t, at, memif.Config{ID: 7, Mode: mode, Secret: "psst"})
				p.up(t)
				last := turns[0]
				for _, u := range turns {
					p.send(t, 0, build(t, u.ask...))
					if u.reply == nil { // then what comes next answers the next question
						p.send(t, 0, build(t, last.ask...))
						u.reply = last.reply
					} else {
						last = u
					}
					if got, want := p.receive(t, 0), build(t, u.reply...); !bytes.Equal(got, want) {
						t.Errorf("%s: got\n%v\nwant\n%v", u.name, dump(got, mode), dump(want, mode))
					}
				}
				nf.end(t, syscall.SIGTERM)
				nf.waitFor(t, "link up", "received {Frames:", "sent {Frames:")
			})
		}
	}
}

func dump(frame []byte, mode memif.Mode) string {
	if mode == memif.IP {
		return gopacket.NewPacket(frame, layers.LinkTypeRaw, gopacket.Default).Dump()
	}
	return gopacket.NewPacket(frame, layers.LinkTypeEthernet, gopacket.Default).Dump()
}
