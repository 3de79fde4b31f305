package packet

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
)

// work is every operation of a packet's path, by name, over buffers made before.
func work(t testing.TB) map[string]func() {
	r := rand.New(rand.NewPCG(30, 30))
	arena, err := NewArena(64)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := arena.Close(); err != nil {
			t.Error(err)
		}
	})
	dst := arena.Take()
	batch := make([]*Buffer, 32)
	keep := func(p []byte) *Buffer { b := arena.Take(); b.Append(p); return b }
	v4, v6 := randomSample(t, r, false, true, 1400), randomSample(t, r, true, true, 1400)
	plain := keep(v4.bytes)
	plain.L4 = uint16(v4.l4())
	aging := keep(v4.bytes) // nobody else's: its TTL wraps, and nobody forwards that
	six := keep(v6.bytes)
	udp := keep(randomSample(t, r, false, false, 5000).bytes)
	big := gsoOf(t, randomSample(t, r, false, true, 60_000), 1448)
	ping := arena.Take()
	MakeEchoRequest4(ping, [4]byte{10, 0, 0, 1}, [4]byte{10, 0, 0, 2}, EchoRequest{ID: 1})
	pong := append([]byte(nil), ping.Bytes()...)
	refill := func(p []byte) { dst.Reset(Headroom); dst.Append(p) }
	arp := arena.Take()
	MakeARPRequest(arp, MAC{2}, [4]byte{10, 0, 0, 1}, [4]byte{10, 0, 0, 2})
	ns := arena.Take()
	MakeNeighborSolicit(ns, MAC{2}, [16]byte{0: 0xfd}, [16]byte{0: 0xfd, 15: 1})
	return map[string]func(){
		"arena":   func() { arena.Put(batch[:arena.TakeBatch(batch)]...) },
		"parse4":  func() { ip, _ := ParseIPv4(plain.Bytes()); _ = FlowHash(ip, ip.Upper()) },
		"parse6":  func() { ip, _ := ParseIPv6(six.Bytes()); u, _ := ip.Upper(); _ = FlowHash(ip, u) },
		"flow":    func() { f := FlowOf(plain.Bytes(), Upper{Proto: ProtoTCP, Offset: 20}); _ = f.Hash() },
		"ttl":     func() { IPv4(aging.Bytes()).DecrementTTL() },
		"leave":   func() { LeaveChecksum(plain); FinishChecksum(plain) },
		"verify":  func() { VerifyTransportChecksum(plain) },
		"wirelen": func() { Fits(big, 1500) },
		"copy":    func() { dst.CopyFrom(plain) },
		"segment": func() {
			var s Segmenter
			s.Start(big)
			for s.Next(dst) {
			}
		},
		"fragment": func() {
			var f Fragmenter
			f.Start(udp, 1500)
			for f.Next(dst) {
			}
		},
		"error4": func() { refill(v4.bytes); MakeICMPv4Error(dst, [4]byte{1}, ICMPError{Type: ICMPv4TimeExceeded}) },
		"error6": func() { refill(v6.bytes); MakeICMPv6Error(dst, [16]byte{1}, ICMPError{Type: ICMPv6TimeExceeded}) },
		"echo":   func() { refill(pong); MakeEchoReply4(dst) },
		"arp":    func() { a, _ := ParseARP(arp.L3Bytes()); MakeARPReply(dst, a, MAC{2}) },
		"neighbour": func() {
			ip, _ := ParseIPv6(ns.L3Bytes())
			ParseNeighbor(ip, ip.Payload())
			AnswerNeighborSolicit(dst, ip, MAC{2}, ip.Dst(), MAC{2}, 0)
		},
		"virtio": func() { o := OffloadFromVirtio(big.Bytes()); o.PutVirtio(dst.Front(12)) },
		"vlan":   func() { refill(pong); PushVLAN(dst, EtherTypeVLAN, 1) },
	}
}

func TestNothingAllocates(t *testing.T) {
	steps := work(t)
	for _, name := range slices.Sorted(maps.Keys(steps)) {
		if n := testing.AllocsPerRun(100, steps[name]); n != 0 {
			t.Errorf("%s allocates %v times", name, n)
		}
	}
}

func BenchmarkWork(b *testing.B) {
	for _, name := range []string{"parse4", "parse6", "flow", "ttl", "leave", "verify", "wirelen", "copy", "segment", "fragment", "error4", "error6", "echo", "arp", "neighbour", "arena"} {
		b.Run(name, func(b *testing.B) {
			f := work(b)[name]
			b.ReportAllocs()
			for b.Loop() {
				f()
			}
		})
	}
}

func BenchmarkSum(b *testing.B) {
	for _, n := range []int{20, 64, 1500, 64_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			p := make([]byte, n)
			b.SetBytes(int64(n))
			for b.Loop() {
				Sum(p, 0)
			}
		})
	}
}

// BenchmarkHeaders touches the header of each packet of a batch in an arena, as the first
// stage of a worker does: the price of caches and TLB, not of work.
func BenchmarkHeaders(b *testing.B) {
	arena, err := NewArena(2 * BatchSize)
	if err != nil {
		b.Fatal(err)
	}
	defer arena.Close()
	bufs := make([]*Buffer, 2*BatchSize)
	arena.TakeBatch(bufs)
	for _, buf := range bufs {
		buf.SetLen(64)
		MakeIPv4(buf.Bytes(), [4]byte{10, 0, 0, 1}, [4]byte{10, 0, 0, 2}, ProtoUDP, 255)
	}
	for b.Loop() {
		for _, buf := range bufs {
			buf.Bytes()[ip4TTL]++
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(len(bufs)), "ns/packet")
}
