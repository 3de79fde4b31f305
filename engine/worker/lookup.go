package worker

import (
	"encoding/binary"
	"math/bits"
	"slices"
	"sync/atomic"

	"github.com/millrace/millrace/engine/fib"
	"github.com/millrace/millrace/engine/packet"
	"github.com/millrace/millrace/engine/session"
)

// Stages 2 and 3: which adjacency does each packet go to? First the flow cache for the
// whole vector, then the tables for those it does not know.

// noAdjacency marks a packet that has been dealt with.
const noAdjacency = NoIndex

// resolve finds the adjacencies of v. Where the answer is more than one lookup (a source
// check, IPv6) the flow cache is asked first; a plain IPv4 lookup is as quick as the cache
// and leaves it to others.
func (w *Worker) resolve(v *vector) {
	b := &w.batch
	if b.iface.remembers() || b.noted() {
		w.recall(v)
	} else {
		w.match(v, b.all[:v.n])
		w.follow(v, b.all[:v.n])
	}
	w.countRoutes(v)
}

// recall takes the adjacencies of known flows from the cache, and has it remember those
// of others.
func (w *Worker) recall(v *vector) {
	b := &w.batch
	for i := range v.n {
		v.hash[i] = v.flow(i).hash()
	}
	b.flows.touch(v.hash[:v.n])
	misses, stamp, generation := b.miss[:0], uint16(b.clock), b.generation
	judged := uint64(0)
	special := uint32(flowCounts) // flows of which each packet is looked at
	if !v.plain {
		special = 1<<flowBits - 1
	}
	for n := range v.n {
		i := uint8(n) // a vector is as long as an uint8 counts
		s := b.flows.find(&v.key[i], v.hash[i], generation)
		if s == nil {
			misses = append(misses, i)
			continue
		}
		adj := s.adj
		if bits := adj & (1<<flowBits - 1); bits != 0 {
			closer := bits&special != 0 || s.stamp != stamp
			if bits&flowTCP != 0 && !closer {
				closer = uint32(v.head[i].TCPFlags(v.size[i])&session.TCPFlags)&^s.leaf != 0
			}
			change := bits&flowNAT != 0
			if change && !w.keepsWay(v, n, s) || closer && !w.renew(v, n, s) || change && !w.changeKnown(v, n, s) {
				misses = append(misses, i)
				continue
			}
			judged += lanes(bits)
		}
		v.adj[i], v.leaf[i] = adj>>flowBits, s.leaf>>flowBits
	}
	if judged != 0 {
		w.countJudged(judged)
	}
	if len(misses) == 0 {
		return
	}
	if b.noted() {
		for _, i := range misses {
			v.note[i] = note{}
		}
		misses = w.arrive(v, misses)
	}
	misses = w.checkSources(v, misses)
	misses = w.admit(v, misses)
	w.match(v, misses)
	w.follow(v, misses)
	w.release(v, misses)
	for _, i := range misses {
		if v.adj[i] != noAdjacency {
			w.remember(v, int(i))
		}
	}
}

// countRoutes counts the packets that have an adjacency by their routes.
func (w *Worker) countRoutes(v *vector) {
	to := w.count.RouteTo
	leaves, sizes := v.leaf[:v.n], v.size[:v.n]
	for i, adj := range v.adj[:v.n] {
		if leaf := leaves[i]; adj != noAdjacency && uint64(leaf) < uint64(len(to)) {
			to[leaf].add(1, uint64(sizes[i]))
		}
	}
}

// remembers reports whether packets of this interface are worth an entry in the flow cache.
func (i *Interface) remembers() bool { return i.URPF4 != FilterOff || i.URPF6 != FilterOff }

// checkSources returns those of which whose source may come in here, and drops the rest.
func (w *Worker) checkSources(v *vector, which []uint8) []uint8 {
	good := which[:0]
	for _, i := range which {
		if w.checkSource(v, int(i)) {
			good = append(good, i)
		} else {
			v.adj[i] = noAdjacency
		}
	}
	return good
}

// looking is the scratch memory of match.
type looking struct {
	addr [packet.BatchSize]uint32
	leaf [packet.BatchSize]uint32

	scratch fib.Scratch
}

// match finds the leaves of packets that came in by the batch's interface: many lookups
// side by side, so that their accesses to memory overlap.
func (w *Worker) match(v *vector, which []uint8) {
	ifc := w.batch.iface
	if ifc.Table4 != nil {
		t := ifc.Table4.Trie.Reader()
		if len(which) == v.n {
			t.LookupAll(v.dst[:v.n], v.leaf[:v.n], &w.batch.look.scratch)
		} else {
			l := &w.batch.look
			for j, i := range which {
				l.addr[uint8(j)] = v.dst[i]
			}
			t.LookupAll(l.addr[:len(which)], l.leaf[:len(which)], &l.scratch)
			for j, i := range which {
				v.leaf[i] = l.leaf[uint8(j)]
			}
		}
	}
	if w.batch.rx.ip6 > 0 {
		w.match6(v, which)
	}
}

// follow goes from leaves to adjacencies, in short loops again; what is not straight goes
// to lookup.
func (w *Worker) follow(v *vector, which []uint8) {
	leaves := w.state.leaves
	for _, i := range which {
		leaf := v.leaf[i]
		if uint64(leaf) >= uint64(len(leaves)) {
			leaf = fib.Miss
		}
		v.adj[i] = atomic.LoadUint32(&leaves[leaf])
	}
	routes, adjs := w.state.routes.View(), w.state.adjs.View()
	for _, i := range which {
		if n := v.adj[i]; uint64(n) < uint64(len(routes)) {
			if r := routes[n].Load(); r != nil && r.Balance.Len() == 1 {
				adj := r.Balance.Pick(0)
				v.adj[i] = adj
				if uint64(adj) < uint64(len(adjs)) {
					if a := adjs[adj].Load(); a != nil && a.Kind == KindRewrite {
						continue
					}
				}
			}
		}
		w.lookup(v, int(i))
	}
}

// match6 is match for the IPv6 packets of which.
func (w *Worker) match6(v *vector, which []uint8) {
	if w.batch.iface.Table6 == nil {
		return
	}
	t := w.batch.iface.Table6.Hash
	for _, i := range which {
		k := &v.key[i]
		switch {
		case v.head[i] != nil || k.f&keyV6 == 0:
		case byte(k.c) == 0xff:
			v.leaf[i] = fib.Miss // a group: not by the table
		default:
			v.leaf[i] = t.LookupWords(bits.ReverseBytes64(k.c), bits.ReverseBytes64(k.d))
		}
	}
}

// uncached resolves packets of our own: they have no source check and leave no trace in
// the flow cache.
func (w *Worker) uncached(v *vector) {
	for i := range v.n {
		buf := v.buf[i]
		p := buf.L3Bytes()
		k := &v.key[i]
		*k = flowKey{e: uint64(buf.RxInterface) << 32}
		if p[0]>>4 == 4 {
			k.a = binary.LittleEndian.Uint64(p[12:])
		} else {
			k.a, k.b = binary.LittleEndian.Uint64(p[8:]), binary.LittleEndian.Uint64(p[16:])
			k.c, k.d = binary.LittleEndian.Uint64(p[24:]), binary.LittleEndian.Uint64(p[32:])
			k.f = keyV6
		}
		w.lookup(v, i)
	}
	w.countRoutes(v)
}

// checkSource applies uRPF of the receiving interface.
func (w *Worker) checkSource(v *vector, i int) bool {
	ifc := w.batch.iface
	k := &v.key[i]
	if k.f&keyV6 == 0 {
		if ifc.URPF4 == FilterOff {
			return true
		}
		dst := bigEndian(uint32(k.a >> 32))
		if dst>>28 == 0xe || dst == 0xffffffff {
			return true
		}
		r := w.route4(ifc.URPFTable4, bigEndian(uint32(k.a)))
		if passes(r, ifc.URPF4, ifc.Index) {
			return true
		}
		w.drop(IP4URPFLoose-boolReason(ifc.URPF4 == FilterStrict), ifc.Index)
		return false
	}
	if ifc.URPF6 == FilterOff {
		return true
	}
	p := v.buf[i].L3Bytes()
	if p[24] == 0xff {
		return true
	}
	t := ifc.URPFTable6
	if p[8] == 0xfe && p[9]&0xc0 == 0x80 {
		t = ifc.LinkLocals
	}
	if passes(w.route6(t, p[8:24]), ifc.URPF6, ifc.Index) {
		return true
	}
	w.drop(IP6URPFLoose-boolReason(ifc.URPF6 == FilterStrict), ifc.Index)
	return false
}

// boolReason is 1 for the strict check, whose Reason stands before the loose one's.
func boolReason(strict bool) Reason {
	if strict {
		return 1
	}
	return 0
}

func passes(r *Route, f Filter, rx uint32) bool {
	if r == nil {
		return false
	}
	if f == FilterLoose {
		return len(r.RPF) > 0
	}
	return slices.Contains(r.RPF, rx)
}

// lookup finds the adjacency of packet i by its destination, through as many tables as
// routes point to.
func (w *Worker) lookup(v *vector, i int) {
	buf, k := v.buf[i], v.flow(i)
	rx := buf.RxInterface
	var ifc *Interface
	if int(rx) < len(w.batch.ifs) {
		ifc = w.batch.ifs[rx]
	}
	v.adj[i] = noAdjacency
	if ifc == nil {
		w.drop(Blackholed, rx)
		return
	}
	if k.f&keyV6 != 0 {
		w.lookup6(v, i, ifc)
		return
	}
	dst := bigEndian(uint32(k.a >> 32))
	t := ifc.Table4
	for range 8 {
		leaf := w.leaf4(t, dst)
		r := w.routeOf(leaf)
		if r == nil {
			w.drop(Blackholed, rx)
			return
		}
		adj := r.Balance.Pick(w.spread(r, v, i))
		a := w.state.adjs.Load(adj)
		if a == nil {
			w.drop(Blackholed, rx)
			return
		}
		if a.Kind != KindLookup || a.Table4 == nil {
			v.adj[i], v.leaf[i] = adj, leaf
			return
		}
		t = a.Table4
	}
	w.drop(LookupLoop, rx)
}

func (w *Worker) lookup6(v *vector, i int, ifc *Interface) {
	p := v.buf[i].L3Bytes()
	if p[24] == 0xff {
		v.adj[i] = noAdjacency
		w.multicast6(v.buf[i], ifc)
		return
	}
	dst, t := p[24:40], ifc.Table6
	for range 8 {
		leaf := w.leaf6(t, dst)
		r := w.routeOf(leaf)
		if r == nil {
			w.drop(Blackholed, ifc.Index)
			return
		}
		adj := r.Balance.Pick(w.spread(r, v, i))
		a := w.state.adjs.Load(adj)
		switch {
		case a == nil:
			w.drop(Blackholed, ifc.Index)
			return
		case a.Kind == KindLinkLocal:
			t = ifc.LinkLocals
		case a.Kind == KindLookup && a.Table6 != nil:
			t = a.Table6
		default:
			v.adj[i], v.leaf[i] = adj, leaf
			return
		}
	}
	w.drop(LookupLoop, ifc.Index)
}

func bigEndian(x uint32) uint32 { return bits.ReverseBytes32(x) }

// leaf4 looks addr up in t with a view of the trie that lasts for the batch.
func (w *Worker) leaf4(t *Table4, addr uint32) uint32 {
	b := &w.batch
	if t == nil {
		return 0
	}
	if b.trieOf != t {
		b.trie, b.trieOf = t.Trie.Reader(), t
	}
	return b.trie.Lookup(addr)
}

func (w *Worker) leaf6(t *Table6, addr []byte) uint32 {
	if t == nil {
		return 0
	}
	return t.Hash.Lookup(addr)
}

// routeOf is the route of a leaf; nil when there is none.
func (w *Worker) routeOf(leaf uint32) *Route { return w.state.Route(leaf) }

func (w *Worker) route4(t *Table4, addr uint32) *Route { return w.routeOf(w.leaf4(t, addr)) }

func (w *Worker) route6(t *Table6, addr []byte) *Route { return w.routeOf(w.leaf6(t, addr)) }

// sourceRoute is the route to the sender of the IP packet p that came in by ifc.
func (w *Worker) sourceRoute(p []byte, ifc *Interface) *Route {
	if p[0]>>4 == 4 {
		return w.route4(ifc.Table4, packet.IPv4(p).SrcUint32())
	}
	t := ifc.Table6
	if p[8] == 0xfe && p[9]&0xc0 == 0x80 {
		t = ifc.LinkLocals
	}
	return w.route6(t, p[8:24])
}
