// Package flowtest sends numbered packets between network namespaces while a test changes
// what is between them, and tells which numbers arrived.
//
// It knows nothing of dataplanes, and judges nothing: what has to arrive is the test's to
// say.
package flowtest

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/millrace/millrace/internal/netnstest"
)

// Kind is what a flow consists of.
type Kind uint8

const (
	UDP  Kind = iota // datagrams one way
	Echo             // UDP that the other end sends back; a number has arrived when it is back
	Late             // Echo that takes a while, so that answers are under way at any time
	TCP              // one connection, made by Start, with a number per write, answered late
	Ping             // ICMP echo requests; a number has arrived when its reply has
)

var kindNames = [...]string{UDP: "udp", Echo: "echo", Late: "late echo", TCP: "tcp", Ping: "ping"}

func (k Kind) String() string { return kindNames[k] }

const (
	interval = 2 * time.Millisecond // between two numbers
	lateness = 20 * time.Millisecond
)

// Flow sends numbers from 0 on until the test ends or Stop is called.
type Flow struct {
	Name    string
	t       testing.TB
	next    atomic.Uint64
	stopped chan struct{}
	stop    func()
	closers []io.Closer
	wg      sync.WaitGroup

	// mu guards the arrivals, by number.
	mu   sync.Mutex
	got  map[uint64]time.Time
	last time.Time
}

// End is one end of a flow. The port does not matter to Ping.
type End struct {
	Namespace *netnstest.Namespace
	Addr      netip.Addr
	Port      uint16
}

func (e End) addrPort() netip.AddrPort { return netip.AddrPortFrom(e.Addr, e.Port) }

// Start lets a flow run. The ends need their addresses and routes already; a TCP flow has
// to be permitted.
func Start(t testing.TB, kind Kind, from, to End) *Flow {
	t.Helper()
	f := &Flow{
		Name: fmt.Sprintf("%s %s>%s", kind, from.Addr, to.addrPort()), t: t,
		stopped: make(chan struct{}), got: map[uint64]time.Time{},
	}
	f.stop = sync.OnceFunc(func() {
		close(f.stopped)
		for _, c := range f.closers {
			c.Close()
		}
		f.wg.Wait()
	})
	t.Cleanup(f.stop)
	var err error
	switch kind {
	case UDP, Echo, Late:
		err = f.startUDP(from, to, kind)
	case TCP:
		err = f.startTCP(from, to)
	case Ping:
		err = f.startPing(from, to)
	}
	if err != nil {
		f.stop()
		t.Fatalf("start %s: %v", f.Name, err)
	}
	return f
}

// Stop ends the flow.
func (f *Flow) Stop() { f.stop() }

// Next is the number that will be sent next: it and all above are sent after this call.
func (f *Flow) Next() uint64 { return f.next.Load() }

// Arrived lists the numbers of [first, end) that have arrived, in order.
func (f *Flow) Arrived(first, end uint64) []uint64 { return f.pick(first, end, true) }

// Missing lists those that have not.
func (f *Flow) Missing(first, end uint64) []uint64 { return f.pick(first, end, false) }

func (f *Flow) pick(first, end uint64, arrived bool) (list []uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for n := first; n < end; n++ {
		if _, has := f.got[n]; has == arrived {
			list = append(list, n)
		}
	}
	return list
}

// Last is when the last number arrived that had not before.
func (f *Flow) Last() time.Time {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.last
}

func (f *Flow) arrive(n uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, twice := f.got[n]; !twice {
		f.last = time.Now()
		f.got[n] = f.last
	}
}

// send calls write with number after number.
func (f *Flow) send(write func(n uint64) error) {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		select {
		case <-f.stopped:
			return
		case <-tick.C:
		}
		n := f.next.Add(1) - 1
		if err := write(n); err != nil && !f.over() {
			f.t.Errorf("%s: send number %d: %v", f.Name, n, err)
			return
		}
	}
}

func (f *Flow) over() bool {
	select {
	case <-f.stopped:
		return true
	default:
		return false
	}
}

// closed says whether a read ended because the flow did.
func (f *Flow) closed(err error) bool { return f.over() || errors.Is(err, net.ErrClosed) }

func (f *Flow) startUDP(from, to End, kind Kind) error {
	client, err := f.packetConn(from, "udp", from.addrPort().String())
	if err != nil {
		return err
	}
	server, err := f.packetConn(to, "udp", to.addrPort().String())
	if err != nil {
		return err
	}
	at := net.UDPAddrFromAddrPort(to.addrPort())
	counting := server
	if kind != UDP {
		counting = client
		f.wg.Go(func() { f.echo(server, kind == Late) })
	}
	f.wg.Go(func() { f.receive(counting, 0, func(b []byte, _ net.Addr) { f.arrive(number(b)) }) })
	f.wg.Go(func() {
		f.send(func(n uint64) error {
			_, err := client.WriteTo(appendNumber(nil, n), at)
			return err
		})
	})
	return nil
}

// echo sends back what comes. That an answer cannot be sent shows in what arrives.
func (f *Flow) echo(server net.PacketConn, late bool) {
	f.receive(server, 0, func(b []byte, peer net.Addr) {
		if late {
			time.AfterFunc(lateness, func() { server.WriteTo(b, peer) })
			return
		}
		server.WriteTo(b, peer)
	})
}

func (f *Flow) packetConn(at End, network, address string) (c net.PacketConn, err error) {
	err = at.Namespace.Do(func() error {
		c, err = net.ListenPacket(network, address)
		return err
	})
	if err == nil {
		f.closers = append(f.closers, c)
	}
	return c, err
}

// receive hands on every packet that holds a number behind skip bytes.
func (f *Flow) receive(c net.PacketConn, skip int, take func(b []byte, peer net.Addr)) {
	buffer := make([]byte, 2048)
	for {
		n, peer, err := c.ReadFrom(buffer)
		if err != nil {
			if !f.closed(err) {
				f.t.Errorf("%s: receive: %v", f.Name, err)
			}
			return
		}
		if n >= skip+8 {
			take(slices.Clone(buffer[:n]), peer)
		}
	}
}

func (f *Flow) startTCP(from, to End) error {
	var listener net.Listener
	err := to.Namespace.Do(func() (err error) {
		listener, err = net.Listen("tcp", to.addrPort().String())
		return err
	})
	if err != nil {
		return err
	}
	f.closers = append(f.closers, listener)
	var client net.Conn
	err = from.Namespace.Do(func() (err error) {
		d := net.Dialer{Timeout: 10 * time.Second, LocalAddr: net.TCPAddrFromAddrPort(from.addrPort())}
		client, err = d.Dial("tcp", to.addrPort().String())
		return err
	})
	if err != nil {
		return err
	}
	f.closers = append(f.closers, client)
	server, err := listener.Accept()
	if err != nil {
		return err
	}
	f.closers = append(f.closers, server)
	f.wg.Go(func() {
		b := make([]byte, 8)
		for {
			if _, err := io.ReadFull(server, b); err != nil {
				if !f.closed(err) {
					f.t.Errorf("%s: receive: %v", f.Name, err)
				}
				return
			}
			f.arrive(number(b))
			answer := slices.Clone(b)
			time.AfterFunc(lateness, func() { server.Write(answer) }) // until the flow ends
		}
	})
	f.wg.Go(func() { io.Copy(io.Discard, client) })
	f.wg.Go(func() {
		f.send(func(n uint64) error {
			_, err := client.Write(appendNumber(nil, n))
			return err
		})
	})
	return nil
}

const (
	echo4, reply4 = 8, 0
	echo6, reply6 = 128, 129
	icmpHeader    = 8
)

func (f *Flow) startPing(from, to End) error {
	network, request, reply := "ip4:icmp", byte(echo4), byte(reply4)
	if from.Addr.Is6() {
		network, request, reply = "ip6:ipv6-icmp", echo6, reply6
	}
	c, err := f.packetConn(from, network, from.Addr.String())
	if err != nil {
		return err
	}
	// The same for all packets of the flow, and another for each flow of a process.
	id := uint16(os.Getpid()) ^ from.Port
	f.wg.Go(func() {
		f.receive(c, icmpHeader, func(b []byte, _ net.Addr) {
			if b[0] == reply && binary.BigEndian.Uint16(b[4:]) == id {
				f.arrive(number(b[icmpHeader:]))
			}
		})
	})
	at := &net.IPAddr{IP: to.Addr.AsSlice()}
	f.wg.Go(func() {
		f.send(func(n uint64) error {
			_, err := c.WriteTo(echoRequest(request, id, n), at)
			return err
		})
	})
	return nil
}

// echoRequest is an ICMP message; the kernel writes the checksum of ICMPv6 itself.
func echoRequest(kind byte, id uint16, n uint64) []byte {
	b := make([]byte, icmpHeader, icmpHeader+8)
	b[0] = kind
	binary.BigEndian.PutUint16(b[4:], id)
	binary.BigEndian.PutUint16(b[6:], uint16(n))
	b = appendNumber(b, n)
	sum := uint32(0)
	for i := 0; i < len(b); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	binary.BigEndian.PutUint16(b[2:], ^uint16(sum))
	return b
}

func appendNumber(b []byte, n uint64) []byte { return binary.BigEndian.AppendUint64(b, n) }
func number(b []byte) uint64                 { return binary.BigEndian.Uint64(b) }
