// Package packet owns the bytes of a packet inside the engine: the buffer arena,
// typed header views, checksums, segmentation, fragmentation and the building of
// ICMP, ARP and ND messages.
//
// It never looks at tables, never knows a port, and never allocates on a packet's path.
package packet

// Layout of one buffer, a fixed slot of the arena outside the Go heap:
//
//	0          Headroom                                   Headroom+MaxPacket
//	|-- room --|-- vnet/L2/L3 bytes as received ... -------|
//	           ^ start at receive; Push and Pull move it
//
// A slot holds a whole 64 KiB GSO packet, so a packet is never chained. Slots are
// larger than they look costly: pages that no packet touches are never resident.
const (
	// Headroom is what a tunnel or Ethernet header may be pushed into, in bytes.
	Headroom = 256
	// MaxPacket is the largest packet, L2 header included, that a slot holds, in bytes.
	MaxPacket = 65536 + 64
	// BatchSize is the number of packets a worker carries through its stages at once.
	BatchSize = 256
)

// Offload describes work that the sender left to the device, in the terms of the
// virtio-net header (Virtio 1.2, section 5.1.6). The zero value means none.
type Offload struct {
	Flags      uint8  // NeedsChecksum, DataValid
	GSO        uint8  // GSONone, GSOTCPv4, GSOTCPv6, GSOUDPL4
	HeaderLen  uint16 // L2+L3+L4 header length, a hint
	GSOSize    uint16 // payload bytes per segment
	CsumStart  uint16 // from the packet's start
	CsumOffset uint16 // from CsumStart
}

// Values of Offload.Flags and Offload.GSO, as in linux/virtio_net.h.
const (
	NeedsChecksum uint8 = 1
	DataValid     uint8 = 2

	GSONone  uint8 = 0
	GSOTCPv4 uint8 = 1
	GSOTCPv6 uint8 = 4
	GSOUDPL4 uint8 = 5
	GSOECN   uint8 = 0x80
)

// Buffer is one packet and what the stages have learned of it. A Buffer belongs to
// one worker; a port may fill or drain it only during a call made by that worker.
//
// It is one cache line, since every stage reads it: 256 of them and as many headers are
// what a first-level cache holds.
type Buffer struct {
	mem        []byte  // the whole slot, or a view lent by a port
	own        *[]byte // the slot that Reset returns to
	start, end uint32  // of the packet in mem

	Offload Offload
	// L3 is the offset of the network header from the packet's start; L4 that of the
	// transport header (0 = not parsed, or not the first fragment).
	L3, L4 uint16
	lent   bool // mem is not own
	// RxInterface is the sw_if_index the packet came in by.
	RxInterface uint32
	// Meta is scratch for the worker's stages.
	Meta [2]uint16
}

// Asks is not zero when the sender left work to be done.
func (o *Offload) Asks() uint64 { return uint64(o.Flags&NeedsChecksum | o.GSO) }

// NewBuffer returns a Buffer over mem, for tests and for packets made off the hot path.
// Headroom bytes of mem stay before the packet, or as many as there are.
func NewBuffer(mem []byte) *Buffer {
	b := &Buffer{mem: mem, own: &mem}
	b.Reset(min(Headroom, len(mem)))
	return b
}

// FromBytes returns a Buffer that holds a copy of pkt in a full slot of its own on the
// Go heap. It allocates: it is for tests, not for a packet's path.
func FromBytes(pkt []byte) *Buffer {
	b := NewBuffer(make([]byte, Headroom+max(MaxPacket, len(pkt))))
	b.Append(pkt)
	return b
}

// Reset makes b an empty packet in its own slot that begins start bytes into it, and
// forgets everything learned of the packet before.
func (b *Buffer) Reset(start int) {
	if b.lent {
		b.mem, b.lent = *b.own, false
	}
	b.start, b.end = uint32(start), uint32(start)
	b.Offload = Offload{}
	b.L3, b.L4, b.RxInterface, b.Meta = 0, 0, 0, [2]uint16{}
}

// SetView makes b the packet mem[start:end] of memory lent by a port, until the next
// Reset. The lender says how long mem may be used.
func (b *Buffer) SetView(mem []byte, start, end int) {
	b.Reset(0)
	_ = mem[start:end]
	b.mem, b.lent = mem[:len(mem):len(mem)], true
	b.start, b.end = uint32(start), uint32(end)
}

// Bytes is the packet, L2 header included where there is one. It is valid until the
// next Reset, SetView, Push, Pull or SetLen.
func (b *Buffer) Bytes() []byte { return b.mem[b.start:b.end:b.end] }

// L3Bytes is the packet from its network header on.
func (b *Buffer) L3Bytes() []byte { return b.mem[b.start+uint32(b.L3) : b.end : b.end] }

// L4Bytes is the packet from its transport header on. It is meaningless when L4 is 0.
func (b *Buffer) L4Bytes() []byte { return b.mem[b.start+uint32(b.L4) : b.end : b.end] }

// Len is the packet's length in bytes.
func (b *Buffer) Len() int { return int(b.end) - int(b.start) }

// Room is how many bytes Push may still take.
func (b *Buffer) Room() int { return int(b.start) }

// Tailroom is by how many bytes SetLen may still grow the packet.
func (b *Buffer) Tailroom() int { return len(b.mem) - int(b.end) }

// Space is the memory from the packet's start to the slot's end: what a port reads
// into before it calls SetLen.
func (b *Buffer) Space() []byte { return b.mem[b.start:] }

// Front is the n bytes before the packet, for a port's own header (a virtio-net
// header), without making them part of the packet; nil when Room is smaller.
func (b *Buffer) Front(n int) []byte {
	if n > int(b.start) {
		return nil
	}
	return b.mem[int(b.start)-n : b.start]
}

// FrontAndBytes is Front(n) and the packet in one piece, so that a port writes both
// with one call; nil when Room is smaller than n.
func (b *Buffer) FrontAndBytes(n int) []byte {
	if n > int(b.start) {
		return nil
	}
	return b.mem[int(b.start)-n : b.end]
}

// SetLen cuts or grows the packet at its end to n bytes. New bytes hold whatever the
// slot held. It panics when the slot is smaller.
func (b *Buffer) SetLen(n int) {
	if n < 0 || n > len(b.mem)-int(b.start) {
		panic("packet: SetLen beyond the slot")
	}
	b.end = b.start + uint32(n)
}

// Trim cuts the packet to n bytes when it is longer (Ethernet padding).
func (b *Buffer) Trim(n int) {
	if n < b.Len() {
		b.end = b.start + uint32(n)
	}
}

// Push puts n bytes before the packet and returns them; they hold whatever the slot
// held. L3, L4 and the offsets in Offload stay on the same bytes. It panics when Room
// is smaller.
func (b *Buffer) Push(n int) []byte {
	if n < 0 || n > int(b.start) {
		panic("packet: Push beyond the headroom")
	}
	b.start -= uint32(n)
	b.shift(n)
	return b.mem[b.start : int(b.start)+n]
}

// Pull removes n bytes from the packet's front. L3, L4 and the offsets in Offload stay
// on the same bytes; those of removed bytes become 0. It panics when Len is smaller.
func (b *Buffer) Pull(n int) {
	if n < 0 || n > b.Len() {
		panic("packet: Pull beyond the packet")
	}
	b.start += uint32(n)
	b.shift(-n)
}

func (b *Buffer) shift(n int) {
	b.L3 = moved(b.L3, n)
	if b.L4 != 0 {
		b.L4 = moved(b.L4, n)
	}
	if b.Offload == (Offload{}) {
		return
	}
	if b.Offload.Flags&NeedsChecksum != 0 {
		b.Offload.CsumStart = moved(b.Offload.CsumStart, n)
	}
	if b.Offload.HeaderLen != 0 {
		b.Offload.HeaderLen = moved(b.Offload.HeaderLen, n)
	}
}

func moved(at uint16, n int) uint16 { return uint16(max(0, int(at)+n)) }

// Append adds p at the packet's end and reports whether the slot had room for it.
func (b *Buffer) Append(p []byte) bool {
	if len(p) > b.Tailroom() {
		return false
	}
	b.end += uint32(copy(b.mem[b.end:], p))
	return true
}

// CopyFrom makes b a packet in its own slot with from's bytes, offload and learned
// values, and reports whether the slot had room for it.
func (b *Buffer) CopyFrom(from *Buffer) bool {
	start := min(int(from.start), Headroom)
	if start+from.Len() > len(*b.own) {
		return false
	}
	b.Reset(start)
	b.Append(from.Bytes())
	b.CopyMeta(from)
	return true
}

// CopyMeta takes over from's offload and learned values, but not its bytes.
func (b *Buffer) CopyMeta(from *Buffer) {
	b.Offload, b.RxInterface = from.Offload, from.RxInterface
	b.L3, b.L4, b.Meta = from.L3, from.L4, from.Meta
}
