package examples_test

import (
	"fmt"
	"net"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/millrace/millrace/internal/netnstest"
	"github.com/millrace/millrace/memif"
	"github.com/vishvananda/netlink"
)

// TestIntegrationTapbridge has the kernel of a namespace answer pings that come by memif.
func TestIntegrationTapbridge(t *testing.T) {
	netnstest.NeedTun(t)
	for _, mode := range []memif.Mode{memif.Ethernet, memif.IP} {
		for _, queues := range []int{1, 2} {
			t.Run(fmt.Sprintf("%s,queues=%d", mode, queues), func(t *testing.T) { tapbridge(t, mode, queues) })
		}
	}
}

func tapbridge(t *testing.T, mode memif.Mode, queues int) {
	netnstest.CheckLeaks(t)
	host, pod := netnstest.New(t), netnstest.New(t)
	at := memif.SocketConfig{Role: memif.Server, Address: "@millrace/memif0", Netns: pod.Path}
	p := newPeer(t, at, memif.Config{Mode: mode, RxQueues: queues, TxQueues: queues})
	nf := startCommand(t, host.Command(t, filepath.Join(programs, "tapbridge"), "--netns", pod.Path, "--mode", mode.String(),
		"--queues", fmt.Sprint(queues), "--address", "10.0.0.2/24", "--mtu", "9000"))
	p.up(t)
	host.Netlink(t, waitForAddress)

	ping := list{ip4(host4, nf4, 64), icmp4(layers.ICMPv4TypeEchoRequest), gopacket.Payload(pattern(8000))}
	if mode == memif.Ethernet {
		p.send(t, 0, build(t, ethernet(hostMAC, net.HardwareAddr{255, 255, 255, 255, 255, 255}, layers.EthernetTypeARP),
			&layers.ARP{AddrType: layers.LinkTypeEthernet, Protocol: layers.EthernetTypeIPv4, HwAddressSize: 6, ProtAddressSize: 4,
				Operation: 1, SourceHwAddress: hostMAC, SourceProtAddress: host4, DstHwAddress: make([]byte, 6), DstProtAddress: nf4}))
		reply := p.find(t, mode, func(f gopacket.Packet) bool { return f.Layer(layers.LayerTypeARP) != nil })
		mac := net.HardwareAddr(reply.Layer(layers.LayerTypeARP).(*layers.ARP).SourceHwAddress)
		ping = append(list{ethernet(hostMAC, mac, layers.EthernetTypeIPv4)}, ping...)
	}
	for n := range queues { // the kernel chooses the queue of its answer
		p.send(t, n, build(t, ping...))
		reply := p.find(t, mode, func(f gopacket.Packet) bool { return f.Layer(layers.LayerTypeICMPv4) != nil })
		got := reply.Layer(layers.LayerTypeICMPv4).(*layers.ICMPv4)
		if got.TypeCode.Type() != layers.ICMPv4TypeEchoReply || len(got.Payload) != 8000 {
			t.Errorf("queue %d: got\n%s", n, reply)
		}
	}
	nf.end(t, syscall.SIGTERM)
	nf.waitFor(t, "link up", "received {Frames:")
	host.Netlink(t, func(h *netlink.Handle) error {
		if l, err := h.LinkByName("net1"); err == nil {
			t.Errorf("device %s is left behind", l.Attrs().Name)
		}
		return nil
	})
}

// waitForAddress waits until the device is set up.
func waitForAddress(h *netlink.Handle) error {
	return eventually(func() error {
		l, err := h.LinkByName("net1")
		if err != nil {
			return err
		}
		list, err := h.AddrList(l, netlink.FAMILY_V4)
		if err == nil && (len(list) == 0 || l.Attrs().MTU != 9000 || l.Attrs().Flags&net.FlagUp == 0) {
			err = fmt.Errorf("net1 is %v with addresses %v", l.Attrs(), list)
		}
		return err
	})
}

// find waits for a frame that fits, on whatever queue.
func (p *peer) find(t *testing.T, mode memif.Mode, fits func(gopacket.Packet) bool) (found gopacket.Packet) {
	t.Helper()
	first := map[memif.Mode]gopacket.Decoder{memif.Ethernet: layers.LinkTypeEthernet, memif.IP: layers.LinkTypeRaw}[mode]
	frame := [][]byte{make([]byte, memif.DefaultMaxFrame)}
	err := eventually(func() error {
		for q := range p.Config().RxQueues {
			n, err := p.RxQueue(q).Receive(frame)
			if err != nil {
				t.Fatal(err)
			}
			if n == 1 {
				if found = gopacket.NewPacket(frame[0], first, gopacket.Default); fits(found) {
					return nil
				}
			}
		}
		return fmt.Errorf("no frame that fits; the last was %v", found)
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func TestIntegrationTapbridgeSaysWhatIsWrong(t *testing.T) {
	netnstest.NeedTun(t)
	host := netnstest.New(t)
	for _, tt := range []struct{ args, want []string }{
		{[]string{"--address", "10.0.0.2"}, []string{"net1", "10.0.0.2"}},
		{[]string{"--tap", "lo"}, []string{"device lo", "TUNSETIFF"}},
		{[]string{"--mtu", "10"}, []string{"device net1", "mtu 10", "invalid argument"}},
	} {
		p := startCommand(t, host.Command(t, filepath.Join(programs, "tapbridge"), tt.args...))
		if p.wait(t) == nil {
			t.Errorf("%q: it ended well", tt.args)
		}
		p.waitFor(t, tt.want...)
	}
}
