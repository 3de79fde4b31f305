package memif

import "unsafe"

// take copies frames out of one ring and gives their slots back.
func (q *RxQueue) take(r *ring, bufs [][]byte) (int, error) {
	waiting, err := r.waiting()
	if err != nil || waiting == 0 {
		return 0, err
	}
	r.stuck = false
	var t tally
	i := uint32(r.next)
	n, asked := 0, i
	for end := i + waiting; n < len(bufs) && i != end; {
		if asked-i <= ahead/2 && asked != end {
			asked = r.askFrames(asked, end)
		}
		d := r.load(i)
		size := d.length()
		if d.more() {
			slots, size, err := q.gather(r, i, end, bufs[n][:cap(bufs[n])], &t)
			if err != nil || slots == 0 {
				if err != nil || waiting == r.size && i == uint32(r.next) {
					return n, unfinished(err)
				}
				r.stuck = i == uint32(r.next)
				break
			}
			if i += slots; asked-i > ahead {
				asked = i
			}
			if size > 0 {
				bufs[n] = bufs[n][:size]
				n++
			}
			continue
		}
		var from unsafe.Pointer
		var ok bool
		if r.client { // as at does, without a call
			from, ok = r.own(i), size <= r.space
		} else {
			from, ok = r.theirs(d)
		}
		i++
		if !ok || size == 0 {
			t.invalid++
			continue
		}
		if uint(size) > uint(cap(bufs[n])) || size > q.maxFrame {
			t.tooLong++
			continue
		}
		bufs[n] = bufs[n][:size]
		copy(bufs[n], unsafe.Slice((*byte)(from), int(size)))
		t.bytes += uint64(size)
		n++
	}
	r.giveBack(i)
	t.frames = uint64(n)
	q.count(&t)
	return n, nil
}

// unfinished is the error of a ring that is full of one frame that does not end.
func unfinished(err error) error {
	if err != nil {
		return err
	}
	return fail(Corrupt, "a frame takes the whole ring and does not end")
}

// gather copies the chained frame that begins at slot i into dst. It returns how many slots
// the frame takes, 0 when its end is not there yet, and its size, 0 when it is dropped.
func (q *RxQueue) gather(r *ring, i, end uint32, dst []byte, t *tally) (slots uint32, size int, err error) {
	room := min(uint64(len(dst)), uint64(q.maxFrame))
	var total uint64
	bad := false
	for more := true; more; slots++ {
		if i+slots == end {
			return 0, 0, nil
		}
		d := r.load(i + slots)
		from, ok := r.at(i+slots, d)
		n := uint64(d.length())
		if bad = bad || !ok || n == 0; !bad && total+n <= room {
			copy(dst[total:], unsafe.Slice((*byte)(from), int(n)))
		}
		total += n
		more = d.more()
	}
	r.unchain(i, slots)
	switch {
	case bad:
		t.invalid++
		return slots, 0, nil
	case total > room:
		t.tooLong++
		return slots, 0, nil
	}
	t.bytes += total
	return slots, int(total), nil
}

// unchain clears the flags of a chain before its slots go back: DPDK clients before 26.03
// never do, and would chain their next frames too.
func (r *ring) unchain(i, slots uint32) {
	if r.client {
		return // gets blank descriptors anyway
	}
	for k := range slots {
		p := (*uint16)(unsafe.Add(r.desc, uintptr((i+k)&r.mask)*descBytes))
		*p = 0
	}
}

// giveBack returns a consumer's slots up to i: a client offers them again as empty buffers.
func (r *ring) giveBack(i uint32) {
	next := uint16(i)
	if next == r.next {
		return
	}
	if !r.client {
		r.next = next
		r.publish(next)
		return
	}
	for k := uint32(r.next); k != i; k++ {
		r.store(k, r.blank(k))
	}
	r.next = next
	r.publish(next + uint16(r.size))
}
