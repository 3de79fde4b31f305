package change

import (
	"fmt"
	"os/exec"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/millrace/millrace/internal/netnstest"
	"github.com/millrace/millrace/vppmanager/startup"
)

// undone applies changes in a namespace, settles the host on the links that stand for those
// it had, if any, undoes it all, and compares.
func (n node) undone(t *testing.T, changes []startup.Change, settle ...string) {
	t.Helper()
	m := newMachine(t)
	m.link(t, "proc/sys/net", "/proc/sys/net")
	before, state := n.look(t), t.TempDir()
	command := func(name string, args ...string) *exec.Cmd { return n.Command(t, name, args...) }
	for _, o := range []order{{Root: m.root, State: state, Apply: changes, Settle: settle}, {Root: m.root, State: state}} {
		if end := o.start(t, command); end.failed || end.killed {
			t.Fatal(end)
		}
		if o.Apply == nil || len(settle) == 0 {
			continue
		}
		if diff := cmp.Diff(hanging(before), hanging(n.look(t))); diff != "" {
			t.Error(diff)
		}
	}
	if diff := cmp.Diff(before, n.look(t)); diff != "" {
		t.Error(diff)
	}
}

// TestIntegrationSourceElsewhere: the kernel takes a route away with the address that is
// its source, also where it leads out of another link (IPv4), or leaves it without (IPv6).
func TestIntegrationSourceElsewhere(t *testing.T) {
	netnstest.NeedRoot(t)
	n := newNode(t)
	n.ip(t, "link set eth1 up", "address add 192.0.2.1/24 dev eth1", "-6 address add 2001:db8:1::1/64 dev eth1 nodad",
		"route add 10.20.0.0/16 via 198.51.100.9 dev eth2 src 192.0.2.1",
		"-6 route add 2001:db8:20::/48 via 2001:db8:2::9 dev eth2 src 2001:db8:1::1")
	n.undone(t, []startup.Change{{Kind: startup.SaveLink, Link: "eth1"}, {Kind: startup.FlushLink, Link: "eth1"}})
}

// TestIntegrationTwoLinks: what two links share comes with the last of them, on the way to
// the host's links and on the way back.
func TestIntegrationTwoLinks(t *testing.T) {
	netnstest.NeedRoot(t)
	n := newNode(t)
	n.ip(t, "link set eth1 up", "address add 192.0.2.1/24 dev eth1", "-6 address add 2001:db8:1::1/64 dev eth1 nodad",
		"route add 10.20.0.0/16 via 198.51.100.9 dev eth2 src 192.0.2.1",
		"route add 10.21.0.0/16 via 192.0.2.254 dev eth1 src 198.51.100.2",
		"route add 10.22.0.0/16 nexthop via 192.0.2.250 dev eth1 nexthop via 198.51.100.9 dev eth2",
		"-6 route add 2001:db8:20::/48 via 2001:db8:2::9 dev eth2 src 2001:db8:1::1",
		"-6 route add 2001:db8:22::/48 nexthop via 2001:db8:1::fd dev eth1 nexthop via 2001:db8:2::fe dev eth2")
	var changes []startup.Change
	for _, kind := range []startup.ChangeKind{startup.SaveLink, startup.RenameLink, startup.FlushLink, startup.HostTap} {
		for _, link := range []string{"eth1", "eth2"} {
			c := startup.Change{Kind: kind, Link: link}
			switch kind {
			case startup.RenameLink:
				c.Name = "p-" + link
			case startup.FlushLink:
				c.Link = "p-" + link
			}
			changes = append(changes, c)
		}
	}
	n.undone(t, changes, "eth1", "eth2")
}

// TestIntegrationManyRoutes: a node that speaks BGP has thousands.
func TestIntegrationManyRoutes(t *testing.T) {
	netnstest.NeedRoot(t)
	n := newNode(t)
	n.ip(t, "link set eth1 up", "address add 192.0.2.1/24 dev eth1")
	var batch strings.Builder
	for i := range 3000 {
		fmt.Fprintf(&batch, "route add 10.%d.%d.0/24 via 192.0.2.254 dev eth1 proto bird\n", i/256, i%256)
	}
	ip := n.Command(t, "ip", "-batch", "-")
	ip.Stdin = strings.NewReader(batch.String())
	if out, err := ip.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	n.undone(t, []startup.Change{{Kind: startup.SaveLink, Link: "eth1"}, {Kind: startup.FlushLink, Link: "eth1"}})
}
