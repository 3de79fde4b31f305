package worker

import (
	"net/netip"
	"testing"

	"github.com/millrace/millrace/engine/fib"
	"github.com/millrace/millrace/engine/packet"
	"github.com/millrace/millrace/engine/port"
)

// tunnelIf is the interface of a tunnel beside inIf and outIf.
const tunnelIf = 3

// ends are the two ends of a tunnel.
type ends struct{ here, there netip.Addr }

func (e ends) header(vni uint32) packet.VXLANHeader {
	return packet.NewVXLANHeader(e.here.AsSlice(), e.there.AsSlice(), 4789, 4789, vni)
}

func (e ends) back() ends { return ends{e.there, e.here} }

// withTunnel gives a test's worker a tunnel whose outer packets leave by outIf; out says
// whether all routes lead into it.
func withTunnel(t *testing.T, w *Worker, e ends, out bool) {
	t.Helper()
	s := w.state
	s.SetAdjacency(2, &Adjacency{
		Kind: KindRewrite, Interface: tunnelIf, MTU: 9000, HeaderLen: packet.EthLen,
		Header: [14]byte{2, 0xaa, 0, 0, 0, 2, 2, 0xaa, 0, 0, 0, 1, 8, 0},
	})
	s.SetRoute(2, &Route{Balance: fib.NewBalance([]fib.Weighted{{Target: 1, Weight: 1}})})
	trie, hash := fib.NewTrie4(fib.NewBlocks()), fib.NewHash6()
	trie.Insert(0, 0, 2)
	hash.Insert([16]byte{}, 0, 2)
	s.SetLeaf(2, 2)
	if out {
		s.SetRoute(1, &Route{Balance: fib.NewBalance([]fib.Weighted{{Target: 2, Weight: 1}})})
	}
	list := append([]*Interface{}, s.interfaces.Load().list...)
	in := *list[inIf]
	in.Bypass4, in.Bypass6 = true, true
	tunnel := in
	tunnel.Index, tunnel.Port, tunnel.MAC = tunnelIf, nil, packet.MAC{2, 0xaa, 0, 0, 0, 1}
	tunnel.Bypass4, tunnel.Bypass6 = false, false
	tunnel.Tunnel = &Tunnel{Header: e.header(7)}
	copy(tunnel.Tunnel.Remote[:], e.there.AsSlice())
	if e.here.Is4() {
		tunnel.Tunnel.Table4 = &Table4{Trie: trie}
	} else {
		tunnel.Tunnel.Table6 = &Table6{Hash: hash}
	}
	list[inIf] = &in
	s.SetInterfaces(append(list, &tunnel))
	k := TunnelKey{VNI: 7 << 8, Port: 4789, V6: e.here.Is6()}
	copy(k.Remote[:], e.there.AsSlice())
	copy(k.Local[:], e.here.AsSlice())
	s.SetEntrances(NewEntrances([]Entrance{{Key: k, Interface: tunnelIf, Decap: DecapEthernet}}, []uint16{4789}))
}

func bothEnds() map[string]ends {
	return map[string]ends{
		"over IPv4": {netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")},
		"over IPv6": {netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("2001:db8::2")},
	}
}

// TestTunnelsDoNotAllocate, and no packet is lost in them.
func TestTunnelsDoNotAllocate(t *testing.T) {
	for name, e := range bothEnds() {
		encapsulated, decapsulated := VXLAN4Encapsulated, VXLAN4Decapsulated
		if e.here.Is6() {
			encapsulated, decapsulated = VXLAN6Encapsulated, VXLAN6Decapsulated
		}
		t.Run(name+" out", func(t *testing.T) {
			w, in, out := testWorker(t, 0, port.Ethernet, nil)
			withTunnel(t, w, e, true)
			in.pkts = flows4(1000, port.Ethernet)
			busy(t, w, in, out, encapsulated)
		})
		t.Run(name+" back", func(t *testing.T) {
			w, in, out := testWorker(t, 0, port.Ethernet, nil)
			withTunnel(t, w, e, false)
			h := e.back().header(7)
			for i, p := range flows4(1000, port.Ethernet) {
				copy(p, []byte{2, 0xaa, 0, 0, 0, 1, 2, 0xaa, 0, 0, 0, 2})
				b := packet.FromBytes(p)
				h.Wrap(b, uint32(i), true)
				eth := b.Push(packet.EthLen)
				copy(eth, []byte{2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 7, 8, 0})
				if e.here.Is6() {
					copy(eth[12:], []byte{0x86, 0xdd})
				}
				in.pkts = append(in.pkts, b.Bytes())
			}
			busy(t, w, in, out, decapsulated)
		})
	}
}

// busy serves batches and checks that each packet goes through and is counted.
func busy(t *testing.T, w *Worker, in, out *feed, count Reason) {
	t.Helper()
	q := &Queue{Interface: inIf, Port: in}
	served := w.serve(q)
	if n := testing.AllocsPerRun(50, func() { served += w.serve(q) }); n != 0 {
		t.Errorf("%v allocations per batch", n)
	}
	if out.sent != served || w.count.Errors[count] != uint64(served) {
		t.Errorf("%d of %d packets sent, %d counted as of the tunnel", out.sent, served, w.count.Errors[count])
	}
}

// FuzzEntrance: whatever comes to a tunnel's port, nothing reads outside the packet.
func FuzzEntrance(f *testing.F) {
	e := bothEnds()["over IPv4"]
	h := e.back().header(7)
	b := packet.FromBytes(flows4(1, port.Ethernet)[0])
	h.Wrap(b, 1, true)
	f.Add(b.Bytes())
	f.Add(b.Bytes()[:40])
	f.Fuzz(func(t *testing.T, p []byte) {
		w, in, _ := testWorker(t, 0, port.Ethernet, nil)
		withTunnel(t, w, e, false)
		in.pkts, in.per = [][]byte{append([]byte{2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 7, 8, 0}, p...)}, 1
		w.serve(&Queue{Interface: inIf, Port: in})
		if n := w.count.Errors[Panic]; n != 0 {
			t.Errorf("%d internal errors", n)
		}
	})
}
