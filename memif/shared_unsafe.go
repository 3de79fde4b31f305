//go:build !race || !amd64

package memif

import "sync/atomic"

// Words of the shared memory are read and written by these.

func load32(p *uint32) uint32     { return atomic.LoadUint32(p) }
func load64(p *uint64) uint64     { return atomic.LoadUint64(p) }
func store32(p *uint32, v uint32) { atomic.StoreUint32(p, v) }
func or32(p *uint32, v uint32)    { atomic.OrUint32(p, v) }
func and32(p *uint32, v uint32)   { atomic.AndUint32(p, v) }
