package packet

import (
	"encoding/binary"
	"math/bits"
)

// Sum adds the 16-bit words of p (RFC 1071) to init and returns the folded one's
// complement sum, not complemented. Sums of parts chain through init when every part
// but the last has an even length.
func Sum(p []byte, init uint16) uint16 {
	// One's complement addition is indifferent to byte order (RFC 1071, 2.B): words
	// are added as the machine loads them and the result is swapped once.
	acc := uint64(bits.ReverseBytes16(init))
	var carry uint64
	for len(p) >= 64 {
		q := p[:64:64]
		acc, carry = bits.Add64(acc, binary.LittleEndian.Uint64(q[0:]), carry)
		acc, carry = bits.Add64(acc, binary.LittleEndian.Uint64(q[8:]), carry)
		acc, carry = bits.Add64(acc, binary.LittleEndian.Uint64(q[16:]), carry)
		acc, carry = bits.Add64(acc, binary.LittleEndian.Uint64(q[24:]), carry)
		acc, carry = bits.Add64(acc, binary.LittleEndian.Uint64(q[32:]), carry)
		acc, carry = bits.Add64(acc, binary.LittleEndian.Uint64(q[40:]), carry)
		acc, carry = bits.Add64(acc, binary.LittleEndian.Uint64(q[48:]), carry)
		acc, carry = bits.Add64(acc, binary.LittleEndian.Uint64(q[56:]), carry)
		p = p[64:]
	}
	for len(p) >= 8 {
		acc, carry = bits.Add64(acc, binary.LittleEndian.Uint64(p), carry)
		p = p[8:]
	}
	var tail uint64
	if len(p) >= 4 {
		tail = uint64(binary.LittleEndian.Uint32(p))
		p = p[4:]
	}
	if len(p) >= 2 {
		tail += uint64(binary.LittleEndian.Uint16(p))
		p = p[2:]
	}
	if len(p) == 1 {
		tail += uint64(p[0])
	}
	acc, carry = bits.Add64(acc, tail, carry)
	acc, carry = bits.Add64(acc, 0, carry)
	return bits.ReverseBytes16(fold(acc + carry))
}

// fold brings a sum of 16-bit words down to 16 bits, end-around carries included.
func fold(acc uint64) uint16 {
	acc = acc>>32 + acc&0xffffffff
	acc = acc>>32 + acc&0xffffffff
	acc = acc>>16 + acc&0xffff
	acc = acc>>16 + acc&0xffff
	return uint16(acc)
}

// Checksum is the Internet checksum (RFC 1071) of p, ready to be stored in p's
// checksum field, which must be zero meanwhile.
func Checksum(p []byte) uint16 { return ^Sum(p, 0) }

// addOnes is one's complement addition of two folded sums.
func addOnes(a, b uint16) uint16 {
	s := uint32(a) + uint32(b)
	return uint16(s>>16 + s&0xffff)
}

// UpdateChecksum returns the checksum after one 16-bit word of the covered bytes
// changed (RFC 1624, equation 3).
func UpdateChecksum(check, from, to uint16) uint16 {
	return ^addOnes(addOnes(^check, ^from), to)
}

// UpdateChecksum32 is UpdateChecksum for two words that stand together, such as an
// IPv4 address.
func UpdateChecksum32(check uint16, from, to uint32) uint16 {
	check = UpdateChecksum(check, uint16(from>>16), uint16(to>>16))
	return UpdateChecksum(check, uint16(from), uint16(to))
}

// UpdateChecksumBytes is UpdateChecksum for from replaced by to, which have one even
// length and stand at an even offset of the covered bytes.
func UpdateChecksumBytes(check uint16, from, to []byte) uint16 {
	return ^addOnes(addOnes(^check, ^Sum(from, 0)), Sum(to, 0))
}

// PseudoSum is the sum of the IPv4 or IPv6 pseudo header (RFC 9293 3.1, RFC 8200 8.1)
// that begins the checksum of TCP, UDP and ICMPv6. src and dst are 4 or 16 bytes each,
// length is that of the upper-layer packet in bytes.
func PseudoSum(src, dst []byte, proto uint8, length int) uint16 {
	s := addOnes(Sum(src, 0), Sum(dst, 0))
	n := uint32(length)
	s = addOnes(s, addOnes(uint16(n>>16), uint16(n)))
	return addOnes(s, uint16(proto))
}

// nonZero is a computed checksum with 0 sent as all ones, which means the same in one's
// complement; for UDP 0 would mean "none" (RFC 768).
func nonZero(check uint16) uint16 {
	if check == 0 {
		return 0xffff
	}
	return check
}
