package afpacket

import (
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"

	"github.com/millrace/millrace/engine/port"
	"github.com/millrace/millrace/engine/port/hostlink"
	"github.com/millrace/millrace/engine/port/hostns"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// sendBuffer is how much a transmit queue may have on its way through the host, in
// bytes; receiveBuffer how much of long packets may wait.
const (
	sendBuffer    = 8 << 20
	receiveBuffer = 8 << 20
)

// Open sets the host's interface up and opens packet sockets on it. When it fails
// nothing is left open, and the error is an *Error.
func Open(c Config) (*Port, error) {
	if err := c.check(); err != nil {
		return nil, err
	}
	c.RxQueues, c.TxQueues = max(c.RxQueues, 1), max(c.TxQueues, 1)
	p := &Port{namespace: c.Namespace, mode: c.Mode, flags: c.Flags}
	if c.Mode == ModeEthernet {
		if p.mac = c.HardwareAddr; p.mac == nil {
			p.mac = randomMAC()
		}
	}
	if c.Flags&ChecksumGSO != 0 {
		p.caps = port.Capabilities{Checksum: true, TSO4: true, TSO6: true, USO: kernelKnowsUSO()}
	}
	err := hostns.Do(c.Namespace, func() error { return p.open(&c) })
	if err == nil {
		return p, nil
	}
	closing := p.Close()
	if e, ok := errors.AsType[*Error](err); ok {
		e.Err = errors.Join(e.Err, closing)
		return nil, e
	}
	return nil, fail(NoNamespace, "%w", errors.Join(err, closing))
}

func (p *Port) open(c *Config) error {
	if err := p.findHost(c.HostIfName); err != nil {
		return err
	}
	fanout := -1
	for range c.RxQueues {
		r, err := openRing(c.ring())
		if r != nil {
			p.rx = append(p.rx, r)
		}
		if err == nil {
			err = p.bind(r.fd)
		}
		if err == nil && c.RxQueues > 1 {
			fanout, err = joinFanout(r.fd, fanout)
		}
		if err != nil {
			return fail(NoSocket, "receive queue on %s: %w; %s", c.HostIfName, err, advise(err))
		}
	}
	if c.RxQueues > 1 {
		// Between bind and join a queue saw the packets of the others too.
		for _, r := range p.rx {
			r.discard()
		}
	}
	for range c.TxQueues {
		fd, err := p.openSender()
		if err != nil {
			return fail(NoSocket, "transmit queue on %s: %w; %s", c.HostIfName, err, advise(err))
		}
		p.tx = append(p.tx, newSender(fd, p.host.IfIndex, p.mode))
	}
	return nil
}

// findHost looks the interface up and, as VPP does, sets it up.
func (p *Port) findHost(name string) error {
	h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return fail(NoSocket, "open netlink: %w", err)
	}
	defer h.Close()
	link, err := h.LinkByName(name)
	if err != nil {
		return fail(NoInterface, "find host interface %q: %w", name, err)
	}
	if link.Attrs().Flags&net.FlagUp == 0 {
		if err := h.LinkSetUp(link); err != nil {
			return fail(NoSocket, "set %s up: %w; %s", name, err, advise(err))
		}
		if link, err = h.LinkByIndex(link.Attrs().Index); err != nil {
			return fail(NoInterface, "read back %s: %w", name, err)
		}
	}
	p.host = hostlink.Of(link)
	return nil
}

// openRing makes a receive socket, not yet bound, with its ring. A ring that failed is
// returned too, to be closed.
func openRing(g geometry) (*ring, error) {
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open packet socket: %w", err)
	}
	r := &ring{fd: fd, g: g}
	for _, o := range []struct {
		name  string
		level int
		opt   int
		value int
	}{
		{"version 2", unix.SOL_PACKET, unix.PACKET_VERSION, unix.TPACKET_V2},
		{"virtio header", unix.SOL_PACKET, unix.PACKET_VNET_HDR, 1},
		{"ignoring own packets", unix.SOL_PACKET, unix.PACKET_IGNORE_OUTGOING, 1},
		{"long packets", unix.SOL_PACKET, unix.PACKET_COPY_THRESH, 1},
		{"receive buffer", unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, receiveBuffer},
	} {
		if err := unix.SetsockoptInt(fd, o.level, o.opt, o.value); err != nil {
			return r, fmt.Errorf("set %s: %w", o.name, err)
		}
	}
	req := unix.TpacketReq{Block_size: uint32(g.blockSize), Block_nr: uint32(g.blocks), Frame_size: uint32(g.frameSize), Frame_nr: uint32(g.frames())}
	if err := unix.SetsockoptTpacketReq(fd, unix.SOL_PACKET, unix.PACKET_RX_RING, &req); err != nil {
		return r, fmt.Errorf("make a ring of %d bytes: %w", g.bytes(), err)
	}
	if r.mem, err = unix.Mmap(fd, 0, g.bytes(), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED); err != nil {
		return r, fmt.Errorf("map a ring of %d bytes: %w", g.bytes(), err)
	}
	return r, nil
}

// bind starts reception. Packets to our own MAC address, which the host's interface does
// not know, need it to be promiscuous; it is so as long as the socket lives.
func (p *Port) bind(fd int) error {
	if p.mode == ModeEthernet {
		m := unix.PacketMreq{Ifindex: int32(p.host.IfIndex), Type: unix.PACKET_MR_PROMISC}
		if err := unix.SetsockoptPacketMreq(fd, unix.SOL_PACKET, unix.PACKET_ADD_MEMBERSHIP, &m); err != nil {
			return fmt.Errorf("set promiscuous: %w", err)
		}
	}
	at := &unix.SockaddrLinklayer{Protocol: htons(unix.ETH_P_ALL), Ifindex: p.host.IfIndex}
	if err := unix.Bind(fd, at); err != nil {
		return fmt.Errorf("bind: %w", err)
	}
	return nil
}

// joinFanout makes the socket share the flows with the group id, or with a new group
// when id is negative, and returns the group. The kernel chooses a free number.
func joinFanout(fd, id int) (int, error) {
	value := unix.PACKET_FANOUT_HASH << 16
	if id < 0 {
		value |= unix.PACKET_FANOUT_FLAG_UNIQUEID << 16
	} else {
		value |= id
	}
	if err := unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_FANOUT, value); err != nil {
		return id, fmt.Errorf("join fanout group: %w", err)
	}
	if id >= 0 {
		return id, nil
	}
	got, err := unix.GetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_FANOUT)
	if err != nil {
		return id, fmt.Errorf("read fanout group: %w", err)
	}
	return got & 0xffff, nil
}

// openSender makes a socket that sends only: bound to no protocol it receives nothing.
func (p *Port) openSender() (int, error) {
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("open packet socket: %w", err)
	}
	err = unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_VNET_HDR, 1)
	if err == nil {
		err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, sendBuffer)
	}
	// Packets that pass the queueing discipline by are dropped where the driver does not cut
	// them itself (dev_direct_xmit in net/core/dev.c).
	if err == nil && p.flags&(QdiscBypass|ChecksumGSO) == QdiscBypass {
		err = unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_QDISC_BYPASS, 1)
	}
	if err == nil {
		err = unix.Bind(fd, &unix.SockaddrLinklayer{Ifindex: p.host.IfIndex})
	}
	if err != nil {
		return -1, errors.Join(fmt.Errorf("set packet socket up: %w", err), unix.Close(fd))
	}
	return fd, nil
}

// Lost is how many packets of receive queue q the kernel could not hand over whole.
// Packets that found the ring full are the kernel's to count.
func (p *Port) Lost(q int) uint64 { return p.rx[q].lost.Load() }

// Close gives sockets and rings back. The host's interface stays as it is. A second
// Close does nothing.
func (p *Port) Close() error {
	if p.closed.Swap(true) {
		return nil
	}
	var errs []error
	for _, r := range p.rx {
		errs = append(errs, r.close())
	}
	for _, s := range p.tx {
		errs = append(errs, unix.Close(s.fd))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("close af_packet on %s: %w", p.host.IfName, err)
	}
	return nil
}

func advise(err error) string {
	switch {
	case errors.Is(err, unix.EPERM), errors.Is(err, unix.EACCES):
		return "needs CAP_NET_RAW and CAP_NET_ADMIN in the namespace"
	case errors.Is(err, unix.ENOMEM):
		return "ask for a smaller ring"
	case errors.Is(err, unix.EAFNOSUPPORT):
		return "load the driver (modprobe af_packet)"
	}
	return "see the kernel's log"
}

// kernelKnowsUSO reports whether packet sockets take UDP segmentation: Linux 6.2.
func kernelKnowsUSO() bool {
	var u unix.Utsname
	if unix.Uname(&u) != nil {
		return false
	}
	parts := strings.SplitN(unix.ByteSliceToString(u.Release[:]), ".", 3)
	if len(parts) < 2 {
		return false
	}
	major, err1 := strconv.Atoi(parts[0])
	minor, err2 := strconv.Atoi(parts[1])
	return err1 == nil && err2 == nil && (major > 6 || major == 6 && minor >= 2)
}

// randomMAC is a locally administered address with VPP's prefix for generated ones.
func randomMAC() net.HardwareAddr {
	m := net.HardwareAddr{0x02, 0xfe, 0, 0, 0, 0}
	rand.Read(m[2:]) // never fails (crypto/rand)
	return m
}
