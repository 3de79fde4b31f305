package afpacket

import (
	"testing"

	"github.com/millrace/millrace/engine/packet"
	"github.com/millrace/millrace/internal/netnstest"
)

// joined is a port on each end of a veth, and buffers with UDP packets of size bytes.
func joined(t testing.TB, size int) (a, b *Port, out, in []*packet.Buffer) {
	t.Helper()
	left, right := netnstest.New(t), netnstest.New(t)
	netnstest.Veth(t, left, "veth0", right, "veth1")
	a = open(t, Config{HostIfName: "veth0", Namespace: left.Path, Flags: ChecksumGSO | QdiscBypass})
	b = open(t, Config{HostIfName: "veth1", Namespace: right.Path, Flags: ChecksumGSO | QdiscBypass})
	arena, err := packet.NewArena(128)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := arena.Close(); err != nil {
			t.Error(err)
		}
	})
	out, in = make([]*packet.Buffer, 64), make([]*packet.Buffer, 64)
	arena.TakeBatch(out)
	arena.TakeBatch(in)
	for _, p := range out {
		fillUDP(t, p, size)
	}
	return a, b, out, in
}

// fillUDP makes p an Ethernet frame with a UDP payload of size bytes, GSO when long.
func fillUDP(t testing.TB, p *packet.Buffer, size int) {
	t.Helper()
	p.SetLen(packet.IPv4Len + packet.UDPLen + size)
	p.L4 = packet.IPv4Len
	packet.UDP(p.L4Bytes()).SetLength(packet.UDPLen + size)
	packet.MakeIPv4(p.Bytes(), [4]byte{10, 0, 0, 1}, [4]byte{10, 0, 0, 2}, packet.ProtoUDP, 64)
	if r := packet.LeaveChecksum(p); r != packet.OK {
		t.Fatal(r)
	}
	if size > 1400 {
		p.Offload.GSO, p.Offload.GSOSize, p.Offload.HeaderLen = packet.GSOUDPL4, 1400, packet.IPv4Len+packet.UDPLen
	}
	packet.PushEthernet(p, packet.MAC{2, 0, 0, 0, 0, 9}, packet.MAC{2, 0, 0, 0, 0, 8}, packet.EtherTypeIPv4)
}

// exchange sends a batch and receives what is there.
func exchange(t testing.TB, a, b *Port, out, in []*packet.Buffer) int {
	if n, err := a.Transmit(0, out); n != len(out) || err != nil {
		t.Fatalf("Transmit = %d, %v", n, err)
	}
	n, err := b.Receive(0, in)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestIntegrationQueuesDoNotAllocate(t *testing.T) {
	for _, size := range []int{22, 30_000} {
		a, b, out, in := joined(t, size)
		if size > 1400 && !a.Capabilities().USO {
			t.Skip("needs a kernel with UDP segmentation on packet sockets (6.2)")
		}
		got := 0
		if n := testing.AllocsPerRun(50, func() { got += exchange(t, a, b, out, in) }); n != 0 {
			t.Errorf("%d bytes: %v allocations per batch", size, n)
		}
		if got < 50*len(out) {
			t.Errorf("%d bytes: %d packets of %d arrived", size, got, 51*len(out))
		}
		for range 4 {
			exchange(t, a, b, nil, in) // what the kernel itself multicast
		}
		if n := testing.AllocsPerRun(100, func() { exchange(t, a, b, nil, in) }); n != 0 {
			t.Errorf("an idle ring allocates %v times", n)
		}
	}
}

// BenchmarkVeth64 and BenchmarkVeth60K are one packet out of one port, through a veth
// and into the other.
func BenchmarkVeth64(b *testing.B) { benchmarkVeth(b, 22) }

func BenchmarkVeth60K(b *testing.B) { benchmarkVeth(b, 60_000) }

func benchmarkVeth(b *testing.B, size int) {
	x, y, out, in := joined(b, size)
	b.SetBytes(int64(size + packet.EthLen + packet.IPv4Len + packet.UDPLen))
	b.ReportAllocs()
	got := 0
	for n := 0; n < b.N; n += len(out) {
		got += exchange(b, x, y, out, in)
	}
	b.ReportMetric(float64(got)/float64((b.N+len(out)-1)/len(out)*len(out)), "received/sent")
}
