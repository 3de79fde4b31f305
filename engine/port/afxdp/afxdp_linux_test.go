package afxdp

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/millrace/millrace/engine/packet"
	"github.com/millrace/millrace/internal/netnstest"
	"github.com/millrace/millrace/internal/steer"
)

// pair is two hosts on a cable, 192.0.2.1 with the port, and 192.0.2.2, which reaches 10.244.1.0/24
// by the first.
func pair(t *testing.T) (a, b *netnstest.Namespace) {
	t.Helper()
	a, b = netnstest.New(t), netnstest.New(t)
	netnstest.Veth(t, a, "eth0", b, "eth0")
	for i, n := range []*netnstest.Namespace{a, b} {
		n.Netlink(t, func(h *netlink.Handle) error {
			l, err := h.LinkByName("eth0")
			if err != nil {
				return err
			}
			addr, err := netlink.ParseAddr(fmt.Sprintf("192.0.2.%d/24", i+1))
			if err != nil {
				return err
			}
			if err := h.AddrAdd(l, addr); err != nil || n == a {
				return err
			}
			_, pods, err := net.ParseCIDR("10.244.1.0/24")
			if err != nil {
				return err
			}
			return h.RouteAdd(&netlink.Route{LinkIndex: l.Attrs().Index, Dst: pods, Gw: net.IPv4(192, 0, 2, 1)})
		})
	}
	return a, b
}

func shared(t *testing.T, a *netnstest.Namespace) *Port {
	t.Helper()
	p, err := Open(Config{HostIfName: "eth0", Namespace: a.Path, RxQueues: AllQueues, Share: true})
	if errors.Is(err, unix.EAFNOSUPPORT) {
		t.Skip("needs AF_XDP")
	}
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

func buffers(t *testing.T) []*packet.Buffer {
	t.Helper()
	arena, err := packet.NewArena(packet.BatchSize)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := arena.Close(); err != nil {
			t.Error(err)
		}
	})
	bufs := make([]*packet.Buffer, packet.BatchSize)
	arena.TakeBatch(bufs)
	return bufs
}

// dial is a datagram socket in a namespace. A call on it waits for a minute at most.
func dial(t *testing.T, n *netnstest.Namespace, to string) net.Conn {
	t.Helper()
	var c net.Conn
	n.Run(t, func() (err error) {
		c, err = net.Dial("udp", to)
		return err
	})
	if err := c.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// receive waits until the port has something.
func receive(t *testing.T, p *Port, bufs []*packet.Buffer) int {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); {
		for q := range p.RxQueues() {
			n, err := p.Receive(q, bufs)
			if err != nil {
				t.Fatal(err)
			}
			if n > 0 {
				return n
			}
		}
		fds := []unix.PollFd{{Fd: int32(p.RxFD(0)), Events: unix.POLLIN}}
		if _, err := unix.Poll(fds, 10); err != nil && !errors.Is(err, unix.EINTR) {
			t.Fatal(err)
		}
	}
	t.Fatal("nothing was received within a minute")
	return 0
}

// turn sends a datagram back to where it came from.
func turn(p []byte) {
	swap := func(a, b, n int) {
		for i := range n {
			p[a+i], p[b+i] = p[b+i], p[a+i]
		}
	}
	swap(0, 6, 6)
	swap(26, 30, 4)
	swap(34, 36, 2)
	p[40], p[41] = 0, 0 // no checksum
}

func TestIntegrationSteeredPacketsComeAndGo(t *testing.T) {
	a, b := pair(t)
	p := shared(t, a)
	bufs := buffers(t)
	if p.Attached() != steer.Native {
		t.Errorf("attached %s; want native on a veth", p.Attached())
	}
	if err := p.program.PutPrefix(netip.MustParsePrefix("10.244.1.0/24")); err != nil {
		t.Fatal(err)
	}
	pod := dial(t, b, "10.244.1.5:9")
	const rounds = 5000 // more than there are chunks
	for i := range rounds {
		want := fmt.Sprintf("datagram %d", i)
		if _, err := pod.Write([]byte(want)); err != nil {
			t.Fatal(err)
		}
		for got := 0; got == 0; {
			n := receive(t, p, bufs)
			for _, buf := range bufs[:n] {
				if buf.Room() < packet.Headroom {
					t.Fatalf("%d bytes before the packet; want %d", buf.Room(), packet.Headroom)
				}
				turn(buf.Bytes())
			}
			if sent, err := p.Transmit(0, bufs[:n]); err != nil || sent != n {
				t.Fatalf("%d of %d sent: %v", sent, n, err)
			}
			got += n
		}
		answer := make([]byte, 100)
		n, err := pod.Read(answer)
		if err != nil || string(answer[:n]) != want {
			t.Fatalf("answer %q, %v; want %q", answer[:n], err, want)
		}
	}
	counts, err := p.program.Count()
	if err != nil {
		t.Fatal(err)
	}
	if counts[steer.TakenPrefix] != rounds {
		t.Errorf("counted %v; want %d by prefix", counts, rounds)
	}
	// What is not steered goes to the kernel, ARP (which brought the packets here) included.
	var l net.PacketConn
	a.Run(t, func() (err error) {
		l, err = net.ListenPacket("udp", "192.0.2.1:9")
		return err
	})
	defer l.Close()
	if _, err := dial(t, b, "192.0.2.1:9").Write([]byte("host")); err != nil {
		t.Fatal(err)
	}
	if err := l.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, 10)
	if n, _, err := l.ReadFrom(got); err != nil || string(got[:n]) != "host" {
		t.Errorf("the host got %q, %v", got[:n], err)
	}
}

func TestIntegrationBurstIsWhole(t *testing.T) {
	a, b := pair(t)
	p := shared(t, a)
	bufs := buffers(t)
	var l net.PacketConn
	b.Run(t, func() (err error) {
		l, err = net.ListenPacket("udp", "192.0.2.2:9")
		return err
	})
	defer l.Close()
	if err := l.(*net.UDPConn).SetReadBuffer(8 << 20); err != nil {
		t.Fatal(err)
	}
	var mac net.HardwareAddr
	b.Netlink(t, func(h *netlink.Handle) error {
		link, err := h.LinkByName("eth0")
		if err == nil {
			mac = link.Attrs().HardwareAddr
		}
		return err
	})
	for _, buf := range bufs {
		buf.Reset(packet.Headroom)
		frame := append(append(append([]byte{}, mac...), p.mac...), 8, 0,
			0x45, 0, 0, 29, 0, 0, 0, 0, 64, 17, 0, 0, 192, 0, 2, 1, 192, 0, 2, 2,
			0, 9, 0, 9, 0, 9, 0, 0, 'x')
		h := packet.IPv4(frame[14:34])
		sum := ^packet.Sum(h, 0)
		frame[24], frame[25] = byte(sum>>8), byte(sum)
		buf.Append(frame)
	}
	for range 3 {
		if n, err := p.Transmit(0, bufs); err != nil || n != len(bufs) {
			t.Fatalf("%d of %d sent: %v", n, len(bufs), err)
		}
	}
	if err := l.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	for i := range 3 * len(bufs) {
		if _, _, err := l.ReadFrom(make([]byte, 10)); err != nil {
			t.Fatalf("datagram %d: %v", i, err)
		}
	}
	if n := testing.AllocsPerRun(100, func() {
		if _, err := p.Transmit(0, bufs[:8]); err != nil {
			t.Fatal(err)
		}
		if _, err := p.Receive(0, bufs); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("%v allocations a call; want none", n)
	}
}

func TestIntegrationForeignProgramIsNamed(t *testing.T) {
	a, _ := pair(t)
	foreign, err := ebpf.NewProgram(&ebpf.ProgramSpec{Name: "somebody", Type: ebpf.XDP, License: "GPL",
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 2), asm.Return()}})
	if err != nil {
		t.Fatal(err)
	}
	defer foreign.Close()
	var held link.Link
	a.Netlink(t, func(h *netlink.Handle) error {
		l, err := h.LinkByName("eth0")
		if err != nil {
			return err
		}
		held, err = link.AttachXDP(link.XDPOptions{Program: foreign, Interface: l.Attrs().Index})
		return err
	})
	defer held.Close()
	info, err := foreign.Info()
	if err != nil {
		t.Fatal(err)
	}
	id, _ := info.ID()
	_, err = Open(Config{HostIfName: "eth0", Namespace: a.Path, Share: true})
	e, ok := errors.AsType[*Error](err)
	if !ok || e.Kind != NoProgram || !strings.Contains(err.Error(), `"somebody"`) || !strings.Contains(err.Error(), fmt.Sprintf("id %d", id)) {
		t.Errorf("opened beside program %d: %v; want a refusal that names it", id, err)
	}
	a.Run(t, func() error {
		on, err := steer.On("eth0")
		if on.Name != "somebody" {
			t.Errorf("%s is there afterwards", on)
		}
		return err
	})
}

func TestIntegrationClosedPortLeavesNothing(t *testing.T) {
	a, b := pair(t)
	p := shared(t, a)
	a.Run(t, func() error {
		maps, err := steer.Open("eth0")
		if err != nil {
			return err
		}
		if err := maps.PutPrefix(netip.MustParsePrefix("10.244.1.0/24")); err != nil {
			return err
		}
		return maps.Close()
	})
	if got, err := p.program.Prefixes(); err != nil || len(got) != 1 {
		t.Errorf("prefixes put from outside: %v, %v", got, err)
	}
	for range 2 {
		if err := p.Close(); err != nil {
			t.Fatal(err)
		}
	}
	a.Run(t, func() error {
		if _, err := steer.Open("eth0"); !errors.Is(err, steer.ErrNone) {
			return fmt.Errorf("open maps: %w; want none", err)
		}
		return nil
	})
	again := shared(t, a) // at once, though the kernel lets go of a queue later
	if err := again.program.PutPrefix(netip.MustParsePrefix("10.244.1.0/24")); err != nil {
		t.Fatal(err)
	}
	if _, err := dial(t, b, "10.244.1.5:9").Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	receive(t, again, buffers(t))
}

func TestOpenRefuses(t *testing.T) {
	for name, c := range map[string]Config{
		"no name":  {},
		"queues":   {HostIfName: "lo", RxQueues: 300},
		"odd ring": {HostIfName: "lo", RxRing: 300},
		"big ring": {HostIfName: "lo", TxRing: 1 << 17},
		"mode":     {HostIfName: "lo", Mode: 3},
	} {
		_, err := Open(c)
		if e, ok := errors.AsType[*Error](err); !ok || e.Kind != BadConfig {
			t.Errorf("%s: %v", name, err)
		}
	}
	if os.Geteuid() != 0 {
		return
	}
	_, err := Open(Config{HostIfName: "mr-not-there"})
	if e, ok := errors.AsType[*Error](err); !ok || e.Kind != NoInterface {
		t.Errorf("interface that is not there: %v", err)
	}
}
