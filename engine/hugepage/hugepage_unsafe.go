// Package hugepage owns one request: that the kernel put huge pages under large tables. A
// table that each packet reads at another place costs a walk through the page tables for
// each packet otherwise. It never allocates, and never insists.
package hugepage

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// Size is that of a huge page on amd64, and on arm64 with pages of 4 KiB, in bytes.
const Size = 2 << 20

// Advise asks for huge pages under s, as far as s covers whole ones, and returns s. It is
// best done before s is written to. s holds no pointers; it may be memory of the Go heap,
// which looks no different for it. What the kernel says is of no consequence: without
// transparent huge pages it knows no such advice, and the table is as good but slower.
func Advise[T any](s []T) []T {
	if len(s) == 0 {
		return s
	}
	first := uintptr(unsafe.Pointer(unsafe.SliceData(s)))
	skip := -first % Size
	size := uintptr(len(s)) * unsafe.Sizeof(s[0])
	if size < skip+Size {
		return s
	}
	mem := unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(s))), size)
	whole := (size - skip) / Size * Size
	_ = unix.Madvise(mem[skip:skip+whole], unix.MADV_HUGEPAGE)
	return s
}
