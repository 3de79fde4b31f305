package worker

import (
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/millrace/millrace/engine/fib"
	"github.com/millrace/millrace/engine/packet"
	"github.com/millrace/millrace/engine/port"
)

// NoIndex is VPP's ~0.
const NoIndex = ^uint32(0)

// State is what workers read and one control plane writes:
//
//	address ─ Table4/6 ─► leaf ─ leaves[] ─► *Route ─ flow hash ─► adjacency ─ adjs[] ─► *Adjacency
//
// Each value behind a pointer is immutable; an edit stores another pointer. After an edit
// that changes where a packet may go the control plane calls Bump, which makes all flow
// caches stale.
type State struct {
	generation atomic.Uint32
	interfaces atomic.Pointer[interfaceList]
	entrances  atomic.Pointer[Entrances]
	stateful   atomic.Pointer[Stateful]
	nat        atomic.Pointer[NAT]
	clock      atomic.Uint32 // seconds since epoch
	epoch      time.Time
	leaves     []uint32 // leaf to route, read and written atomically
	routes     Slots[Route]
	adjs       Slots[Adjacency]
}

// NewState returns a State for leaves below maxLeaves.
func NewState(maxLeaves int) *State {
	s := &State{leaves: make([]uint32, maxLeaves), epoch: time.Now()}
	s.generation.Store(1)
	s.SetInterfaces(nil)
	s.SetEntrances(&Entrances{})
	s.stateful.Store(&Stateful{})
	s.clock.Store(1)
	return s
}

// Bump makes the answers that workers have cached invalid.
func (s *State) Bump() { s.generation.Add(1) }

// SetInterfaces replaces the interfaces; list is indexed by sw_if_index, nil for holes,
// and not to be changed afterwards.
func (s *State) SetInterfaces(list []*Interface) {
	guarded := slices.ContainsFunc(list, func(i *Interface) bool { return i != nil && (i.In != nil || i.Out != nil) })
	translated := slices.ContainsFunc(list, func(i *Interface) bool {
		return i != nil && (i.NATIn4 || i.NATIn6 || i.NATOut4 || i.NATOut6)
	})
	s.interfaces.Store(&interfaceList{list, guarded, translated})
}

// SetEntrances replaces the index of tunnels.
func (s *State) SetEntrances(e *Entrances) { s.entrances.Store(e) }

// interfaceList is all interfaces, and whether some of them have access lists, or ask for
// address translation.
type interfaceList struct {
	list       []*Interface
	guarded    bool
	translated bool
}

// SetLeaf says which route a leaf stands for.
func (s *State) SetLeaf(leaf, route uint32) { atomic.StoreUint32(&s.leaves[leaf], route) }

// SetRoute stores a route; it is not to be changed afterwards.
func (s *State) SetRoute(i uint32, r *Route) { s.routes.Store(i, r) }

// SetAdjacency stores an adjacency; it is not to be changed afterwards.
func (s *State) SetAdjacency(i uint32, a *Adjacency) {
	if a.Kind == KindRewrite && a.Header[0]&1 == 0 {
		a.straight = uint32(max(0, a.MTU))
	}
	s.adjs.Store(i, a)
}

// Adjacency returns adjacency i, or nil.
func (s *State) Adjacency(i uint32) *Adjacency { return s.adjs.Load(i) }

// Slots is an array of pointers that grows while it is read.
type Slots[T any] struct {
	array atomic.Pointer[[]atomic.Pointer[T]]
}

// View returns the array of this moment.
func (s *Slots[T]) View() []atomic.Pointer[T] {
	if p := s.array.Load(); p != nil {
		return *p
	}
	return nil
}

// Load returns element i, or nil.
func (s *Slots[T]) Load(i uint32) *T {
	if v := s.View(); uint64(i) < uint64(len(v)) {
		return v[i].Load()
	}
	return nil
}

// Store sets element i. One writer.
func (s *Slots[T]) Store(i uint32, x *T) {
	v := s.View()
	if uint64(i) >= uint64(len(v)) {
		more := make([]atomic.Pointer[T], max(int(i)+1, 2*len(v), 16))
		for j := range v {
			more[j].Store(v[j].Load())
		}
		more[i].Store(x)
		s.array.Store(&more)
		return
	}
	v[i].Store(x)
}

// Route is the forwarding of one set of paths, shared by all prefixes that have it.
type Route struct {
	Balance fib.Balance // of adjacencies; never empty
	RPF     []uint32    // interfaces that the sources of this prefix may come in by
	Local   bool        // one of our own addresses
	// Elsewhere says that it is one of our own addresses, and Owner whose, but its packets
	// go on by a route of somebody who comes before: we answer for it and no more.
	Elsewhere bool
	Owner     uint32
	Foreign   bool // its senders are no neighbours, though it leads to their link
	// HashFields says which fields spread flows (VPP's flow_hash_config); 0 means all.
	HashFields uint32
}

// Kind says what is done with a packet that reached an adjacency.
type Kind uint8

const (
	KindDrop        Kind = iota
	KindRewrite          // send to Interface with Header in front
	KindUnresolved       // ask for NextHop on Interface
	KindGlean            // ask for the packet's destination on Interface
	KindLocal            // ours
	KindLookup           // look up again in Table
	KindLinkLocal        // fe80::/10: look up in the receiving interface's LinkLocals
	KindUnreachable      // answer with ICMP unreachable
	KindProhibit         // answer with ICMP administratively prohibited
)

// Adjacency is what the last step of a lookup finds.
type Adjacency struct {
	Kind      Kind
	HeaderLen uint8 // 0 on IP links
	Header    [packet.EthLen]byte
	Interface uint32 // to send by
	// straight is the length from the network header on of the longest plain packet that
	// is simply sent: the MTU where Kind and Header mean unicast, else 0.
	straight uint32
	MTU      int // L3, in bytes
	NextHop  netip.Addr
	// Source is the address to ask from; zero when the interface's own is chosen.
	Source netip.Addr
	Table4 *Table4
	Table6 *Table6
}

// Table4 is an IPv4 table.
type Table4 struct {
	Trie *fib.Trie4
	ID   uint32
}

// Table6 is an IPv6 table.
type Table6 struct {
	Hash *fib.Hash6
	ID   uint32
}

// Filter is a source check.
type Filter uint8

const (
	FilterOff    Filter = 0
	FilterLoose  Filter = 1
	FilterStrict Filter = 2
)

// Interface is an interface as a worker sees it. It is immutable.
type Interface struct {
	Index    uint32
	Link     port.Link
	Up       bool // admin up
	NoLink   bool // the device has no link: nothing can be sent
	MAC      packet.MAC
	Port     port.Port // nil: a loopback, which drops what it is sent
	Caps     port.Capabilities
	TxQueues int
	// Locks guards transmit queues that several workers share; nil when none is.
	Locks []sync.Mutex

	IP4, IP6     bool
	Table4       *Table4
	Table6       *Table6
	URPF4, URPF6 Filter
	URPFTable4   *Table4
	URPFTable6   *Table6
	MTU4, MTU6   int
	Punt4, Punt6 uint32 // adjacency for what nobody here listens to; NoIndex drops
	PuntUDP4     bool   // UDP too goes there, instead of "port unreachable"
	PuntUDP6     bool
	Addrs4       []Own4 // its own or its lender's
	Addrs6       [][16]byte
	LinkLocal    [16]byte
	// LinkLocals is the table of fe80::/10 on this interface; nil when IP6 is off.
	LinkLocals *Table6
	Lender     uint32 // NoIndex when not unnumbered
	// Proxied are the IPv4 addresses of others that ARP is answered for.
	Proxied []Span4
	// Tunnel is set where what goes out goes on in a tunnel; Port is then nil.
	Tunnel *Tunnel
	// Bypass4 and Bypass6 say that packets of tunnels are taken out before all lookups.
	Bypass4, Bypass6 bool
	// In and Out judge what comes from the interface and what goes out by it; nil lets
	// everything pass.
	In, Out *Guard
	// NATIn4 to NATOut6 say that addresses are translated of what comes from the interface
	// and of what goes out by it: VPP's features cnat-input-ip4 to cnat-output-ip6.
	NATIn4, NATIn6, NATOut4, NATOut6 bool
}

// Span4 is a range of IPv4 addresses, both ends in it.
type Span4 struct{ Low, High uint32 }

// Own4 is an IPv4 address of an interface with its subnet.
type Own4 struct {
	Addr [4]byte
	IP   uint32
	Mask uint32
}

// Source4 is the address to speak from to dst: the one whose subnet holds it, else the
// first.
func (i *Interface) Source4(dst uint32) ([4]byte, bool) {
	for k := range i.Addrs4 {
		if a := &i.Addrs4[k]; (a.IP^dst)&a.Mask == 0 {
			return a.Addr, true
		}
	}
	if len(i.Addrs4) == 0 {
		return [4]byte{}, false
	}
	return i.Addrs4[0].Addr, true
}

// Source6 is the address to speak from to dst: link-local to link-local, else the global
// address with the longest common prefix.
func (i *Interface) Source6(dst [16]byte) ([16]byte, bool) {
	if packet.IsLinkLocal6(dst) || dst[0] == 0xff || len(i.Addrs6) == 0 {
		return i.LinkLocal, i.LinkLocal != [16]byte{}
	}
	best, common := 0, -1
	for k := range i.Addrs6 {
		if n := commonPrefix(&i.Addrs6[k], &dst); n > common {
			best, common = k, n
		}
	}
	return i.Addrs6[best], true
}

func commonPrefix(a, b *[16]byte) int {
	for i := range a {
		x := a[i] ^ b[i]
		if x == 0 {
			continue
		}
		n := i * 8
		for x&0x80 == 0 {
			n++
			x <<= 1
		}
		return n
	}
	return 128
}

// Route returns the route of a leaf, or nil.
func (s *State) Route(leaf uint32) *Route {
	if leaf == fib.Miss || int(leaf) >= len(s.leaves) {
		return nil
	}
	return s.routes.Load(atomic.LoadUint32(&s.leaves[leaf]))
}
