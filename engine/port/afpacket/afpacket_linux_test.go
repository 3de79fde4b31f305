package afpacket

import (
	"context"
	"errors"
	"net/netip"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/millrace/millrace/engine/packet"
	"github.com/millrace/millrace/engine/port"
	"github.com/millrace/millrace/engine/port/tap"
	"github.com/millrace/millrace/internal/netnstest"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

func TestIntegrationGSOOverVeth(t *testing.T) {
	for _, flags := range []Flags{ChecksumGSO, ChecksumGSO | QdiscBypass | Version2} {
		for _, addr := range []string{"10.78.0.2:7000", "[fd78::2]:7000"} {
			t.Run(addr, func(t *testing.T) {
				c := newCable(t)
				a := open(t, Config{HostIfName: "veth0", Namespace: c.middle.Path, Flags: flags})
				b := open(t, Config{HostIfName: "veth1", Namespace: c.middle.Path, Flags: flags})
				var largest, gso atomic.Int64
				startWire(t, a, b, func(_, _ int, b *packet.Buffer) {
					_, l3, r := packet.EtherPayload(b.Bytes())
					b.L3 = uint16(l3)
					if r != packet.OK {
						t.Errorf("frame is %v", r)
					} else if r := packet.CheckOffload(b); r != packet.OK {
						t.Errorf("the kernel's offload %+v is called %v", b.Offload, r)
					}
					if b.Offload.GSO != packet.GSONone {
						gso.Add(1)
						largest.Store(max(largest.Load(), int64(b.Len())))
					}
				})
				transfer(t, c.a, c.b, addr)
				if gso.Load() == 0 || largest.Load() < 32<<10 {
					t.Errorf("%d GSO packets, the largest of %d bytes; want many of up to 64 KiB", gso.Load(), largest.Load())
				}
				if a.Lost(0) != 0 || b.Lost(0) != 0 {
					t.Errorf("lost %d and %d long packets", a.Lost(0), b.Lost(0))
				}
			})
		}
	}
}

// A card that does not cut GSO packets itself has the host do it, whatever the flags.
func TestIntegrationGSOWithoutOffload(t *testing.T) {
	if _, err := exec.LookPath("ethtool"); err != nil {
		t.Skipf("needs ethtool: %v", err)
	}
	c := newCable(t)
	for _, name := range []string{"veth0", "veth1"} {
		if out, err := c.middle.Command(t, "ethtool", "-K", name, "tx", "off", "tso", "off", "gso", "off").CombinedOutput(); err != nil {
			t.Fatalf("switch offloads off: %v\n%s", err, out)
		}
	}
	a := open(t, Config{HostIfName: "veth0", Namespace: c.middle.Path, Flags: ChecksumGSO | QdiscBypass})
	b := open(t, Config{HostIfName: "veth1", Namespace: c.middle.Path, Flags: ChecksumGSO | QdiscBypass})
	var gso atomic.Int64
	startWire(t, a, b, func(_, _ int, b *packet.Buffer) {
		if b.Offload.GSO != packet.GSONone {
			gso.Add(1)
		}
	})
	transfer(t, c.a, c.b, "10.78.0.2:7000")
	if gso.Load() == 0 {
		t.Error("nothing had to be cut")
	}
}

func TestIntegrationFanoutKeepsFlowsTogether(t *testing.T) {
	c := newCable(t)
	a := open(t, Config{HostIfName: "veth0", Namespace: c.middle.Path, Flags: ChecksumGSO, RxQueues: 3, TxQueues: 2})
	b := open(t, Config{HostIfName: "veth1", Namespace: c.middle.Path, Flags: ChecksumGSO, RxQueues: 2})
	if a.RxQueues() != 3 || a.TxQueues() != 2 {
		t.Fatalf("queues %d/%d", a.RxQueues(), a.TxQueues())
	}
	var mu sync.Mutex
	queues := map[packet.Flow]map[int]bool{}
	startWire(t, a, b, func(from, q int, b *packet.Buffer) {
		typ, l3, _ := packet.EtherPayload(b.Bytes())
		if from != 0 || typ != packet.EtherTypeIPv4 {
			return
		}
		ip, r := packet.ParseIPv4(b.Bytes()[l3:])
		if r != packet.OK {
			t.Errorf("parse: %v", r)
			return
		}
		f := packet.FlowOf(ip, ip.Upper())
		mu.Lock()
		defer mu.Unlock()
		if queues[f] == nil {
			queues[f] = map[int]bool{}
		}
		queues[f][q] = true
	})
	for range 8 {
		transfer(t, c.a, c.b, "10.78.0.2:7001")
	}
	mu.Lock()
	defer mu.Unlock()
	used := map[int]bool{}
	for f, qs := range queues {
		if len(qs) != 1 {
			t.Errorf("flow %+v came by queues %v", f, qs)
		}
		for q := range qs {
			used[q] = true
		}
	}
	if len(queues) < 8 || len(used) < 2 {
		t.Errorf("%d flows over queues %v", len(queues), used)
	}
}

// The host takes the tag off a packet that arrives and lets it travel beside it.
func TestIntegrationVLANTagIsRestored(t *testing.T) {
	c := newCable(t)
	pod := open(t, Config{HostIfName: "eth0", Namespace: c.a.Path, Flags: ChecksumGSO})
	p := open(t, Config{HostIfName: "veth0", Namespace: c.middle.Path, Flags: ChecksumGSO})
	for _, tpid := range []uint16{packet.EtherTypeVLAN, packet.EtherTypeQinQ} {
		for _, size := range []int{100, 1400, 60000} {
			out := packet.FromBytes(nil)
			src := netip.MustParseAddr("10.0.0.1").As4()
			if r := packet.MakeEchoRequest4(out, src, src, packet.EchoRequest{Payload: make([]byte, size)}); r != packet.OK {
				t.Fatal(r)
			}
			if size > 1400 { // a UDP GSO packet: the only way for a long one to pass
				if !p.Capabilities().USO {
					continue
				}
				out.Reset(packet.Headroom)
				out.SetLen(packet.IPv4Len + packet.UDPLen + size)
				out.L4 = packet.IPv4Len
				packet.UDP(out.L4Bytes()).SetLength(packet.UDPLen + size)
				packet.MakeIPv4(out.Bytes(), src, src, packet.ProtoUDP, 64)
				if r := packet.LeaveChecksum(out); r != packet.OK {
					t.Fatal(r)
				}
				out.Offload.GSO, out.Offload.GSOSize, out.Offload.HeaderLen = packet.GSOUDPL4, 1000, packet.IPv4Len+packet.UDPLen
			}
			packet.PushEthernet(out, packet.BroadcastMAC(), packet.MAC{2, 0, 0, 0, 0, 1}, packet.EtherTypeIPv4)
			packet.PushVLAN(out, tpid, 0x6007)
			want, offload := string(out.Bytes()), out.Offload
			if n, err := pod.Transmit(0, []*packet.Buffer{out}); n != 1 || err != nil {
				t.Fatal(n, err)
			}
			in := packet.FromBytes(nil)
			awaitPacket(t, p, in, want)
			if offload.CsumStart != in.Offload.CsumStart || offload.GSOSize != in.Offload.GSOSize || offload.GSO != in.Offload.GSO {
				t.Errorf("offload %+v arrived as %+v", offload, in.Offload)
			}
		}
	}
}

func TestIntegrationIPMode(t *testing.T) {
	netnstest.NeedTun(t)
	netnstest.CheckLeaks(t)
	n := netnstest.New(t)
	wire, err := tap.Open(tap.Config{HostIfName: "tun0", Namespace: n.Path, Flags: tap.TUN | tap.GSO})
	if err != nil {
		t.Fatal(err)
	}
	defer wire.Close()
	p := open(t, Config{HostIfName: "tun0", Namespace: n.Path, Mode: ModeIP, Flags: ChecksumGSO})
	if p.Link() != port.IP || p.HardwareAddr() != nil {
		t.Errorf("link %v, address %v", p.Link(), p.HardwareAddr())
	}
	out, in := packet.FromBytes(nil), packet.FromBytes(nil)
	src, dst := netip.MustParseAddr("fd00::1").As16(), netip.MustParseAddr("fd00::2").As16()
	make4 := func() packet.Reason {
		return packet.MakeEchoRequest4(out, [4]byte{10, 0, 0, 1}, [4]byte{10, 0, 0, 2}, packet.EchoRequest{ID: 4, Payload: make([]byte, 1000)})
	}
	make6 := func() packet.Reason {
		return packet.MakeEchoRequest6(out, src, dst, packet.EchoRequest{ID: 6})
	}
	for _, ports := range [][2]port.Port{{wire, p}, {p, wire}} {
		for _, fill := range []func() packet.Reason{make4, make6} {
			if r := fill(); r != packet.OK {
				t.Fatal(r)
			}
			want := string(out.Bytes())
			if n, err := ports[0].Transmit(0, []*packet.Buffer{out}); n != 1 || err != nil {
				t.Fatal(n, err)
			}
			awaitPacket(t, ports[1], in, want)
		}
	}
}

// awaitPacket receives until the wanted packet comes; the kernel's own multicasts are
// passed over.
func awaitPacket(t *testing.T, p port.Port, in *packet.Buffer, want string) {
	t.Helper()
	for {
		fds := []unix.PollFd{{Fd: int32(p.RxFD(0)), Events: unix.POLLIN}}
		if n, err := unix.Poll(fds, 5000); err == unix.EINTR {
			continue
		} else if n == 0 || err != nil {
			t.Fatalf("the packet did not come: %v", err)
		}
		n, err := p.Receive(0, []*packet.Buffer{in})
		if err != nil {
			t.Fatal(err)
		}
		if n == 1 && string(in.Bytes()) == want {
			return
		}
	}
}

func TestIntegrationWatchAndDeletion(t *testing.T) {
	c := newCable(t)
	p := open(t, Config{HostIfName: "veth0", Namespace: c.middle.Path})
	if h := p.Host(); h.IfName != "veth0" || h.MTU != 1500 || len(h.HardwareAddr) != 6 {
		t.Errorf("host is %+v", h)
	}
	states := make(chan Host, 64)
	var watching sync.WaitGroup
	var failed error
	watching.Go(func() {
		failed = p.Watch(t.Context(), func(h Host) { states <- h })
		close(states)
	})
	await := func(what string, ok func(Host) bool) {
		t.Helper()
		for h := range states {
			if ok(h) {
				return
			}
		}
		t.Fatalf("the watch ended before %s", what)
	}
	await("up", func(h Host) bool { return h.Up })
	edit := func(f func(h *netlink.Handle, l netlink.Link) error) {
		t.Helper()
		c.middle.Netlink(t, func(h *netlink.Handle) error {
			l, err := h.LinkByName("veth0")
			if err != nil {
				return err
			}
			return f(h, l)
		})
	}
	edit(func(h *netlink.Handle, l netlink.Link) error { return h.LinkSetMTU(l, 1400) })
	await("MTU 1400", func(h Host) bool { return h.MTU == 1400 })
	edit(func(h *netlink.Handle, l netlink.Link) error { return h.LinkSetDown(l) })
	await("down", func(h Host) bool { return !h.Up })

	bufs := []*packet.Buffer{packet.FromBytes(make([]byte, 60))}
	for range 3 * idleChecks {
		if n, err := p.Receive(0, bufs); err != nil {
			t.Fatalf("Receive on an interface that is down: %d, %v", n, err)
		}
	}
	bufs[0].Reset(packet.Headroom)
	bufs[0].SetLen(60)
	if n, err := p.Transmit(0, bufs); n != 0 || err != nil {
		t.Fatalf("Transmit on an interface that is down: %d, %v", n, err)
	}
	edit(func(h *netlink.Handle, l netlink.Link) error { return h.LinkDel(l) })
	await("deleted", func(h Host) bool { return h.Deleted })
	watching.Wait()
	if failed != nil {
		t.Error(failed)
	}
	var err error
	for range 4 * idleChecks {
		if _, err = p.Receive(0, bufs); err != nil {
			break
		}
	}
	if err == nil {
		t.Error("Receive does not notice that the interface is gone")
	}
	bufs[0].Reset(packet.Headroom)
	bufs[0].SetLen(60)
	if _, err := p.Transmit(0, bufs); err == nil {
		t.Error("Transmit does not notice that the interface is gone")
	}
}

func TestIntegrationWatchEndsWithContext(t *testing.T) {
	c := newCable(t)
	p := open(t, Config{HostIfName: "veth0", Namespace: c.middle.Path})
	ctx, cancel := context.WithCancel(t.Context())
	if err := p.Watch(ctx, func(Host) { cancel() }); err != nil {
		t.Error(err)
	}
}

func TestIntegrationFailures(t *testing.T) {
	netnstest.NeedRoot(t)
	netnstest.CheckLeaks(t)
	n := netnstest.New(t)
	for _, c := range []struct {
		name string
		c    Config
		kind Kind
		text string
	}{
		{"missing interface", Config{HostIfName: "none0", Namespace: n.Path, Mode: ModeEthernet}, NoInterface, "none0"},
		{"no name", Config{Mode: ModeEthernet}, NoInterface, "name"},
		{"missing namespace", Config{HostIfName: "lo", Namespace: "no-such", Mode: ModeEthernet}, NoNamespace, "no-such"},
		{"mode 0", Config{HostIfName: "lo"}, BadConfig, "mode 0"},
		{"flags", Config{HostIfName: "lo", Mode: ModeIP, Flags: 64}, BadConfig, "0x40"},
		{"frame size", Config{HostIfName: "lo", Mode: ModeIP, RxFrameSize: 100}, BadConfig, "100"},
		{"ring size", Config{HostIfName: "lo", Mode: ModeIP, RxFrameSize: 65536, RxFramesPerBlock: 65536}, BadConfig, "ring"},
		{"queues", Config{HostIfName: "lo", Mode: ModeIP, RxQueues: 1000}, BadConfig, "1000"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p, err := Open(c.c)
			if err == nil {
				p.Close()
				t.Fatal("Open succeeded")
			}
			if e, ok := errors.AsType[*Error](err); !ok || e.Kind != c.kind || !strings.Contains(err.Error(), c.text) {
				t.Errorf("error is %v, want kind %d and %q", err, c.kind, c.text)
			}
		})
	}
}

// Frames of sizes that do not divide a block, and a ring that wraps many times.
func TestIntegrationRingGeometry(t *testing.T) {
	c := newCable(t)
	a := open(t, Config{HostIfName: "veth0", Namespace: c.middle.Path, Flags: ChecksumGSO | Version2, RxFrameSize: 1712, RxFramesPerBlock: 50})
	b := open(t, Config{HostIfName: "veth1", Namespace: c.middle.Path, Flags: ChecksumGSO | Version2, RxFrameSize: 70000 / 16 * 16, RxFramesPerBlock: 50})
	startWire(t, a, b, func(_, _ int, _ *packet.Buffer) {})
	transfer(t, c.a, c.b, "10.78.0.2:7004")
	transfer(t, c.b, c.a, "10.78.0.1:7004")
}
