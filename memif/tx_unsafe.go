package memif

import "unsafe"

// put copies frames into one ring and publishes them.
func (q *TxQueue) put(r *ring, frames [][]byte) (int, error) {
	room, err := r.room(uint32(len(frames)))
	if err != nil {
		return 0, err
	}
	var t tally
	n, i := 0, uint32(r.next)
	asked, near := i, uint32(ahead/2)
	if len(frames[0]) > longFrame {
		near = 0
	}
	for end := i + room; n < len(frames); n++ {
		if asked-i <= near && asked != end {
			asked = r.askEmpty(asked, min(end, i+uint32(len(frames)-n)), len(frames[n]))
		}
		size := uint32(len(frames[n]))
		if size == 0 {
			t.invalid++
			continue
		}
		if len(frames[n]) > int(q.maxFrame) {
			t.tooLong++
			continue
		}
		if i == end {
			break
		}
		var d descriptor
		var to unsafe.Pointer
		ok := true
		if r.client { // as empty does, without a call
			d.lo, to = r.blankLow(), r.own(i)
		} else {
			d = r.load(i)
			to, ok = r.theirs(d)
		}
		space := d.length()
		if !ok || space == 0 {
			return n, offered(d)
		}
		if size <= space {
			copyFrame(to, unsafe.Pointer(unsafe.SliceData(frames[n])), size)
			r.storeLow(i, uint64(size)<<32|uint64(d.region())<<16)
			i++
		} else {
			slots, err := q.scatter(r, i, &end, frames[n])
			if err != nil {
				return n, err
			}
			if slots == 0 && end-i < r.size {
				break
			}
			if slots == 0 { // the whole ring is too small
				t.tooLong++
				continue
			}
			if i += slots; asked-i > ahead {
				asked = i
			}
		}
		t.frames++
		t.bytes += uint64(size)
	}
	if next := uint16(i); next != r.next {
		r.next = next
		r.publish(next)
		q.signal(r)
	}
	q.count(&t)
	return n, nil
}

// copyFrame copies a frame. Many have the shortest Ethernet length: copying an array of that
// length spares memmove its choice by size, and was a quarter faster between two cores.
func copyFrame(to, from unsafe.Pointer, size uint32) {
	if size == cacheLine {
		*(*[cacheLine]byte)(to) = *(*[cacheLine]byte)(from)
		return
	}
	copy(unsafe.Slice((*byte)(to), int(size)), unsafe.Slice((*byte)(from), int(size)))
}

// empty is the buffer of slot i: where it is and how much it holds. A client's are its own;
// a server's are what the client offers, read once.
func (r *ring) empty(i uint32) (d descriptor, to unsafe.Pointer, space uint32, err error) {
	if r.client {
		return r.blank(i), r.own(i), r.space, nil
	}
	d = r.load(i)
	to, ok := r.theirs(d)
	if !ok || d.length() == 0 {
		return d, nil, 0, offered(d)
	}
	return d, to, d.length(), nil
}

func offered(d descriptor) error {
	return fail(Corrupt, "the peer offers a buffer of %d bytes at %d of region %d, which is not there", d.length(), d.offset(), d.region())
}

// scatter writes one frame over several slots and returns how many, 0 when they do not
// suffice. Nothing is written in that case: in a server's ring the length of a descriptor
// is the size of its buffer until the slot is published. end moves when the peer has made
// more room since it was looked at.
func (q *TxQueue) scatter(r *ring, i uint32, end *uint32, frame []byte) (uint32, error) {
	need, slots := len(frame), uint32(0)
	for ; need > 0; slots++ {
		if i+slots == *end {
			room, err := r.room(r.size)
			next := uint32(r.next) + room
			switch {
			case err != nil || next == *end:
				return 0, err
			case next < *end:
				return 0, r.jumped()
			}
			*end = next
		}
		_, _, space, err := r.empty(i + slots)
		if err != nil {
			return 0, err
		}
		need -= int(min(uint64(space), uint64(need)))
	}
	for k := range slots {
		d, to, space, err := r.empty(i + k)
		if err != nil {
			return 0, err
		}
		n := copy(bytesAt(to, space), frame)
		frame = frame[n:]
		lo := uint64(n)<<32 | uint64(d.region())<<16
		if k < slots-1 {
			lo |= flagNext
		}
		r.storeLow(i+k, lo)
	}
	if len(frame) > 0 {
		return 0, fail(Corrupt, "the peer made its buffers smaller while they were filled")
	}
	return slots, nil
}
