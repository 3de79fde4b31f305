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
type Buffer struct {
	mem   []byte // the whole slot, or a view lent by a port
	start int
	end   int

	Offload Offload

	// RxInterface is the sw_if_index the packet came in by; TxInterface where it goes.
	RxInterface uint32
	TxInterface uint32
	// L3 is the offset of the network header from the packet's start; L4 that of the
	// transport header (0 = not parsed, or not the first fragment).
	L3, L4 uint16
	// FlowHash spreads flows over paths and queues; equal for all packets of a flow.
	FlowHash uint32
	// Meta is scratch for the worker's stages (adjacency index, next stage, verdict).
	Meta [4]uint32
}
