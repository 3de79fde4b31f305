package memif

import "runtime/debug"

// Reserve lends empty buffers of the ring, to be filled and sent by Commit, and returns how
// many there are. Only the last Reserve counts: what was not committed before is forgotten,
// as it is by Send. The views are valid until the next Reserve, Commit or Send. A frame may
// take several views, all but the last with More set.
func (q *TxQueue) Reserve(views []View) (int, error) {
	l, err := q.link()
	q.forget()
	if l == nil || len(views) == 0 || len(l.tx) == 0 {
		return 0, err
	}
	r := l.tx[q.index%len(l.tx)]
	if l.guarded || r.shared {
		return q.reserveCopies(views), nil
	}
	room, err := r.room(uint32(len(views)))
	for i := 0; err == nil && i < min(int(room), len(views)); i++ {
		var d descriptor
		var v View
		if d, v, err = r.offer(uint32(r.next) + uint32(i)); err == nil {
			views[i], q.lent = v, append(q.lent, d)
		}
	}
	if err != nil {
		q.fail(l, err)
		return 0, nil
	}
	return len(q.lent), nil
}

// offer is the buffer of a slot as an empty view.
func (r *ring) offer(i uint32) (descriptor, View, error) {
	d, to, space, err := r.empty(i)
	if err != nil {
		return d, View{}, err
	}
	return d, View{Bytes: bytesAt(to, space)}, nil
}

// reserveCopies lends memory of our own: of a ring that is not this queue's alone, or that
// may fault under the caller, nothing is lent.
func (q *TxQueue) reserveCopies(views []View) int {
	const each = DefaultBufferSize
	if cap(q.copies) == 0 {
		q.copies = make([]byte, copyBytes)
	}
	q.copies = q.copies[:copyBytes]
	n := min(len(views), copyBytes/each)
	for i := range n {
		views[i] = View{Bytes: q.copies[i*each : (i+1)*each : (i+1)*each]}
	}
	return n
}

// Commit sends the first buffers of the last Reserve, given as the views it filled in, with
// the lengths and marks of the caller. It returns how many views it took: all, except that
// a ring which is shared, or whose memory may fault, can be full by now. An error of kind
// BadConfig says that the views are none of the last Reserve's, or do not end a frame; then
// nothing is sent.
func (q *TxQueue) Commit(views []View) (int, error) {
	l, err := q.link()
	if l == nil || len(views) == 0 {
		return 0, err
	}
	if err := q.checkViews(views); err != nil {
		return 0, err
	}
	if len(q.copies) > 0 {
		return q.commitCopies(l, views), nil
	}
	var t tally
	r := l.tx[q.index%len(l.tx)]
	for i, v := range views {
		lo := uint64(len(v.Bytes))<<32 | uint64(q.lent[i].region())<<16
		if v.More {
			lo |= flagNext
		} else {
			t.frames++
		}
		t.bytes += uint64(len(v.Bytes))
		r.storeLow(uint32(r.next)+uint32(i), lo)
	}
	q.lent = q.lent[:0]
	r.next += uint16(len(views))
	r.publish(r.next)
	q.signal(r)
	q.count(&t)
	return len(views), nil
}

func (q *TxQueue) checkViews(views []View) error {
	if len(q.copies) == 0 && len(views) > len(q.lent) {
		return badConfig("commit %d views: %d are reserved on this link", len(views), len(q.lent))
	}
	for i, v := range views {
		space := DefaultBufferSize
		if len(q.copies) == 0 {
			space = int(q.lent[i].length())
		}
		if len(v.Bytes) == 0 || len(v.Bytes) > space {
			return badConfig("commit view %d of %d bytes: want 1 to %d", i, len(v.Bytes), space)
		}
	}
	if views[len(views)-1].More {
		return badConfig("commit %d views: the last frame does not end", len(views))
	}
	return nil
}

// commitCopies sends what lies in our own memory, frame by frame.
func (q *TxQueue) commitCopies(l *link, views []View) int {
	done := 0
	var frame []byte
	for i, v := range views {
		if frame == nil && !v.More {
			frame = v.Bytes
		} else {
			frame = append(frame, v.Bytes...)
		}
		if v.More {
			continue
		}
		if q.sendOne(l, frame) == 0 {
			break
		}
		done, frame = i+1, nil
	}
	q.copies = q.copies[:0]
	return done
}

func (q *TxQueue) sendOne(l *link, frame []byte) (n int) {
	if l.guarded {
		defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
		defer q.recovered(l)
	}
	return q.send(l, [][]byte{frame})
}
