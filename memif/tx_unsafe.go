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
	for end := i + room; n < len(frames); n++ {
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
		d, to, space, err := r.empty(i)
		if err != nil {
			return n, err
		}
		if size <= space {
			copy(unsafe.Slice((*byte)(to), int(size)), frames[n])
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
			i += slots
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

// empty is the buffer of slot i: where it is and how much it holds. A client's are its own;
// a server's are what the client offers, read once.
func (r *ring) empty(i uint32) (d descriptor, to unsafe.Pointer, space uint32, err error) {
	if r.client {
		d = r.blank(i)
		return d, unsafe.Add(r.buffers, uintptr(i&r.mask)*uintptr(r.stride)), r.space, nil
	}
	d = r.load(i)
	to, ok := r.at(i, d)
	if !ok || d.length() == 0 {
		return d, nil, 0, fail(Corrupt, "the peer offers a buffer of %d bytes at %d of region %d, which is not there", d.length(), d.offset(), d.region())
	}
	return d, to, d.length(), nil
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
			if err != nil || uint32(r.next)+room == *end {
				return 0, err
			}
			*end = uint32(r.next) + room
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
