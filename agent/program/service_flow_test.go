package program

import (
	"fmt"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/millrace/millrace/dataplane"
	"github.com/millrace/millrace/internal/machinetest"
	"github.com/millrace/millrace/internal/netnstest"
	"github.com/millrace/millrace/internal/servicetest"
)

const flowPatience = time.Minute // only ends a run that fails

// TestIntegrationDeadBackend keeps a UDP flow busy while its backend goes. On the engine it
// moves with its next packet. On VPP 25.10 nothing ends a flow, and nothing tells the client;
// a new flow of its does not go there.
func TestIntegrationDeadBackend(t *testing.T) {
	natMachines(t, func(t *testing.T, m machinetest.Machine) {
		p, o := starting(t, m)
		r := &rollout{T: t, program: p, options: o, on: map[int]string{2: starts}, serving: map[int][]*servicetest.Backend{}}
		r.pods = []*netnstest.Namespace{netnstest.New(t), netnstest.New(t), netnstest.New(t)}
		r.begin(0)
		r.begin(1)
		for _, to := range []string{"10.96.0.1:80", "[fd96::1]:80"} {
			var c net.Conn
			r.pods[2].Run(t, func() (err error) {
				c, err = net.Dial("udp", to)
				return err
			})
			first, err := talk(c)
			if err != nil {
				t.Fatal(err)
			}
			gone := 0
			if first == podAddr4(1) || first == podAddr6(1) {
				gone = 1
			}
			r.end(gone)
			if m.Name != "vpp" {
				if second, err := talk(c); err != nil || second == first {
					t.Errorf("after %s is gone: %s answers (%v)", first, second, err)
				}
			}
			c.Close()
			var clients servicetest.Clients
			if a, err := clients.Ask(t, r.pods[2], netip.Addr{}, "udp", netip.MustParseAddrPort(to)); err != nil || a.Backend == first {
				t.Errorf("a new flow after %s is gone: %s answers (%v)", first, a.Backend, err)
			}
			r.begin(gone)
		}
		reach(t, p, dataplane.State{})
	})
}

// talk asks by a flow, and returns which backend answers.
func talk(c net.Conn) (netip.Addr, error) {
	if _, err := c.Write([]byte("?")); err != nil {
		return netip.Addr{}, err
	}
	_ = c.SetDeadline(time.Now().Add(flowPatience)) // one that fails shows in what follows
	buffer := make([]byte, 128)
	n, err := c.Read(buffer)
	if err != nil {
		return netip.Addr{}, err
	}
	var backend string
	if _, err := fmt.Sscan(string(buffer[:n]), &backend); err != nil {
		return netip.Addr{}, err
	}
	return netip.ParseAddr(backend)
}

// TestIntegrationOnePortTwoServices has a client speak from one port to one backend by two
// services: each answer comes from the address that was asked.
func TestIntegrationOnePortTwoServices(t *testing.T) {
	natMachines(t, func(t *testing.T, m machinetest.Machine) {
		if m.Name == "vpp" {
			t.Skip("VPP 25.10 takes both for one flow backwards")
		}
		p, o := starting(t, m)
		pods := []*netnstest.Namespace{netnstest.New(t), netnstest.New(t)}
		reach(t, p, wish(t, withFacts(t, node(pods...), `service d/a clusterip=10.96.0.1 port=u:80/UDP
endpointslice d/a4 service=a port=u:8080/UDP endpoint="10.1.0.2 node=n ready=true"
service d/b clusterip=10.96.0.2 port=u:80/UDP
endpointslice d/b4 service=b port=u:8080/UDP endpoint="10.1.0.2 node=n ready=true"
`), o))
		servicetest.Serve(t, pods[0], 8080, podAddr4(0))
		var c *net.UDPConn
		pods[1].Run(t, func() (err error) {
			c, err = net.ListenUDP("udp4", nil)
			return err
		})
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(flowPatience)) // one that fails shows in what follows
		for i := range 6 {
			to := netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 96, 0, 1 + byte(i%2)}), 80)
			if _, err := c.WriteToUDPAddrPort([]byte("?"), to); err != nil {
				t.Fatal(err)
			}
			if _, from, err := c.ReadFromUDPAddrPort(make([]byte, 128)); err != nil || from != to {
				t.Errorf("asked %s, and %s answers (%v)", to, from, err)
			}
		}
		reach(t, p, dataplane.State{})
	})
}
