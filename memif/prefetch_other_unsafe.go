//go:build !amd64 && !arm64

package memif

import "unsafe"

func prefetchRead(unsafe.Pointer, uintptr, int)  {}
func prefetchWrite(unsafe.Pointer, uintptr, int) {}
func prefetchReadAt(_, _ unsafe.Pointer, _ int)  {}
func prefetchWriteAt(_, _ unsafe.Pointer, _ int) {}
