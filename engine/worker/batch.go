package worker

import (
	"math/bits"
	"time"

	"github.com/millrace/millrace/engine/fib"
	"github.com/millrace/millrace/engine/packet"
)

// vector is the packets of one batch side by side, so that a stage is a short loop.
type vector struct {
	n int
	// plain says that all packets are.
	plain bool
	buf   [packet.BatchSize]*packet.Buffer
	head  [packet.BatchSize]*packet.Head // of plain packets, nil for others
	size  [packet.BatchSize]uint32       // from the network header on, in bytes
	key   [packet.BatchSize]flowKey
	hash  [packet.BatchSize]uint64
	dst   [packet.BatchSize]uint32 // IPv4 only
	adj   [packet.BatchSize]uint32
	leaf  [packet.BatchSize]uint32
	// Of packets that the flow cache does not know.
	note   [packet.BatchSize]note
	change [packet.BatchSize]change // of those that were changed
}

// batch is the state of the batch at work.
type batch struct {
	flows flowCache

	// What the State held when the batch began.
	generation uint32
	ifs        []*Interface
	guarded    bool // some interface has access lists
	nat        *NAT // nil when no interface asks for it
	stateful   *Stateful
	clock      uint32
	judged6    uint64 // of IPv6: see lanes
	judges     [bench]judge
	leaving    [packet.BatchSize]uint8 // to be translated on their way out
	warmed     uint64
	iface      *Interface // that the batch came in by
	l3         uint32     // where the network header of its plain packets is
	rx         received

	cur              *vector // at work
	own              *vector // made by this worker (replies, ICMP errors), at work after cur
	entrances        *Entrances
	entering, inside *entered // by tunnels, and those at work
	group            [packet.BatchSize]*packet.Buffer

	all  [packet.BatchSize]uint8 // 0, 1, 2, ...
	miss [packet.BatchSize]uint8
	look looking

	// made holds the arena's buffers in use, given back when the batch is out.
	made   [spare]*packet.Buffer
	nMade  int
	trie   fib.Reader
	trieOf *Table4
}

// process takes the n received buffers through all stages.
func (w *Worker) process(index uint32, n int) {
	defer w.recovered(index, n)
	b := &w.batch
	b.generation = w.state.generation.Load()
	b.see(w.state)
	b.trieOf = nil
	w.now = time.Time{}
	if int(index) >= len(b.ifs) || b.ifs[index] == nil {
		w.count.Errors[InterfaceDown] += uint64(n)
		return
	}
	b.iface = b.ifs[index]
	b.entering.n = 0
	w.stages(w.rx[:n])
	for range 4 {
		if !w.unwrapped() {
			break
		}
	}
	w.flush()
	w.giveBack()
}

// stages takes what came in by the batch's interface as far as the outbox.
func (w *Worker) stages(bufs []*packet.Buffer) {
	b := &w.batch
	b.cur.n, b.own.n = 0, 0
	w.parse(bufs)
	if b.iface.Bypass4 {
		w.bypass(b.cur)
	}
	w.resolve(b.cur)
	w.rewrite(b.cur)
	// A reply may cause no reply, so this ends; the bound is for the reader's peace.
	for range 4 {
		if b.own.n == 0 {
			break
		}
		b.cur, b.own = b.own, b.cur
		b.own.n = 0
		w.uncached(b.cur)
		w.rewrite(b.cur)
	}
}

// see notes what the State holds: first the interfaces, then what was published before
// them.
func (b *batch) see(s *State) {
	list := s.interfaces.Load()
	b.ifs, b.guarded, b.entrances = list.list, list.guarded, s.entrances.Load()
	if b.nat = nil; list.translated {
		b.nat = s.nat.Load()
	}
	b.stateful, b.clock = s.stateful.Load(), s.clock.Load()
}

// recovered is the last resort: an internal error costs its batch, not the process.
func (w *Worker) recovered(index uint32, n int) {
	r := recover()
	if r == nil {
		return
	}
	w.count.Errors[Panic]++
	w.count.Drops[index] += uint64(n)
	w.cfg.Logger.Error("batch dropped after an internal error", "worker", w.cfg.Index, "interface", index, "panic", r)
	w.outbox.reset()
	w.giveBack()
}

// take returns a buffer of the worker's own for this batch, or nil.
func (w *Worker) take() *packet.Buffer {
	b := &w.batch
	if b.nMade == len(b.made) {
		return nil
	}
	buf := w.arena.Take()
	if buf == nil {
		return nil
	}
	b.made[b.nMade] = buf
	b.nMade++
	return buf
}

func (w *Worker) giveBack() {
	b := &w.batch
	w.arena.Put(b.made[:b.nMade]...)
	b.nMade = 0
}

// time is the clock's, read at most once per batch.
func (w *Worker) time() time.Time {
	if w.now.IsZero() {
		w.now = time.Now()
	}
	return w.now
}

// drop counts a packet that ends here.
func (w *Worker) drop(r Reason, rx uint32) {
	w.count.Errors[r]++
	w.count.Drops[rx]++
}

// originate queues buf, an IP packet of our own with L3 set, for lookup in rx's table.
func (w *Worker) originate(buf *packet.Buffer, rx uint32) {
	v := w.batch.own
	if v.n == len(v.buf) {
		w.drop(NoBuffers, rx)
		return
	}
	buf.RxInterface = rx
	v.add(buf, buf.Len()-int(buf.L3))
}

// add puts a packet that is not plain into v; size is that from the network header on.
func (v *vector) add(buf *packet.Buffer, size int) {
	v.buf[v.n], v.head[v.n], v.size[v.n] = buf, nil, uint32(size)
	v.n++
}

// noted says that what is found out of first packets is noted: access lists judge them,
// or addresses are translated.
func (b *batch) noted() bool { return b.guarded || b.nat != nil }

// flow is the key of packet i. That of a plain packet is made when somebody asks.
func (v *vector) flow(i int) *flowKey {
	k := &v.key[i]
	if h := v.head[i]; h != nil {
		k.a, k.e, k.f = le64(h, 26), uint64(v.buf[i].RxInterface)<<32, uint32(h[23])
		if h[23] == packet.ProtoUDP || h[23] == packet.ProtoTCP {
			k.e |= uint64(bits.ReverseBytes32(le32(h, 34)))
		} else {
			k.e |= uint64(ports(h[23], h[34:]))
		}
	}
	return k
}
