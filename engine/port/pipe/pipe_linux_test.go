package pipe

import (
	"encoding/binary"
	"errors"
	"io"
	"sync"
	"testing"

	"github.com/millrace/millrace/engine/packet"
	"github.com/millrace/millrace/engine/port"
	"github.com/millrace/millrace/internal/netnstest"
	"golang.org/x/sys/unix"
)

func makePipe(t testing.TB, c Config) (a, b *Port, bufs []*packet.Buffer) {
	t.Helper()
	a, b, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	arena, err := packet.NewArena(64)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(a.Close(), b.Close(), a.Close(), arena.Close()); err != nil {
			t.Error(err)
		}
	})
	bufs = make([]*packet.Buffer, 64)
	arena.TakeBatch(bufs)
	return a, b, bufs
}

func readable(t testing.TB, fd, timeout int) bool {
	t.Helper()
	fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	for {
		n, err := unix.Poll(fds, timeout)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		return n > 0
	}
}

func TestOrderAndContents(t *testing.T) {
	netnstest.CheckLeaks(t)
	a, b, bufs := makePipe(t, Config{Link: port.IP, Depth: 50})
	for i, buf := range bufs {
		buf.SetLen(8 + i)
		binary.BigEndian.PutUint64(buf.Bytes(), uint64(i))
		buf.Offload.GSOSize = uint16(i)
	}
	if readable(t, b.RxFD(0), 0) {
		t.Error("an empty queue is readable")
	}
	if n, err := a.Transmit(0, bufs); n != 50 || err != nil {
		t.Fatalf("Transmit = %d, %v; want the depth, 50", n, err)
	}
	if !readable(t, b.RxFD(0), 0) {
		t.Error("a full queue is not readable")
	}
	for got := 0; got < 50; {
		n, err := b.Receive(0, bufs[:20])
		if err != nil || n == 0 {
			t.Fatal(n, err)
		}
		for i, buf := range bufs[:n] {
			if v := binary.BigEndian.Uint64(buf.Bytes()); v != uint64(got+i) || buf.Len() != 8+got+i || buf.Offload.GSOSize != uint16(v) {
				t.Fatalf("packet %d is %d, %d bytes", got+i, v, buf.Len())
			}
		}
		got += n
	}
	if readable(t, b.RxFD(0), 0) {
		t.Error("an emptied queue is readable")
	}
	if a.HardwareAddr() != nil || b.Link() != port.IP {
		t.Error("an IP link has an Ethernet address")
	}
}

// A reader that sleeps on the descriptor gets every packet of a writer that never waits
// but for room.
func TestNoWakeupIsLost(t *testing.T) {
	a, b, bufs := makePipe(t, Config{Depth: 16})
	const total = 20_000
	var writer sync.WaitGroup
	writer.Go(func() {
		buf := packet.FromBytes(make([]byte, 64))
		one := []*packet.Buffer{buf}
		for i := uint64(0); i < total; {
			binary.BigEndian.PutUint64(buf.Bytes(), i)
			n, err := a.Transmit(0, one)
			if err != nil {
				t.Error(err)
				return
			}
			i += uint64(n)
		}
	})
	for want := uint64(0); want < total; {
		if !readable(t, b.RxFD(0), 5000) {
			t.Fatalf("asleep at packet %d", want)
		}
		n, err := b.Receive(0, bufs)
		if err != nil {
			t.Fatal(err)
		}
		for _, buf := range bufs[:n] {
			if got := binary.BigEndian.Uint64(buf.Bytes()); got != want {
				t.Fatalf("packet %d came in place of %d", got, want)
			}
			want++
		}
	}
	writer.Wait()
}

func TestQueuesAreSeparate(t *testing.T) {
	a, b, bufs := makePipe(t, Config{Queues: 3, Capabilities: port.Capabilities{TSO4: true}})
	bufs[0].SetLen(60)
	if _, err := b.Transmit(2, bufs[:1]); err != nil {
		t.Fatal(err)
	}
	for q := range 3 {
		n, err := a.Receive(q, bufs)
		if want := q / 2; n != want || err != nil {
			t.Errorf("queue %d gave %d, %v; want %d", q, n, err, want)
		}
	}
	if !a.Capabilities().TSO4 || a.RxQueues() != 3 || a.TxQueues() != 3 {
		t.Error("configuration is lost")
	}
}

func TestCloseIsFinalForBothEnds(t *testing.T) {
	a, b, bufs := makePipe(t, Config{})
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Receive(0, bufs); !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("Receive says %v", err)
	}
	if _, err := b.Transmit(0, bufs); !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("Transmit says %v", err)
	}
}

func TestSteadyStateDoesNotAllocate(t *testing.T) {
	a, b, bufs := makePipe(t, Config{})
	for _, buf := range bufs {
		buf.SetLen(1500)
	}
	if n := testing.AllocsPerRun(100, func() { carry(t, a, b, bufs) }); n != 0 {
		t.Errorf("%v allocations per batch", n)
	}
}

func carry(t testing.TB, a, b *Port, bufs []*packet.Buffer) {
	if n, err := a.Transmit(0, bufs); n != len(bufs) || err != nil {
		t.Fatal(n, err)
	}
	if n, err := b.Receive(0, bufs); n != len(bufs) || err != nil {
		t.Fatal(n, err)
	}
}

func BenchmarkCarry64(b *testing.B) {
	x, y, bufs := makePipe(b, Config{})
	for _, buf := range bufs {
		buf.SetLen(64)
	}
	b.ReportAllocs()
	for n := 0; n < b.N; n += len(bufs) {
		carry(b, x, y, bufs)
	}
}
