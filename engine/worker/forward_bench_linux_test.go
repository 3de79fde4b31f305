package worker

import (
	"encoding/binary"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"runtime"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/millrace/millrace/engine/fib"
	"github.com/millrace/millrace/engine/packet"
	"github.com/millrace/millrace/engine/port"
)

// The benchmarks here measure what lies between a port's Receive and Transmit, on a table
// of 100k routes. The port is a shared memory ring without a peer:
//
//	templates ─copy─► slots of 2048 bytes ─Receive─► buffers ─ engine ─► Transmit ─► slots
//
// Each window runs once with the engine and once with Transmit straight after Receive (the
// floor); the difference of the medians is the engine's share. Cycles are those of the
// core as a chain of multiplications counts them, not of the time stamp counter.

const (
	slotBytes  = 2048
	ringSlots  = 1024
	frameBytes = 64
)

// ringPort stands for a memif: frames are copied out of one ring and into another.
type ringPort struct {
	frames []byte // templates, one after the other
	at     int    // next template
	rx, tx []byte // the rings' slots
	head   int
	tail   int
	batch  int
	sent   int
	limit  int                // packets before Receive finds nothing; 0 is none
	empty  chan time.Duration // what these cost the thread is sent then
	began  time.Duration
}

func (p *ringPort) Link() port.Link                 { return port.Ethernet }
func (p *ringPort) HardwareAddr() net.HardwareAddr  { return nil }
func (p *ringPort) Capabilities() port.Capabilities { return port.Capabilities{} }
func (p *ringPort) RxQueues() int                   { return 1 }
func (p *ringPort) TxQueues() int                   { return 1 }
func (p *ringPort) RxFD(int) int                    { return -1 }
func (p *ringPort) Close() error                    { return nil }

func (p *ringPort) Receive(_ int, bufs []*packet.Buffer) (int, error) {
	if p.limit > 0 && p.head >= p.limit {
		if p.empty != nil {
			p.empty <- threadTime() - p.began
			p.empty = nil
		}
		return 0, nil
	}
	if p.head == 0 {
		p.began = threadTime()
	}
	bufs = bufs[:min(len(bufs), p.batch)]
	first := p.head
	for range bufs { // what the peer does
		at := p.head % ringSlots * slotBytes
		*(*[frameBytes]byte)(p.rx[at:]) = *(*[frameBytes]byte)(p.frames[p.at:])
		p.head++
		if p.at += frameBytes; p.at == len(p.frames) {
			p.at = 0
		}
	}
	for i, b := range bufs {
		at := (first + i) % ringSlots * slotBytes
		b.Reset(packet.Headroom)
		b.Append(p.rx[at : at+frameBytes])
	}
	return len(bufs), nil
}

func (p *ringPort) Transmit(_ int, bufs []*packet.Buffer) (int, error) {
	for _, b := range bufs {
		at := p.tail % ringSlots * slotBytes
		copy(p.tx[at:at+slotBytes], b.Bytes())
		p.tail++
	}
	p.sent += len(bufs)
	return len(bufs), nil
}

// mapped is memory outside the Go heap.
func mapped(tb testing.TB, n int) []byte {
	tb.Helper()
	m, err := unix.Mmap(-1, 0, n, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_POPULATE)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := unix.Munmap(m); err != nil {
			tb.Error(err)
		}
	})
	return m
}

// prefix4 is a route's prefix.
type prefix4 struct {
	addr uint32
	bits int
}

// internet are n prefixes with lengths as in a large table: mostly /24, a quarter shorter,
// some longer.
func internet(r *rand.Rand, n int) []prefix4 {
	out := make([]prefix4, n)
	for i := range out {
		bits := 24
		switch x := r.IntN(100); {
		case x < 28:
			bits = 16 + r.IntN(8)
		case x >= 90:
			bits = 25 + r.IntN(8)
		}
		addr := 1<<24 + r.Uint32N(222<<24)
		out[i] = prefix4{addr &^ (1<<(32-bits) - 1), bits}
	}
	return out
}

// router is a worker with 100k routes over 16 next hops on the given number of interfaces.
func router(tb testing.TB, ifaces int, filter Filter) (*Worker, *ringPort, []prefix4) {
	tb.Helper()
	const routes, hops = 100000, 16
	state := NewState(routes + 10)
	counters := NewCounters(8, routes+10)
	w, err := New(Config{
		State: state, Counters: &counters, Learn: make(chan Learned, 1), Gone: make(chan uint32, 1),
		Logger: slog.New(slog.DiscardHandler), Capacity: 8,
	})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := w.Close(); err != nil {
			tb.Error(err)
		}
	})
	r := rand.New(rand.NewPCG(1, 2))
	trie := fib.NewTrie4(fib.NewBlocks())
	prefixes := internet(r, routes)
	for i, p := range prefixes {
		leaf := uint32(i + 1)
		trie.Insert(p.addr, p.bits, leaf)
		state.SetLeaf(leaf, 1+r.Uint32N(hops))
	}
	trie.Insert(10<<24, 8, routes+1) // the senders
	state.SetLeaf(routes+1, 1)
	for i := range uint32(hops) {
		state.SetAdjacency(i+1, &Adjacency{
			Kind: KindRewrite, Interface: inIf + i%uint32(ifaces), MTU: 1500, HeaderLen: packet.EthLen,
			Header: [14]byte{2, 0, 0, 1, 0, byte(i), 2, 0, 0, 0, 0, 1, 8, 0},
		})
		state.SetRoute(i+1, &Route{Balance: fib.NewBalance([]fib.Weighted{{Target: i + 1, Weight: 1}}), RPF: []uint32{inIf}})
	}
	p := &ringPort{rx: mapped(tb, ringSlots*slotBytes), tx: mapped(tb, ringSlots*slotBytes)}
	list := []*Interface{nil}
	for i := range ifaces {
		list = append(list, &Interface{
			Index: inIf + uint32(i), Link: port.Ethernet, Up: true, MAC: packet.MAC{2, 0, 0, 0, 0, 1}, Port: p, TxQueues: 1,
			IP4: true, Table4: &Table4{Trie: trie}, URPF4: filter, URPFTable4: &Table4{Trie: trie},
			Punt4: NoIndex, Punt6: NoIndex, Lender: NoIndex,
		})
	}
	state.SetInterfaces(list)
	return w, p, prefixes
}

// load makes p's peer send n different packets, each to an address under one of prefixes.
func (p *ringPort) load(tb testing.TB, n int, prefixes []prefix4) {
	r := rand.New(rand.NewPCG(3, 4))
	p.frames = mapped(tb, n*frameBytes)
	for i := range n {
		f := p.frames[i*frameBytes : (i+1)*frameBytes]
		copy(f, []byte{2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 7, 8, 0})
		x := prefixes[r.IntN(len(prefixes))]
		var dst [4]byte
		binary.BigEndian.PutUint32(dst[:], x.addr|r.Uint32()&(1<<(32-x.bits)-1))
		ip := packet.MakeIPv4(f[14:], [4]byte{10, byte(r.Uint32()), byte(r.Uint32()), byte(r.Uint32())}, dst, packet.ProtoUDP, 64)
		binary.BigEndian.PutUint32(ip[20:], r.Uint32())
		binary.BigEndian.PutUint16(ip[24:], uint16(len(ip)-20))
	}
}

// window is how many packets are sent between two looks at the clock, for both kinds.
const window = 1 << 14

// forward measures windows of batches until b has enough.
func forward(b *testing.B, w *Worker, p *ringPort, batch int) {
	p.batch = batch
	q := &Queue{Interface: inIf, Port: p}
	var with, without, clock []float64
	b.ReportAllocs()
	for b.Loop() {
		t0 := time.Now()
		for range window / batch {
			w.serve(q)
		}
		t1 := time.Now()
		for range window / batch {
			n, _ := p.Receive(0, w.rx[:])
			_, _ = p.Transmit(0, w.rx[:n])
		}
		t2 := time.Now()
		x := multiply(1 << 12)
		t3 := time.Now()
		sink += x
		with = append(with, float64(t1.Sub(t0))/window)
		without = append(without, float64(t2.Sub(t1))/window)
		clock = append(clock, 3*(1<<12)/float64(t3.Sub(t2)))
	}
	if want := 2 * b.N * window; p.sent < want {
		b.Fatalf("%d packets forwarded of %d", p.sent, want)
	}
	full, floor, ghz := median(with), median(without), median(clock)
	b.ReportMetric(full, "ns/packet")
	b.ReportMetric(floor, "floor-ns/packet")
	b.ReportMetric(full-floor, "engine-ns/packet")
	b.ReportMetric((full-floor)*ghz, "engine-cycles/packet")
	b.ReportMetric(0, "ns/op")
}

var sink uint64 // what keeps the compiler from dropping the chain

// multiply is a chain of n dependent multiplications: 3 cycles each on the x86 and ARM
// cores of the last ten years.
func multiply(n int) uint64 {
	x := uint64(n)
	for range n {
		x *= 0x9e3779b97f4a7c15
	}
	return x
}

func median(x []float64) float64 {
	slices.Sort(x)
	return x[len(x)/2]
}

func BenchmarkRouter(b *testing.B) {
	tests := []struct {
		name   string
		ifaces int
		filter Filter
		flows  int
	}{
		{"one-armed/cold", 1, FilterOff, 1 << 20},
		{"one-armed/hot", 1, FilterOff, 1024},
		{"two-armed/cold", 2, FilterOff, 1 << 20},
		{"two-armed/hot", 2, FilterOff, 1024},
		{"strict/flows=1k", 2, FilterStrict, 1024},
		{"strict/flows=100k", 2, FilterStrict, 100000},
	}
	for _, tt := range tests {
		for _, batch := range []int{256, 32} {
			b.Run(fmt.Sprintf("%s/batch=%d", tt.name, batch), func(b *testing.B) {
				w, p, prefixes := router(b, tt.ifaces, tt.filter)
				p.load(b, tt.flows, prefixes)
				forward(b, w, p, batch)
			})
		}
	}
}

// BenchmarkRun is a worker's whole loop on a queue that it polls: what a round costs
// beside its batch, and what the runtime does to it meanwhile.
func BenchmarkRun(b *testing.B) {
	for _, batch := range []int{256, 32} {
		b.Run(fmt.Sprintf("batch=%d", batch), func(b *testing.B) {
			w, p, prefixes := router(b, 1, FilterOff)
			p.load(b, 1024, prefixes)
			p.batch, p.limit, p.empty = batch, b.N*window, make(chan time.Duration, 1)
			empty := p.empty
			if err := w.Add(&Queue{Interface: inIf, Port: p, Mode: Polling}); err != nil {
				b.Fatal(err)
			}
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			done := make(chan error)
			go func() { done <- w.Run() }()
			cost := <-empty
			w.Stop()
			if err := <-done; err != nil {
				b.Fatal(err)
			}
			runtime.ReadMemStats(&after)
			b.ReportMetric(float64(cost)/float64(p.limit), "cpu-ns/packet")
			b.ReportMetric(float64(after.NumGC-before.NumGC), "collections")
			b.ReportMetric(0, "ns/op")
		})
	}
}

// threadTime is what the calling thread has had of its core.
func threadTime() time.Duration {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &t); err != nil {
		panic(err)
	}
	return time.Duration(t.Nano())
}
