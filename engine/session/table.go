package session

import (
	"math/rand/v2"
	"sync"
	"sync/atomic"

	"github.com/millrace/millrace/engine/hugepage"
)

// shards is how many parts of the table can be changed at the same time.
const shards = 64

// Table holds the sessions of all interfaces. Its methods may be called by any goroutine.
//
//	key ─ hash ─► shard ─► one of two buckets ─► place ─► record
type Table struct {
	seed     uint64
	records  []record // in turn of each shard, so that few sessions lie on few pages
	buckets  []bucket // shard by shard
	shards   [shards]shard
	perShard uint32 // records
	lines    uint64 // buckets of a shard, a power of two

	max      atomic.Int64
	timeouts [numClasses]atomic.Uint32
	count    atomic.Int64
	adds     atomic.Uint64
	dels     atomic.Uint64
	faces    []face
	sweeping sync.Mutex
	hand     uint32 // of Sweep, with sweeping held
}

// face is what the table knows of an interface. A session whose life is another belongs
// to the past.
type face struct {
	life             atomic.Uint32
	adds, dels, news atomic.Uint64
}

// shard is what is needed to change a part of the table.
type shard struct {
	mu   sync.Mutex
	free []uint32 // places given back; never grows beyond its capacity
	next uint32   // first of its places never used
	_    [24]byte
}

// New returns a table for most sessions on interfaces below the given number. Memory that
// no session needed is not resident.
func New(most, interfaces int) *Table {
	most = min(maxSessions, max(most, 1))
	// Keys spread over the shards unevenly; an eighth more is far beyond chance.
	per := most/shards + most/shards/8 + 64
	lines := 1
	for lines*8 < 2*per {
		lines *= 2
	}
	t := &Table{
		seed: rand.Uint64() | 1, perShard: uint32(per), lines: uint64(lines),
		records: hugepage.Advise(make([]record, per*shards)),
		buckets: hugepage.Advise(make([]bucket, lines*shards)),
		faces:   make([]face, interfaces),
	}
	free := make([]uint32, per*shards)
	for i := range t.shards {
		t.shards[i].free = free[i*per : i*per : (i+1)*per]
		t.shards[i].next = uint32(i)
	}
	t.max.Store(int64(most))
	t.timeouts[UDPIdle].Store(DefaultUDPIdle)
	t.timeouts[TCPIdle].Store(DefaultTCPIdle)
	t.timeouts[TCPTransient].Store(DefaultTCPTransient)
	return t
}

// maxSessions bounds what a table is made for: 4 GiB of records.
const maxSessions = 1 << 26

// SetMax bounds the number of sessions; beyond what the table was made for it has no
// effect.
func (t *Table) SetMax(n int) { t.max.Store(int64(min(n, int(t.perShard)*shards))) }

// SetTimeout sets for how many seconds a session of a class lives without a packet.
func (t *Table) SetTimeout(c Class, seconds uint32) { t.timeouts[c].Store(seconds) }

// place is where a hash leads: its shard and the two buckets.
func (t *Table) place(hash uint64) (s int, one, two *bucket) {
	s = int(hash & (shards - 1))
	base := uint64(s) * t.lines
	one = &t.buckets[base+hash>>6&(t.lines-1)]
	two = &t.buckets[base+(hash>>32*0x9e3779b1)>>7&(t.lines-1)]
	return s, one, two
}

// Set fills k in for flow f that comes from the near end of interface index (input), or
// goes to it.
func (t *Table) Set(k *Keys, f *Flow, index uint32, input bool) {
	k.set(f, index, input)
	k.hash = k.first.hash(t.seed)
}

// Warm has the memory on its way that Find will read, and does nothing else: the fewer
// instructions between two of them, the more is on its way together. What it returns means
// nothing, but has to be used.
func (t *Table) Warm(k *Keys) uint64 {
	_, one, two := t.place(k.hash)
	return one[0].Load() + two[0].Load()
}

// Find returns the session of the packet with these keys. It takes no lock.
func (t *Table) Find(k *Keys) (Ref, bool) {
	if r, ok := t.find(&k.first, k.hash); ok || !k.two {
		return r, ok
	}
	return t.find(&k.second, k.second.hash(t.seed))
}

func (t *Table) find(k *Key, hash uint64) (Ref, bool) {
	_, one, two := t.place(hash)
	if r, ok := t.look(one, k, hash); ok {
		return r, t.lives(r, k)
	}
	if r, ok := t.look(two, k, hash); ok {
		return r, t.lives(r, k)
	}
	return Ref{}, false
}

// look searches a bucket for a key, of whatever life.
func (t *Table) look(b *bucket, k *Key, hash uint64) (Ref, bool) {
	for i := range b {
		slot := b[i].Load()
		if (slot^hash)>>32 != 0 || uint32(slot) == 0 {
			continue
		}
		r := Ref{place: uint32(slot) - 1}
		rec := &t.records[r.place]
		r.version = rec.version.Load()
		if r.version&1 != 0 && rec.is(k) && rec.version.Load() == r.version {
			return r, true
		}
	}
	return Ref{}, false
}

// lives reports whether the session belongs to the present life of its interface.
func (t *Table) lives(r Ref, k *Key) bool {
	i := k.iface()
	return uint64(i) < uint64(len(t.faces)) && t.records[r.place].life.Load() == t.faces[i].life.Load()
}

// Touch notes a packet of a session at the time now, with its TCP flags, 0 for none. It
// reports whether the session is still there and not refused.
func (t *Table) Touch(r Ref, now uint32, flags uint8, input bool) bool {
	if uint64(r.place) >= uint64(len(t.records)) {
		return false
	}
	rec := &t.records[r.place]
	if r.version&1 == 0 || rec.version.Load() != r.version {
		return false
	}
	if i := uint32(rec.e.Load() >> 32); rec.life.Load() != t.faces[i].life.Load() {
		return false
	}
	seen := rec.seen.Load()
	if seen&refused != 0 {
		return false
	}
	if rec.stamp.Load() != now {
		rec.stamp.Store(now)
	}
	if bits := flagsOf(flags, input); bits&^seen != 0 {
		rec.seen.Or(bits)
	}
	return true
}

// Refuse notes that the lists of now, by their policy, forbid what a session was made for.
// It counts as ended. Until it times out its packets are known for what they are: no answer
// that was under way is taken for the first packet of a flow in the other direction.
func (t *Table) Refuse(r Ref, policy uint32) {
	s := t.shardOf(r.place)
	s.mu.Lock()
	defer s.mu.Unlock()
	rec := &t.records[r.place]
	if rec.version.Load() != r.version {
		return
	}
	rec.policy.Store(policy)
	if rec.seen.Or(refused)&refused == 0 {
		t.ended(rec)
	}
}

func (t *Table) ended(rec *record) {
	t.dels.Add(1)
	t.faces[uint32(rec.e.Load()>>32)].dels.Add(1)
}

// Restore ends what Refuse began.
func (t *Table) Restore(r Ref, policy, now uint32) {
	s := t.shardOf(r.place)
	s.mu.Lock()
	defer s.mu.Unlock()
	if t.Refused(r) {
		t.restore(r, policy, now)
	}
}

// restore is Restore with the shard locked.
func (t *Table) restore(r Ref, policy, now uint32) {
	rec := &t.records[r.place]
	rec.policy.Store(policy)
	rec.stamp.Store(now)
	rec.seen.And(^uint32(refused))
	t.adds.Add(1)
	t.faces[uint32(rec.e.Load()>>32)].adds.Add(1)
}

// Refused reports whether Refuse was the last that was noted of a session.
func (t *Table) Refused(r Ref) bool {
	rec := &t.records[r.place]
	return rec.version.Load() == r.version && rec.seen.Load()&refused != 0
}

// Policy is what Add or SetPolicy noted last.
func (t *Table) Policy(r Ref) uint32 { return t.records[r.place].policy.Load() }

// SetPolicy notes that a session was judged again, and counts that.
func (t *Table) SetPolicy(r Ref, k *Keys, policy uint32) {
	t.records[r.place].policy.Store(policy)
	t.faces[k.first.iface()].news.Add(1)
}

// Added says how Add ended.
type Added uint8

const (
	Made   Added = iota
	Exists       // another thread was quicker
	Full
)

// Add makes the session of the packet with these keys, at the time now, let through by
// policy. One that was refused, and whose flow began at the same end, goes on.
func (t *Table) Add(k *Keys, policy, now uint32) (Ref, Added) {
	key := k.own()
	i := key.iface()
	if uint64(i) >= uint64(len(t.faces)) {
		return Ref{}, Full
	}
	hash := k.hash
	if k.two {
		hash = key.hash(t.seed)
	}
	n, one, two := t.place(hash)
	s := &t.shards[n]
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, b := range [2]*bucket{one, two} {
		if r, ok := t.look(b, key, hash); ok {
			switch {
			case !t.lives(r, key):
			case !t.Refused(r):
				return r, Exists
			case (t.Policy(r)^policy)&1 == 0:
				t.restore(r, policy, now)
				return r, Made
			}
			t.remove(s, r.place)
		}
	}
	slot := empty(one, two)
	if t.count.Load() >= t.max.Load() || len(s.free) == 0 && uint64(s.next) >= uint64(len(t.records)) {
		if !t.recycle(n, now) {
			return Ref{}, Full
		}
		slot = empty(one, two)
	}
	if slot == nil {
		return Ref{}, Full
	}
	place := s.take()
	if next := s.ahead(); uint64(next) < uint64(len(t.records)) {
		prefetch(&t.records[next])
	}
	rec := &t.records[place]
	rec.fill(key, t.faces[i].life.Load(), policy, now)
	version := rec.version.Add(1)
	slot.Store(slotOf(place, hash))
	t.count.Add(1)
	t.adds.Add(1)
	t.faces[i].adds.Add(1)
	return Ref{place, version}, Made
}

func (t *Table) shardOf(place uint32) *shard { return &t.shards[place%shards] }

// empty is a free place in the emptier of two buckets, or nil.
func empty(one, two *bucket) *atomic.Uint64 {
	a, n := one.free()
	b, m := two.free()
	if n >= m {
		return a
	}
	return b
}

func (b *bucket) free() (slot *atomic.Uint64, n int) {
	for i := range b {
		if b[i].Load() == 0 {
			slot = &b[i]
			n++
		}
	}
	return slot, n
}

func (s *shard) take() uint32 {
	if n := len(s.free); n > 0 {
		place := s.free[n-1]
		s.free = s.free[:n-1]
		return place
	}
	s.next += shards
	return s.next - shards
}

// ahead is the place that take comes to a few sessions later: with those of the other
// shards between, there is time until then to bring its line near.
func (s *shard) ahead() uint32 {
	const sessions = 2
	if n := len(s.free); n >= sessions {
		return s.free[n-sessions]
	}
	return s.next + (sessions-1)*shards
}

// Delete ends a session.
func (t *Table) Delete(r Ref) {
	s := t.shardOf(r.place)
	s.mu.Lock()
	defer s.mu.Unlock()
	if t.records[r.place].version.Load() == r.version {
		t.remove(s, r.place)
	}
}

// remove takes a session out. The shard is locked.
func (t *Table) remove(s *shard, place uint32) {
	rec := &t.records[place]
	key := rec.key()
	hash := key.hash(t.seed)
	_, one, two := t.place(hash)
	slot := slotOf(place, hash)
	for _, b := range [2]*bucket{one, two} {
		for i := range b {
			if b[i].Load() == slot {
				b[i].Store(0)
			}
		}
	}
	rec.version.Add(1)
	s.free = append(s.free, place)
	t.count.Add(-1)
	if rec.seen.Load()&refused == 0 {
		t.ended(rec)
	}
}

// Clear ends all sessions of an interface, at once.
func (t *Table) Clear(index uint32) {
	if uint64(index) < uint64(len(t.faces)) {
		t.faces[index].life.Add(1)
	}
}

// ClearAll ends all sessions.
func (t *Table) ClearAll() {
	for i := range t.faces {
		t.faces[i].life.Add(1)
	}
}
