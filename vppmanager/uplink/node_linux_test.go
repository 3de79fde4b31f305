package uplink

import (
	"net/netip"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.fd.io/govpp/binapi/bond"

	"github.com/millrace/millrace/agent/compile"
	"github.com/millrace/millrace/agent/program"
	"github.com/millrace/millrace/cluster"
	"github.com/millrace/millrace/dataplane"
	"github.com/millrace/millrace/internal/netnstest"
	"github.com/millrace/millrace/vppmanager/inventory"
	"github.com/millrace/millrace/vppmanager/startup"
)

// agent connects a pod with the addresses 10.1.0.2 and fd01::2, as the agent does.
func (r *rig) agent(pod *netnstest.Namespace) *program.Program {
	r.Helper()
	s := cluster.Snapshot{Nodes: map[string]cluster.Node{"n": {
		Name:      "n",
		Addresses: []netip.Addr{netip.MustParseAddr("192.0.2.9"), netip.MustParseAddr("2001:db8::9")},
		PodCIDRs:  prefixes("10.1.0.0/24", "fd01::/64"),
	}, "peer": {
		Name:      "peer",
		Addresses: []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")},
		PodCIDRs:  prefixes("10.2.0.0/24", "fd02::/64"),
	}}}.WithAttachments(1, []cluster.Attachment{{
		ID: cluster.AttachmentID{ContainerID: pod.Name, IfName: "eth0"}, Netns: pod.Path,
		Pod:       cluster.PodKey{Namespace: "default", Name: "pod"},
		Addresses: []netip.Addr{netip.MustParseAddr("10.1.0.2"), netip.MustParseAddr("fd01::2")}, Revision: 1,
	}})
	s.Services, s.EndpointSlices, s.Pods = r.facts.Services, r.facts.EndpointSlices, r.facts.Pods
	for name, n := range s.Nodes {
		if r.only6 {
			n.Addresses = n.Addresses[1:]
			s.Nodes[name] = n
		}
	}
	p, err := program.New(r.Context(), r.conn, program.Agent("n"))
	if err != nil {
		r.Fatal(err)
	}
	o := compile.Defaults()
	have, err := p.Observe(r.Context())
	if err != nil {
		r.Fatal(err)
	}
	if have.Len() != 0 {
		r.Fatalf("the agent takes for its own:\n%s", have)
	}
	r.learnt(p)
	o.Uplinks, o.Encapsulation, o.Services = p.Uplinks(), r.encapsulation, len(s.Services) > 0
	o.Host.Masquerade, o.Host.NonMasquerade = r.masquerade != nil, r.masquerade
	tun, err := p.CanTun(r.Context())
	if err != nil {
		r.Fatal(err)
	}
	if !tun {
		o.Device = compile.DeviceVeth
	}
	want, err := compile.Compile(s, "n", o)
	if err != nil {
		r.Fatal(err)
	}
	p.Apply(r.Context(), dataplane.Diff(have, want.State), nil, func(_ dataplane.Step, err error) {
		if err != nil {
			r.Error(err)
		}
	})
	if have, err = p.Observe(r.Context()); err != nil {
		r.Fatal(err)
	}
	// What the node's own routes hide is not shown.
	for _, any := range everywhere {
		want.State.Remove(dataplane.Route{Prefix: any}.Key())
	}
	if diff := cmp.Diff(strings.Split(want.State.String(), "\n"), strings.Split(have.String(), "\n")); diff != "" {
		r.Errorf("the agent's part (-want +have):\n%s", diff)
	}
	return p
}

// learnt checks that the agent knows the uplinks as they are.
func (r *rig) learnt(p *program.Program) {
	r.Helper()
	var want []dataplane.Uplink
	for _, u := range r.uplinks {
		k := dataplane.Uplink{Name: u.Name, MTU: uint32(u.MTU), Whole: true, HostLink: true}
		for _, a := range u.Addresses {
			k.Addresses, k.Subnets = append(k.Addresses, a.Addr()), append(k.Subnets, a.Masked())
		}
		want = append(want, k)
	}
	if got := p.Uplinks(); !slices.EqualFunc(got, want, dataplane.Uplink.Equal) {
		r.Errorf("the agent knows the uplinks %v, want %v", got, want)
	}
}

// TestIntegrationPod has agent and manager on one machine, and a pod that talks to the node
// and to the world.
func TestIntegrationPod(t *testing.T) {
	eachMachine(t, func(r *rig) {
		out, pod := single(r), netnstest.New(r.T)
		r.ip(out, "route", "add", "10.1.0.0/24", "via", "192.0.2.9")
		r.ip(out, "route", "add", "fd01::/64", "via", "2001:db8::9")
		for _, a := range []string{"10.2.0.2/32", "fd02::2/128"} {
			r.ip(out, "addr", "add", a, "dev", "lo") // a pod of a neighbour
		}
		p := r.agent(pod)
		r.wired()
		for _, to := range []string{"203.0.113.1", "2001:db8:f::1"} {
			r.ping(pod, to)
			r.stream(pod, out, to)
			r.datagrams(pod, out, to)
			r.refused(pod, to)
			r.ping(nil, to)
		}
		for _, to := range []string{"10.2.0.2", "fd02::2"} {
			r.ping(pod, to)
			r.stream(pod, out, to)
		}
		for _, to := range []string{"10.1.0.2", "fd01::2"} {
			r.ping(out, to)
			r.stream(out, pod, to)
			r.ping(nil, to)
		}
		for _, to := range []string{"192.0.2.9", "2001:db8::9"} {
			r.ping(pod, to)
			r.stream(pod, nil, to)
			r.ping(out, to)
		}
		// The manager wires again, with an address less; the agent's part stays.
		r.uplinks[0].Addresses = prefixes("192.0.2.9/24")
		r.rewire()
		r.wired()
		if _, err := p.Observe(r.Context()); err != nil {
			r.Fatal(err)
		}
		r.learnt(p)
		r.ping(pod, "203.0.113.1")
		r.leave(p)
	})
}

// leave takes the agent's part away; the node goes on.
func (r *rig) leave(p *program.Program) {
	r.Helper()
	have, err := p.Observe(r.Context())
	if err != nil {
		r.Fatal(err)
	}
	p.Apply(r.Context(), dataplane.Diff(have, dataplane.State{}), nil, func(_ dataplane.Step, err error) {
		if err != nil {
			r.Error(err)
		}
	})
	r.wired()
	r.ping(nil, "203.0.113.1")
}

// TestIntegrationSeveral has two uplinks into two networks, one with the way out and one
// that a rule of the host leads to.
func TestIntegrationSeveral(t *testing.T) {
	eachMachine(t, func(r *rig) {
		one, two := outside(r), netnstest.New(r.T)
		r.cable("p-eth1", "02:00:00:00:01:01", two, "wire1")
		for _, a := range []string{"198.51.100.1/24", "2001:db8:2::1/64"} {
			r.ip(two, "addr", "add", a, "dev", "wire1", "nodad")
		}
		r.ip(two, "addr", "add", "203.0.113.2/32", "dev", "lo")
		r.ip(two, "route", "add", "192.0.2.0/24", "via", "198.51.100.9")
		policy := inventory.Route{Dst: netip.MustParsePrefix("0.0.0.0/0"), Via: netip.MustParseAddr("198.51.100.1"), Table: 7}
		r.wire(
			afPacket(0, "eth0", prefixes("192.0.2.9/24", "2001:db8::9/64"), via("0.0.0.0/0", "192.0.2.1", 100), via("::/0", "fe80::1", 1024)),
			afPacket(1, "eth1", prefixes("198.51.100.9/24", "2001:db8:2::9/64"), policy),
		)
		r.wired()
		r.ip(nil, "rule", "add", "from", "198.51.100.9", "table", "7")
		r.Cleanup(func() { exec.Command("ip", "rule", "del", "from", "198.51.100.9", "table", "7").Run() })
		for _, to := range []string{"192.0.2.1", "203.0.113.1", "198.51.100.1", "2001:db8::1", "2001:db8:2::1"} {
			r.ping(nil, to)
		}
		r.ping(nil, "203.0.113.2", "-I", "198.51.100.9")
		r.ping(one, "192.0.2.9")
		for _, to := range []string{"198.51.100.9", "2001:db8:2::9", "192.0.2.9"} {
			r.ping(two, to)
		}
	})
}

// TestIntegrationBond has an uplink of two members. VPP's packet sockets do not notice a
// lost carrier, so that none is cut here.
func TestIntegrationBond(t *testing.T) {
	eachMachine(t, func(r *rig) {
		r.needs(&bond.BondCreate2{})
		out := netnstest.New(r.T)
		r.cable("p-eth0", "02:00:00:00:01:00", out, "wire0")
		r.cable("p-eth1", "02:00:00:00:01:01", out, "wire1")
		r.ip(out, "link", "add", "br0", "type", "bridge")
		r.ip(out, "link", "set", "br0", "up")
		for _, w := range []string{"wire0", "wire1"} {
			r.ip(out, "link", "set", w, "master", "br0")
		}
		for _, a := range []string{"192.0.2.1/24", "2001:db8::1/64"} {
			r.ip(out, "addr", "add", a, "dev", "br0", "nodad")
		}
		a, b := afPacket(0, "eth0", nil), afPacket(1, "eth1", nil)
		a.Name, b.Name, a.Host, b.Host = "uplink0-0", "uplink0-1", "", ""
		r.wire(startup.Uplink{
			Name: "uplink0", Host: "bond0", MAC: a.MAC, MTU: 1500, Driver: a.Driver,
			Bond: &inventory.Bond{Mode: "active-backup", Members: []string{"eth0", "eth1"}}, Members: []startup.Uplink{a, b},
			Addresses: prefixes("192.0.2.9/24", "2001:db8::9/64"), Routes: []inventory.Route{via("0.0.0.0/0", "192.0.2.1", 0)},
		})
		r.wired()
		for _, to := range []string{"192.0.2.1", "2001:db8::1"} {
			r.ping(nil, to)
			r.stream(nil, out, to)
		}
		for _, to := range []string{"192.0.2.9", "2001:db8::9"} {
			r.ping(out, to)
			r.stream(out, nil, to)
		}
	})
}

// TestIntegrationRestart kills the dataplane; the next one is wired as the first was, and
// the host's link, its addresses and routes are the ones they were.
func TestIntegrationRestart(t *testing.T) {
	eachMachine(t, func(r *rig) {
		out := single(r)
		r.ping(nil, "203.0.113.1")
		before := r.try(nil, "ip", "-o", "addr", "show", "dev", "eth0") + r.try(nil, "ip", "route") + r.try(nil, "ip", "-6", "route")
		r.restart()
		r.rewire()
		r.wired()
		if after := r.try(nil, "ip", "-o", "addr", "show", "dev", "eth0") + r.try(nil, "ip", "route") + r.try(nil, "ip", "-6", "route"); tidy(after) != tidy(before) {
			r.Errorf("the host's link (-before +after):\n%s", cmp.Diff(tidy(before), tidy(after)))
		}
		for _, to := range []string{"203.0.113.1", "2001:db8:f::1"} {
			r.ping(nil, to)
		}
		r.ping(out, "192.0.2.9")
		// Nothing to do is done once more, and then nothing is left.
		r.rewire()
		r.wired()
		r.uplinks = nil
		r.rewire()
		if s := r.nodeState(); s.Len() != 0 {
			r.Errorf("left of the uplinks:\n%s", s)
		}
		links := r.try(nil, "ip", "-o", "link")
		if strings.Contains(links, ": eth0") || !strings.Contains(links, ": p-eth0") {
			r.Errorf("want the NIC's link, and not the host's:\n%s", links)
		}
	})
}

// tidy leaves out what a link's being without a peer for a moment shows.
func tidy(s string) string {
	for _, word := range []string{" linkdown", " dead", " tentative"} {
		s = strings.ReplaceAll(s, word, "")
	}
	return s
}
