package uplink

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.fd.io/govpp/api"

	"github.com/millrace/millrace/agent/compile"
	"github.com/millrace/millrace/agent/program"
	"github.com/millrace/millrace/cluster"
	"github.com/millrace/millrace/dataplane"
	"github.com/millrace/millrace/internal/machinetest"
	"github.com/millrace/millrace/internal/netnstest"
	"github.com/millrace/millrace/internal/nodeconfig"
	"github.com/millrace/millrace/vpp"
	"github.com/millrace/millrace/vppmanager/startup"
)

func TestMain(m *testing.M) { machinetest.Main(m) }

// rig is a node: the test's own namespace is the host's, and the machine's, too.
type rig struct {
	*testing.T
	machine machinetest.Machine
	stop    func()
	conn    *vpp.Conn
	uplinks []startup.Uplink

	facts         cluster.Snapshot      // services, and pods by their names
	encapsulation compile.Encapsulation // of the agent's packets to other nodes
	only6         bool                  // the nodes have no IPv4 addresses
	masquerade    []netip.Prefix        // ranges that pods are seen in as they are; nil = everywhere
}

// eachMachine runs a test on the engine, and on VPP where there is one.
func eachMachine(t *testing.T, test func(*rig)) {
	for _, m := range machinetest.All(t) {
		t.Run(m.Name, func(t *testing.T) {
			netnstest.CheckLeaks(t)
			r := &rig{T: t, machine: m}
			r.stop, r.conn = m.Start(t), m.Connect(t)
			test(r)
		})
	}
}

// needs skips the test where the machine lacks a message.
func (r *rig) needs(m api.Message) {
	r.Helper()
	if missing := r.conn.Supports(m); len(missing) > 0 {
		r.Skipf("needs a dataplane with %v", missing)
	}
}

// restart kills the machine and starts another.
func (r *rig) restart() {
	r.Helper()
	r.stop()
	r.stop, r.conn = r.machine.Start(r.T), r.machine.Connect(r.T)
}

// ip runs ip(8) in a namespace; nil is the host's.
func (r *rig) ip(n *netnstest.Namespace, args ...string) {
	r.Helper()
	var cmd *exec.Cmd
	if cmd = exec.CommandContext(r.Context(), "ip", args...); n != nil {
		cmd = n.Command(r.T, "ip", args...)
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		r.Fatalf("ip %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// cable joins the host's link, called name from here on, to one called wire in a namespace;
// it is what a NIC is to a node.
func (r *rig) cable(name string, mac string, n *netnstest.Namespace, wire string) {
	r.Helper()
	r.ip(nil, "link", "add", name, "address", mac, "type", "veth", "peer", "name", wire, "netns", n.Name)
	r.Cleanup(func() { exec.Command("ip", "link", "del", name).Run() }) // gone when the namespace is
	r.ip(nil, "link", "set", name, "up")
	r.ip(n, "link", "set", wire, "up")
}

// wire hands the uplinks over, as the manager does: mute, wire, then the host's addresses
// and routes onto the host's links.
func (r *rig) wire(uplinks ...startup.Uplink) {
	r.Helper()
	r.uplinks = uplinks
	mute, err := MuteLinks(uplinks)
	if err != nil {
		r.Fatal(err)
	}
	r.Cleanup(func() {
		if err := mute.Close(); err != nil {
			r.Error(err)
		}
	})
	for _, u := range uplinks {
		for _, name := range append(vlanHosts(u), u.Host) {
			r.Cleanup(func() { exec.Command("ip", "link", "del", name).Run() })
		}
	}
	if err := Wire(r.Context(), r.conn, uplinks); err != nil {
		r.Fatal(err)
	}
	for _, u := range uplinks {
		r.settle(u.Host, u.Addresses, u.Routes)
		for _, v := range u.VLANs {
			r.settle(v.Host, v.Addresses, v.Routes)
		}
	}
	if err := Dress(uplinks); err != nil {
		r.Fatal(err)
	}
}

func vlanHosts(u startup.Uplink) (names []string) {
	for _, v := range u.VLANs {
		names = append(names, v.Host)
	}
	return names
}

// rewire does it again; what the host has on its links is there.
func (r *rig) rewire() {
	r.Helper()
	if err := errors.Join(Wire(r.Context(), r.conn, r.uplinks), Dress(r.uplinks)); err != nil {
		r.Fatal(err)
	}
}

// settle puts onto a host's link what the manager saved of the NIC.
func (r *rig) settle(link string, addresses []netip.Prefix, routes []inventoryRoute) {
	r.Helper()
	if link == "" {
		return
	}
	if err := os.WriteFile("/proc/sys/net/ipv6/conf/"+link+"/disable_ipv6", []byte("0"), 0o644); err != nil {
		r.Fatal(err)
	}
	r.ip(nil, "link", "set", link, "up")
	for _, p := range addresses {
		r.ip(nil, "addr", "add", p.String(), "dev", link, "nodad")
	}
	for _, w := range routes {
		args := []string{"route", "add", w.Dst.String(), "dev", link}
		if w.Via.IsValid() {
			args = append(args, "via", w.Via.String())
		}
		if w.Metric != 0 {
			args = append(args, "metric", fmt.Sprint(w.Metric))
		}
		if w.Table != 0 {
			args = append(args, "table", fmt.Sprint(w.Table))
		}
		r.ip(nil, args...)
	}
}

// nodeState is what the machine has of the uplinks.
func (r *rig) nodeState() dataplane.State {
	r.Helper()
	p, err := program.New(r.Context(), r.conn, program.Node(owner))
	if err != nil {
		r.Fatal(err)
	}
	s, err := p.Observe(r.Context())
	if err != nil {
		r.Fatal(err)
	}
	return s
}

// wired checks that the machine has what was wanted, and nothing else of ours.
func (r *rig) wired() {
	r.Helper()
	have := r.nodeState()
	tap := strings.Contains(have.String(), "device=tap")
	want, err := State(r.uplinks, Options{Tap: tap})
	if err != nil {
		r.Fatal(err)
	}
	if diff := cmp.Diff(strings.Split(want.String(), "\n"), strings.Split(have.String(), "\n")); diff != "" {
		r.Fatalf("the machine has another state (-want +have):\n%s", diff)
	}
}

// ping fails the test unless an answer comes, be it the third. The first packets wait for
// nothing: their neighbours are asked for.
func (r *rig) ping(n *netnstest.Namespace, to string, args ...string) {
	r.Helper()
	var out string
	for end := time.Now().Add(patience); time.Now().Before(end); {
		if out = r.try(n, "ping", append(args, "-c", "1", "-W", "1", to)...); strings.Contains(out, " 0% packet loss") {
			return
		}
	}
	r.dump()
	r.Fatalf("ping %s:\n%s", to, out)
}

// try runs a program in a namespace, nil is the host's, and returns what it printed.
func (r *rig) try(n *netnstest.Namespace, program string, args ...string) string {
	r.Helper()
	cmd := exec.CommandContext(r.Context(), program, args...)
	if n != nil {
		cmd = n.Command(r.T, program, args...)
	}
	out, err := cmd.CombinedOutput()
	if err != nil && len(out) == 0 {
		r.Logf("%s: %v", program, err)
	}
	return string(out)
}

// dump tells where packets went.
func (r *rig) dump() {
	for _, command := range []string{"show errors", "show interface"} {
		text, err := r.conn.CLI(r.Context(), command)
		r.Logf("%s (%v):\n%s", command, err, text)
	}
}

// afPacket is an uplink on the link p-NAME.
func afPacket(n int, host string, addresses []netip.Prefix, routes ...inventoryRoute) startup.Uplink {
	return startup.Uplink{
		Name: fmt.Sprintf("uplink%d", n), Driver: nodeconfig.DriverAFPacket, Link: "p-" + host, Host: host,
		MAC: fmt.Sprintf("02:00:00:00:01:%02x", n), MTU: 1500, Addresses: addresses, Routes: routes,
	}
}
