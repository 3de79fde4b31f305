package vppmanager

import (
	"errors"
	"io"
	"net"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/millrace/millrace/internal/hoststate"
	"github.com/millrace/millrace/internal/netnstest"
)

// patience only ends waits for what does not come.
const patience = 2 * time.Minute

// plug gives the node a NIC with addresses, routes of both families and what else hangs on
// one. It returns the network it leads to, with a router and hosts behind that.
func (n *node) plug(t *testing.T) (outside *netnstest.Namespace) {
	t.Helper()
	outside = netnstest.New(t)
	run(t, n.ns, "ip link add eth0 address 02:00:00:00:07:01 type veth peer name wire0 address 02:00:00:00:07:02 netns "+outside.Name,
		"sysctl -qw net.ipv6.conf.eth0.accept_dad=0 net.ipv4.conf.eth0.rp_filter=2", "ip link set eth0 mtu 1450 txqueuelen 500 up")
	run(t, outside, "ip link set wire0 mtu 1450 up", "ip addr add 192.0.2.1/24 dev wire0", "ip addr add 2001:db8::1/64 dev wire0 nodad",
		"ip addr add 203.0.113.1/32 dev lo", "ip addr add 2001:db8:f::1/128 dev lo nodad", "ip addr add fe80::1/64 dev wire0 nodad",
		"ethtool -K wire0 tx off", // or AF_XDP would miss checksums
		"ip route add 10.1.0.0/24 via 192.0.2.4", "ip route add fd01::/64 via 2001:db8::4")
	run(t, n.ns, "ip addr add 192.0.2.4/24 dev eth0", "ip addr add 2001:db8::4/64 dev eth0 nodad",
		"ip route add default via 192.0.2.1 proto dhcp metric 100", "ip route add default via fe80::1 dev eth0 metric 1024",
		"ip route add 198.51.100.0/24 via 192.0.2.9 table 100", "ip rule add from 192.0.2.4 table 100 priority 99",
		"ip neighbour add 192.0.2.77 lladdr 02:00:00:00:07:77 dev eth0")
	return outside
}

func run(t *testing.T, ns *netnstest.Namespace, lines ...string) {
	t.Helper()
	for _, line := range lines {
		argv := strings.Fields(line)
		if out, err := ns.Command(t, argv[0], argv[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", line, err, out)
		}
	}
}

// look is the node's state once two looks agree: carriers and link-local addresses take
// their time.
func (n *node) look(t *testing.T) hoststate.State {
	t.Helper()
	before := n.network(t)
	for end := time.Now().Add(patience); time.Now().Before(end); {
		time.Sleep(50 * time.Millisecond)
		now := n.network(t)
		restless := strings.Contains(now.String(), "tentative") || strings.Contains(now.String(), "LOWERLAYERDOWN")
		if hoststate.Difference(before, now) == "" && !restless {
			return now
		}
		before = now
	}
	t.Fatalf("the host does not come to rest:\n%s", before)
	return nil
}

func (n *node) network(t *testing.T) (s hoststate.State) {
	t.Helper()
	n.ns.Run(t, func() (err error) {
		s, err = hoststate.Network()
		return err
	})
	return s
}

// unchanged waits until the node's host is as it was; a link takes a moment to be up.
func (n *node) unchanged(t *testing.T, before hoststate.State) {
	t.Helper()
	diff := ""
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if diff = hoststate.Difference(before, n.network(t)); diff == "" {
			return
		}
	}
	t.Fatalf("the host is not as it was (- was, + is):\n%s", diff)
}

// undo gives the host back as a person does.
func (n *node) undo(t *testing.T) {
	t.Helper()
	if out, err := n.ns.Command(t, n.binary, "manager", "undo", "--config", n.config).CombinedOutput(); err != nil {
		t.Fatalf("manager undo: %v\n%s", err, out)
	}
}

// ping waits for an answer: neighbours are asked for before the first packets.
func ping(t *testing.T, from *netnstest.Namespace, to string) {
	t.Helper()
	var out []byte
	for end := time.Now().Add(patience); time.Now().Before(end); {
		var err error
		if out, err = from.Command(t, "ping", "-n", "-c", "1", "-W", "1", to).CombinedOutput(); err == nil {
			return
		}
		var exit *exec.ExitError
		if !errors.As(err, &exit) {
			t.Fatal(err)
		}
	}
	t.Fatalf("no answer from %s:\n%s", to, out)
}

// stream sends a megabyte by TCP and wants it back.
func stream(t *testing.T, from, at *netnstest.Namespace, to string) {
	t.Helper()
	var server net.Listener
	at.Run(t, func() (err error) {
		server, err = net.Listen("tcp", net.JoinHostPort(to, "0"))
		return err
	})
	done := make(chan struct{})
	go func() {
		defer close(done)
		conn, err := server.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		io.Copy(struct{ io.Writer }{conn}, struct{ io.Reader }{conn}) // what is missing the client misses
	}()
	defer func() {
		server.Close()
		<-done
	}()
	var client net.Conn
	from.Run(t, func() (err error) {
		client, err = net.DialTimeout("tcp", server.Addr().String(), patience)
		return err
	})
	defer client.Close()
	if err := client.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	sent := strings.Repeat("millrace", 1<<17)
	failed := make(chan error, 1)
	go func() {
		_, err := io.WriteString(client, sent)
		failed <- err
	}()
	got := make([]byte, len(sent))
	_, err := io.ReadFull(client, got)
	if err = errors.Join(err, <-failed); err != nil || string(got) != sent {
		t.Fatalf("1 MB to %s and back: %v", to, err)
	}
}
