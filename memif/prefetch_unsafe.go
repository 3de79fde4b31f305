package memif

import "unsafe"

// ahead is how many frames are asked for before they are copied one by one, in groups of
// half of it. A line that the peer wrote or read last is in the peer's cache; to fetch it
// takes as long as copying ten frames or more, and the fetches of many overlap.
const ahead = 32

// askFrames asks for the first lines of a group of frames that wait from slot i on, and for
// the descriptors of the group after it, which will be read to do the same. It returns the
// slot behind the group.
func (r *ring) askFrames(i, end uint32) uint32 {
	slot := i & r.mask
	n := min(end-i, ahead/2, r.size-slot)
	if r.client {
		prefetchRead(unsafe.Add(r.buffers, uintptr(slot)*uintptr(r.stride)), uintptr(r.stride), int(n))
	} else if region := r.load(i).region(); int(region) < len(r.memory) {
		prefetchRead(r.descAt(i+n), cacheLine, ahead/2*descBytes/cacheLine)
		prefetchReadAt(r.memory[region].base, unsafe.Add(r.desc, uintptr(slot)*descBytes), int(n))
	}
	return i + n
}

// longFrame is from how many bytes on a sender asks for all lines of its buffers: stores wait
// for their lines one after the other. Loads overlap by themselves, so that receivers need
// no such help.
const longFrame = 512

// askEmpty asks for the first lines of a group of buffers that are to be filled from slot i
// on, and for the descriptors of the group after it, and returns the slot behind the group. When size, that of
// the frame at hand, is long, it asks for all lines of the buffer after it instead.
func (r *ring) askEmpty(i, end uint32, size int) uint32 {
	slot := i & r.mask
	n := min(end-i, ahead/2, r.size-slot)
	desc := unsafe.Add(r.desc, uintptr(slot)*descBytes)
	if size > longFrame {
		r.askWhole(i+1, uint32(size))
		return i + 1
	}
	prefetchWrite(r.descAt(i+n), cacheLine, ahead/2*descBytes/cacheLine)
	switch {
	case r.client:
		prefetchWrite(r.own(i), uintptr(r.stride), int(n))
	default:
		if region := r.load(i).region(); int(region) < len(r.memory) {
			prefetchWriteAt(r.memory[region].base, desc, int(n))
		}
	}
	return i + n
}

// askWhole asks for the lines of the buffer of slot i, for a frame of size bytes.
func (r *ring) askWhole(i, size uint32) {
	to, ok := unsafe.Pointer(nil), true
	if r.client {
		to, size = r.own(i), min(size, r.space)
	} else {
		d := r.load(i)
		to, ok = r.theirs(d)
		size = min(size, d.length())
	}
	if ok {
		prefetchWrite(to, cacheLine, int(size+cacheLine-1)/cacheLine)
	}
}

// descAt is the descriptor of slot i.
func (r *ring) descAt(i uint32) unsafe.Pointer {
	return unsafe.Add(r.desc, uintptr(i&r.mask)*descBytes)
}
