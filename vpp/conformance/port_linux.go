package conformance

import (
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/vishvananda/netlink"
	"go.fd.io/govpp/binapi/af_packet"
	"go.fd.io/govpp/binapi/ethernet_types"
	interfaces "go.fd.io/govpp/binapi/interface"
	"go.fd.io/govpp/binapi/interface_types"
	"golang.org/x/sys/unix"

	"github.com/millrace/millrace/internal/netnstest"
)

// quiet is how long a port has to say nothing more until the next step: it is only for
// packets that should not come.
const quiet = 60 * time.Millisecond

// Port is a link to the machine, whose near end the test reads and writes frame by frame:
// a veth pair, whose far end the machine holds by af_packet, or a memif.
type Port struct {
	s     *Session
	Index interface_types.InterfaceIndex // sw_if_index in the machine
	Name  string                         // of the interface in the machine
	MAC   net.HardwareAddr               // of the machine's end
	Peer  net.HardwareAddr               // of the test's end
	cable cable
}

// cable is the near end.
type cable interface {
	// send loses the frame when the far end is down.
	send(frame []byte) error
	// read returns the next frame that the machine sent, or nil when none came in time.
	read(within time.Duration) ([]byte, error)
}

// Port makes a link and sets it up in the machine. The n-th has the MAC 02:fe::n in the
// machine and 02:00::n in the test.
func (s *Session) Port() *Port {
	s.T.Helper()
	n := byte(len(s.ports) + 1)
	p := &Port{
		s:   s,
		MAC: net.HardwareAddr{2, 0xfe, 0, 0, 0, n}, Peer: net.HardwareAddr{2, 0, 0, 0, 0, n},
	}
	host, near := fmt.Sprintf("m%d", n), fmt.Sprintf("p%d", n)
	netnstest.Veth(s.T, s.inside, host, s.outside, near)
	s.inside.Netlink(s.T, func(h *netlink.Handle) error { return setMTU(h, host) })
	s.outside.Netlink(s.T, func(h *netlink.Handle) error { return setMTU(h, near) })
	var raw rawSocket
	s.outside.Run(s.T, func() error { return raw.open(near) })
	s.T.Cleanup(func() { unix.Close(raw.fd) })
	p.cable = &raw
	reply := s.Must(&af_packet.AfPacketCreateV3{
		Mode: af_packet.AF_PACKET_API_MODE_ETHERNET, HwAddr: mac(p.MAC), HostIfName: host,
		TxFramesPerBlock: 64, Flags: af_packet.AF_PACKET_API_FLAG_QDISC_BYPASS | af_packet.AF_PACKET_API_FLAG_CKSUM_GSO,
		NumRxQueues: 1, NumTxQueues: 1,
	}).(*af_packet.AfPacketCreateV3Reply)
	p.Index, p.Name = reply.SwIfIndex, "host-"+host
	s.ports = append(s.ports, p)
	s.Up(p.Index)
	return p
}

// Up sets an interface up without a line in the transcript.
func (s *Session) Up(index interface_types.InterfaceIndex) {
	s.T.Helper()
	s.Must(&interfaces.SwInterfaceSetFlags{SwIfIndex: index, Flags: interface_types.IF_STATUS_API_FLAG_ADMIN_UP})
}

// setMTU leaves room for packets above the machine's own MTU.
func setMTU(h *netlink.Handle, name string) error {
	link, err := h.LinkByName(name)
	if err != nil {
		return fmt.Errorf("find %s: %w", name, err)
	}
	return h.LinkSetMTU(link, 9000)
}

func mac(a net.HardwareAddr) ethernet_types.MacAddress {
	return ethernet_types.MacAddress(a)
}

// rawSocket is the near end of a veth pair.
type rawSocket struct{ fd int }

// open runs in the outer namespace.
func (r *rawSocket) open(name string) error {
	link, err := net.InterfaceByName(name)
	if err != nil {
		return err
	}
	const all = uint16(unix.ETH_P_ALL)<<8&0xff00 | uint16(unix.ETH_P_ALL)>>8
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open packet socket: %w", err)
	}
	r.fd = fd
	if err := unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: link.Index}); err != nil {
		return fmt.Errorf("bind packet socket to %s: %w", name, err)
	}
	return nil
}

// send: ENETDOWN and ENOBUFS say that the machine has set its end down.
func (r *rawSocket) send(frame []byte) error {
	_, err := unix.Write(r.fd, frame)
	if errors.Is(err, unix.ENETDOWN) || errors.Is(err, unix.ENOBUFS) {
		return nil
	}
	return err
}

func (r *rawSocket) read(within time.Duration) ([]byte, error) {
	buf := make([]byte, 64<<10)
	for end := time.Now().Add(within); ; {
		left := time.Until(end)
		if left <= 0 {
			return nil, nil
		}
		fds := []unix.PollFd{{Fd: int32(r.fd), Events: unix.POLLIN}}
		if _, err := unix.Poll(fds, int(left/time.Millisecond)+1); err != nil && !errors.Is(err, unix.EINTR) {
			return nil, fmt.Errorf("poll: %w", err)
		}
		n, from, err := unix.Recvfrom(r.fd, buf, unix.MSG_DONTWAIT)
		if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("receive: %w", err)
		}
		if ll, ok := from.(*unix.SockaddrLinklayer); ok && ll.Pkttype == unix.PACKET_OUTGOING {
			continue
		}
		return buf[:n:n], nil
	}
}

// Send puts frames on the link.
func (p *Port) Send(frames ...[]byte) {
	p.s.T.Helper()
	for _, f := range frames {
		if err := p.cable.send(f); err != nil {
			p.s.T.Fatalf("send %d bytes: %v", len(f), err)
		}
	}
}

// read returns the next frame that the machine sent and that is part of the play, or nil
// when none comes in time.
func (p *Port) read(within time.Duration) []byte {
	for end := time.Now().Add(within); ; {
		frame, err := p.cable.read(time.Until(end))
		if err != nil {
			p.s.T.Fatal(err)
		}
		if frame == nil || !background(frame) {
			return frame
		}
	}
}

// Drain forgets what the machine sent so far.
func (s *Session) Drain() {
	for _, p := range s.ports {
		for p.read(quiet) != nil {
		}
	}
}

// Expect waits for n frames on the port and writes down those and what comes beside them.
func (p *Port) Expect(n int) [][]byte {
	p.s.T.Helper()
	frames := p.Receive(n)
	last := ""
	for _, f := range frames {
		text := describeFrame(f)
		if text == last && question(f) {
			continue // how often to ask is the machine's choice
		}
		last = text
		p.s.Write("  %s < %s", p.Name, text)
	}
	if len(frames) < n {
		p.s.Write("  %s: %d of %d frames came", p.Name, len(frames), n)
	}
	return frames
}

// question says that a frame asks for a neighbour.
func question(frame []byte) bool {
	text := describeFrame(frame)
	return strings.Contains(text, " arp op 1 ") || strings.Contains(text, " icmp6 135/0 ")
}

// Receive is Expect without writing.
func (p *Port) Receive(n int) [][]byte {
	var frames [][]byte
	for len(frames) < n {
		f := p.read(patience / 5)
		if f == nil {
			return frames
		}
		frames = append(frames, f)
	}
	for f := p.read(quiet); f != nil; f = p.read(quiet) {
		frames = append(frames, f)
	}
	return frames
}

// Play sends one frame, writes it down, and then what comes: n frames on the port to.
func (p *Port) Play(frame []byte, to *Port, n int) [][]byte {
	p.s.T.Helper()
	p.s.Write("%s > %s", p.Name, describeFrame(frame))
	p.Send(frame)
	frames := to.Expect(n)
	for _, other := range p.s.ports {
		if other == to {
			continue
		}
		other.Rest()
	}
	return frames
}

// Rest writes down what comes until nothing more does. What VPP sent at this place is
// waited for with patience.
func (p *Port) Rest() {
	p.s.T.Helper()
	mark, due := "  "+p.Name+" < ", 0
	for _, line := range p.s.ahead() {
		if !strings.HasPrefix(line, mark) {
			break
		}
		due++
	}
	for n := 0; ; n++ {
		within := quiet
		if n < due {
			within = patience / 5
		}
		f := p.read(within)
		if f == nil {
			return
		}
		p.s.Write("%s%s", mark, describeFrame(f))
	}
}
