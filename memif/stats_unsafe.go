package memif

import (
	"sync/atomic"
	"unsafe"
)

// add is for the one writer of a counter. An atomic addition or store would cost as much as
// a frame; a plain aligned store is seen whole by the atomic loads of readers, which need no
// order with anything else. That is more than the race detector can know.
//
//go:norace
func add(c *atomic.Uint64, n uint64) {
	*(*uint64)(unsafe.Pointer(c)) += n
}
