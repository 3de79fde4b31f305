package afpacket

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"testing"

	"github.com/millrace/millrace/engine/packet"
	"github.com/millrace/millrace/engine/port"
	"github.com/millrace/millrace/internal/netnstest"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// wire carries what comes in by one port out by the other, on a goroutine of its own,
// until the test ends. see is shown every packet.
type wire struct {
	ports [2]port.Port
	see   func(from, queue int, b *packet.Buffer)

	stop   int
	failed error
	done   sync.WaitGroup
}

func startWire(t *testing.T, a, b port.Port, see func(from, queue int, b *packet.Buffer)) {
	t.Helper()
	w := &wire{ports: [2]port.Port{a, b}, see: see}
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
	for _, p := range w.ports {
		for q := range p.RxQueues() {
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
		for i, p := range w.ports {
			for q := range p.RxQueues() {
				n, err := p.Receive(q, bufs)
				if err != nil {
					return err
				}
				for _, b := range bufs[:n] {
					w.see(i, q, b)
				}
				if _, err := w.ports[1-i].Transmit(q%w.ports[1-i].TxQueues(), bufs[:n]); err != nil {
					return err
				}
			}
		}
	}
}

// cable is two pods, each with a veth whose other end lies in the middle namespace.
type cable struct {
	a, b, middle *netnstest.Namespace
}

func newCable(t *testing.T) *cable {
	t.Helper()
	netnstest.NeedRoot(t)
	netnstest.CheckLeaks(t)
	c := &cable{a: netnstest.New(t), b: netnstest.New(t), middle: netnstest.New(t)}
	for i, pod := range []*netnstest.Namespace{c.a, c.b} {
		netnstest.Veth(t, pod, "eth0", c.middle, fmt.Sprintf("veth%d", i))
		pod.Netlink(t, func(h *netlink.Handle) error {
			l, err := h.LinkByName("eth0")
			if err != nil {
				return err
			}
			return errors.Join(address(h, l, fmt.Sprintf("10.78.0.%d/24", i+1)), address(h, l, fmt.Sprintf("fd78::%d/64", i+1)))
		})
	}
	return c
}

func address(h *netlink.Handle, l netlink.Link, cidr string) error {
	ip, n, err := net.ParseCIDR(cidr)
	if err != nil {
		return err
	}
	n.IP = ip
	return h.AddrAdd(l, &netlink.Addr{IPNet: n, Flags: unix.IFA_F_NODAD})
}

func open(t testing.TB, c Config) *Port {
	t.Helper()
	if c.Mode == 0 {
		c.Mode = ModeEthernet
	}
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

// transfer sends 8 MiB over TCP from one pod to the other and compares.
func transfer(t *testing.T, from, to *netnstest.Namespace, addr string) {
	t.Helper()
	data := make([]byte, 8<<20)
	rand.NewChaCha8([32]byte{1}).Read(data)
	var l net.Listener
	to.Run(t, func() (err error) {
		l, err = new(net.ListenConfig).Listen(context.Background(), "tcp", addr)
		return err
	})
	defer l.Close()
	got := make(chan []byte, 1)
	go func() {
		c, err := l.Accept()
		if err != nil {
			got <- nil
			return
		}
		defer c.Close()
		all, _ := io.ReadAll(c) // a short read shows as a difference
		got <- all
	}()
	from.Run(t, func() error {
		c, err := new(net.Dialer).DialContext(t.Context(), "tcp", addr)
		if err != nil {
			return err
		}
		_, err = c.Write(data)
		return errors.Join(err, c.Close())
	})
	if all := <-got; !bytes.Equal(all, data) {
		t.Fatalf("received %d bytes that differ from the %d sent", len(all), len(data))
	}
}
