package tap

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"testing"

	"github.com/millrace/millrace/engine/packet"
	"github.com/millrace/millrace/internal/netnstest"
	"golang.org/x/sys/unix"
)

// wire carries packets between ports on a goroutine of its own until the test ends, and
// lets step see (and change, answer or drop) each on its way.
type wire struct {
	ports []*Port
	// step returns the packets to send for b, which came in by ports[from], and the
	// port to send them by.
	step func(from int, b *packet.Buffer) (to int, out []*packet.Buffer)

	stop   int // eventfd
	failed error
	done   sync.WaitGroup
}

func startWire(t testing.TB, w *wire) {
	t.Helper()
	var err error
	if w.stop, err = unix.Eventfd(0, unix.EFD_NONBLOCK|unix.EFD_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	arena, err := packet.NewArena(packet.BatchSize)
	if err != nil {
		t.Fatal(err)
	}
	w.done.Go(func() { w.failed = w.run(arena) })
	t.Cleanup(func() {
		if _, err := unix.Write(w.stop, []byte{1, 0, 0, 0, 0, 0, 0, 0}); err != nil {
			t.Error(err)
		}
		w.done.Wait()
		if err := errors.Join(w.failed, unix.Close(w.stop), arena.Close()); err != nil {
			t.Error(err)
		}
	})
}

func (w *wire) run(arena *packet.Arena) error {
	fds := []unix.PollFd{{Fd: int32(w.stop), Events: unix.POLLIN}}
	type queue struct{ port, q int }
	var queues []queue
	for i, p := range w.ports {
		for q := range p.RxQueues() {
			queues = append(queues, queue{i, q})
			fds = append(fds, unix.PollFd{Fd: int32(p.RxFD(q)), Events: unix.POLLIN})
		}
	}
	bufs := make([]*packet.Buffer, packet.BatchSize)
	arena.TakeBatch(bufs)
	for {
		if _, err := unix.Poll(fds, -1); errors.Is(err, unix.EINTR) {
			continue
		} else if err != nil {
			return err
		}
		if fds[0].Revents != 0 {
			return nil
		}
		for i, q := range queues {
			if fds[i+1].Revents == 0 {
				continue
			}
			n, err := w.ports[q.port].Receive(q.q, bufs)
			if err != nil {
				return err
			}
			for _, b := range bufs[:n] {
				to, out := w.step(q.port, b)
				if _, err := w.ports[to].Transmit(q.q%w.ports[to].TxQueues(), out); err != nil {
					return err
				}
			}
		}
	}
}

func open(t testing.TB, c Config) *Port {
	t.Helper()
	p, err := Open(c)
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

// pair is two namespaces whose TUN interfaces a and b carry 10.77.0.1, fd77::1 and
// 10.77.0.2, fd77::2.
type pair struct {
	a, b         *netnstest.Namespace
	portA, portB *Port
}

func newPair(t testing.TB, flagsA, flagsB Flags, queues int) *pair {
	t.Helper()
	netnstest.NeedTun(t)
	netnstest.CheckLeaks(t)
	p := &pair{a: netnstest.New(t), b: netnstest.New(t)}
	p.portA = open(t, Config{HostIfName: "pod0", Namespace: p.a.Path, Flags: TUN | flagsA, RxQueues: queues,
		HostPrefix4: netip.MustParsePrefix("10.77.0.1/24"), HostPrefix6: netip.MustParsePrefix("fd77::1/64")})
	p.portB = open(t, Config{HostIfName: "pod0", Namespace: p.b.Path, Flags: TUN | flagsB, RxQueues: queues,
		HostPrefix4: netip.MustParsePrefix("10.77.0.2/24"), HostPrefix6: netip.MustParsePrefix("fd77::2/64")})
	return p
}

// listen opens a listener inside a namespace.
func listen(t testing.TB, n *netnstest.Namespace, addr string) net.Listener {
	t.Helper()
	var l net.Listener
	n.Run(t, func() (err error) {
		l, err = new(net.ListenConfig).Listen(context.Background(), "tcp", addr)
		return err
	})
	return l
}

func dial(t testing.TB, n *netnstest.Namespace, addr string) net.Conn {
	t.Helper()
	var c net.Conn
	n.Run(t, func() (err error) {
		// The address is a literal, so that the dial stays on this thread's namespace.
		c, err = new(net.Dialer).DialContext(t.Context(), "tcp", addr)
		if err != nil {
			return fmt.Errorf("dial %s: %w", addr, err)
		}
		return nil
	})
	return c
}
