package packet

import "encoding/binary"

// ARP operations (RFC 826).
const (
	ARPRequest uint16 = 1
	ARPReply   uint16 = 2
)

// Offsets in an ARP message for IPv4 over Ethernet; ARPLen is its length in bytes.
const (
	arpHType = 0
	arpPType = 2
	arpHLen  = 4
	arpPLen  = 5
	arpOp    = 6
	arpSHA   = 8
	arpSPA   = 14
	arpTHA   = 18
	arpTPA   = 24
	ARPLen   = 28
)

// ARP is an ARP message for IPv4 over Ethernet (RFC 826).
type ARP []byte

// ParseARP checks that p is such a message: hardware type 1, protocol IPv4, lengths 6
// and 4. Other hardware or protocols are Unsupported.
func ParseARP(p []byte) (ARP, Reason) {
	if len(p) < ARPLen {
		return nil, Truncated
	}
	a := ARP(p[:ARPLen])
	if binary.BigEndian.Uint16(a[arpHType:]) != 1 || binary.BigEndian.Uint16(a[arpPType:]) != EtherTypeIPv4 ||
		a[arpHLen] != 6 || a[arpPLen] != 4 {
		return nil, Unsupported
	}
	return a, OK
}

func (a ARP) Op() uint16            { return binary.BigEndian.Uint16(a[arpOp:]) }
func (a ARP) SenderMAC() MAC        { return MAC(a[arpSHA : arpSHA+6]) }
func (a ARP) SenderIP() [4]byte     { return [4]byte(a[arpSPA : arpSPA+4]) }
func (a ARP) TargetMAC() MAC        { return MAC(a[arpTHA : arpTHA+6]) }
func (a ARP) TargetIP() [4]byte     { return [4]byte(a[arpTPA : arpTPA+4]) }
func (a ARP) SetOp(op uint16)       { binary.BigEndian.PutUint16(a[arpOp:], op) }
func (a ARP) SetSenderMAC(m MAC)    { copy(a[arpSHA:], m[:]) }
func (a ARP) SetSenderIP(p [4]byte) { copy(a[arpSPA:], p[:]) }
func (a ARP) SetTargetMAC(m MAC)    { copy(a[arpTHA:], m[:]) }
func (a ARP) SetTargetIP(p [4]byte) { copy(a[arpTPA:], p[:]) }

// MakeARPRequest makes b an Ethernet broadcast that asks who has target, on behalf of
// the address sender at mac. With sender equal to target it is a gratuitous ARP.
func MakeARPRequest(b *Buffer, mac MAC, sender, target [4]byte) {
	makeARP(b, BroadcastMAC(), mac, ARPRequest)
	a := ARP(b.Bytes()[EthLen:])
	a.SetSenderMAC(mac)
	a.SetSenderIP(sender)
	a.SetTargetMAC(MAC{})
	a.SetTargetIP(target)
}

// MakeARPReply makes b the Ethernet reply to request: mac has the address asked for.
func MakeARPReply(b *Buffer, request ARP, mac MAC) {
	toMAC, toIP, ip := request.SenderMAC(), request.SenderIP(), request.TargetIP()
	makeARP(b, toMAC, mac, ARPReply)
	a := ARP(b.Bytes()[EthLen:])
	a.SetSenderMAC(mac)
	a.SetSenderIP(ip)
	a.SetTargetMAC(toMAC)
	a.SetTargetIP(toIP)
}

func makeARP(b *Buffer, dst, src MAC, op uint16) {
	b.Reset(Headroom)
	b.SetLen(EthLen + ARPLen)
	b.L3 = EthLen
	p := b.Bytes()
	e := Ethernet(p)
	e.SetDst(dst)
	e.SetSrc(src)
	e.SetType(EtherTypeARP)
	a := p[EthLen:]
	binary.BigEndian.PutUint16(a[arpHType:], 1)
	binary.BigEndian.PutUint16(a[arpPType:], EtherTypeIPv4)
	a[arpHLen], a[arpPLen] = 6, 4
	ARP(a).SetOp(op)
}
