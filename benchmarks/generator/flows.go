package generator

import (
	"encoding/binary"
	"net/netip"
)

// Flows are where frames go, one after the other and round again. Frames of one flow have
// one source port.
type Flows struct{ list []flow }

// flow is what is different in the frames of a flow.
type flow struct {
	from, to uint32 // IPv4; from 0 is the generator's own address
	src, dst uint16 // ports
}

// Flow is a flow whose ends are given: two IPv4 addresses, two UDP ports.
type Flow struct {
	From, To         netip.Addr
	SrcPort, DstPort uint16
}

// NewFlows takes IPv4 destinations.
func NewFlows(to []netip.Addr) Flows {
	f := Flows{list: make([]flow, len(to))}
	for i, a := range to {
		f.list[i] = flow{to: word(a), src: firstPort + uint16(i)&0x7fff, dst: serverPort}
	}
	return f
}

// FlowsOf takes flows with both ends.
func FlowsOf(list []Flow) Flows {
	f := Flows{list: make([]flow, len(list))}
	for i, x := range list {
		f.list[i] = flow{from: word(x.From), to: word(x.To), src: x.SrcPort, dst: x.DstPort}
	}
	return f
}

func word(a netip.Addr) uint32 {
	b := a.As4()
	return binary.BigEndian.Uint32(b[:])
}

// Len is the number of flows.
func (f Flows) Len() int { return len(f.list) }

func (f Flows) walk() walk { return walk{list: f.list} }

// walk is where a generator stands in its flows.
type walk struct {
	list []flow
	at   int
}

// aim points the first n frames of a batch at the flows that come next.
func (w *walk) aim(b *batch, n int) {
	if len(w.list) == 0 {
		return
	}
	at := w.at
	for _, f := range b.frames[:n] {
		b.aim(f, &w.list[at])
		if at++; at == len(w.list) {
			at = 0
		}
	}
}

// next passes the flows of n frames that were sent.
func (w *walk) next(n int) {
	if len(w.list) > 0 {
		w.at = (w.at + n) % len(w.list)
	}
}
