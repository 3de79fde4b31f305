package stats

import "unsafe"

// words is mem seen as 64-bit words: every header, pointer and counter of the segment is
// one, naturally aligned because a mapping begins on a page.
func words(mem []byte) []uint64 {
	return unsafe.Slice((*uint64)(unsafe.Pointer(unsafe.SliceData(mem))), len(mem)/8)
}

// pairs is w seen as packet and byte counters.
func pairs[T ~struct{ Packets, Bytes uint64 }](w []uint64) []T {
	return unsafe.Slice((*T)(unsafe.Pointer(unsafe.SliceData(w))), len(w)/2)
}
