// Package servicetest makes the two ends of connections by services, for tests: backends
// that say who they are and whom they see, and clients that compare it with what Kubernetes
// promises.
package servicetest

import (
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/millrace/millrace/internal/netnstest"
)

// patience only ends a run that fails.
const patience = time.Minute

// Reply is what a backend says: its own address, and whom it sees.
type Reply struct{ Backend, Client netip.Addr }

// Backend answers until it is closed.
type Backend struct {
	addr      netip.Addr
	listener  *net.TCPListener
	datagrams *net.UDPConn
	running   sync.WaitGroup
	answers   atomic.Int64
}

// Serve answers over TCP and UDP on a port of addresses in a namespace, nil is the test's
// own, until the test ends.
func Serve(t testing.TB, ns *netnstest.Namespace, port uint16, addrs ...netip.Addr) []*Backend {
	t.Helper()
	var list []*Backend
	for _, a := range addrs {
		at := netip.AddrPortFrom(a, port)
		b := &Backend{addr: a}
		inside(t, ns, func() (err error) {
			if b.listener, err = net.ListenTCP("tcp", net.TCPAddrFromAddrPort(at)); err == nil {
				b.datagrams, err = net.ListenUDP("udp", net.UDPAddrFromAddrPort(at))
			}
			return err
		})
		b.running.Go(b.stream)
		b.running.Go(b.echo)
		t.Cleanup(b.Close)
		list = append(list, b)
	}
	return list
}

// Close has it answer no more: who connects is refused.
func (b *Backend) Close() {
	b.listener.Close()
	b.datagrams.Close()
	b.running.Wait()
}

// Drain closes it when nobody has come for a while: what was on its way when the last
// client was sent here has arrived by then.
func (b *Backend) Drain() {
	for before := int64(-1); b.answers.Load() != before; time.Sleep(200 * time.Millisecond) {
		before = b.answers.Load()
	}
	b.Close()
}

func (b *Backend) stream() {
	for {
		c, err := b.listener.AcceptTCP()
		if err != nil {
			return
		}
		b.answers.Add(1)
		fmt.Fprintf(c, "%s %s", b.addr, c.RemoteAddr().(*net.TCPAddr).AddrPort().Addr())
		c.Close()
	}
}

func (b *Backend) echo() {
	for buffer := make([]byte, 64); ; {
		_, from, err := b.datagrams.ReadFromUDPAddrPort(buffer)
		if err != nil {
			return
		}
		b.answers.Add(1)
		_, _ = b.datagrams.WriteToUDPAddrPort(fmt.Appendf(nil, "%s %s", b.addr, from.Addr()), from)
	}
}

// inside runs f in a namespace; nil is the test's own.
func inside(t testing.TB, ns *netnstest.Namespace, f func() error) {
	t.Helper()
	err := error(nil)
	if ns == nil {
		err = f()
	} else {
		err = ns.Do(f)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// Clients connect from ports that do not come twice: VPP takes a connection from one that
// ended less than 5 s ago for the same flow, and mixes up two from one port by two services
// to one backend.
type Clients struct{ port atomic.Int32 }

// Ask connects once from a namespace, and from one of its addresses if from is valid, and
// returns what is said, or why nothing is.
func (k *Clients) Ask(t testing.TB, ns *netnstest.Namespace, from netip.Addr, network string, to netip.AddrPort) (r Reply, err error) {
	t.Helper()
	var c net.Conn
	d := net.Dialer{Timeout: patience, LocalAddr: k.local(from, network)}
	inside(t, ns, func() error {
		c, err = d.Dial(network, to.String())
		return nil
	})
	if err != nil {
		return r, err
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(patience)) // one that fails shows in what follows
	said, err := hear(c, network)
	if err != nil {
		return r, err
	}
	var backend, client string
	if _, err := fmt.Sscan(said, &backend, &client); err != nil {
		return r, fmt.Errorf("%q is no answer: %w", said, err)
	}
	return Reply{netip.MustParseAddr(backend), netip.MustParseAddr(client)}, nil
}

// hear returns all that is said. A stream is read to its end, so that the backend is the
// first to close it, and the client's port is free at once.
func hear(c net.Conn, network string) (string, error) {
	if network != "udp" {
		all, err := io.ReadAll(c)
		return string(all), err
	}
	if _, err := c.Write([]byte("?")); err != nil {
		return "", err
	}
	buffer := make([]byte, 128)
	n, err := c.Read(buffer)
	return string(buffer[:n]), err
}

func (k *Clients) local(from netip.Addr, network string) net.Addr {
	at := netip.AddrPortFrom(from, uint16(10000+k.port.Add(1)%20000))
	if network == "udp" {
		return net.UDPAddrFromAddrPort(at)
	}
	return net.TCPAddrFromAddrPort(at)
}

// Case is what one kind of connection comes to.
type Case struct {
	Name     string
	Network  string // tcp or udp
	To       string // address and port
	In       *netnstest.Namespace
	From     netip.Addr   // one of several that the client has; the zero Addr: the kernel chooses
	Backends []netip.Addr // all of them are to answer, and nobody else
	Source   netip.Addr   // whom they see
}

// rounds are enough for one of three backends not to be missed.
const rounds = 60

// Check makes the connections of each Case.
func (k *Clients) Check(t *testing.T, cases []Case) {
	for _, c := range cases {
		t.Run(c.Name+" "+c.Network+" "+c.To, func(t *testing.T) {
			seen := map[netip.Addr]bool{}
			for range rounds {
				r, err := k.Ask(t, c.In, c.From, c.Network, netip.MustParseAddrPort(c.To))
				if err != nil {
					t.Fatal(err)
				}
				if !slices.Contains(c.Backends, r.Backend) || r.Client != c.Source {
					t.Fatalf("%s answers, and sees %s; want one of %s to see %s", r.Backend, r.Client, c.Backends, c.Source)
				}
				seen[r.Backend] = true
			}
			if len(seen) != len(c.Backends) {
				t.Errorf("only %v of %v answer", seen, c.Backends)
			}
		})
	}
}
