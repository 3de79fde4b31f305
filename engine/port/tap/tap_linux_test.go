package tap

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/millrace/millrace/engine/packet"
	"github.com/millrace/millrace/engine/port"
	"github.com/millrace/millrace/internal/netnstest"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// transfer sends data from one namespace to the other over TCP and compares.
func transfer(t *testing.T, p *pair, listenAt string) {
	t.Helper()
	data := make([]byte, 8<<20)
	rand.NewChaCha8([32]byte{1}).Read(data)
	l := listen(t, p.b, listenAt)
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
	c := dial(t, p.a, listenAt)
	if _, err := c.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	if all := <-got; !bytes.Equal(all, data) {
		t.Fatalf("received %d bytes that differ from the %d sent", len(all), len(data))
	}
}

// prepare parses a packet as a worker would.
func prepare(b *packet.Buffer) (packet.Upper, packet.Reason) {
	b.L3 = 0
	if b.Bytes()[0]>>4 == 4 {
		ip, r := packet.ParseIPv4(b.Bytes())
		if r != packet.OK {
			return packet.Upper{}, r
		}
		b.L4 = uint16(ip.HeaderLen())
		return ip.Upper(), packet.OK
	}
	ip, r := packet.ParseIPv6(b.Bytes())
	if r != packet.OK {
		return packet.Upper{}, r
	}
	u, r := ip.Upper()
	b.L4 = uint16(u.Offset)
	return u, r
}

func TestIntegrationGSOPassesThrough(t *testing.T) {
	for _, addr := range []string{"10.77.0.2:7000", "[fd77::2]:7000"} {
		t.Run(addr, func(t *testing.T) {
			p := newPair(t, GSO, GSO, 1)
			var big atomic.Int64
			var largest atomic.Int64
			out := make([]*packet.Buffer, 1)
			startWire(t, &wire{ports: []*Port{p.portA, p.portB}, step: func(from int, b *packet.Buffer) (int, []*packet.Buffer) {
				if b.Offload.GSO != packet.GSONone {
					big.Add(1)
					largest.Store(max(largest.Load(), int64(b.Len())))
				}
				if r := packet.CheckOffload(b); r != packet.OK {
					t.Errorf("the kernel's offload %+v is called %v", b.Offload, r)
				}
				out[0] = b
				return 1 - from, out
			}})
			transfer(t, p, addr)
			if big.Load() == 0 || largest.Load() < 32<<10 {
				t.Errorf("saw %d GSO packets, the largest of %d bytes; want many of up to 64 KiB", big.Load(), largest.Load())
			}
		})
	}
}

// The kernel at the other end drops what has a wrong length, sequence or checksum: it is
// the oracle for the software segmentation.
func TestIntegrationSegmentedForPlainReceiver(t *testing.T) {
	for _, addr := range []string{"10.77.0.2:7001", "[fd77::2]:7001"} {
		t.Run(addr, func(t *testing.T) {
			p := newPair(t, GSO, 0, 1)
			arena, err := packet.NewArena(64)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { arena.Close() })
			pool := make([]*packet.Buffer, 64)
			arena.TakeBatch(pool)
			one := make([]*packet.Buffer, 1)
			startWire(t, &wire{ports: []*Port{p.portA, p.portB}, step: func(from int, b *packet.Buffer) (int, []*packet.Buffer) {
				if _, r := prepare(b); r != packet.OK {
					t.Errorf("parse: %v", r)
				}
				if b.Offload.GSO == packet.GSONone {
					if r := packet.FinishChecksum(b); r != packet.OK {
						t.Errorf("finish: %v", r)
					}
					one[0] = b
					return 1 - from, one
				}
				var s packet.Segmenter
				if r := s.Start(b); r != packet.OK {
					t.Errorf("segment: %v", r)
					return 1 - from, nil
				}
				n := 0
				for n < len(pool) && s.Next(pool[n]) {
					if r := packet.VerifyTransportChecksum(pool[n]); r != packet.OK {
						t.Errorf("segment %d: %v", n, r)
					}
					n++
				}
				return 1 - from, pool[:n]
			}})
			transfer(t, p, addr)
			if c := p.portB.Capabilities(); c != (port.Capabilities{}) {
				t.Errorf("capabilities without flags are %+v", c)
			}
		})
	}
}

func TestIntegrationUDPSegmentation(t *testing.T) {
	p := newPair(t, GSO, GSO, 1)
	if !p.portA.Capabilities().USO {
		t.Skip("needs a kernel with UDP segmentation on TUN (6.2)")
	}
	var seen atomic.Int64
	out := make([]*packet.Buffer, 1)
	startWire(t, &wire{ports: []*Port{p.portA, p.portB}, step: func(from int, b *packet.Buffer) (int, []*packet.Buffer) {
		if b.Offload.GSO == packet.GSOUDPL4 {
			seen.Add(1)
		}
		out[0] = b
		return 1 - from, out
	}})
	var rx, tx *net.UDPConn
	p.b.Run(t, func() (err error) {
		rx, err = net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(10, 77, 0, 2), Port: 7002})
		return err
	})
	defer rx.Close()
	p.a.Run(t, func() (err error) {
		tx, err = net.DialUDP("udp4", nil, &net.UDPAddr{IP: net.IPv4(10, 77, 0, 2), Port: 7002})
		return err
	})
	defer tx.Close()
	raw, err := tx.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var failed error
	if err := raw.Control(func(fd uintptr) { failed = unix.SetsockoptInt(int(fd), unix.IPPROTO_UDP, unix.UDP_SEGMENT, 1000) }); err != nil || failed != nil {
		t.Fatal(err, failed)
	}
	data := make([]byte, 60_000)
	rand.NewChaCha8([32]byte{2}).Read(data)
	if _, err := tx.Write(data); err != nil {
		t.Fatal(err)
	}
	var got []byte
	buf := make([]byte, 2000)
	for len(got) < len(data) {
		n, err := rx.Read(buf)
		if err != nil || n != 1000 {
			t.Fatalf("datagram of %d bytes: %v", n, err)
		}
		got = append(got, buf[:n]...)
	}
	if !bytes.Equal(got, data) || seen.Load() == 0 {
		t.Errorf("data differ, or no GSO packet was seen (%d)", seen.Load())
	}
}

// pinged answers echo requests and ARP as a worker would.
func pinged(t *testing.T, mac packet.MAC) func(int, *packet.Buffer) (int, []*packet.Buffer) {
	out := make([]*packet.Buffer, 1)
	ours := netip.MustParseAddr("10.77.0.2").As4()
	ours6 := netip.MustParseAddr("fd77::2").As16()
	return func(_ int, b *packet.Buffer) (int, []*packet.Buffer) {
		out[0] = b
		typ, l3, r := packet.EtherPayload(b.Bytes())
		if r != packet.OK {
			t.Errorf("parse Ethernet: %v", r)
			return 0, nil
		}
		from := packet.Ethernet(b.Bytes()).Src()
		b.L3 = uint16(l3)
		switch typ {
		case packet.EtherTypeARP:
			a, r := packet.ParseARP(b.L3Bytes())
			if r != packet.OK || a.Op() != packet.ARPRequest || a.TargetIP() != ours {
				return 0, nil
			}
			packet.MakeARPReply(b, a, mac)
			return 0, out
		case packet.EtherTypeIPv4:
			r = packet.MakeEchoReply4(b)
		case packet.EtherTypeIPv6:
			ip, bad := packet.ParseIPv6(b.L3Bytes())
			if bad != packet.OK {
				return 0, nil
			}
			if n, bad := packet.ParseNeighbor(ip, ip.Payload()); bad == packet.OK && n.IsSolicit() && n.Target() == ours6 {
				packet.AnswerNeighborSolicit(b, ip, from, ours6, mac, 0)
				return 0, out
			}
			r = packet.MakeEchoReply6(b, ours6)
		}
		if r != packet.OK {
			return 0, nil
		}
		e := packet.Ethernet(b.Bytes())
		e.SetDst(from)
		e.SetSrc(mac)
		return 0, out
	}
}

func TestIntegrationPing(t *testing.T) {
	netnstest.NeedTun(t)
	netnstest.CheckLeaks(t)
	n := netnstest.New(t)
	host := net.HardwareAddr{2, 0, 0, 0, 0, 9}
	p := open(t, Config{HostIfName: "pod0", Namespace: n.Path, HostMTU: 9000, HostHardwareAddr: host,
		HostPrefix4: netip.MustParsePrefix("10.77.0.1/24"), HostPrefix6: netip.MustParsePrefix("fd77::1/64"),
		HostGateway4: netip.MustParseAddr("10.77.0.2"), HostGateway6: netip.MustParseAddr("fd77::2")})
	startWire(t, &wire{ports: []*Port{p}, step: pinged(t, packet.MAC(p.HardwareAddr()))})
	// The default route leads to us: 192.0.2.1 is reached through ARP for the gateway.
	for _, dst := range []string{"10.77.0.2", "fd77::2", "192.0.2.1"} {
		for _, size := range []string{"56", "8000"} {
			cmd := n.Command(t, "ping", "-n", "-c", "2", "-i", "0.01", "-W", "5", "-s", size, dst)
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("ping -s %s %s: %v\n%s", size, dst, err, out)
			}
		}
	}
	h := p.Host()
	if h.MTU != 9000 || h.IfName != "pod0" || h.HardwareAddr.String() != host.String() || h.IfIndex == 0 || h.Namespace != n.Path {
		t.Errorf("host side is %+v", h)
	}
	n.Netlink(t, func(nl *netlink.Handle) error {
		link, err := nl.LinkByName("pod0")
		if err != nil {
			return err
		}
		addrs, err := nl.AddrList(link, netlink.FAMILY_V6)
		for _, a := range addrs {
			if a.Flags&unix.IFA_F_TENTATIVE != 0 {
				t.Errorf("address %v is still tentative", a)
			}
		}
		return err
	})
}

func TestIntegrationPersistAndAttach(t *testing.T) {
	netnstest.NeedTun(t)
	netnstest.CheckLeaks(t)
	n := netnstest.New(t)
	exists := func() bool {
		found := false
		n.Netlink(t, func(h *netlink.Handle) error {
			_, err := h.LinkByName("keep0")
			found = err == nil
			return nil
		})
		return found
	}
	for _, queues := range []int{1, 2} {
		c := Config{HostIfName: "keep0", Namespace: n.Path, Flags: TUN | Persist, RxQueues: queues, HostPrefix4: netip.MustParsePrefix("10.77.0.1/24")}
		p := open(t, c)
		index := p.Host().IfIndex
		if err := p.Close(); err != nil {
			t.Fatal(err)
		}
		if !exists() {
			t.Fatal("a persistent interface went with its port")
		}
		c.Flags |= Attach
		p = open(t, c)
		if got := p.Host().IfIndex; got != index {
			t.Errorf("attached to index %d, made %d", got, index)
		}
		if queues == 1 {
			if err := p.Close(); err != nil {
				t.Fatal(err)
			}
			c.Flags &^= Persist
			p = open(t, c) // attach alone ends the persistence
			if err := p.Close(); err != nil {
				t.Fatal(err)
			}
		} else if err := p.Remove(); err != nil {
			t.Fatal(err)
		}
		if exists() {
			t.Fatal("the interface is still there")
		}
	}
}

func TestIntegrationManyQueuesShareTheLoad(t *testing.T) {
	p := newPair(t, GSO, GSO, 4)
	if p.portA.RxQueues() != 4 || p.portA.TxQueues() != 1 {
		t.Fatalf("queues %d/%d", p.portA.RxQueues(), p.portA.TxQueues())
	}
	out := make([]*packet.Buffer, 1)
	startWire(t, &wire{ports: []*Port{p.portA, p.portB}, step: func(from int, b *packet.Buffer) (int, []*packet.Buffer) {
		out[0] = b
		return 1 - from, out
	}})
	transfer(t, p, "10.77.0.2:7003")
}

func TestIntegrationBridge(t *testing.T) {
	netnstest.NeedTun(t)
	netnstest.CheckLeaks(t)
	n := netnstest.New(t)
	n.Netlink(t, func(h *netlink.Handle) error {
		return h.LinkAdd(&netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "br0"}})
	})
	p := open(t, Config{Namespace: n.Path, HostBridge: "br0"})
	n.Netlink(t, func(h *netlink.Handle) error {
		br, err := h.LinkByName("br0")
		if err != nil {
			return err
		}
		l, err := h.LinkByName(p.Host().IfName)
		if err != nil {
			return err
		}
		if l.Attrs().MasterIndex != br.Attrs().Index {
			t.Errorf("master of %s is %d, want %d", l.Attrs().Name, l.Attrs().MasterIndex, br.Attrs().Index)
		}
		return nil
	})
}

func TestIntegrationFailuresLeaveNothing(t *testing.T) {
	netnstest.NeedTun(t)
	netnstest.CheckLeaks(t)
	n := netnstest.New(t)
	open(t, Config{HostIfName: "taken0", Namespace: n.Path})
	cases := []struct {
		name string
		c    Config
		kind Kind
		text string
	}{
		{"missing namespace", Config{Namespace: "/run/netns/no-such"}, NoNamespace, "no such file"},
		{"missing process", Config{Namespace: "pid:4000000"}, NoNamespace, "no such file"},
		{"not a namespace", Config{Namespace: "/dev/null"}, NoNamespace, "enter namespace"},
		{"bad pid", Config{Namespace: "pid:x"}, NoNamespace, "pid:N"},
		{"name in use", Config{HostIfName: "taken0", Namespace: n.Path}, NoDevice, "taken"},
		{"name of loopback", Config{HostIfName: "lo", Namespace: n.Path}, NoDevice, "taken"},
		{"bad name", Config{HostIfName: "a/b", Namespace: n.Path}, NoDevice, "not allowed"},
		{"missing bridge", Config{HostIfName: "new0", Namespace: n.Path, HostBridge: "br9"}, HostSetup, "br9"},
		{"gateway off link", Config{HostIfName: "new0", Namespace: n.Path, Flags: Persist, HostGateway4: netip.MustParseAddr("192.0.2.1")}, HostSetup, "192.0.2.1"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			p, err := Open(c.c)
			if err == nil {
				p.Close()
				t.Fatal("Open succeeded")
			}
			e, ok := errors.AsType[*Error](err)
			if !ok || e.Kind != c.kind || !strings.Contains(err.Error(), c.text) {
				t.Errorf("error is %v (%+v), want kind %d and %q", err, e, c.kind, c.text)
			}
		})
	}
	n.Netlink(t, func(h *netlink.Handle) error {
		if _, err := h.LinkByName("new0"); err == nil {
			t.Error("new0 was left behind")
		}
		return nil
	})
}

func TestIntegrationDeletedInterfaceIsFinal(t *testing.T) {
	netnstest.NeedTun(t)
	netnstest.CheckLeaks(t)
	n := netnstest.New(t)
	p := open(t, Config{HostIfName: "gone0", Namespace: n.Path, Flags: TUN | Persist})
	b := packet.FromBytes(nil)
	bufs := []*packet.Buffer{b}
	n.Netlink(t, func(h *netlink.Handle) error {
		l, err := h.LinkByName("gone0")
		if err != nil {
			return err
		}
		return h.LinkDel(l)
	})
	if _, err := p.Receive(0, bufs); !errors.Is(err, unix.EBADFD) {
		t.Errorf("Receive says %v", err)
	}
	if _, err := p.Transmit(0, bufs); !errors.Is(err, unix.EBADFD) {
		t.Errorf("Transmit says %v", err)
	}
	if err := p.Remove(); err != nil {
		t.Errorf("Remove says %v", err)
	}
}

// TestIntegrationWithoutPrivilege runs itself again as nobody.
func TestIntegrationWithoutPrivilege(t *testing.T) {
	const mark = "TAP_TEST_AS_NOBODY"
	if os.Getenv(mark) != "" {
		_, err := Open(Config{Flags: TUN})
		if e, ok := errors.AsType[*Error](err); !ok || e.Kind != NoDriver && e.Kind != NoDevice || !errors.Is(err, unix.EPERM) && !errors.Is(err, unix.EACCES) {
			t.Fatalf("error is %v", err)
		}
		return
	}
	netnstest.NeedTun(t)
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	// The test binary may lie where nobody cannot reach it: hand it over as a descriptor.
	f, err := os.Open(exe)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	cmd := exec.CommandContext(t.Context(), "/proc/self/fd/3", "-test.run=^TestIntegrationWithoutPrivilege$", "-test.v")
	cmd.ExtraFiles = []*os.File{f}
	cmd.Dir = "/"
	cmd.Env = append(os.Environ(), mark+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "PASS: "+t.Name()) {
		t.Errorf("%v\n%s", err, out)
	}
}

func TestConfigIsChecked(t *testing.T) {
	for _, c := range []Config{
		{Flags: 1 << 20},
		{Flags: Attach},
		{HostIfName: "a-name-of-17-bytes"},
		{RxQueues: 257},
		{HostMTU: 10},
		{HardwareAddr: net.HardwareAddr{1}},
		{Flags: TUN, HostBridge: "br0"},
		{HostPrefix4: netip.MustParsePrefix("fd00::/8")},
		{HostPrefix6: netip.MustParsePrefix("10.0.0.0/8")},
		{HostGateway4: netip.MustParseAddr("fd00::1")},
	} {
		if _, err := Open(c); err == nil {
			t.Errorf("Open(%+v) succeeded", c)
		}
	}
}
