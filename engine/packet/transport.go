package packet

import "encoding/binary"

// Offsets common to TCP, UDP, UDP-Lite and SCTP.
const (
	portSrc = 0
	portDst = 2
)

// Offsets in a TCP header (RFC 9293); TCPLen is its length in bytes without options.
const (
	tcpSeq   = 4
	tcpAck   = 8
	tcpOff   = 12
	tcpFlags = 13
	tcpWin   = 14
	tcpCheck = 16
	TCPLen   = 20
)

// TCP flags.
const (
	TCPFin uint8 = 1 << iota
	TCPSyn
	TCPRst
	TCPPsh
	TCPAck
	TCPUrg
	TCPEce
	TCPCwr
)

// TCP is a segment from its header on.
type TCP []byte

// ParseTCP checks that p holds a TCP header with its options.
func ParseTCP(p []byte) (TCP, Reason) {
	if len(p) < TCPLen {
		return nil, Truncated
	}
	t := TCP(p)
	if t.HeaderLen() < TCPLen {
		return nil, BadHeaderLength
	}
	if t.HeaderLen() > len(p) {
		return nil, Truncated
	}
	return t, OK
}

func (t TCP) SrcPort() uint16      { return binary.BigEndian.Uint16(t[portSrc:]) }
func (t TCP) DstPort() uint16      { return binary.BigEndian.Uint16(t[portDst:]) }
func (t TCP) Seq() uint32          { return binary.BigEndian.Uint32(t[tcpSeq:]) }
func (t TCP) Ack() uint32          { return binary.BigEndian.Uint32(t[tcpAck:]) }
func (t TCP) HeaderLen() int       { return int(t[tcpOff]>>4) * 4 }
func (t TCP) Flags() uint8         { return t[tcpFlags] }
func (t TCP) Window() uint16       { return binary.BigEndian.Uint16(t[tcpWin:]) }
func (t TCP) Checksum() uint16     { return binary.BigEndian.Uint16(t[tcpCheck:]) }
func (t TCP) Options() []byte      { return t[TCPLen:t.HeaderLen()] }
func (t TCP) Payload() []byte      { return t[t.HeaderLen():] }
func (t TCP) SetSrcPort(p uint16)  { binary.BigEndian.PutUint16(t[portSrc:], p) }
func (t TCP) SetDstPort(p uint16)  { binary.BigEndian.PutUint16(t[portDst:], p) }
func (t TCP) SetSeq(s uint32)      { binary.BigEndian.PutUint32(t[tcpSeq:], s) }
func (t TCP) SetFlags(f uint8)     { t[tcpFlags] = f }
func (t TCP) SetChecksum(c uint16) { binary.BigEndian.PutUint16(t[tcpCheck:], c) }

// Offsets in a UDP header (RFC 768); UDPLen is its length in bytes.
const (
	udpLength = 4
	udpCheck  = 6
	UDPLen    = 8
)

// UDP is a datagram from its header to the end that its length names.
type UDP []byte

// ParseUDP checks the length field against p and returns the datagram without what
// follows it. Length 0 (a jumbogram, RFC 2675) is BadLength.
func ParseUDP(p []byte) (UDP, Reason) {
	if len(p) < UDPLen {
		return nil, Truncated
	}
	n := int(binary.BigEndian.Uint16(p[udpLength:]))
	if n < UDPLen {
		return nil, BadLength
	}
	if n > len(p) {
		return nil, Truncated
	}
	return UDP(p[:n:n]), OK
}

func (u UDP) SrcPort() uint16      { return binary.BigEndian.Uint16(u[portSrc:]) }
func (u UDP) DstPort() uint16      { return binary.BigEndian.Uint16(u[portDst:]) }
func (u UDP) Length() int          { return int(binary.BigEndian.Uint16(u[udpLength:])) }
func (u UDP) Checksum() uint16     { return binary.BigEndian.Uint16(u[udpCheck:]) }
func (u UDP) Payload() []byte      { return u[UDPLen:] }
func (u UDP) SetSrcPort(p uint16)  { binary.BigEndian.PutUint16(u[portSrc:], p) }
func (u UDP) SetDstPort(p uint16)  { binary.BigEndian.PutUint16(u[portDst:], p) }
func (u UDP) SetLength(n int)      { binary.BigEndian.PutUint16(u[udpLength:], uint16(n)) }
func (u UDP) SetChecksum(c uint16) { binary.BigEndian.PutUint16(u[udpCheck:], c) }

// hasPorts reports whether a protocol begins with a source and a destination port.
func hasPorts(proto uint8) bool {
	switch proto {
	case ProtoTCP, ProtoUDP, ProtoSCTP, ProtoUDPLite:
		return true
	}
	return false
}

// Ports returns the ports of a TCP, UDP, UDP-Lite or SCTP header. ok is false for other
// protocols and for fewer than 4 bytes.
func Ports(proto uint8, p []byte) (src, dst uint16, ok bool) {
	if len(p) < 4 || !hasPorts(proto) {
		return 0, 0, false
	}
	return binary.BigEndian.Uint16(p[portSrc:]), binary.BigEndian.Uint16(p[portDst:]), true
}
