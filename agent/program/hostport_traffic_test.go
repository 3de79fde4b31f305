package program

import (
	"net/netip"
	"testing"

	"github.com/millrace/millrace/agent/compile"
	"github.com/millrace/millrace/agent/hostnet"
	"github.com/millrace/millrace/dataplane"
	"github.com/millrace/millrace/internal/machinetest"
	"github.com/millrace/millrace/internal/netnstest"
	"github.com/millrace/millrace/internal/servicetest"
)

// TestIntegrationNodesOwnPorts: node ports and host ports that the node itself asks for, or
// somebody outside where that is behind the node's kernel, which has to bring them here; and
// a service that the node itself serves, from itself.
func TestIntegrationNodesOwnPorts(t *testing.T) {
	natMachines(t, func(t *testing.T, m machinetest.Machine) {
		p, o := starting(t, m)
		kernel, err := hostnet.Open(t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		p.UseHost(kernel)
		t.Cleanup(func() {
			if err := kernel.Clear(); err != nil {
				t.Error(err)
			}
		})
		o.Host = compile.HostOptions{Touch: true, Masquerade: true}
		pods := []*netnstest.Namespace{netnstest.New(t), netnstest.New(t)}
		reach(t, p, wish(t, withFacts(t, node(pods...), serviceFacts), o))
		servicetest.Serve(t, pods[0], 8080, podAddr4(0), podAddr6(0))
		servicetest.Serve(t, pods[1], 8080, podAddr4(1), podAddr6(1))
		node4, node6 := netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("fd00::1")
		servicetest.Serve(t, nil, 8080, node4, node6)
		itself := place{"the node", nil, node4, node6}
		var cases []servicetest.Case
		add := func(name, to string, in *netnstest.Namespace, source netip.Addr, backends ...netip.Addr) {
			for _, network := range []string{"tcp", "udp"} {
				cases = append(cases, servicetest.Case{Name: name, Network: network, To: to, In: in, Backends: backends, Source: source})
			}
		}
		for _, from := range []place{itself, beyond(t)} {
			for _, f := range fronts {
				if f.ofNode {
					add(f.name+" from "+from.name, f.v4, from.ns, from.v4, []netip.Addr{podAddr4(0), podAddr4(1)}[f.only:]...)
					add(f.name+" from "+from.name, f.v6, from.ns, from.v6, []netip.Addr{podAddr6(0), podAddr6(1)}[f.only:]...)
				}
			}
		}
		add("the node by a service to itself", "10.96.0.5:80", nil, node4, node4)
		add("the node by a service to itself", "[fd96::5]:80", nil, node6, node6)
		var clients servicetest.Clients
		clients.Check(t, cases)
		reach(t, p, dataplane.State{})
	})
}
