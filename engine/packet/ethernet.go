package packet

import (
	"encoding/binary"
)

// EtherTypes (IEEE 802).
const (
	EtherTypeIPv4 uint16 = 0x0800
	EtherTypeARP  uint16 = 0x0806
	EtherTypeVLAN uint16 = 0x8100
	EtherTypeIPv6 uint16 = 0x86dd
	EtherTypeQinQ uint16 = 0x88a8
)

// Offsets in an Ethernet header and an 802.1Q tag; lengths in bytes.
const (
	ethDst  = 0
	ethSrc  = 6
	ethType = 12
	EthLen  = 14
	vlanTCI = 0
	vlanTyp = 2
	VLANLen = 4
)

// MAC is an Ethernet address.
type MAC = [6]byte

// BroadcastMAC is the address of all stations.
func BroadcastMAC() MAC { return MAC{0xff, 0xff, 0xff, 0xff, 0xff, 0xff} }

// MulticastMAC6 is the Ethernet address of an IPv6 multicast group (RFC 2464, section 7).
func MulticastMAC6(group [16]byte) MAC {
	return MAC{0x33, 0x33, group[12], group[13], group[14], group[15]}
}

// MulticastMAC4 is the Ethernet address of an IPv4 multicast group (RFC 1112, section 6.4).
func MulticastMAC4(group [4]byte) MAC {
	return MAC{0x01, 0x00, 0x5e, group[1] & 0x7f, group[2], group[3]}
}

// Ethernet is a packet from its MAC header on.
type Ethernet []byte

// ParseEthernet checks that p holds an Ethernet header.
func ParseEthernet(p []byte) (Ethernet, Reason) {
	if len(p) < EthLen {
		return nil, Truncated
	}
	return Ethernet(p), OK
}

func (e Ethernet) Dst() MAC           { return MAC(e[ethDst : ethDst+6]) }
func (e Ethernet) Src() MAC           { return MAC(e[ethSrc : ethSrc+6]) }
func (e Ethernet) Type() uint16       { return binary.BigEndian.Uint16(e[ethType:]) }
func (e Ethernet) SetDst(m MAC)       { copy(e[ethDst:ethDst+6], m[:]) }
func (e Ethernet) SetSrc(m MAC)       { copy(e[ethSrc:ethSrc+6], m[:]) }
func (e Ethernet) SetType(typ uint16) { binary.BigEndian.PutUint16(e[ethType:], typ) }
func (e Ethernet) Payload() []byte    { return e[EthLen:] }

// IsMulticast reports whether the destination is a group, broadcast included.
func (e Ethernet) IsMulticast() bool { return e[ethDst]&1 != 0 }

// IsBroadcast reports whether the destination is all stations.
func (e Ethernet) IsBroadcast() bool { return e.Dst() == BroadcastMAC() }

// PushEthernet puts an Ethernet header before b. It panics when Room is below EthLen.
func PushEthernet(b *Buffer, dst, src MAC, typ uint16) {
	e := Ethernet(b.Push(EthLen))
	e.SetDst(dst)
	e.SetSrc(src)
	e.SetType(typ)
}

// VLAN is an 802.1Q tag and what follows: TCI, then the next ethertype.
type VLAN []byte

// ParseVLAN checks that p, the bytes after the ethertype 0x8100 or 0x88a8, holds a tag.
func ParseVLAN(p []byte) (VLAN, Reason) {
	if len(p) < VLANLen {
		return nil, Truncated
	}
	return VLAN(p), OK
}

func (v VLAN) TCI() uint16      { return binary.BigEndian.Uint16(v[vlanTCI:]) }
func (v VLAN) ID() uint16       { return v.TCI() & 0x0fff }
func (v VLAN) Priority() uint8  { return v[vlanTCI] >> 5 }
func (v VLAN) Type() uint16     { return binary.BigEndian.Uint16(v[vlanTyp:]) }
func (v VLAN) Payload() []byte  { return v[VLANLen:] }
func (v VLAN) SetTCI(t uint16)  { binary.BigEndian.PutUint16(v[vlanTCI:], t) }
func (v VLAN) SetType(t uint16) { binary.BigEndian.PutUint16(v[vlanTyp:], t) }

// PushVLAN puts an 802.1Q tag between the MAC addresses and the ethertype of the
// Ethernet packet b. tpid is 0x8100 or 0x88a8. It reports whether there was room.
func PushVLAN(b *Buffer, tpid, tci uint16) bool {
	if b.Room() < VLANLen || b.Len() < EthLen {
		return false
	}
	b.Push(VLANLen)
	p := b.Bytes()
	copy(p[:ethType], p[VLANLen:VLANLen+ethType])
	binary.BigEndian.PutUint16(p[ethType:], tpid)
	binary.BigEndian.PutUint16(p[ethType+2:], tci)
	return true
}

// EtherPayload walks up to two VLAN tags of the Ethernet packet p and returns the inner
// ethertype and the offset of what follows it.
func EtherPayload(p []byte) (typ uint16, offset int, r Reason) {
	if len(p) < EthLen {
		return 0, 0, Truncated
	}
	typ, offset = binary.BigEndian.Uint16(p[ethType:]), EthLen
	for range 2 {
		if typ != EtherTypeVLAN && typ != EtherTypeQinQ {
			break
		}
		if len(p) < offset+VLANLen {
			return 0, 0, Truncated
		}
		typ = binary.BigEndian.Uint16(p[offset+vlanTyp:])
		offset += VLANLen
	}
	return typ, offset, OK
}
