package program

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/millrace/millrace/agent/compile"
	"github.com/millrace/millrace/cluster"
	"github.com/millrace/millrace/dataplane"
	"github.com/millrace/millrace/internal/machinetest"
	"github.com/millrace/millrace/internal/netnstest"
)

// serviceFacts are two services: one with both pods, on both protocols and families, whose
// port 81 has nobody behind it, and one that only leads to the first pod.
const serviceFacts = `node n address=10.0.0.1 address=fd00::1 podcidr=10.1.0.0/24 podcidr=fd01::/64
service d/both clusterip=10.96.0.1 clusterip=fd96::1 externalip=203.0.113.1 port=t:80/TCP/30080 port=u:80/UDP port=none:81/TCP
endpointslice d/both4 service=both port=t:8080/TCP port=u:8080/UDP endpoint="10.1.0.2 node=n ready=true" endpoint="10.1.0.3 node=n ready=true"
endpointslice d/both6 service=both port=t:8080/TCP port=u:8080/UDP endpoint="fd01::2 node=n ready=true" endpoint="fd01::3 node=n ready=true"
service d/first clusterip=10.96.0.2 clusterip=fd96::2 port=t:80/TCP
endpointslice d/first4 service=first port=t:8080/TCP endpoint="10.1.0.2 node=n ready=true"
endpointslice d/first6 service=first port=t:8080/TCP endpoint="fd01::2 node=n ready=true"
`

// reply is what a backend says: its own address, and whom it sees.
type reply struct{ backend, client netip.Addr }

// serve answers on port 8080 of every address of a pod, over TCP and UDP, with both.
func serve(t *testing.T, ns *netnstest.Namespace, addrs ...netip.Addr) {
	t.Helper()
	for _, a := range addrs {
		at := netip.AddrPortFrom(a, 8080)
		var l *net.TCPListener
		var u *net.UDPConn
		inside(t, ns, func() (err error) {
			if l, err = net.ListenTCP("tcp", net.TCPAddrFromAddrPort(at)); err == nil {
				u, err = net.ListenUDP("udp", net.UDPAddrFromAddrPort(at))
			}
			return err
		})
		t.Cleanup(func() { l.Close(); u.Close() })
		go func() {
			for {
				c, err := l.AcceptTCP()
				if err != nil {
					return
				}
				fmt.Fprintf(c, "%s %s", a, c.RemoteAddr().(*net.TCPAddr).AddrPort().Addr())
				c.Close()
			}
		}()
		go func() {
			for buffer := make([]byte, 64); ; {
				_, from, err := u.ReadFromUDPAddrPort(buffer)
				if err != nil {
					return
				}
				_, _ = u.WriteToUDPAddrPort(fmt.Appendf(nil, "%s %s", a, from.Addr()), from)
			}
		}()
	}
}

// inside runs f in a namespace; nil is the node's own.
func inside(t *testing.T, ns *netnstest.Namespace, f func() error) {
	t.Helper()
	if ns == nil {
		if err := f(); err != nil {
			t.Fatal(err)
		}
		return
	}
	if err := ns.Do(f); err != nil {
		t.Fatal(err)
	}
}

// asker connects from ports that do not come twice: VPP takes a connection from one that
// ended less than 5 s ago for the same flow, and mixes up two from one port by two services
// to one backend.
type asker struct{ port atomic.Int32 }

// ask connects once, and returns what is said, or why nothing is.
func (k *asker) ask(t *testing.T, from *netnstest.Namespace, network string, to netip.AddrPort) (r reply, err error) {
	t.Helper()
	local := 10000 + int(k.port.Add(1))
	d := net.Dialer{Timeout: time.Minute, LocalAddr: &net.TCPAddr{Port: local}}
	if network == "udp" {
		d.LocalAddr = &net.UDPAddr{Port: local}
	}
	var c net.Conn
	inside(t, from, func() error {
		c, err = d.Dial(network, to.String())
		return nil
	})
	if err != nil {
		return r, err
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(time.Minute))
	if network == "udp" {
		if _, err = c.Write([]byte("?")); err != nil {
			return r, err
		}
	}
	buffer := make([]byte, 128)
	n, err := c.Read(buffer)
	if err != nil && !errors.Is(err, io.EOF) {
		return r, err
	}
	var backend, client string
	if _, err := fmt.Sscan(string(buffer[:n]), &backend, &client); err != nil {
		return r, err
	}
	return reply{netip.MustParseAddr(backend), netip.MustParseAddr(client)}, nil
}

// TestIntegrationServiceMatrix makes real connections: kind of address x family x protocol
// x place of the client, and wants the backends and the source that Kubernetes promises.
func TestIntegrationServiceMatrix(t *testing.T) {
	natMachines(t, func(t *testing.T, m machinetest.Machine) {
		m.Start(t)
		p := program(t, m.Connect(t))
		o := compile.Defaults()
		o.Services = true
		if tun, err := p.CanTun(t.Context()); err != nil {
			t.Fatal(err)
		} else if !tun {
			o.Device = compile.DeviceVeth
		}
		nodeAddresses(t)
		a, b, c := netnstest.New(t), netnstest.New(t), netnstest.New(t)
		s := node(a, b, c)
		facts, err := cluster.ParseSnapshot(serviceFacts)
		if err != nil {
			t.Fatal(err)
		}
		s.Services, s.EndpointSlices = facts.Services, facts.EndpointSlices
		reach(t, p, wish(t, s, o))
		serve(t, a, podAddr4(0), podAddr6(0))
		serve(t, b, podAddr4(1), podAddr6(1))
		k := &asker{}
		v4, v6 := []netip.Addr{podAddr4(0), podAddr4(1)}, []netip.Addr{podAddr6(0), podAddr6(1)}
		pod4, pod6 := podAddr4(2), podAddr6(2)
		node4, node6 := netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("fd00::1")
		for _, tt := range []struct {
			name, network, to string
			from              *netnstest.Namespace
			backends          []netip.Addr
			source            netip.Addr
		}{
			{"cluster address from a pod", "tcp", "10.96.0.1:80", c, v4, pod4},
			{"cluster address from a pod", "udp", "10.96.0.1:80", c, v4, pod4},
			{"cluster address from a pod", "tcp", "[fd96::1]:80", c, v6, pod6},
			{"cluster address from a pod", "udp", "[fd96::1]:80", c, v6, pod6},
			{"external address from a pod", "tcp", "203.0.113.1:80", c, v4, pod4},
			{"node port from a pod", "tcp", "10.0.0.1:30080", c, v4, pod4},
			{"node port from a pod", "tcp", "[fd00::1]:30080", c, v6, pod6},
			{"cluster address from the node", "tcp", "10.96.0.1:80", nil, v4, node4},
			{"cluster address from the node", "udp", "10.96.0.1:80", nil, v4, node4},
			{"cluster address from the node", "tcp", "[fd96::1]:80", nil, v6, node6},
			{"external address from the node", "tcp", "203.0.113.1:80", nil, v4, node4},
			{"itself, by a service", "tcp", "10.96.0.2:80", a, v4[:1], cluster.NodeAddress(netip.MustParsePrefix("10.1.0.0/24"))},
			{"itself, by a service", "tcp", "[fd96::2]:80", a, v6[:1], cluster.NodeAddress(netip.MustParsePrefix("fd01::/64"))},
			{"another backend, by a service", "tcp", "10.96.0.2:80", b, v4[:1], podAddr4(1)},
		} {
			t.Run(tt.name+" "+tt.network+" "+tt.to, func(t *testing.T) {
				seen := map[netip.Addr]bool{}
				for range 60 {
					r, err := k.ask(t, tt.from, tt.network, netip.MustParseAddrPort(tt.to))
					if err != nil {
						t.Fatal(err)
					}
					if !slices.Contains(tt.backends, r.backend) || r.client != tt.source {
						t.Fatalf("%s answers, and sees %s; want one of %s to see %s", r.backend, r.client, tt.backends, tt.source)
					}
					seen[r.backend] = true
				}
				if len(seen) != len(tt.backends) {
					t.Errorf("only %v of %v answer", seen, tt.backends)
				}
			})
		}
		// VPP gives the ICMP error to the node itself another source, and the node drops it.
		if _, err := k.ask(t, c, "tcp", netip.MustParseAddrPort("10.96.0.1:81")); !errors.Is(err, syscall.EHOSTUNREACH) && !errors.Is(err, syscall.ENETUNREACH) {
			t.Errorf("a port without endpoints: %v, want to be told that nobody is there", err)
		}
		rolling(t, k, p, s, o, c)
		reach(t, p, dataplane.State{})
	})
}

// rolling takes one backend away and gives it back under new connections: none fails, and
// while it is away none comes to it.
func rolling(t *testing.T, k *asker, p *Program, s cluster.Snapshot, o compile.Options, client *netnstest.Namespace) {
	to := netip.MustParseAddrPort("10.96.0.1:80")
	key := cluster.ServiceKey{Namespace: "d", Name: "both4"}
	slice := s.EndpointSlices[key]
	for range 5 {
		for gone := range 2 {
			less := slice
			less.Endpoints = slices.Delete(slices.Clone(slice.Endpoints), gone, gone+1)
			s.EndpointSlices[key] = less
			stop, ended := make(chan struct{}), make(chan error)
			go func() {
				defer close(ended)
				for {
					select {
					case <-stop:
						return
					default:
						if _, err := k.ask(t, client, "tcp", to); err != nil {
							ended <- err
							return
						}
					}
				}
			}()
			reach(t, p, wish(t, s, o))
			for range 20 {
				if r, err := k.ask(t, client, "tcp", to); err != nil || r.backend == slice.Endpoints[gone].Address {
					t.Errorf("a connection to %s, which is away: %v", r.backend, err)
				}
			}
			close(stop)
			if err := <-ended; err != nil {
				t.Errorf("a new connection failed: %v", err)
			}
		}
	}
}
