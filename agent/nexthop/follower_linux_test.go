package nexthop

import (
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/millrace/millrace/dataplane"
	"github.com/millrace/millrace/internal/netnstest"
)

// TestMain moves the test into a namespace of its own: the follower works in that of the
// process.
func TestMain(m *testing.M) {
	if os.Geteuid() != 0 || os.Getenv("MILLRACE_NEXTHOP_NETNS") != "" {
		os.Exit(m.Run())
	}
	cmd := exec.Command("unshare", append([]string{"--net", os.Args[0]}, os.Args[1:]...)...)
	cmd.Env = append(os.Environ(), "MILLRACE_NEXTHOP_NETNS=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	if err := cmd.Run(); err != nil {
		os.Exit(1)
	}
}

func run(t *testing.T, n *netnstest.Namespace, line string) {
	t.Helper()
	args := strings.Fields(line)
	cmd := exec.Command(args[0], args[1:]...)
	if n != nil {
		cmd = n.Command(t, args[0], args[1:]...)
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", line, err, out)
	}
}

// TestIntegrationFollows has the kernel resolve a neighbour that nobody has spoken to, and
// sees it change its address.
func TestIntegrationFollows(t *testing.T) {
	netnstest.NeedRoot(t)
	peer := netnstest.New(t)
	run(t, nil, "ip link add eth0 type veth peer name eth0 netns "+peer.Name)
	t.Cleanup(func() { exec.Command("ip", "link", "del", "eth0").Run() }) // gone when the namespace is
	run(t, nil, "ip link set eth0 up")
	run(t, nil, "ip addr add 192.0.2.1/24 dev eth0")
	run(t, nil, "ip addr add 2001:db8::1/64 dev eth0 nodad")
	run(t, peer, "ip link set eth0 address 02:00:00:00:00:22 up")
	run(t, peer, "ip addr add 192.0.2.2/24 dev eth0")
	run(t, peer, "ip addr add 2001:db8::2/64 dev eth0 nodad")

	for _, family := range []string{"ipv4", "ipv6"} { // doubt sooner than after half a minute
		run(t, nil, "sysctl -qw net."+family+".neigh.eth0.base_reachable_time_ms=1000 net."+family+".neigh.eth0.delay_first_probe_time=1")
	}
	f := New(slog.New(slog.DiscardHandler))
	f.every = 100 * time.Millisecond
	done := make(chan error, 1)
	go func() { done <- f.Run(t.Context()) }()
	t.Cleanup(func() {
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	var hops []dataplane.NextHop
	for _, a := range []string{"192.0.2.2", "2001:db8::2", "192.0.2.77"} {
		hops = append(hops, dataplane.NextHop{Uplink: "uplink:uplink0", Link: "eth0", Addr: netip.MustParseAddr(a)})
	}
	f.Follow(hops)
	await(t, f, hops[:2], "02:00:00:00:00:22")
	if _, known := f.Known()[hops[2]]; known {
		t.Error("one that is not there is known")
	}
	run(t, peer, "ip link set eth0 address 02:00:00:00:00:33")
	run(t, peer, "ip link set eth0 up")
	run(t, peer, "ip addr replace 2001:db8::2/64 dev eth0 nodad")
	await(t, f, hops[:2], "02:00:00:00:00:33")
	f.Follow(hops[1:2])
	if known := f.Known(); len(known) != 1 {
		t.Errorf("known are %v; want the one that is followed", known)
	}
}

// await waits for all of the neighbours to have an address.
func await(t *testing.T, f *Follower, hops []dataplane.NextHop, mac string) {
	t.Helper()
	want, err := net.ParseMAC(mac)
	if err != nil {
		t.Fatal(err)
	}
	timeout := time.After(2 * time.Minute)
	for {
		known, all := f.Known(), true
		for _, h := range hops {
			all = all && known[h] == dataplane.MAC(want)
		}
		if all {
			return
		}
		select {
		case <-f.Changed():
		case <-timeout:
			t.Fatalf("known are %v; want %s for %v", known, mac, hops)
		}
	}
}
