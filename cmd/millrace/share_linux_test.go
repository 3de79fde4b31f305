package main

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/millrace/millrace/internal/netnstest"
	"github.com/millrace/millrace/internal/steer"
)

// sharedNode is a node whose network card is shared: manager, engine and agent as they are.
type sharedNode struct {
	nodeRun
	name, millrace, dir, config, facts string
	manager, agent                     *exec.Cmd
}

// newSharedNode makes the node and its card, with the host's addresses on it; nothing of ours
// runs yet.
func newSharedNode(t *testing.T, binaries string, router *netnstest.Namespace, name, facts, config string, at nodeAt) *sharedNode {
	t.Helper()
	dir, err := os.MkdirTemp("", "share") // t.TempDir is too long for a socket's path
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	n := &sharedNode{name: name, millrace: filepath.Join(binaries, "millrace"), dir: dir, facts: facts}
	n.ns, n.plugin, n.cni = netnstest.New(t), filepath.Join(binaries, "millrace-cni"), filepath.Join(dir, "cni.sock")
	command(t, n.ns, "ip", "link", "add", "eth0", "address", "02:00:00:00:01:0"+name[1:], "type", "veth", "peer", "name", name, "netns", router.Name)
	command(t, n.ns, "sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1")
	command(t, n.ns, "ip", "link", "set", "eth0", "up")
	command(t, router, "ip", "link", "set", name, "master", "br0", "up")
	command(t, router, "ethtool", "-K", name, "tx", "off") // a wire has whole checksums
	for _, a := range []string{at.v4, at.v6} {
		command(t, n.ns, "ip", "addr", "add", a, "dev", "eth0", "nodad")
	}
	for _, via := range []string{at.via4, at.via6} {
		command(t, n.ns, "ip", "route", "add", "default", "via", via)
	}
	n.config = writeConfig(t, fmt.Sprintf("dataplane: engine\nnodeName: %s\nruntimeDir: %s/run\nstateDir: %s/state\nsockets: {cni: %s}\nuplinks: [{interface: eth0}]\n%s",
		name, dir, dir, n.cni, config))
	return n
}

func (n *sharedNode) startManager(t *testing.T) {
	t.Helper()
	n.manager = startBeside(t, n.ns, n.millrace, "manager", "--config", n.config)
	awaitSocket(t, filepath.Join(n.dir, "run/api.sock"))
	n.awaitProgram(t, steer.Name)
}

func (n *sharedNode) startAgent(t *testing.T) {
	t.Helper()
	n.agent = startBeside(t, n.ns, n.millrace, "agent", "--config", n.config, "--facts", n.facts)
	awaitSocket(t, n.cni)
}

// program is the name of the XDP program on the card.
func (n *sharedNode) program(t *testing.T) string {
	t.Helper()
	var on steer.Attached
	n.ns.Run(t, func() (err error) {
		on, err = steer.On("eth0")
		return err
	})
	return on.Name
}

func (n *sharedNode) awaitProgram(t *testing.T, want string) {
	t.Helper()
	for end := time.Now().Add(time.Minute); n.program(t) != want; time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("the program on the card of %s is %q; want %q", n.name, n.program(t), want)
		}
	}
}

// engine is the manager's child.
func (n *sharedNode) engine(t *testing.T) int {
	t.Helper()
	lists, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", n.manager.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	for _, list := range lists {
		text, err := os.ReadFile(list)
		if errors.Is(err, os.ErrNotExist) {
			continue // a thread that ended
		}
		if pid, err := strconv.Atoi(strings.TrimSpace(string(text))); err == nil {
			return pid
		}
	}
	t.Fatal("the manager has no engine")
	return 0
}

// end sends a signal and waits for the process to be gone.
func end(t *testing.T, pid int, signal syscall.Signal) {
	t.Helper()
	ended := netnstest.Hold(t, pid)
	if err := syscall.Kill(pid, signal); err != nil {
		t.Fatal(err)
	}
	ended()
}

// flow is a TCP connection from the network to a node's own address, open for as long as the
// test.
type flow struct {
	client net.Conn
	answer *bufio.Reader
	said   int
}

func openFlow(t *testing.T, from, to *netnstest.Namespace, address string) *flow {
	t.Helper()
	var server net.Listener
	to.Run(t, func() (err error) {
		server, err = net.Listen("tcp", net.JoinHostPort(address, "0"))
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
		for in := bufio.NewReader(conn); ; {
			line, err := in.ReadString('\n')
			if err != nil {
				return
			}
			if _, err := conn.Write([]byte(line)); err != nil {
				return
			}
		}
	}()
	f := &flow{}
	from.Run(t, func() (err error) {
		f.client, err = net.DialTimeout("tcp", server.Addr().String(), time.Minute)
		return err
	})
	f.answer = bufio.NewReader(f.client)
	t.Cleanup(func() {
		f.client.Close()
		server.Close()
		<-done
	})
	return f
}

// lives says something and wants it back.
func (f *flow) lives(t *testing.T, when string) {
	t.Helper()
	f.said++
	want := fmt.Sprintf("%d: %s\n", f.said, when)
	if err := f.client.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	if _, err := f.client.Write([]byte(want)); err != nil {
		t.Fatalf("the host's connection broke after %s: %v", when, err)
	}
	if got, err := f.answer.ReadString('\n'); err != nil || got != want {
		t.Fatalf("the host's connection broke after %s: %q, %v", when, got, err)
	}
}

// hears has the host receive a broadcast, as a DHCP client does.
func hears(t *testing.T, from, host *netnstest.Namespace) {
	t.Helper()
	var l net.PacketConn
	host.Run(t, func() (err error) {
		l, err = net.ListenPacket("udp4", "0.0.0.0:68")
		return err
	})
	defer l.Close()
	var c net.PacketConn
	from.Run(t, func() (err error) {
		c, err = net.ListenPacket("udp4", "192.0.2.254:67")
		return err
	})
	defer c.Close()
	if _, err := c.WriteTo([]byte("offer"), &net.UDPAddr{IP: net.IPv4(192, 0, 2, 255), Port: 68}); err != nil {
		t.Fatal(err)
	}
	if err := l.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, 10)
	if n, _, err := l.ReadFrom(got); err != nil || string(got[:n]) != "offer" {
		t.Errorf("the host heard %q, %v", got[:n], err)
	}
}

var sharedAt = [2]nodeAt{
	{"192.0.2.1/24", "2001:db8::1/64", "192.0.2.254", "2001:db8::fe"},
	{"192.0.2.2/24", "2001:db8::2/64", "192.0.2.254", "2001:db8::fe"},
}

// TestIntegrationShare: two nodes that share their cards. The host's own connection stays open
// through every start and end, pods reach each other, and what is on a card goes with the
// engine.
func TestIntegrationShare(t *testing.T) {
	binaries := buildProduct(t)
	for _, encapsulation := range []string{"Never", "Always"} {
		t.Run(encapsulation, func(t *testing.T) {
			facts := filepath.Join(t.TempDir(), "facts")
			if err := os.Mkdir(facts, 0o700); err != nil {
				t.Fatal(err)
			}
			objects := fmt.Sprintf(twoNodesObjects, "192.0.2.1", "2001:db8::1", "192.0.2.2", "2001:db8::2")
			if err := os.WriteFile(filepath.Join(facts, "nodes.yaml"), []byte(objects), 0o600); err != nil {
				t.Fatal(err)
			}
			router := routerBetween(t, sharedAt[0], sharedAt[1])
			config := "nodeToNode: {encapsulation: " + encapsulation + "}\n"
			one := newSharedNode(t, binaries, router, "n1", facts, config, sharedAt[0])
			two := newSharedNode(t, binaries, router, "n2", facts, config, sharedAt[1])
			host := openFlow(t, router, one.ns, "192.0.2.1")
			host.lives(t, "nothing")
			for _, n := range []*sharedNode{one, two} {
				n.startManager(t)
				n.startAgent(t)
			}
			host.lives(t, "the start")
			hears(t, router, one.ns)
			db, _ := addPod(t, two.ns, two.plugin, two.cni, "db")
			web, _ := addPod(t, one.ns, one.plugin, one.cni, "web")
			talk := func() {
				t.Helper()
				for _, to := range []string{"10.2.0.2", "fd02::2"} {
					reaches(t, web, to)
					transfer(t, web, db, to)
				}
				for _, to := range []string{"10.1.0.2", "fd01::2"} {
					transfer(t, db, web, to)
				}
			}
			talk()
			one.steers(t, encapsulation)
			host.lives(t, "pods talked")
			one.survives(t, host, talk)
		})
	}
}

// steers wants that pods were reached by what is steered, and tells the agent's maps.
func (n *sharedNode) steers(t *testing.T, encapsulation string) {
	t.Helper()
	var counts map[steer.Verdict]uint64
	n.ns.Run(t, func() error {
		tables, err := steer.Open("eth0")
		if err != nil {
			return err
		}
		counts, err = tables.Count()
		return errors.Join(err, tables.Close())
	})
	want := map[string]steer.Verdict{"Never": steer.TakenPrefix, "Always": steer.TakenPort}[encapsulation]
	if counts[want] < 1000 || counts[steer.Passed] == 0 {
		t.Errorf("the program counted %v; want most as %s, and the host's as passed", counts, want)
	}
}

// survives ends everything, one after the other.
func (n *sharedNode) survives(t *testing.T, host *flow, talk func()) {
	t.Helper()
	end(t, n.agent.Process.Pid, syscall.SIGKILL)
	host.lives(t, "the agent's death")
	talk() // without it
	n.startAgent(t)

	end(t, n.engine(t), syscall.SIGKILL)
	host.lives(t, "the engine's death")
	n.awaitProgram(t, steer.Name) // the manager's next engine
	talk()
	host.lives(t, "the engine's return")

	end(t, n.manager.Process.Pid, syscall.SIGKILL)
	n.awaitProgram(t, "")
	host.lives(t, "the manager's death")
	n.startManager(t)
	talk()
	host.lives(t, "the manager's return")

	end(t, n.manager.Process.Pid, syscall.SIGTERM)
	if on := n.program(t); on != "" {
		t.Errorf("after the manager's end there is the XDP program %q", on)
	}
	host.lives(t, "the manager's end")
}
