package packet

import "encoding/binary"

// Length in bytes of a virtio-net header (Virtio 1.2, section 5.1.6), without and with
// the buffer count that "mergeable" and version 1 devices add:
//
//	0     1    2       4        6         8          10          12
//	flags gso  hdr_len gso_size csum_start csum_offset num_buffers
const (
	VirtioLen          = 10
	VirtioMergeableLen = 12
)

// OffloadFromVirtio decodes the virtio-net header at p, of the host's byte order, as
// the kernel's TUN and packet sockets speak it.
func OffloadFromVirtio(p []byte) Offload {
	_ = p[VirtioLen-1]
	return Offload{
		Flags:      p[0] & (NeedsChecksum | DataValid),
		GSO:        p[1],
		HeaderLen:  binary.NativeEndian.Uint16(p[2:]),
		GSOSize:    binary.NativeEndian.Uint16(p[4:]),
		CsumStart:  binary.NativeEndian.Uint16(p[6:]),
		CsumOffset: binary.NativeEndian.Uint16(p[8:]),
	}
}

// PutVirtio encodes o as the virtio-net header p, which is 10 bytes, or 12 with one
// buffer counted.
func (o *Offload) PutVirtio(p []byte) {
	_ = p[VirtioLen-1]
	p[0], p[1] = o.Flags, o.GSO
	binary.NativeEndian.PutUint16(p[2:], o.HeaderLen)
	binary.NativeEndian.PutUint16(p[4:], o.GSOSize)
	binary.NativeEndian.PutUint16(p[6:], o.CsumStart)
	binary.NativeEndian.PutUint16(p[8:], o.CsumOffset)
	if len(p) >= VirtioMergeableLen {
		binary.NativeEndian.PutUint16(p[10:], 0)
	}
}
