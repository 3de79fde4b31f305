package program

import (
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/millrace/millrace/agent/compile"
	"github.com/millrace/millrace/cluster"
	"github.com/millrace/millrace/dataplane"
	"github.com/millrace/millrace/internal/machinetest"
	"github.com/millrace/millrace/internal/netnstest"
	"github.com/millrace/millrace/vpp"
)

func TestMain(m *testing.M) { machinetest.Main(m) }

// node is a node's facts with one attachment per namespace.
func node(pods ...*netnstest.Namespace) cluster.Snapshot {
	s := cluster.Snapshot{Nodes: map[string]cluster.Node{"n": {
		Name:      "n",
		Addresses: []netip.Addr{netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("fd00::1")},
		PodCIDRs:  []netip.Prefix{netip.MustParsePrefix("10.1.0.0/24"), netip.MustParsePrefix("fd01::/64")},
	}}}
	var list []cluster.Attachment
	for i, ns := range pods {
		list = append(list, cluster.Attachment{
			ID: cluster.AttachmentID{ContainerID: ns.Name, IfName: "eth0"}, Netns: ns.Path,
			Pod:       cluster.PodKey{Namespace: "default", Name: fmt.Sprintf("pod-%d", i)},
			Addresses: []netip.Addr{podAddr4(i), podAddr6(i)}, Revision: uint64(i + 1),
		})
	}
	return s.WithAttachments(uint64(len(pods)), list)
}

func podAddr4(i int) netip.Addr { return netip.AddrFrom4([4]byte{10, 1, 0, byte(i) + 2}) }

func podAddr6(i int) netip.Addr {
	return netip.AddrFrom16([16]byte{0: 0xfd, 1: 1, 15: byte(i) + 2})
}

// nodeAddresses gives the node's addresses to lo of the test's namespace.
func nodeAddresses(t *testing.T) {
	t.Helper()
	lo, err := netlink.LinkByName("lo")
	if err == nil {
		err = netlink.LinkSetUp(lo)
	}
	for _, a := range []string{"10.0.0.1/32", "fd00::1/128"} {
		addr, perr := netlink.ParseAddr(a)
		if err == nil && perr == nil {
			addr.Flags = unix.IFA_F_NODAD // else it is tentative for a moment, and no route's source
			err = netlink.AddrReplace(lo, addr)
		}
	}
	if err != nil {
		t.Fatal(err)
	}
}

func wish(t *testing.T, s cluster.Snapshot, o compile.Options) dataplane.State {
	t.Helper()
	r, err := compile.Compile(s, "n", o)
	if err != nil {
		t.Fatal(err)
	}
	for id, err := range r.Problems {
		t.Fatalf("%s: %v", id, err)
	}
	return r.State
}

func program(t *testing.T, conn *vpp.Conn) *Program {
	t.Helper()
	p, err := New(t.Context(), conn, Agent("test"))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func observe(t *testing.T, p *Program) dataplane.State {
	t.Helper()
	s, err := p.Observe(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// reach takes the machine from what it has to want, and checks that it has got there.
func reach(t *testing.T, p *Program, want dataplane.State) dataplane.Plan {
	t.Helper()
	plan := dataplane.Diff(observe(t, p), want)
	p.Apply(t.Context(), plan, nil, func(_ dataplane.Step, err error) {
		if err != nil {
			t.Error(err)
		}
	})
	same(t, want, observe(t, p))
	return plan
}

func same(t *testing.T, want, have dataplane.State) {
	t.Helper()
	if diff := cmp.Diff(strings.Split(want.String(), "\n"), strings.Split(have.String(), "\n")); diff != "" {
		t.Fatalf("the machine has another state (-want +have):\n%s", diff)
	}
	if plan := dataplane.Diff(have, want); len(plan) != 0 {
		t.Fatalf("a second reconcile has something to do:\n%s", plan)
	}
}

func ping(t *testing.T, from *netnstest.Namespace, to netip.Addr) {
	t.Helper()
	out, err := from.Command(t, "ping", "-c", "2", "-i", "0.2", "-W", "5", to.String()).CombinedOutput()
	if err != nil {
		t.Errorf("ping %s from %s: %v\n%s", to, from.Name, err, out)
	}
}

func TestIntegrationProgram(t *testing.T) {
	for _, m := range machinetest.All(t) {
		t.Run(m.Name, func(t *testing.T) {
			netnstest.CheckLeaks(t)
			m.Start(t)
			p := program(t, m.Connect(t))
			if s := observe(t, p); s.Len() != 0 {
				t.Fatalf("a fresh machine has something of ours:\n%s", s)
			}
			o := compile.Defaults()
			tun, err := p.CanTun(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if !tun {
				o.Device = compile.DeviceVeth
			}
			nodeAddresses(t)
			a, b := netnstest.New(t), netnstest.New(t)
			b.Run(t, func() error { // as some runtimes make them
				return os.WriteFile("/proc/sys/net/ipv6/conf/default/disable_ipv6", []byte("1"), 0o644)
			})
			reach(t, p, wish(t, node(a, b), o))
			for i, to := range []*netnstest.Namespace{b, a} {
				from := []*netnstest.Namespace{a, b}[i]
				other := slices.Index([]*netnstest.Namespace{a, b}, to)
				ping(t, from, podAddr4(other))
				ping(t, from, podAddr6(other))
				ping(t, from, netip.MustParseAddr("10.0.0.1"))
				ping(t, from, netip.MustParseAddr("fd00::1"))
			}
			// Another life of the agent finds everything as it is.
			same(t, wish(t, node(a, b), o), observe(t, program(t, m.Connect(t))))
			// In place, then one pod less, then nothing.
			o.MTU = 1400
			for _, step := range reach(t, p, wish(t, node(a, b), o)) {
				if step.Verb != dataplane.Update {
					t.Errorf("a new MTU led to %s", step)
				}
			}
			ping(t, a, podAddr4(1))
			reach(t, p, wish(t, node(a), o))
			reach(t, p, dataplane.State{})
			noLinks(t, a, "eth0")
			noLinks(t, b, "eth0")
		})
	}
}

func noLinks(t *testing.T, n *netnstest.Namespace, name string) {
	t.Helper()
	n.Netlink(t, func(h *netlink.Handle) error {
		if _, err := h.LinkByName(name); err == nil {
			return fmt.Errorf("%s is still there", name)
		}
		return nil
	})
}
