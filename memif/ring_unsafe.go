package memif

import (
	"sync"
	"sync/atomic"
	"unsafe"
)

// Offsets in a ring; see the package's drawing.
const (
	ringCookie = 0
	ringWord   = 4 // flags | head<<16: two writers in one word
	ringTail   = 64

	flagMasked   = 1 // of the ring's flags: the receiver wants no interrupts
	flagNext     = 1 // of a descriptor's: the frame goes on
	descNextMask = uint64(flagNext)
)

// ring is one direction of one queue, as its one user on this side sees it. Whether it
// produces or consumes is the caller's to know; which index is ours follows from the role:
// a client writes head, a server writes tail.
type ring struct {
	word   *uint32 // flags | head<<16
	tail   *uint32
	desc   unsafe.Pointer
	size   uint32
	mask   uint32
	client bool // this side is the client

	// next is this side's own position: what it consumes or produces next. peer is the
	// peer's index when last read. Both are private: the peer can spoil what stands in the
	// shared memory, but not what we go by.
	next, peer uint16
	// stuck says that what waits up to peer is the beginning of a frame. Its end comes with
	// another index: what the peer changes below the one it has published is not waited for.
	stuck bool

	memory []memory // the link's regions

	// A client's own buffers: where they are does not depend on what the peer writes.
	buffers unsafe.Pointer
	region  uint16
	first   uint32 // offset of the first buffer in its region
	stride  uint32
	space   uint32 // bytes of a buffer

	event  int // eventfd
	shared bool
	mu     sync.Mutex // taken by each user when shared
}

// memory is a region as the rings use it.
type memory struct {
	base unsafe.Pointer
	size uint64
}

func memoryOf(r region) memory {
	return memory{unsafe.Pointer(unsafe.SliceData(r.mem)), uint64(len(r.mem))}
}

// place makes r the ring at offset of a mapped region. The caller has checked that it lies
// in it and is aligned to 16 bytes.
func (r *ring) place(m memory, offset uint32, log2 uint8) {
	base := unsafe.Add(m.base, offset)
	r.word = (*uint32)(unsafe.Add(base, ringWord))
	r.tail = (*uint32)(unsafe.Add(base, ringTail))
	r.desc = unsafe.Add(base, ringHeader)
	r.size, r.mask = 1<<log2, 1<<log2-1
}

// format writes what a client owes the server before CONNECT.
func (r *ring) format() {
	store32((*uint32)(unsafe.Add(unsafe.Pointer(r.word), -ringWord+ringCookie)), cookie)
	store32(r.word, 0)
	store32(r.tail, 0)
	for i := range r.size {
		r.store(i, r.blank(i))
	}
}

// check looks at the cookie, which C clients write too.
func (r *ring) check() error {
	if got := load32((*uint32)(unsafe.Add(unsafe.Pointer(r.word), -ringWord+ringCookie))); got != cookie {
		return fail(Protocol, "ring begins with %#x: want the cookie %#x", got, cookie)
	}
	return nil
}

// A descriptor is two words, so that it is read once and written once:
//
//	lo: flags 16 | region 16 | length 32       hi: offset 32 | metadata 32
type descriptor struct{ lo, hi uint64 }

func (d descriptor) more() bool     { return d.lo&descNextMask != 0 }
func (d descriptor) region() uint16 { return uint16(d.lo >> 16) }
func (d descriptor) length() uint32 { return uint32(d.lo >> 32) }
func (d descriptor) offset() uint32 { return uint32(d.hi) }

// load reads the descriptor of slot i, once: what the peer writes there afterwards is not
// seen any more.
func (r *ring) load(i uint32) descriptor {
	p := unsafe.Add(r.desc, uintptr(i&r.mask)*descBytes)
	return descriptor{
		load64((*uint64)(p)),
		load64((*uint64)(unsafe.Add(p, 8))),
	}
}

func (r *ring) store(i uint32, d descriptor) {
	p := unsafe.Add(r.desc, uintptr(i&r.mask)*descBytes)
	*(*uint64)(unsafe.Add(p, 8)) = d.hi
	*(*uint64)(p) = d.lo
}

// storeLow writes flags, region and length and leaves the offset.
func (r *ring) storeLow(i uint32, lo uint64) {
	*(*uint64)(unsafe.Add(r.desc, uintptr(i&r.mask)*descBytes)) = lo
}

// blank is the descriptor of a client's empty buffer.
func (r *ring) blank(i uint32) descriptor {
	return descriptor{lo: r.blankLow(), hi: uint64(r.first + (i&r.mask)*r.stride)}
}

func (r *ring) blankLow() uint64 { return uint64(r.region)<<16 | uint64(r.space)<<32 }

// at returns the memory that descriptor d of slot i stands for, and false when it lies
// outside.
func (r *ring) at(i uint32, d descriptor) (unsafe.Pointer, bool) {
	if r.client {
		return r.own(i), d.length() <= r.space
	}
	return r.theirs(d)
}

// own is a client's buffer of slot i. A client goes by its own layout, and takes only the
// length from a descriptor.
func (r *ring) own(i uint32) unsafe.Pointer {
	return unsafe.Add(r.buffers, uintptr(i&r.mask)*uintptr(r.stride))
}

// theirs is the memory that a client's descriptor points to.
func (r *ring) theirs(d descriptor) (unsafe.Pointer, bool) {
	region := int(d.region())
	if region >= len(r.memory) {
		return nil, false
	}
	m := &r.memory[region]
	return unsafe.Add(m.base, d.offset()), uint64(d.offset())+uint64(d.length()) <= m.size
}

// head and tail as the peer, or we, last published them.
func (r *ring) loadHead() uint16 { return uint16(load32(r.word) >> 16) }
func (r *ring) loadTail() uint16 { return uint16(load32(r.tail)) }

func (r *ring) loadPeer() uint16 {
	if r.client {
		return r.loadTail()
	}
	return r.loadHead()
}

// publish tells the peer our index. All descriptors and data written before are seen with
// it, and a load of flags after it is not done before it.
func (r *ring) publish(index uint16) {
	if !r.client {
		// Nobody else writes the tail's cache line: memif.h pads it.
		store32(r.tail, uint32(index))
		return
	}
	// The flags beside the head are the receiver's: they must not be lost. A peer that
	// writes here all the time cannot hold us up for long, and spoils only its own view.
	for range 64 {
		old := load32(r.word)
		if atomic.CompareAndSwapUint32(r.word, old, old&0xffff|uint32(index)<<16) {
			return
		}
	}
}

// masked says whether the receiver wants no interrupt now.
func (r *ring) masked() bool { return load32(r.word)&flagMasked != 0 }

// setMasked is the receiver's.
func (r *ring) setMasked(on bool) {
	if on {
		or32(r.word, flagMasked)
	} else {
		and32(r.word, ^uint32(flagMasked))
	}
}

// waiting is how many slots the peer has filled for a consumer. An error means that the
// peer's index is impossible.
func (r *ring) waiting() (uint32, error) {
	r.peer = r.loadPeer()
	n := uint32(r.peer - r.next)
	if n > r.size {
		return 0, r.jumped()
	}
	return n, nil
}

// room is how many slots a producer may fill. want spares a look at the peer's index, which
// costs a cache miss, while the last one leaves that much.
func (r *ring) room(want uint32) (uint32, error) {
	n := r.roomBy(r.peer)
	if n >= want && n <= r.size {
		return n, nil
	}
	r.peer = r.loadPeer()
	if n = r.roomBy(r.peer); n > r.size {
		return 0, r.jumped()
	}
	return n, nil
}

// roomBy: a client has all slots but those the server has not taken; a server has those
// that the client has offered.
func (r *ring) roomBy(peer uint16) uint32 {
	if r.client {
		return r.size - uint32(r.next-peer)
	}
	return uint32(peer - r.next)
}

func (r *ring) jumped() error {
	return fail(Corrupt, "the peer's index jumped to %d while ours is %d in a ring of %d", r.peer, r.next, r.size)
}

// bytesAt is a view of n bytes of shared memory.
func bytesAt(p unsafe.Pointer, n uint32) []byte { return unsafe.Slice((*byte)(p), int(n)) }

// setBuffers gives a client's ring its buffers.
func (r *ring) setBuffers(m memory, p ringPlace) {
	r.buffers = unsafe.Add(m.base, p.bufferOffset)
	r.region, r.first = uint16(p.bufferRegion), uint32(p.bufferOffset)
	r.stride, r.space = uint32(p.stride), uint32(p.bufferSize)
}
