package worker

import (
	"encoding/binary"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/millrace/millrace/engine/fib"
	"github.com/millrace/millrace/engine/packet"
	"github.com/millrace/millrace/engine/port"
)

// The reference is a router without batches, caches or short ways: one packet at a time,
// a list of prefixes, the views of package packet. The worker must do the same with every
// batch.

type reference struct {
	ifs    []*Interface
	routes map[netip.Prefix]uint32 // to leaf
	leaves map[uint32]uint32       // to route
	rts    map[uint32]*Route
	adjs   map[uint32]*Adjacency

	out     [][]string // by interface
	errors  map[Reason]uint64
	routeTo map[uint32]Combined
	rx, tx  map[uint32]Combined
}

func (r *reference) match(a netip.Addr) (uint32, *Route) {
	for n := a.BitLen(); n >= 0; n-- {
		p, err := a.Prefix(n)
		if err != nil {
			panic(err)
		}
		if leaf, ok := r.routes[p]; ok {
			return leaf, r.rts[r.leaves[leaf]]
		}
	}
	return fib.Miss, nil
}

// take is the way of one packet that came in by ifc.
func (r *reference) take(ifc *Interface, p []byte) {
	p = append([]byte{}, p...)
	n := r.rx[ifc.Index]
	n.add(1, uint64(len(p)))
	r.rx[ifc.Index] = n
	if why := r.route(ifc, p); why != None {
		r.errors[why]++
	}
}

func (r *reference) route(ifc *Interface, p []byte) Reason {
	v4 := len(p) > 0 && p[0]>>4 == 4
	if ifc.Link == port.Ethernet {
		e, bad := packet.ParseEthernet(p)
		if bad != packet.OK {
			return EthernetTruncated
		}
		if !e.IsMulticast() && e.Dst() != ifc.MAC {
			return EthernetMAC
		}
		switch e.Type() {
		case packet.EtherTypeIPv4:
			v4 = true
		case packet.EtherTypeIPv6:
			v4 = false
		default:
			return EthernetType
		}
		p = e.Payload()
	} else if len(p) == 0 || p[0]>>4 != 4 && p[0]>>4 != 6 {
		return EthernetType
	}
	if v4 {
		return r.route4(ifc, p)
	}
	return r.route6(ifc, p)
}

func (r *reference) route4(ifc *Interface, p []byte) Reason {
	ip, bad := packet.ParseIPv4(p)
	switch {
	case bad != packet.OK:
		return reason4(bad, p)
	case ip.TTL() == 0:
		return IP4TTL
	case ip.HeaderLen() != packet.IPv4Len:
		return IP4Options
	}
	if ifc.URPF4 == FilterStrict && !ip.DstAddr().IsMulticast() {
		if _, back := r.match(ip.SrcAddr()); !passes(back, FilterStrict, ifc.Index) {
			return IP4URPFStrict
		}
	}
	leaf, a := r.adjacency(ip.DstAddr())
	if a == nil {
		return Blackholed
	}
	r.count(leaf, len(ip))
	switch {
	case a.Kind != KindRewrite:
		return Blackholed
	case ip.TTL() == 1:
		return IP4TTL
	case len(ip) > a.MTU:
		return IP4MTU
	}
	ip.SetTTL(ip.TTL() - 1)
	ip.UpdateHeaderChecksum()
	r.send(a, ip)
	return None
}

func (r *reference) route6(ifc *Interface, p []byte) Reason {
	ip, bad := packet.ParseIPv6(p)
	if bad != packet.OK {
		return reason6(bad, p)
	}
	if ip.HopLimit() == 0 {
		return IP6HopLimit
	}
	if ifc.URPF6 == FilterStrict {
		if _, back := r.match(ip.SrcAddr()); !passes(back, FilterStrict, ifc.Index) {
			return IP6URPFStrict
		}
	}
	leaf, a := r.adjacency(ip.DstAddr())
	if a == nil {
		return Blackholed
	}
	r.count(leaf, len(ip))
	switch {
	case a.Kind != KindRewrite:
		return Blackholed
	case ip.HopLimit() == 1:
		return IP6HopLimit
	case len(ip) > a.MTU:
		return IP6MTU
	}
	ip.SetHopLimit(ip.HopLimit() - 1)
	r.send(a, ip)
	return None
}

func (r *reference) adjacency(a netip.Addr) (uint32, *Adjacency) {
	leaf, rt := r.match(a)
	if rt == nil {
		return 0, nil
	}
	return leaf, r.adjs[rt.Balance.Pick(0)]
}

func (r *reference) count(leaf uint32, n int) {
	c := r.routeTo[leaf]
	c.add(1, uint64(n))
	r.routeTo[leaf] = c
}

func (r *reference) send(a *Adjacency, ip []byte) {
	frame := string(a.Header[:a.HeaderLen]) + string(ip)
	r.out[a.Interface] = append(r.out[a.Interface], frame)
	c := r.tx[a.Interface]
	c.add(1, uint64(len(frame)))
	r.tx[a.Interface] = c
}

// script is a port that gives what it is told and keeps what it is sent.
type script struct {
	feed
	sent []string
}

func (s *script) Receive(_ int, bufs []*packet.Buffer) (int, error) {
	n := copy(bufs, bufs[:min(len(bufs), len(s.pkts))])
	for i, b := range bufs[:n] {
		b.Reset(packet.Headroom)
		b.Append(s.pkts[i])
	}
	s.pkts = s.pkts[n:]
	return n, nil
}

func (s *script) Transmit(_ int, bufs []*packet.Buffer) (int, error) {
	for _, b := range bufs {
		s.sent = append(s.sent, string(b.Bytes()))
	}
	return len(bufs), nil
}

// pair is a worker and a reference of the same tables: interface 1 and 2 are Ethernet, 3
// is an IP link, 4 is missing.
func pair(t *testing.T, r *rand.Rand, filter Filter) (*Worker, *reference, []*script) {
	t.Helper()
	const routes = 200
	state := NewState(routes + 1)
	counters := NewCounters(8, routes+1)
	w, err := New(Config{
		State: state, Counters: &counters, Learn: make(chan Learned, 1), Gone: make(chan uint32, 1),
		Logger: slog.New(slog.DiscardHandler), Capacity: 8,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := w.Close(); err != nil {
			t.Error(err)
		}
	})
	ref := &reference{
		routes: map[netip.Prefix]uint32{}, leaves: map[uint32]uint32{}, rts: map[uint32]*Route{}, adjs: map[uint32]*Adjacency{},
		out: make([][]string, 8), errors: map[Reason]uint64{}, routeTo: map[uint32]Combined{}, rx: map[uint32]Combined{}, tx: map[uint32]Combined{},
	}
	for i := uint32(1); i <= 6; i++ {
		a := &Adjacency{Kind: KindRewrite, Interface: (i-1)%3 + 1, MTU: 300}
		if a.Interface != 3 {
			a.HeaderLen, a.Header = packet.EthLen, [14]byte{2, 9, byte(i), 3, 4, 5, 2, 0, 0, 0, 0, byte(i), 8}
		}
		if i == 6 {
			a.Kind = KindDrop
		}
		if i == 5 {
			a.Header[0] = 3 // a group
		}
		state.SetAdjacency(i, a)
		rt := &Route{Balance: fib.NewBalance([]fib.Weighted{{Target: i, Weight: 1}}), RPF: []uint32{1, i%3 + 1}}
		state.SetRoute(i, rt)
		ref.adjs[i], ref.rts[i] = a, rt
	}
	trie, hash := fib.NewTrie4(fib.NewBlocks()), fib.NewHash6()
	for leaf := uint32(1); leaf <= routes; leaf++ {
		n := 1 + r.Uint32N(6)
		state.SetLeaf(leaf, n)
		ref.leaves[leaf] = n
		if a := crowdedAddr(r); r.IntN(3) > 0 {
			p, _ := netip.AddrFrom4(a).Prefix(8 + r.IntN(25))
			ref.routes[p] = leaf
			trie.Insert(be32(p.Addr()), p.Bits(), leaf)
		} else {
			p, _ := netip.AddrFrom16([16]byte{0xfd, a[2], a[3]}).Prefix(8 + r.IntN(17))
			ref.routes[p] = leaf
			hash.Insert(p.Addr().As16(), p.Bits(), leaf)
		}
	}
	ports := []*script{nil, {}, {}, {}}
	ref.ifs = []*Interface{nil}
	for i := uint32(1); i <= 3; i++ {
		link := port.Ethernet
		if i == 3 {
			link = port.IP
		}
		t4, t6 := &Table4{Trie: trie}, &Table6{Hash: hash}
		ref.ifs = append(ref.ifs, &Interface{
			Index: i, Link: link, Up: true, MAC: packet.MAC{2, 0, 0, 0, 0, byte(i)}, Port: ports[i], TxQueues: 1,
			IP4: true, IP6: true, Table4: t4, Table6: t6, URPF4: filter, URPF6: filter, URPFTable4: t4, URPFTable6: t6,
			Punt4: NoIndex, Punt6: NoIndex, Lender: NoIndex,
		})
	}
	state.SetInterfaces(ref.ifs)
	return w, ref, ports
}

func be32(a netip.Addr) uint32 { b := a.As4(); return binary.BigEndian.Uint32(b[:]) }

// crowdedAddr is an address near many others.
func crowdedAddr(r *rand.Rand) [4]byte {
	return [4]byte{10, byte(r.IntN(2)), byte(r.IntN(4)), byte(r.IntN(256))}
}

// anyPacket is IPv4 or IPv6, mostly fit to be forwarded, otherwise wrong in one of the
// ways that the path tells apart.
func anyPacket(r *rand.Rand, ifc *Interface) []byte {
	size := packet.IPv6Len + 8 + r.IntN(250)
	ttl := []uint8{0, 1, 2, 3, 64, 64, 64, 255}[r.IntN(8)]
	proto := []uint8{packet.ProtoUDP, packet.ProtoTCP, packet.ProtoESP, packet.ProtoICMP}[r.IntN(4)]
	p := make([]byte, size)
	typ := packet.EtherTypeIPv4
	if r.IntN(4) > 0 {
		if r.IntN(8) == 0 {
			p = p[:packet.IPv4Len+r.IntN(12)]
		}
		for i := range p {
			p[i] = byte(r.IntN(256))
		}
		ip := packet.MakeIPv4(p, crowdedAddr(r), crowdedAddr(r), proto, ttl)
		binary.BigEndian.PutUint16(p[6:], []uint16{0, 0, 0x4000, 0x4000, 0x2000, 0x2001, 0x0010, 0x8000}[r.IntN(8)])
		if len(p) > 300 {
			p[6] |= 0x40 // too long for a path: must not be cut
		}
		if r.IntN(20) == 0 && len(p) > 24 {
			p[0] = 0x46
		}
		ip.UpdateHeaderChecksum()
		switch r.IntN(30) {
		case 0:
			p[10]++
		case 1:
			p[r.IntN(20)]++
		case 2:
			p = p[:r.IntN(len(p))]
		}
	} else {
		typ = packet.EtherTypeIPv6
		a, b := crowdedAddr(r), crowdedAddr(r)
		packet.MakeIPv6(p, [16]byte{0xfd, a[2], a[3], 15: a[3]}, [16]byte{0xfd, b[2], b[3], 15: b[3]}, packet.ProtoUDP, ttl)
		if r.IntN(30) == 0 {
			p = p[:r.IntN(len(p))]
		}
	}
	if ifc.Link == port.IP {
		return p
	}
	dst := ifc.MAC
	switch r.IntN(20) {
	case 0:
		dst = packet.BroadcastMAC()
	case 1:
		dst[5]++
	case 2:
		dst[0] |= 1
	}
	out := append(append([]byte{}, dst[:]...), 2, 7, 7, 7, 7, 7, byte(typ>>8), byte(typ))
	if r.IntN(50) == 0 {
		out[12] = 0x12
	}
	out = append(out, p...)
	if r.IntN(4) == 0 {
		out = append(out, make([]byte, r.IntN(20))...) // padding
	}
	if r.IntN(100) == 0 {
		out = out[:r.IntN(len(out))]
	}
	return out
}

func TestAgainstReference(t *testing.T) {
	for _, filter := range []Filter{FilterOff, FilterStrict} {
		for seed := range uint64(3) {
			t.Run(fmt.Sprint(filter, seed), func(t *testing.T) {
				r := rand.New(rand.NewPCG(seed, uint64(filter)))
				w, ref, ports := pair(t, r, filter)
				var known [4][][]byte // packets sent again, for the flow cache
				for range 200 {
					in := 1 + r.IntN(3)
					ifc := ref.ifs[in]
					var pkts [][]byte
					for range 1 + r.IntN(packet.BatchSize) {
						p := anyPacket(r, ifc)
						if k := known[in]; len(k) > 0 && r.IntN(2) == 0 {
							p = k[r.IntN(len(k))]
						} else if len(k) < 100 {
							known[in] = append(k, p)
						}
						pkts = append(pkts, p)
						ref.take(ifc, p)
					}
					ports[in].pkts = pkts
					w.serve(&Queue{Interface: ifc.Index, Port: ports[in]})
					compare(t, w, ref, ports)
				}
			})
		}
	}
}

// compare compares what came out, in order per interface, and what was counted.
func compare(t *testing.T, w *Worker, ref *reference, ports []*script) {
	t.Helper()
	for i := 1; i <= 3; i++ {
		if d := cmp.Diff(hexes(ref.out[i]), hexes(ports[i].sent)); d != "" {
			t.Fatalf("sent by interface %d (-want +got):\n%s", i, d)
		}
		ref.out[i], ports[i].sent = nil, nil
		k := uint32(i)
		if got := w.count.RX[k]; got != ref.rx[k] {
			t.Fatalf("received by %d: %v, want %v", i, got, ref.rx[k])
		}
		if got := w.count.TX[k]; got != ref.tx[k] {
			t.Fatalf("sent by %d: %v, want %v", i, got, ref.tx[k])
		}
		if ref.ifs[i].Link == port.Ethernet {
			got := w.count.TxUnicast[k]
			got.add(w.count.TxMulticast[k].Packets, w.count.TxMulticast[k].Bytes)
			if got != ref.tx[k] {
				t.Fatalf("unicast and multicast of %d: %v, want %v", i, got, ref.tx[k])
			}
		}
	}
	errors := map[Reason]uint64{}
	for i, n := range w.count.Errors {
		switch why := Reason(i); {
		case n == 0, why == ICMP4Throttled, why == ICMP6Throttled: // there is no address to answer from
		default:
			errors[why] = n
		}
	}
	if d := cmp.Diff(ref.errors, errors); d != "" {
		t.Fatalf("reasons (-want +got):\n%s", d)
	}
	for leaf, want := range ref.routeTo {
		if got := w.count.RouteTo[leaf]; got != want {
			t.Fatalf("route %d counted %v, want %v", leaf, got, want)
		}
	}
}

func hexes(list []string) []string {
	out := make([]string, len(list))
	for i, s := range list {
		out[i] = fmt.Sprintf("% x", s)
	}
	return out
}
