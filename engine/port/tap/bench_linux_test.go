package tap

import (
	"io"
	"net/netip"
	"testing"

	"github.com/millrace/millrace/engine/packet"
	"github.com/millrace/millrace/internal/netnstest"
	"golang.org/x/sys/unix"
)

// echoPort is a TUN port whose host answers pings: what is transmitted comes back.
func echoPort(t testing.TB) (*Port, []*packet.Buffer, *packet.Buffer) {
	t.Helper()
	netnstest.NeedTun(t)
	n := netnstest.New(t)
	p, err := Open(Config{Namespace: n.Path, Flags: TUN | GSO, HostPrefix4: netip.MustParsePrefix("10.77.0.1/24")})
	if err != nil {
		t.Fatal(err)
	}
	arena, err := packet.NewArena(packet.BatchSize + 1)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
		if err := arena.Close(); err != nil {
			t.Error(err)
		}
	})
	bufs := make([]*packet.Buffer, packet.BatchSize)
	arena.TakeBatch(bufs)
	ping := arena.Take()
	if r := packet.MakeEchoRequest4(ping, [4]byte{10, 77, 0, 2}, [4]byte{10, 77, 0, 1}, packet.EchoRequest{ID: 1}); r != packet.OK {
		t.Fatal(r)
	}
	return p, bufs, ping
}

// wait blocks until queue 0 has packets.
func wait(t testing.TB, p *Port) {
	t.Helper()
	fds := []unix.PollFd{{Fd: int32(p.RxFD(0)), Events: unix.POLLIN}}
	n, err := unix.Poll(fds, 5000)
	for err == unix.EINTR {
		n, err = unix.Poll(fds, 5000)
	}
	if err != nil || n == 0 {
		t.Fatalf("no packet came back: %v", err)
	}
}

func TestIntegrationQueuesDoNotAllocate(t *testing.T) {
	p, bufs, ping := echoPort(t)
	tx := []*packet.Buffer{ping}
	view := packet.NewBuffer(nil)
	view.SetView(append([]byte(nil), ping.Bytes()...), 0, ping.Len())
	fromView := []*packet.Buffer{view}
	got := 0
	if n := testing.AllocsPerRun(200, func() {
		for _, out := range [][]*packet.Buffer{tx, fromView} {
			if n, err := p.Transmit(0, out); n != 1 || err != nil {
				t.Fatalf("Transmit = %d, %v", n, err)
			}
			wait(t, p)
			n, err := p.Receive(0, bufs)
			if err != nil {
				t.Fatal(err)
			}
			got += n
		}
	}); n != 0 {
		t.Errorf("%v allocations per packet", n)
	}
	if got < 400 {
		t.Errorf("%d replies to 402 pings", got)
	}
}

// BenchmarkEcho is one packet out, through the host's ICMP, and in.
func BenchmarkEcho(b *testing.B) {
	p, bufs, ping := echoPort(b)
	batch := make([]*packet.Buffer, 64)
	for i := range batch {
		batch[i] = ping
	}
	b.ReportAllocs()
	for n := 0; n < b.N; {
		if _, err := p.Transmit(0, batch); err != nil {
			b.Fatal(err)
		}
		got, err := p.Receive(0, bufs)
		if err != nil {
			b.Fatal(err)
		}
		n += max(got, 1)
	}
}

// BenchmarkTransmit64 and BenchmarkTransmit64K send to an address that the host drops.
func BenchmarkTransmit64(b *testing.B) { benchmarkTransmit(b, 64) }

func BenchmarkTransmit64K(b *testing.B) { benchmarkTransmit(b, 64000) }

func benchmarkTransmit(b *testing.B, size int) {
	p, bufs, _ := echoPort(b)
	for _, buf := range bufs {
		buf.Reset(packet.Headroom)
		buf.SetLen(size)
		packet.MakeIPv4(buf.Bytes(), [4]byte{10, 77, 0, 2}, [4]byte{10, 99, 0, 1}, packet.ProtoUDP, 64)
	}
	b.SetBytes(int64(size))
	b.ReportAllocs()
	for n := 0; n < b.N; n += len(bufs) {
		if sent, err := p.Transmit(0, bufs); err != nil || sent != len(bufs) {
			b.Fatal(sent, err)
		}
	}
}

// BenchmarkReceiveNothing is the price of finding the queue empty: one system call.
func BenchmarkReceiveNothing(b *testing.B) {
	p, bufs, _ := echoPort(b)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := p.Receive(0, bufs); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkForwardTCP is a TCP stream from one namespace to another through two ports
// and a loop that only forwards.
func BenchmarkForwardTCP(b *testing.B) {
	p := newPair(b, GSO, GSO, 1)
	out := make([]*packet.Buffer, 1)
	startWire(b, &wire{ports: []*Port{p.portA, p.portB}, step: func(from int, buf *packet.Buffer) (int, []*packet.Buffer) {
		out[0] = buf
		return 1 - from, out
	}})
	l := listen(b, p.b, "10.77.0.2:7009")
	defer l.Close()
	done := make(chan error, 1)
	go func() {
		c, err := l.Accept()
		if err == nil {
			_, err = io.Copy(io.Discard, c)
			c.Close()
		}
		done <- err
	}()
	c := dial(b, p.a, "10.77.0.2:7009")
	chunk := make([]byte, 128<<10)
	b.SetBytes(int64(len(chunk)))
	for b.Loop() {
		if _, err := c.Write(chunk); err != nil {
			b.Fatal(err)
		}
	}
	if err := c.Close(); err != nil {
		b.Fatal(err)
	}
	if err := <-done; err != nil {
		b.Fatal(err)
	}
}
