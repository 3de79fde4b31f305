package policytest_test

import (
	"encoding/binary"
	"net/netip"

	"go.fd.io/govpp/binapi/fib_types"

	"github.com/millrace/millrace/policy/oracle"
)

// wirePath leads through an interface whose far end takes everything.
func wirePath(six bool, index uint32) []fib_types.FibPath {
	p := fib_types.FibPath{SwIfIndex: index, Weight: 1}
	if six {
		p.Proto = fib_types.FIB_API_PATH_NH_PROTO_IP6
	}
	return []fib_types.FibPath{p}
}

// sentinel is a packet that every list lets pass: an ICMP error to somewhere outside.
func sentinel(mark uint32) []byte {
	return packet(oracle.Flow{From: netip.MustParseAddr("10.0.0.200"), To: netip.MustParseAddr("203.0.113.200"), Protocol: oracle.ICMP, Type: 3}, 0, mark)
}

// packet is the first packet of a connection, with a mark in its last four bytes.
func packet(f oracle.Flow, port uint16, mark uint32) []byte {
	var l4 []byte
	switch f.Protocol {
	case oracle.TCP:
		l4 = binary.BigEndian.AppendUint16(nil, port)
		l4 = binary.BigEndian.AppendUint16(l4, f.Port)
		l4 = append(l4, 0, 0, 0, 1, 0, 0, 0, 0, 0x50, 0x02, 0x20, 0, 0, 0, 0, 0) // SYN
	case oracle.UDP:
		l4 = binary.BigEndian.AppendUint16(nil, port)
		l4 = binary.BigEndian.AppendUint16(l4, f.Port)
		l4 = append(l4, 0, 32, 0, 0)
	case oracle.SCTP:
		l4 = binary.BigEndian.AppendUint16(nil, port)
		l4 = binary.BigEndian.AppendUint16(l4, f.Port)
		l4 = append(l4, make([]byte, 8)...)
	case oracle.ICMP, oracle.ICMPv6:
		l4 = append(l4, f.Type, 0, 0, 0, byte(port>>8), byte(port), 0, 1)
	}
	l4 = append(l4, make([]byte, 20)...)
	l4 = binary.BigEndian.AppendUint32(l4, mark)
	if f.From.Is6() {
		p := []byte{0x60, 0, 0, 0, 0, byte(len(l4)), f.Protocol, 64}
		p = append(append(p, f.From.AsSlice()...), f.To.AsSlice()...)
		return append(p, l4...)
	}
	p := []byte{0x45, 0, 0, byte(20 + len(l4)), byte(mark >> 8), byte(mark), 0, 0, 64, f.Protocol, 0, 0}
	p = append(append(p, f.From.AsSlice()...), f.To.AsSlice()...)
	sum := uint32(0)
	for i := 0; i < len(p); i += 2 {
		sum += uint32(p[i])<<8 | uint32(p[i+1])
	}
	for sum>>16 != 0 {
		sum = sum&0xffff + sum>>16
	}
	binary.BigEndian.PutUint16(p[10:], ^uint16(sum))
	return append(p, l4...)
}
