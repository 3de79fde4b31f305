package memif

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/millrace/millrace/engine/packet"
	"github.com/millrace/millrace/engine/port"
	"github.com/millrace/millrace/internal/netnstest"
	"github.com/millrace/millrace/memif"
	"golang.org/x/sys/unix"
)

// patience bounds what a broken port costs.
const patience = 20 * time.Second

// eventually waits until ok.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("never: %s", what)
		}
	}
}

func open(t testing.TB, s *Socket, c Config) *Port {
	t.Helper()
	p, err := s.Open(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	return p
}

func address(t testing.TB) string { return filepath.Join(t.TempDir(), "memif.sock") }

func socket(role memif.Role, address string) *Socket {
	return NewSocket(memif.SocketConfig{Role: role, Address: address, Retry: 20 * time.Millisecond})
}

// follower remembers the state that a port told.
type follower struct{ up, told atomic.Int32 }

func follow(p *Port) *follower {
	f := &follower{}
	p.Follow(func(up bool) {
		n := int32(0)
		if up {
			n = 1
		}
		f.up.Store(n)
		f.told.Add(1)
	})
	return f
}

// join makes two ports that are joined by a link.
func join(t testing.TB, server, client Config) (a, b *Port) {
	t.Helper()
	at := address(t)
	a, b = open(t, socket(memif.Server, at), server), open(t, socket(memif.Client, at), client)
	fa, fb := follow(a), follow(b)
	b.SetAdminUp(true)
	eventually(t, "link is up", func() bool { return fa.up.Load() == 1 && fb.up.Load() == 1 })
	return a, b
}

func buffers(t testing.TB, n int) []*packet.Buffer {
	t.Helper()
	arena, err := packet.NewArena(n)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := arena.Close(); err != nil {
			t.Error(err)
		}
	})
	bufs := make([]*packet.Buffer, n)
	arena.TakeBatch(bufs)
	return bufs
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

// fill makes a packet of n bytes that follow from seed.
func fill(b *packet.Buffer, seed uint64, n int) {
	r := rand.New(rand.NewPCG(seed, 1))
	b.Reset(packet.Headroom)
	b.SetLen(n)
	p := b.Bytes()
	for i := range p {
		p[i] = byte(r.Uint32())
	}
}

// TestPackets moves packets of all sizes, up to the longest there is, both ways, as a
// level-triggered poller does.
func TestPackets(t *testing.T) {
	netnstest.CheckLeaks(t)
	for _, mode := range []memif.Mode{memif.Ethernet, memif.IP} {
		t.Run(mode.String(), func(t *testing.T) {
			mac := net.HardwareAddr{2, 0xfe, 0, 0, 0, 1}
			if mode == memif.IP {
				mac = nil
			}
			a, b := join(t, Config{Mode: mode, HardwareAddr: mac}, Config{Mode: mode, HardwareAddr: mac, RingSize: 256})
			link := map[memif.Mode]port.Link{memif.Ethernet: port.Ethernet, memif.IP: port.IP}[mode]
			if a.Link() != link || !bytes.Equal(b.HardwareAddr(), mac) || a.Capabilities() != (port.Capabilities{}) {
				t.Errorf("link %v, address %v, capabilities %+v", a.Link(), b.HardwareAddr(), a.Capabilities())
			}
			move(t, a, b)
			move(t, b, a)
		})
	}
}

func move(t *testing.T, from, to *Port) {
	t.Helper()
	out, in := buffers(t, 40), buffers(t, 40)
	for round := range 20 {
		for i, b := range out {
			n := 1 + rand.IntN(200)
			switch i {
			case 3:
				n = packet.MaxPacket
			case 7:
				n = 1 + rand.IntN(9000)
			}
			fill(b, uint64(round*100+i), n)
		}
		got := 0
		for sent := 0; got < len(out); {
			n, err := from.Transmit(0, out[sent:])
			if err != nil {
				t.Fatal(err)
			}
			sent += n
			if !readable(t, to.RxFD(0), 10000) {
				t.Fatalf("round %d: not readable with %d of %d packets received", round, got, sent)
			}
			in[got].Offload.GSO = packet.GSOTCPv4 // of the packet before
			n, err = to.Receive(0, in[got:])
			if err != nil {
				t.Fatal(err)
			}
			got += n
		}
		for i := range out {
			if !bytes.Equal(out[i].Bytes(), in[i].Bytes()) || in[i].Offload != (packet.Offload{}) {
				t.Fatalf("round %d, packet %d: %d bytes came, %d were sent, or they differ (%+v)", round, i, in[i].Len(), out[i].Len(), in[i].Offload)
			}
		}
		if n, err := to.Receive(0, in); n != 0 || err != nil {
			t.Fatalf("receive from an empty ring: %d, %v", n, err)
		}
		if readable(t, to.RxFD(0), 0) {
			t.Fatal("an empty ring is readable")
		}
	}
	if d := to.Drops(); d != (port.Drops{}) {
		t.Errorf("drops: %+v", d)
	}
}

// TestFullRing: what finds no room is not taken and comes later.
func TestFullRing(t *testing.T) {
	a, b := join(t, Config{}, Config{RingSize: 32})
	out, in := buffers(t, 300), buffers(t, 300)
	for i, p := range out {
		fill(p, uint64(i), 60)
	}
	for _, way := range [][2]*Port{{a, b}, {b, a}} {
		sent, got := 0, 0
		for got < len(out) {
			n, err := way[0].Transmit(0, out[sent:])
			if err != nil || n > 32 {
				t.Fatalf("transmit: %d, %v", n, err)
			}
			sent += n
			n, err = way[1].Receive(0, in[got:])
			if err != nil {
				t.Fatal(err)
			}
			got += n
		}
		for i := range out {
			if !bytes.Equal(out[i].Bytes(), in[i].Bytes()) {
				t.Fatalf("packet %d differs", i)
			}
		}
	}
}

// TestTooLong: a packet that the whole ring cannot hold is counted and holds up nobody.
func TestTooLong(t *testing.T) {
	a, b := join(t, Config{}, Config{RingSize: 2, BufferSize: 64})
	out, in := buffers(t, 3), buffers(t, 3)
	fill(out[0], 0, 60)
	fill(out[1], 1, 200)
	fill(out[2], 2, 60)
	for _, way := range [][2]*Port{{a, b}, {b, a}} {
		sent, got := 0, 0
		eventually(t, "both arrive", func() bool {
			n, err := way[0].Transmit(0, out[sent:])
			if err != nil {
				t.Fatal(err)
			}
			sent += n
			n, err = way[1].Receive(0, in[got:])
			if err != nil {
				t.Fatal(err)
			}
			got += n
			return sent == 3 && got == 2
		})
		if !bytes.Equal(in[0].Bytes(), out[0].Bytes()) || !bytes.Equal(in[1].Bytes(), out[2].Bytes()) {
			t.Error("others arrived")
		}
		if d := way[0].Drops(); d != (port.Drops{TxTooLong: 1}) {
			t.Errorf("drops: %+v", d)
		}
	}
}

// TestPolling: a polled queue gets no signal, and gets one again when it is no longer.
func TestPolling(t *testing.T) {
	a, b := join(t, Config{}, Config{})
	out, in := buffers(t, 1), buffers(t, 8)
	fill(out[0], 1, 100)
	arrives := func() {
		t.Helper()
		eventually(t, "packet arrives", func() bool {
			n, err := b.Receive(0, in)
			if err != nil {
				t.Fatal(err)
			}
			return n == 1
		})
	}
	for range 3 {
		b.SetPolling(0, true)
		// The mask is set by the first call on the link.
		if n, err := b.Receive(0, in); n != 0 || err != nil {
			t.Fatalf("receive: %d, %v", n, err)
		}
		signals := a.tx[0].inner.Stats().Signals
		if n, err := a.Transmit(0, out); n != 1 || err != nil {
			t.Fatalf("transmit: %d, %v", n, err)
		}
		if now := a.tx[0].inner.Stats().Signals; now != signals {
			t.Errorf("a polled queue was signalled %d times", now-signals)
		}
		arrives()
		b.SetPolling(0, false)
		if n, err := b.Receive(0, in); n != 0 || err != nil {
			t.Fatalf("receive: %d, %v", n, err)
		}
		if n, err := a.Transmit(0, out); n != 1 || err != nil {
			t.Fatalf("transmit: %d, %v", n, err)
		}
		if !readable(t, b.RxFD(0), 10000) {
			t.Fatal("no signal after polling has ended")
		}
		arrives()
	}
}

// TestNoAllocation: neither a batch nor an empty look allocates, in any role and mode.
func TestNoAllocation(t *testing.T) {
	for _, mode := range []memif.Mode{memif.Ethernet, memif.IP} {
		a, b := join(t, Config{Mode: mode}, Config{Mode: mode})
		out, in := buffers(t, 32), buffers(t, packet.BatchSize)
		for i, p := range out {
			fill(p, uint64(i), 64)
		}
		fill(out[5], 5, 9000)
		for _, polling := range []bool{false, true} {
			for _, way := range [][2]*Port{{a, b}, {b, a}} {
				way[1].SetPolling(0, polling)
				allocs := testing.AllocsPerRun(200, func() {
					if n, err := way[0].Transmit(0, out); n != len(out) || err != nil {
						t.Fatalf("transmit: %d, %v", n, err)
					}
					if n, err := way[1].Receive(0, in); n != len(out) || err != nil {
						t.Fatalf("receive: %d, %v", n, err)
					}
					if n, err := way[1].Receive(0, in); n != 0 || err != nil {
						t.Fatalf("receive from nothing: %d, %v", n, err)
					}
				})
				if allocs != 0 && !raced {
					t.Errorf("%s, polling %t: %v allocations", mode, polling, allocs)
				}
			}
		}
	}
}

// TestManyQueues: four rings of a client, of which each of two server queues serves two.
func TestManyQueues(t *testing.T) {
	a, b := join(t, Config{RxQueues: 2, TxQueues: 2}, Config{RxQueues: 4, TxQueues: 4})
	if a.RxQueues() != 2 || b.TxQueues() != 4 {
		t.Fatalf("%d and %d queues", a.RxQueues(), b.TxQueues())
	}
	out, in := buffers(t, 1), buffers(t, 16)
	for q := range 4 {
		fill(out[0], uint64(q), 100+q)
		if n, err := b.Transmit(q, out); n != 1 || err != nil {
			t.Fatalf("transmit on %d: %d, %v", q, n, err)
		}
	}
	for q := range 2 {
		got := map[int]bool{}
		eventually(t, "both rings' packets", func() bool {
			n, err := a.Receive(q, in)
			if err != nil {
				t.Fatal(err)
			}
			for _, p := range in[:n] {
				got[p.Len()] = true
			}
			return len(got) == 2
		})
		if !got[100+q] || !got[102+q] {
			t.Errorf("queue %d received %v", q, got)
		}
	}
}

// TestLink: the follower hears of each change; a peer that comes back is found; without a
// link nothing is taken and the descriptor rests.
func TestLink(t *testing.T) {
	netnstest.CheckLeaks(t)
	at := address(t)
	a := open(t, socket(memif.Server, at), Config{})
	f := follow(a)
	bufs := buffers(t, 4)
	for round := range 4 {
		b, err := socket(memif.Client, at).Open(Config{})
		if err != nil {
			t.Fatal(err)
		}
		fb := follow(b)
		b.SetAdminUp(true)
		eventually(t, "link is up", func() bool { return f.up.Load() == 1 && fb.up.Load() == 1 })
		fill(bufs[0], 1, 70)
		if n, err := b.Transmit(0, bufs[:1]); n != 1 || err != nil {
			t.Fatalf("transmit: %d, %v", n, err)
		}
		eventually(t, "packet arrives", func() bool {
			n, err := a.Receive(0, bufs[1:])
			return n == 1 && err == nil
		})
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
		eventually(t, "link is down", func() bool { return f.up.Load() == 0 })
		if n := f.told.Load(); n != int32(2*round+2) {
			t.Errorf("told %d times", n)
		}
		if n, err := a.Transmit(0, bufs[:1]); n != 0 || err != nil {
			t.Errorf("transmit without a link: %d, %v", n, err)
		}
		if n, err := a.Receive(0, bufs); n != 0 || err != nil {
			t.Errorf("receive without a link: %d, %v", n, err)
		}
		if readable(t, a.RxFD(0), 0) {
			t.Error("readable without a link")
		}
	}
}

// TestClosedDoor: nothing is received before the follower has heard of the link.
func TestClosedDoor(t *testing.T) {
	at := address(t)
	a, b := open(t, socket(memif.Server, at), Config{}), open(t, socket(memif.Client, at), Config{})
	fb := follow(b)
	b.SetAdminUp(true)
	eventually(t, "link is up", func() bool { return fb.up.Load() == 1 })
	bufs := buffers(t, 2)
	fill(bufs[0], 1, 70)
	eventually(t, "packet is sent", func() bool { n, err := b.Transmit(0, bufs[:1]); return n == 1 && err == nil })
	for range 100 {
		if n, err := a.Receive(0, bufs[1:]); n != 0 || err != nil {
			t.Fatalf("receive: %d, %v", n, err)
		}
	}
	eventually(t, "server has a link", func() bool { return a.Status().Up })
	if !readable(t, a.RxFD(0), 10000) {
		t.Fatal("a waiting packet is not shown")
	}
	follow(a)
	if n, err := a.Receive(0, bufs[1:]); n != 1 || err != nil {
		t.Fatalf("receive: %d, %v", n, err)
	}
}

// TestClientWaits: a client looks for nobody before it is set up.
func TestClientWaits(t *testing.T) {
	at := address(t)
	a, b := open(t, socket(memif.Server, at), Config{}), open(t, socket(memif.Client, at), Config{})
	f := follow(a)
	time.Sleep(100 * time.Millisecond)
	if a.Status().Up {
		t.Error("a client connected while it is down")
	}
	b.SetAdminUp(true)
	b.SetAdminUp(false)
	b.SetAdminUp(true)
	eventually(t, "link is up", func() bool { return f.up.Load() == 1 })
}

// TestSocket: a server's file is there while it has a port, and nobody else's is taken.
func TestSocket(t *testing.T) {
	netnstest.CheckLeaks(t)
	at := address(t)
	s := socket(memif.Server, at)
	first := open(t, s, Config{ID: 1})
	second := open(t, s, Config{ID: 2})
	if info, err := os.Stat(at); err != nil || info.Mode().Perm()&0o020 == 0 {
		t.Errorf("socket file: %v, %v", info, err)
	}
	if _, err := s.Open(Config{ID: 2}); kindOf(err) != memif.BadConfig {
		t.Errorf("id taken: %v", err)
	}
	if _, err := socket(memif.Server, at).Open(Config{}); kindOf(err) != memif.System {
		t.Errorf("address taken: %v", err)
	}
	for _, p := range []*Port{first, second} {
		if _, err := os.Stat(at); err != nil {
			t.Error(err)
		}
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	}
	if _, err := os.Stat(at); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("socket file after the last port: %v", err)
	}
	again := open(t, s, Config{ID: 1})
	if err := again.Close(); err != nil {
		t.Error(err)
	}
	if _, err := s.Open(Config{ID: 1, Secret: fmt.Sprint(make([]byte, 30))}); kindOf(err) != memif.BadConfig {
		t.Errorf("long secret: %v", err)
	}
	if _, err := os.Stat(at); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("socket file after a failed open: %v", err)
	}
}

func kindOf(err error) memif.Kind {
	if e, ok := errors.AsType[*memif.Error](err); ok {
		return e.Kind
	}
	return 0
}
