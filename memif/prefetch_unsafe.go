package memif

import "unsafe"

// ahead is how many frames are asked for before they are copied one by one, in groups of
// half of it. A line that the peer wrote or read last is in the peer's cache; to fetch it
// takes as long as copying ten frames or more, and the fetches of many overlap.
const ahead = 32

// askFrames asks for the first lines of a group of frames that wait from slot i on, and
// returns the slot behind the group.
func (r *ring) askFrames(i, end uint32) uint32 {
	slot := i & r.mask
	n := min(end-i, ahead/2, r.size-slot)
	if r.client {
		prefetchRead(unsafe.Add(r.buffers, uintptr(slot)*uintptr(r.stride)), uintptr(r.stride), int(n))
	} else if region := r.load(i).region(); int(region) < len(r.memory) {
		prefetchReadAt(r.memory[region].base, unsafe.Add(r.desc, uintptr(slot)*descBytes), int(n))
	}
	return i + n
}

// askEmpty asks for the first lines of a group of buffers that are to be filled from slot i
// on, and for their descriptors. It returns the slot behind the group.
func (r *ring) askEmpty(i, end uint32) uint32 {
	slot := i & r.mask
	n := min(end-i, ahead/2, r.size-slot)
	desc := unsafe.Add(r.desc, uintptr(slot)*descBytes)
	prefetchWrite(desc, cacheLine, int(n+3)/4)
	if r.client {
		prefetchWrite(unsafe.Add(r.buffers, uintptr(slot)*uintptr(r.stride)), uintptr(r.stride), int(n))
	} else if region := r.load(i).region(); int(region) < len(r.memory) {
		prefetchWriteAt(r.memory[region].base, desc, int(n))
	}
	return i + n
}
