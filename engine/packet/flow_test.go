package packet

import (
	"math/rand/v2"
	"testing"
)

func flowOf(t testing.TB, p []byte) (Flow, uint32) {
	t.Helper()
	var u Upper
	if p[0]>>4 == 4 {
		ip, r := ParseIPv4(p)
		if r != OK {
			t.Fatal(r)
		}
		u = ip.Upper()
	} else {
		ip, r := ParseIPv6(p)
		if r != OK {
			t.Fatal(r)
		}
		if u, r = ip.Upper(); r != OK {
			t.Fatal(r)
		}
	}
	f := FlowOf(p, u)
	if h := FlowHash(p, u); h != f.Hash() {
		t.Fatalf("FlowHash = %#x, Flow.Hash = %#x", h, f.Hash())
	}
	return f, f.Hash()
}

func TestFlowsAreTold(t *testing.T) {
	r := rand.New(rand.NewPCG(13, 13))
	seen := map[Flow]uint32{}
	hashes := map[uint32]int{}
	const n = 4000
	for i := range n {
		s := randomSample(t, r, i&1 == 0, i&2 == 0, r.IntN(100))
		f, h := flowOf(t, s.bytes)
		if before, ok := seen[f]; ok && before != h {
			t.Fatal("one flow, two hashes")
		}
		seen[f] = h
		hashes[h]++
		if s.tcp != nil && f.SrcPort != uint16(s.tcp.SrcPort) || s.udp != nil && f.DstPort != uint16(s.udp.DstPort) {
			t.Fatalf("ports of %+v", f)
		}
		// TTL, TOS, payload and sequence are not the flow's business.
		if s.ip4 != nil {
			IPv4(s.bytes).SetTTL(1)
			s.bytes[ip4TOS] ^= 0xff
			IPv4(s.bytes).UpdateHeaderChecksum()
		} else {
			IPv6(s.bytes).SetHopLimit(1)
		}
		if g, again := flowOf(t, s.bytes); g != f || again != h {
			t.Fatal("another TTL, another flow")
		}
	}
	if len(hashes) < n-20 {
		t.Errorf("%d hashes for %d flows", len(hashes), n)
	}
}

func TestEveryFragmentIsOfOneFlow(t *testing.T) {
	r := rand.New(rand.NewPCG(14, 14))
	s := randomSample(t, r, false, false, 5000)
	var cut Fragmenter
	if r := cut.Start(FromBytes(s.bytes), 1000); r != OK {
		t.Fatal(r)
	}
	dst := FromBytes(nil)
	seen := map[Flow]bool{}
	for cut.Next(dst) {
		f, _ := flowOf(t, dst.Bytes())
		seen[f] = true
		if !f.Fragment || f.SrcPort != 0 {
			t.Errorf("flow %+v", f)
		}
	}
	if len(seen) != 1 {
		t.Errorf("fragments are of %d flows", len(seen))
	}
}

func TestEchoesAreFlowsByIdentifier(t *testing.T) {
	b := FromBytes(nil)
	MakeEchoRequest4(b, [4]byte{10, 0, 0, 1}, [4]byte{10, 0, 0, 2}, EchoRequest{ID: 77, Sequence: 1})
	first, h1 := flowOf(t, b.Bytes())
	MakeEchoRequest4(b, [4]byte{10, 0, 0, 1}, [4]byte{10, 0, 0, 2}, EchoRequest{ID: 77, Sequence: 2})
	second, _ := flowOf(t, b.Bytes())
	MakeEchoRequest4(b, [4]byte{10, 0, 0, 1}, [4]byte{10, 0, 0, 2}, EchoRequest{ID: 78, Sequence: 1})
	_, h3 := flowOf(t, b.Bytes())
	if first != second || first.SrcPort != 77 || h1 == h3 {
		t.Errorf("%+v, %+v", first, second)
	}
}

// Flows that differ in little, as those of one client do, must spread over few queues.
func TestHashSpreadsNeighbouringFlows(t *testing.T) {
	for _, v6 := range []bool{false, true} {
		s := randomSample(t, rand.New(rand.NewPCG(15, 15)), v6, true, 0)
		u := Upper{Proto: ProtoTCP, Offset: s.l4()}
		var buckets [8]int
		const n = 8000
		for port := range n {
			TCP(s.bytes[s.l4():]).SetSrcPort(uint16(30000 + port))
			buckets[FlowHash(s.bytes, u)%8]++
		}
		for i, c := range buckets {
			if c < n/8*8/10 || c > n/8*12/10 {
				t.Errorf("v6 %v: queue %d has %d of %d flows", v6, i, c, n)
			}
		}
	}
}
