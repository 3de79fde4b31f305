//go:build race && amd64

package memif

import (
	"sync/atomic"
	"unsafe"
)

// With the race detector, sync/atomic does its work in C code, where a memory fault cannot
// be recovered from: a peer that takes its memory away would end the process. The detector
// does not follow mapped memory in any case, so plain instructions lose nothing. They are
// enough on amd64 with a fence after each store; or32 and and32 are for flags, the lower
// half of their word, which only we write.

//go:norace
func load32(p *uint32) uint32 { return *p }

//go:norace
func load64(p *uint64) uint64 { return *p }

//go:norace
func store32(p *uint32, v uint32) {
	*p = v
	fence()
}

//go:norace
func or32(p *uint32, v uint32) {
	*(*uint16)(unsafe.Pointer(p)) |= uint16(v)
	fence()
}

//go:norace
func and32(p *uint32, v uint32) {
	*(*uint16)(unsafe.Pointer(p)) &= uint16(v)
	fence()
}

func fence() {
	var word uint32
	atomic.AddUint32(&word, 1)
}
