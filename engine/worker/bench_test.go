package worker

import (
	"encoding/binary"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"testing"

	"github.com/millrace/millrace/engine/fib"
	"github.com/millrace/millrace/engine/packet"
	"github.com/millrace/millrace/engine/port"
)

// feed is a port that gives the same packets again and again and swallows what it is
// sent: forwarding without a device.
type feed struct {
	link port.Link
	pkts [][]byte
	at   int
	sent int
	per  int
}

func (f *feed) Link() port.Link                 { return f.link }
func (f *feed) HardwareAddr() net.HardwareAddr  { return nil }
func (f *feed) Capabilities() port.Capabilities { return port.Capabilities{} }
func (f *feed) RxQueues() int                   { return 1 }
func (f *feed) TxQueues() int                   { return 1 }
func (f *feed) RxFD(int) int                    { return -1 }
func (f *feed) Close() error                    { return nil }

func (f *feed) Receive(_ int, bufs []*packet.Buffer) (int, error) {
	n := min(f.per, len(bufs))
	for i := range n {
		b := bufs[i]
		b.Reset(packet.Headroom)
		b.Append(f.pkts[f.at])
		if f.at++; f.at == len(f.pkts) {
			f.at = 0
		}
	}
	return n, nil
}

func (f *feed) Transmit(_ int, bufs []*packet.Buffer) (int, error) {
	f.sent += len(bufs)
	return len(bufs), nil
}

const (
	inIf  = 1
	outIf = 2
)

// testWorker forwards from inIf to outIf by the given number of routes.
func testWorker(tb testing.TB, routes int, link port.Link, set func(*Interface)) (*Worker, *feed, *feed) {
	tb.Helper()
	state := NewState(routes + 10)
	counters := NewCounters(4, routes+10)
	w, err := New(Config{
		State: state, Counters: &counters, Learn: make(chan Learned, 1), Gone: make(chan uint32, 1),
		Logger: slog.New(slog.DiscardHandler), Capacity: 4,
	})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := w.Close(); err != nil {
			tb.Error(err)
		}
	})
	trie, hash := fib.NewTrie4(fib.NewBlocks()), fib.NewHash6()
	r := rand.New(rand.NewPCG(1, 2))
	trie.Insert(0, 0, 1)
	hash.Insert(netip.MustParseAddr("fd00::").As16(), 64, 1)
	state.SetLeaf(1, 1)
	for i := range routes {
		leaf := uint32(i + 2)
		trie.Insert(r.Uint32(), 16+r.IntN(9), leaf)
		state.SetLeaf(leaf, 1)
	}
	a := &Adjacency{Kind: KindRewrite, Interface: outIf, MTU: 9000}
	if link == port.Ethernet {
		a.HeaderLen = packet.EthLen
		a.Header = [14]byte{2, 0, 0, 0, 0, 9, 2, 0, 0, 0, 0, 2, 8, 0}
	}
	state.SetAdjacency(1, a)
	state.SetRoute(1, &Route{Balance: fib.NewBalance([]fib.Weighted{{Target: 1, Weight: 1}}), RPF: []uint32{inIf}})
	t4, t6 := &Table4{Trie: trie}, &Table6{Hash: hash}
	in, out := &feed{link: link, per: packet.BatchSize}, &feed{link: link}
	ifs := []*Interface{nil}
	for i, p := range []*feed{in, out} {
		ifc := &Interface{
			Index: uint32(i + 1), Link: link, Up: true, MAC: packet.MAC{2, 0, 0, 0, 0, byte(i + 1)}, Port: p, TxQueues: 1,
			IP4: true, IP6: true, Table4: t4, Table6: t6, URPFTable4: t4, URPFTable6: t6,
			Punt4: NoIndex, Punt6: NoIndex, Lender: NoIndex,
		}
		if set != nil {
			set(ifc)
		}
		ifs = append(ifs, ifc)
	}
	state.SetInterfaces(ifs)
	return w, in, out
}

// flows4 are packets of n flows to random addresses, 60 bytes (64 with the checksum that
// Ethernet cards add).
func flows4(n int, link port.Link) [][]byte {
	r := rand.New(rand.NewPCG(3, 4))
	var out [][]byte
	for range n {
		var p []byte
		if link == port.Ethernet {
			p = append(p, 2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 7, 8, 0)
		}
		ip := make([]byte, 46)
		var dst [4]byte
		binary.BigEndian.PutUint32(dst[:], 1<<24+r.Uint32N(222<<24))
		packet.MakeIPv4(ip, [4]byte{10, 0, byte(r.Uint32()), byte(r.Uint32())}, dst, packet.ProtoUDP, 64)
		binary.BigEndian.PutUint32(ip[20:], r.Uint32())
		out = append(out, append(p, ip...))
	}
	return out
}

func flows6(n int) [][]byte {
	r := rand.New(rand.NewPCG(3, 4))
	var out [][]byte
	for range n {
		ip := make([]byte, 60)
		src, dst := [16]byte{0xfd}, [16]byte{0xfd}
		binary.BigEndian.PutUint64(src[8:], r.Uint64())
		binary.BigEndian.PutUint64(dst[8:], r.Uint64())
		packet.MakeIPv6(ip, src, dst, packet.ProtoUDP, 64)
		binary.BigEndian.PutUint32(ip[40:], r.Uint32())
		out = append(out, ip)
	}
	return out
}

func TestForwardingDoesNotAllocate(t *testing.T) {
	tests := []struct {
		name string
		link port.Link
		pkts [][]byte
		set  func(*Interface)
	}{
		{"IPv4 on Ethernet", port.Ethernet, flows4(1000, port.Ethernet), nil},
		{"IPv4 on IP links", port.IP, flows4(1000, port.IP), nil},
		{"IPv6", port.IP, flows6(1000), nil},
		{"strict uRPF", port.IP, flows4(1000, port.IP), func(i *Interface) { i.URPF4 = FilterStrict }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w, in, out := testWorker(t, 100, tt.link, tt.set)
			in.pkts = tt.pkts
			q := &Queue{Interface: inIf, Port: in}
			w.serve(q)
			if n := testing.AllocsPerRun(50, func() { w.serve(q) }); n != 0 {
				t.Errorf("%v allocations per batch", n)
			}
			if out.sent == 0 {
				t.Error("nothing was forwarded")
			}
		})
	}
}

func BenchmarkForward(b *testing.B) {
	run := func(name string, routes int, link port.Link, pkts [][]byte, set func(*Interface)) {
		b.Run(name, func(b *testing.B) {
			w, in, _ := testWorker(b, routes, link, set)
			in.pkts = pkts
			q := &Queue{Interface: inIf, Port: in}
			b.ReportAllocs()
			for b.Loop() {
				w.serve(q)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/packet.BatchSize, "ns/packet")
		})
	}
	for _, flows := range []int{1, 1000, 100000} {
		run(fmt.Sprintf("ethernet/ip4/100k-routes/flows=%d", flows), 100000, port.Ethernet, flows4(flows, port.Ethernet), nil)
	}
	for _, flows := range []int{1, 1000, 100000} {
		run(fmt.Sprintf("ip/ip4/1-route/flows=%d", flows), 1, port.IP, flows4(flows, port.IP), nil)
	}
	for _, flows := range []int{1, 1000, 100000} {
		run(fmt.Sprintf("ip/ip6/flows=%d", flows), 1, port.IP, flows6(flows), nil)
	}
	run("feed-alone", 1, port.Ethernet, flows4(1000, port.Ethernet), func(i *Interface) { i.Up = false })
}
