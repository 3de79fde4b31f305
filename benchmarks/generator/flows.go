package generator

import "net/netip"

// Flows are the destinations that frames go to, one after the other and round again.
// Frames of one flow have one source port.
type Flows struct{ to []uint32 }

// NewFlows takes IPv4 destinations.
func NewFlows(to []netip.Addr) Flows {
	f := Flows{to: make([]uint32, len(to))}
	for i, a := range to {
		b := a.As4()
		f.to[i] = uint32(b[0])<<24 | uint32(b[1])<<16 | uint32(b[2])<<8 | uint32(b[3])
	}
	return f
}

// Len is the number of flows.
func (f Flows) Len() int { return len(f.to) }

func (f Flows) walk() walk { return walk{to: f.to} }

// walk is where a generator stands in its flows.
type walk struct {
	to []uint32
	at int
}

// aim points the first n frames of a batch at the flows that come next.
func (w *walk) aim(b *batch, n int) {
	if len(w.to) == 0 {
		return
	}
	at := w.at
	for _, f := range b.frames[:n] {
		b.aim(f, w.to[at], firstPort+uint16(at)&0x7fff)
		if at++; at == len(w.to) {
			at = 0
		}
	}
}

// next passes the flows of n frames that were sent.
func (w *walk) next(n int) {
	if len(w.to) > 0 {
		w.at = (w.at + n) % len(w.to)
	}
}
