//go:build amd64 || arm64

package memif

import "unsafe"

// prefetchRead and prefetchWrite ask for the cache lines at p, p+stride, … of n places, to
// be read or written soon.
//
//go:noescape
func prefetchRead(p unsafe.Pointer, stride uintptr, n int)

//go:noescape
func prefetchWrite(p unsafe.Pointer, stride uintptr, n int)

// prefetchReadAt and prefetchWriteAt ask for the first cache lines of the buffers that n
// descriptors point to, as offsets from base. An offset that leads nowhere does no harm: a
// prefetch of an address that is not mapped is no fault.
//
//go:noescape
func prefetchReadAt(base, desc unsafe.Pointer, n int)

//go:noescape
func prefetchWriteAt(base, desc unsafe.Pointer, n int)
