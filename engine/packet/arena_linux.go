package packet

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// slotSize is the distance of two slots. It is an odd number of cache lines, so that
// the headers of neighbouring slots, which lie at equal offsets, spread over all sets
// of a cache instead of fighting for one:
//
//	slot 0 header: set s, slot 1: s+5, slot 2: s+10, ... (mod 64, 512, 1024)
const slotSize = Headroom + MaxPacket

// The slot must hold whole cache lines, an odd number of them.
const _ = uint(slotSize%128-64) + uint(64-slotSize%128)

// Arena is a block of memory outside the Go heap, cut into the slots of n Buffers. The
// garbage collector never looks into it. It never grows.
type Arena struct {
	mem   []byte
	slots [][]byte
	bufs  []Buffer
	free  []*Buffer
}

// NewArena maps memory for n Buffers. Memory that no packet touches is never resident.
// An Arena belongs to one worker: its methods take no lock.
//
// Huge pages are declined: one would make the tails of 31 slots resident that only long
// packets need, and BenchmarkHeaders shows no gain, since the pages that hold headers,
// one per slot, fit the second-level TLB.
func NewArena(n int) (*Arena, error) {
	if n < 1 {
		return nil, fmt.Errorf("make arena: %d buffers; want at least 1", n)
	}
	mem, err := unix.Mmap(-1, 0, n*slotSize, unix.PROT_READ|unix.PROT_WRITE,
		unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_NORESERVE)
	if err != nil {
		return nil, fmt.Errorf("map arena of %d buffers (%d bytes): %w", n, n*slotSize, err)
	}
	// A kernel without transparent huge pages knows no such advice and needs none.
	if err := unix.Madvise(mem, unix.MADV_NOHUGEPAGE); err != nil && !errors.Is(err, unix.EINVAL) {
		return nil, errors.Join(fmt.Errorf("advise arena: %w", err), unix.Munmap(mem))
	}
	a := &Arena{mem: mem, slots: make([][]byte, n), bufs: make([]Buffer, n), free: make([]*Buffer, 0, n)}
	for i := range a.bufs {
		slot := mem[i*slotSize : (i+1)*slotSize : (i+1)*slotSize]
		a.slots[i] = slot
		a.bufs[i].mem, a.bufs[i].own = slot, &a.slots[i]
		a.bufs[i].Reset(Headroom)
	}
	for i := n - 1; i >= 0; i-- {
		a.free = append(a.free, &a.bufs[i])
	}
	return a, nil
}

// Len is the number of Buffers of the arena, given out or not.
func (a *Arena) Len() int { return len(a.bufs) }

// Free is how many Buffers Take can still give.
func (a *Arena) Free() int { return len(a.free) }

// Take returns a Buffer, reset to Headroom, or nil when all are given out. The last
// one put back comes first: its memory is the warmest.
func (a *Arena) Take() *Buffer {
	if len(a.free) == 0 {
		return nil
	}
	b := a.free[len(a.free)-1]
	a.free = a.free[:len(a.free)-1]
	b.Reset(Headroom)
	return b
}

// TakeBatch fills bufs as far as there are Buffers and returns how many.
func (a *Arena) TakeBatch(bufs []*Buffer) int {
	for i := range bufs {
		if bufs[i] = a.Take(); bufs[i] == nil {
			return i
		}
	}
	return len(bufs)
}

// Put gives Buffers of this arena back. A Buffer put back twice, or one of another
// arena, is the caller's error and spoils the arena.
func (a *Arena) Put(bufs ...*Buffer) {
	a.free = append(a.free, bufs...)
}

// Close unmaps the memory. No Buffer of the arena may be used afterwards.
func (a *Arena) Close() error {
	if a.mem == nil {
		return nil
	}
	mem := a.mem
	a.mem, a.free = nil, nil
	clear(a.bufs)
	clear(a.slots)
	a.bufs, a.slots = nil, nil
	if err := unix.Munmap(mem); err != nil {
		return fmt.Errorf("unmap arena: %w", err)
	}
	return nil
}
