package conformance

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"time"

	"github.com/vishvananda/netlink"
	"go.fd.io/govpp/binapi/af_packet"
	interfaces "go.fd.io/govpp/binapi/interface"
	"go.fd.io/govpp/binapi/ip"
	"go.fd.io/govpp/binapi/ip_types"
	"go.fd.io/govpp/binapi/urpf"

	"github.com/millrace/millrace/internal/netnstest"
)

func kernelCases() []Case {
	return []Case{
		{"kernel-tcp", kernelTCP},
		{"kernel-tcp-path-mtu", kernelTCPSmallMTU},
		{"kernel-udp", kernelUDP},
		{"kernel-pods", kernelPods},
	}
}

// host is a network namespace behind the machine: a kernel with its own offloads, which
// hands over large segments and unfinished checksums.
type host struct {
	*netnstest.Namespace
	index interfaceIndex
	four  netip.Addr
	six   netip.Addr
}

// host makes the n-th one: 10.0.n.2/24 and fd00:n::2/64, the machine is .1 and ::1.
func (s *Session) host(n int) *host {
	s.T.Helper()
	h := s.wiredHost(n)
	h.four = netip.MustParseAddr(fmt.Sprintf("10.0.%d.2", n))
	h.six = netip.MustParseAddr(fmt.Sprintf("fd00:%d::2", n))
	for _, a := range []string{fmt.Sprintf("10.0.%d.1/24", n), fmt.Sprintf("fd00:%d::1/64", n)} {
		s.Must(&interfaces.SwInterfaceAddDelAddress{SwIfIndex: h.index, IsAdd: true, Prefix: withPrefix(a)})
	}
	h.Netlink(s.T, func(nl *netlink.Handle) error {
		link, err := nl.LinkByName("eth0")
		if err != nil {
			return fmt.Errorf("find eth0: %w", err)
		}
		for _, a := range []netip.Addr{h.four, h.six} {
			if err := addHostAddress(nl, link, a); err != nil {
				return fmt.Errorf("set up %v: %w", a, err)
			}
		}
		return nil
	})
	return h
}

// wiredHost makes a namespace with eth0, whose other end the machine holds by af_packet
// with the MAC 02:fe:00:00:01:n.
func (s *Session) wiredHost(n int) *host {
	s.T.Helper()
	h := &host{Namespace: netnstest.New(s.T)}
	inner := fmt.Sprintf("h%d", n)
	netnstest.Veth(s.T, s.inside, inner, h.Namespace, "eth0")
	reply := s.Must(&af_packet.AfPacketCreateV3{
		Mode: af_packet.AF_PACKET_API_MODE_ETHERNET, HwAddr: mac(net.HardwareAddr{2, 0xfe, 0, 0, 1, byte(n)}), HostIfName: inner,
		TxFramesPerBlock: 64, Flags: af_packet.AF_PACKET_API_FLAG_QDISC_BYPASS | af_packet.AF_PACKET_API_FLAG_CKSUM_GSO,
		NumRxQueues: 1, NumTxQueues: 1,
	}).(*af_packet.AfPacketCreateV3Reply)
	h.index = reply.SwIfIndex
	s.Up(h.index)
	return h
}

// pod makes a host wired as pods are: host addresses, the machine's interface unnumbered
// to the lender, a link-local gateway, strict checks of the source.
func (s *Session) pod(n int, lender interfaceIndex) *host {
	s.T.Helper()
	h := s.wiredHost(n)
	h.four = netip.MustParseAddr(fmt.Sprintf("10.9.0.%d", n))
	h.six = netip.MustParseAddr(fmt.Sprintf("fd00:9::%d", n))
	s.Must(&interfaces.SwInterfaceSetUnnumbered{SwIfIndex: lender, UnnumberedSwIfIndex: h.index, IsAdd: true})
	s.Must(&ip.SwInterfaceIP6EnableDisable{SwIfIndex: h.index, Enable: true})
	for af, a := range []netip.Addr{h.four, h.six} {
		s.Must(&ip.IPRouteAddDel{IsAdd: true, Route: route(netip.PrefixFrom(a, a.BitLen()).String(), via(a.String(), h.index))})
		s.Must(&urpf.UrpfUpdateV2{IsInput: true, Mode: urpf.URPF_API_MODE_STRICT, Af: ip_types.AddressFamily(af), SwIfIndex: h.index, TableID: ^uint32(0)})
	}
	gateways := []string{"169.254.1.1", fmt.Sprintf("fe80::fe:ff:fe00:1%02x", n)}
	h.Netlink(s.T, func(nl *netlink.Handle) error {
		link, err := nl.LinkByName("eth0")
		if err != nil {
			return fmt.Errorf("find eth0: %w", err)
		}
		for i, a := range []netip.Addr{h.four, h.six} {
			own := &net.IPNet{IP: a.AsSlice(), Mask: net.CIDRMask(a.BitLen(), a.BitLen())}
			if err := nl.AddrAdd(link, &netlink.Addr{IPNet: own, Flags: 0x02}); err != nil { // IFA_F_NODAD
				return fmt.Errorf("add %v: %w", a, err)
			}
			gateway := net.ParseIP(gateways[i])
			if err := nl.RouteAdd(&netlink.Route{LinkIndex: link.Attrs().Index, Gw: gateway, Flags: int(netlink.FLAG_ONLINK)}); err != nil {
				return fmt.Errorf("add route through %v: %w", gateway, err)
			}
		}
		return nil
	})
	return h
}

// addHostAddress gives the kernel an address of its subnet and a default route to the
// machine, without waiting for the detection of doubles.
func addHostAddress(nl *netlink.Handle, link netlink.Link, a netip.Addr) error {
	bits, gateway := 24, a.Prev()
	if a.Is6() {
		bits = 64
	}
	subnet := &net.IPNet{IP: a.AsSlice(), Mask: net.CIDRMask(bits, a.BitLen())}
	if err := nl.AddrAdd(link, &netlink.Addr{IPNet: subnet, Flags: 0x02}); err != nil { // IFA_F_NODAD
		return err
	}
	return nl.RouteAdd(&netlink.Route{LinkIndex: link.Attrs().Index, Gw: gateway.AsSlice()})
}

// transfer sends n bytes by TCP from one host to another and back, and says whether both
// came as they were sent.
func (s *Session) transfer(from, to *host, server netip.Addr, n int) error {
	ctx, cancel := context.WithTimeout(s.T.Context(), 2*patience)
	defer cancel()
	var listener net.Listener
	if err := to.Do(func() (err error) {
		listener, err = net.Listen("tcp", netip.AddrPortFrom(server, 0).String())
		return err
	}); err != nil {
		return err
	}
	defer listener.Close()
	echoed := make(chan error, 1)
	go func() { echoed <- echoTCP(listener) }()
	var conn net.Conn
	if err := from.Do(func() (err error) {
		conn, err = (&net.Dialer{}).DialContext(ctx, "tcp", listener.Addr().String())
		return err
	}); err != nil {
		return err
	}
	defer conn.Close()
	deadline, _ := ctx.Deadline()
	if err := conn.SetDeadline(deadline); err != nil {
		return err
	}
	data := []byte(payload(n))
	sent := make(chan error, 1)
	go func() {
		_, err := conn.Write(data)
		sent <- errors.Join(err, conn.(*net.TCPConn).CloseWrite())
	}()
	sum := sha256.New()
	if _, err := io.Copy(sum, conn); err != nil {
		return err
	}
	if err := errors.Join(<-sent, <-echoed); err != nil {
		return err
	}
	if want := sha256.Sum256(data); string(sum.Sum(nil)) != string(want[:]) {
		return errors.New("other bytes came back")
	}
	return nil
}

func echoTCP(listener net.Listener) error {
	conn, err := listener.Accept()
	if err != nil {
		return err
	}
	_, err = io.Copy(conn, conn)
	return errors.Join(err, conn.Close())
}

func kernelTCP(s *Session) {
	a, b := s.host(1), s.host(2)
	const n = 4 << 20
	for _, server := range []netip.Addr{b.four, b.six} {
		if err := s.transfer(a, b, server, n); err != nil {
			s.Write("%d bytes to %v and back: %v", n, server, err)
			continue
		}
		s.Write("%d bytes to %v and back: as sent", n, server)
	}
}

// kernelTCPSmallMTU: the way out is smaller than what the sender knows; path MTU
// discovery has to tell it.
func kernelTCPSmallMTU(s *Session) {
	a, b := s.host(1), s.host(2)
	s.Must(&interfaces.SwInterfaceSetMtu{SwIfIndex: b.index, Mtu: []uint32{1400, 0, 0, 0}})
	for _, server := range []netip.Addr{b.four, b.six} {
		if err := s.transfer(a, b, server, 1<<20); err != nil {
			s.Write("through an MTU of 1400 to %v: %v", server, err)
			continue
		}
		s.Write("through an MTU of 1400 to %v: as sent", server)
	}
}

// kernelPods: two pods and a host beside them.
func kernelPods(s *Session) {
	lender := s.loopback()
	s.Must(&interfaces.SwInterfaceAddDelAddress{SwIfIndex: lender, IsAdd: true, Prefix: withPrefix("169.254.1.1/32")})
	a, b, beside := s.pod(1, lender), s.pod(2, lender), s.host(3)
	for _, tt := range []struct {
		name     string
		from, to *host
	}{{"pod to pod", a, b}, {"pod to host", a, beside}, {"host to pod", beside, b}} {
		for _, server := range []netip.Addr{tt.to.four, tt.to.six} {
			if err := s.transfer(tt.from, tt.to, server, 1<<20); err != nil {
				s.Write("%s, %v: %v", tt.name, server, err)
				continue
			}
			s.Write("%s, %v: as sent", tt.name, server)
		}
	}
}

// kernelUDP: datagrams that the sending kernel fragments, and single ones.
func kernelUDP(s *Session) {
	a, b := s.host(1), s.host(2)
	for _, server := range []netip.Addr{b.four, b.six} {
		for _, n := range []int{1, 1000, 1472, 4000} {
			s.Write("%d bytes to %v: %v", n, server, s.datagram(a, b, server, n))
		}
	}
}

// datagram sends one datagram again until it arrives: the first is lost while the
// machine asks for the receiver.
func (s *Session) datagram(from, to *host, server netip.Addr, n int) string {
	var receiver net.PacketConn
	var sender net.Conn
	err := to.Do(func() (err error) {
		receiver, err = net.ListenPacket("udp", netip.AddrPortFrom(server, 0).String())
		return err
	})
	if err != nil {
		return err.Error()
	}
	defer receiver.Close()
	if err := from.Do(func() (err error) {
		sender, err = net.Dial("udp", receiver.LocalAddr().String())
		return err
	}); err != nil {
		return err.Error()
	}
	defer sender.Close()
	data, buf := []byte(payload(n)), make([]byte, 64<<10)
	for range 20 {
		if _, err := sender.Write(data); err != nil {
			return err.Error()
		}
		if err := receiver.SetReadDeadline(time.Now().Add(5 * quiet)); err != nil {
			return err.Error()
		}
		got, _, err := receiver.ReadFrom(buf)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			continue
		}
		if err != nil {
			return err.Error()
		}
		if string(buf[:got]) != string(data) {
			return "damaged"
		}
		return "as sent"
	}
	return "lost"
}
