package nat

import (
	"math/bits"
	"sync"
)

// Source ports that are given out: VPP's, which leaves out the last.
const (
	firstPort = 49152
	lastPort  = 65534
	// MaxPorts is how many flows of a protocol can have another source at a time.
	MaxPorts = lastPort - firstPort + 1
)

// Ports gives out the source ports, or ICMP identifiers, of one protocol, both families
// together. Its methods may be called by any goroutine; they are for first packets, and
// hold a lock. Unlike VPP's, which gives out the lowest free port, it goes round: a port
// that was given back is used again as late as can be, so that what is still on its way
// to the old flow does not meet a new one.
type Ports struct {
	mu   sync.Mutex
	next int // to be tried, from firstPort
	used int
	bits [MaxPorts/64 + 1]uint64
}

// Take returns a free port, or false when all are in use.
func (p *Ports) Take() (uint16, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.used == MaxPorts {
		return 0, false
	}
	at, ok := p.clear(p.next)
	if !ok {
		at, _ = p.clear(0)
	}
	p.bits[at/64] |= 1 << (at % 64)
	p.used++
	p.next = at + 1
	return uint16(firstPort + at), true
}

// clear is the first free place from the one given on.
func (p *Ports) clear(from int) (int, bool) {
	for w := from / 64; w < len(p.bits); w++ {
		free := ^p.bits[w]
		if w == from/64 {
			free &= ^uint64(0) << (from % 64)
		}
		if at := w*64 + bits.TrailingZeros64(free); free != 0 {
			return at, at < MaxPorts
		}
	}
	return 0, false
}

// Put gives a port back. One that was not taken is left as it is.
func (p *Ports) Put(port uint16) {
	at := int(port) - firstPort
	if at < 0 || at >= MaxPorts {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if mask := uint64(1) << (at % 64); p.bits[at/64]&mask != 0 {
		p.bits[at/64] &^= mask
		p.used--
	}
}

// Used is how many ports are in use.
func (p *Ports) Used() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.used
}
