package memif_test

// room is how many slots there are to fill; the ring's index is looked at only where the
// last one does not leave as many as wanted. It is false for an impossible index.
func (m *model) room(r *modelRing, want int) (int, bool) {
	free := func() int {
		if m.client {
			return r.size() - int(r.next-r.peer)
		}
		return int(r.peer - r.next)
	}
	if n := free(); n >= want && n <= r.size() {
		return n, true
	}
	r.peer = m.index(r)
	n := free()
	return n, n >= 0 && n <= r.size()
}

// empty is the buffer of slot i to be filled.
func (m *model) empty(r *modelRing, i int) (rawDesc, []byte, bool) {
	d := m.blank(r, i)
	if !m.client {
		d = m.raw(r).desc(i)
	}
	b, ok := m.buffer(r, i, d)
	return d, b, ok && len(b) > 0
}

// fill writes a descriptor of what was filled in; the offset stays as it is.
func (m *model) fill(r *modelRing, i int, region uint16, n int, more bool) {
	b := m.raw(r).slot(i)
	le.PutUint16(b, 0)
	if more {
		le.PutUint16(b, 1)
	}
	le.PutUint16(b[2:], region)
	le.PutUint32(b[4:], uint32(n))
}

// send takes frames and returns how many it took.
func (m *model) send(frames [][]byte) int {
	if m.tx.broken || len(frames) == 0 || m.tx.ring == nil {
		return 0
	}
	m.tx.lent, m.tx.copies = nil, 0
	n, ok := m.put(m.tx.ring, frames)
	m.tx.broken = !ok
	return n
}

func (m *model) put(r *modelRing, frames [][]byte) (int, bool) {
	room, ok := m.room(r, len(frames))
	if !ok {
		return 0, false
	}
	i := int(r.next)
	end := i + room
	n, sent, bytes, invalid, tooLong := 0, 0, 0, 0, 0
	for ; n < len(frames); n++ {
		f := frames[n]
		if len(f) == 0 {
			invalid++
			continue
		}
		if len(f) > m.most {
			tooLong++
			continue
		}
		if i == end {
			break
		}
		d, b, ok := m.empty(r, i)
		if !ok {
			return n, false
		}
		if len(f) <= len(b) {
			copy(b, f)
			m.fill(r, i, d.region, len(f), false)
			i++
		} else {
			slots, ok := m.scatter(r, i, &end, f)
			if !ok {
				return n, false
			}
			if slots == 0 && end-i < r.size() {
				break
			}
			if slots == 0 {
				tooLong++
				continue
			}
			i += slots
		}
		sent++
		bytes += len(f)
	}
	if uint16(i) != r.next {
		r.next = uint16(i)
		m.publish(r, r.next)
	}
	m.tx.frames += sent
	m.tx.bytes += bytes
	m.tx.invalid += invalid
	m.tx.tooLong += tooLong
	return n, true
}

func (m *model) scatter(r *modelRing, i int, end *int, f []byte) (int, bool) {
	slots := 0
	for need := len(f); need > 0; slots++ {
		if i+slots == *end {
			room, ok := m.room(r, r.size())
			now := int(r.next) + room
			if !ok || now < *end {
				return 0, false
			}
			if now == *end {
				return 0, true
			}
			*end = now
		}
		_, b, ok := m.empty(r, i+slots)
		if !ok {
			return 0, false
		}
		need -= len(b)
	}
	for k := range slots {
		d, b, ok := m.empty(r, i+k)
		if !ok {
			return 0, false
		}
		n := copy(b, f)
		f = f[n:]
		m.fill(r, i+k, d.region, n, k < slots-1)
	}
	return slots, len(f) == 0
}

// reserve returns the buffers that are lent, as the model's memory, or as memory of our own.
func (m *model) reserve(n int) [][]byte {
	m.tx.lent, m.tx.copies = nil, 0
	if m.tx.broken || n == 0 || m.tx.ring == nil {
		return nil
	}
	if m.guarded {
		m.tx.copies = min(n, 128)
		own := make([][]byte, m.tx.copies)
		for i := range own {
			own[i] = make([]byte, 2048)
		}
		return own
	}
	r := m.tx.ring
	room, ok := m.room(r, n)
	var views [][]byte
	for i := 0; ok && i < min(room, n); i++ {
		var d rawDesc
		var b []byte
		if d, b, ok = m.empty(r, int(r.next)+i); ok {
			m.tx.lent, views = append(m.tx.lent, d), append(views, b)
		}
	}
	if !ok {
		m.tx.broken = true
		return nil
	}
	return views
}

// commit sends views, which the caller has cut to what is in them. It returns how many it
// took, and false where it must refuse them.
func (m *model) commit(views []modelView, spaces []int) (int, bool) {
	if m.tx.broken || len(views) == 0 {
		return 0, true
	}
	if m.tx.copies == 0 && len(views) > len(m.tx.lent) || views[len(views)-1].more {
		return 0, false
	}
	for i, v := range views {
		if len(v.bytes) == 0 || len(v.bytes) > spaces[i] {
			return 0, false
		}
	}
	if m.tx.copies > 0 {
		done := 0
		var f []byte
		for i, v := range views {
			if f = append(f, v.bytes...); v.more {
				continue
			}
			n, ok := m.put(m.tx.ring, [][]byte{f})
			if m.tx.broken = !ok; n == 0 {
				break
			}
			done, f = i+1, nil
		}
		m.tx.copies = 0
		return done, true
	}
	r := m.tx.ring
	for i, v := range views {
		m.fill(r, int(r.next)+i, m.tx.lent[i].region, len(v.bytes), v.more)
		m.tx.bytes += len(v.bytes)
		if !v.more {
			m.tx.frames++
		}
	}
	m.tx.lent = nil
	r.next += uint16(len(views))
	m.publish(r, r.next)
	return len(views), true
}
