package rig

import (
	"net"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
)

func TestPong(t *testing.T) {
	a, b := net.IP{10, 0, 0, 1}, net.IP{10, 0, 0, 2}
	echo := func(kind uint8, seq uint16, from, to net.IP) []byte {
		return serialize(
			&layers.IPv4{Version: 4, TTL: 64, Protocol: layers.IPProtocolICMPv4, SrcIP: from, DstIP: to},
			&layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(kind, 0), Id: 7, Seq: seq},
			gopacket.Payload("0123456789abcdef"))
	}
	for seq := range uint16(1 << 12) {
		seq <<= 4
		p := echo(layers.ICMPv4TypeEchoRequest, seq, a, b)
		if !pong(p) {
			t.Fatal("a request is none")
		}
		if diff := cmp.Diff(echo(layers.ICMPv4TypeEchoReply, seq, b, a), p); diff != "" {
			t.Fatalf("reply to %d (-want +got):\n%s", seq, diff)
		}
		if pong(p) {
			t.Fatal("a reply is a request")
		}
		for n := range len(p) - 16 {
			if pong(p[:n]) {
				t.Fatalf("%d bytes are a request", n)
			}
		}
	}
}
