package session

import "iter"

// candidates is how many sessions of a shard are looked at to make room in a full table.
const candidates = 16

// recycle makes room in a shard for one more session: it ends one that is over anyway, or
// the oldest transient TCP session, of the candidates that the shard's random order of
// places brings up. The shard is locked.
func (t *Table) recycle(n int, now uint32) bool {
	s := &t.shards[n]
	used := s.next / shards // its places so far
	if used == 0 {
		return false
	}
	oldest, age := NoPlace, uint32(0)
	for i := range min(used, candidates) {
		place := (now*candidates+uint32(t.adds.Load())+i)%used*shards + uint32(n)
		rec := &t.records[place]
		if rec.version.Load()&1 == 0 {
			continue
		}
		idle := now - rec.stamp.Load()
		if t.over(rec, now) {
			t.remove(s, place)
			return true
		}
		if rec.class() == TCPTransient && (oldest == NoPlace || idle > age) {
			oldest, age = place, idle
		}
	}
	if oldest == NoPlace {
		return false
	}
	t.remove(s, oldest)
	return true
}

// NoPlace is no session's place.
const NoPlace = ^uint32(0)

// over reports whether a session has timed out or its interface was cleared. The clock's
// seconds are whole: the last packet may have come at the end of one.
func (t *Table) over(rec *record, now uint32) bool {
	if rec.life.Load() != t.faces[uint32(rec.e.Load()>>32)].life.Load() {
		return true
	}
	idle := now - rec.stamp.Load()
	return int32(idle) > 0 && idle > t.timeouts[rec.class()].Load()
}

// Sweep ends sessions that are over at the time now. It looks at no more than budget
// places and goes on there with the next call.
func (t *Table) Sweep(now uint32, budget int) {
	t.sweeping.Lock()
	defer t.sweeping.Unlock()
	for n := 0; n < budget; {
		s := t.shardOf(t.hand)
		s.mu.Lock()
		for n < budget && t.hand < s.next {
			if rec := &t.records[t.hand]; rec.version.Load()&1 != 0 && t.over(rec, now) {
				t.remove(s, t.hand)
			}
			t.hand += shards
			n++
			if n%256 == 0 {
				break // let those in who wait for the shard
			}
		}
		done := t.hand >= s.next
		s.mu.Unlock()
		if !done {
			continue
		}
		if t.hand = (t.hand + 1) % shards; t.hand == 0 {
			return
		}
	}
}

// Count is how many places are taken; those that are refused, or over and wait for the
// sweep, count.
func (t *Table) Count() int { return int(t.count.Load()) }

// Totals is how many sessions were made and ended.
func (t *Table) Totals() (adds, dels uint64) { return t.adds.Load(), t.dels.Load() }

// Face counts the sessions of an interface: made, ended, judged again.
func (t *Table) Face(index uint32) (adds, dels, judged uint64) {
	if uint64(index) >= uint64(len(t.faces)) {
		return 0, 0, 0
	}
	f := &t.faces[index]
	return f.adds.Load(), f.dels.Load(), f.news.Load()
}

// Info is a session for those who list them.
type Info struct {
	Interface uint32
	Class     Class
	Idle      uint32 // seconds without a packet
	Proto     uint8
	IP6       bool
}

// All yields the sessions there are, but for those that are refused, in no order, while
// others come and go.
func (t *Table) All(now uint32) iter.Seq[Info] {
	return func(yield func(Info) bool) {
		for n := range t.shards {
			t.shards[n].mu.Lock()
			end := t.shards[n].next
			t.shards[n].mu.Unlock()
			for place := uint32(n); place < end; place += shards {
				rec := &t.records[place]
				if rec.version.Load()&1 == 0 || rec.seen.Load()&refused != 0 || t.over(rec, now) {
					continue
				}
				f := rec.f.Load()
				i := Info{Interface: uint32(rec.e.Load() >> 32), Class: rec.class(), Idle: now - rec.stamp.Load(),
					Proto: uint8(f), IP6: f&keyIP6 != 0}
				if !yield(i) {
					return
				}
			}
		}
	}
}
