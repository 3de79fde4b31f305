package packet

import "encoding/binary"

// Offsets common to ICMPv4 (RFC 792) and ICMPv6 (RFC 4443); ICMPLen is the length in
// bytes of the header with its four type-specific bytes.
const (
	icmpType  = 0
	icmpCode  = 1
	icmpCheck = 2
	icmpRest  = 4
	ICMPLen   = 8
)

// ICMPv4 types and the codes the engine uses.
const (
	ICMPv4EchoReply    uint8 = 0
	ICMPv4Unreachable  uint8 = 3
	ICMPv4Redirect     uint8 = 5
	ICMPv4Echo         uint8 = 8
	ICMPv4TimeExceeded uint8 = 11
	ICMPv4ParamProblem uint8 = 12

	ICMPv4NetUnreachable   uint8 = 0
	ICMPv4HostUnreachable  uint8 = 1
	ICMPv4ProtoUnreachable uint8 = 2
	ICMPv4PortUnreachable  uint8 = 3
	ICMPv4FragNeeded       uint8 = 4
	ICMPv4AdminProhibited  uint8 = 13

	ICMPTTLInTransit uint8 = 0 // code of time exceeded, both families
	ICMPReassembly   uint8 = 1
)

// ICMPv6 types and the codes the engine uses.
const (
	ICMPv6Unreachable     uint8 = 1
	ICMPv6PacketTooBig    uint8 = 2
	ICMPv6TimeExceeded    uint8 = 3
	ICMPv6ParamProblem    uint8 = 4
	ICMPv6Echo            uint8 = 128
	ICMPv6EchoReply       uint8 = 129
	ICMPv6RouterSolicit   uint8 = 133
	ICMPv6RouterAdvert    uint8 = 134
	ICMPv6NeighborSolicit uint8 = 135
	ICMPv6NeighborAdvert  uint8 = 136
	ICMPv6Redirect        uint8 = 137

	ICMPv6NoRoute         uint8 = 0
	ICMPv6AdminProhibited uint8 = 1
	ICMPv6BeyondScope     uint8 = 2
	ICMPv6AddrUnreachable uint8 = 3
	ICMPv6PortUnreachable uint8 = 4
	ICMPv6SourcePolicy    uint8 = 5
	ICMPv6RejectRoute     uint8 = 6
)

// ICMPv4 is a message from its ICMP header on.
type ICMPv4 []byte

// ParseICMPv4 checks length and checksum of p, the payload of an IPv4 packet that is no
// fragment.
func ParseICMPv4(p []byte) (ICMPv4, Reason) {
	if len(p) < ICMPLen {
		return nil, Truncated
	}
	if Sum(p, 0) != 0xffff {
		return nil, BadChecksum
	}
	return ICMPv4(p), OK
}

func (m ICMPv4) Type() uint8          { return m[icmpType] }
func (m ICMPv4) Code() uint8          { return m[icmpCode] }
func (m ICMPv4) Checksum() uint16     { return binary.BigEndian.Uint16(m[icmpCheck:]) }
func (m ICMPv4) ID() uint16           { return binary.BigEndian.Uint16(m[icmpRest:]) }
func (m ICMPv4) Sequence() uint16     { return binary.BigEndian.Uint16(m[icmpRest+2:]) }
func (m ICMPv4) MTU() int             { return int(binary.BigEndian.Uint16(m[icmpRest+2:])) }
func (m ICMPv4) Payload() []byte      { return m[ICMPLen:] }
func (m ICMPv4) SetChecksum(c uint16) { binary.BigEndian.PutUint16(m[icmpCheck:], c) }

// IsError reports whether the message is an ICMP error (or a redirect), which must not
// be answered with another (RFC 1122, 3.2.2). Unknown types count as errors.
func (m ICMPv4) IsError() bool { return isError4(m[icmpType]) }

func isError4(typ uint8) bool {
	switch typ {
	case ICMPv4EchoReply, ICMPv4Echo, 9, 10, 13, 14, 15, 16, 17, 18, 42, 43:
		return false
	}
	return true
}

// ICMPv6 is a message from its ICMP header on.
type ICMPv6 []byte

// ParseICMPv6 checks length and checksum of p, the upper layer of the IPv6 packet ip
// that is no fragment.
func ParseICMPv6(ip IPv6, p []byte) (ICMPv6, Reason) {
	if len(p) < ICMPLen {
		return nil, Truncated
	}
	if Sum(p, ip.pseudo(ProtoICMPv6, len(p))) != 0xffff {
		return nil, BadChecksum
	}
	return ICMPv6(p), OK
}

func (m ICMPv6) Type() uint8          { return m[icmpType] }
func (m ICMPv6) Code() uint8          { return m[icmpCode] }
func (m ICMPv6) Checksum() uint16     { return binary.BigEndian.Uint16(m[icmpCheck:]) }
func (m ICMPv6) ID() uint16           { return binary.BigEndian.Uint16(m[icmpRest:]) }
func (m ICMPv6) Sequence() uint16     { return binary.BigEndian.Uint16(m[icmpRest+2:]) }
func (m ICMPv6) MTU() uint32          { return binary.BigEndian.Uint32(m[icmpRest:]) }
func (m ICMPv6) Payload() []byte      { return m[ICMPLen:] }
func (m ICMPv6) SetChecksum(c uint16) { binary.BigEndian.PutUint16(m[icmpCheck:], c) }

// IsError reports whether the message is an ICMP error or a redirect, which must not be
// answered with another (RFC 4443, 2.4 e).
func (m ICMPv6) IsError() bool { return isError6(m[icmpType]) }

func isError6(typ uint8) bool { return typ < 128 || typ == ICMPv6Redirect }
