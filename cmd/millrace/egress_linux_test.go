package main

import (
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/millrace/millrace/internal/netnstest"
)

// egressObjects are a node, and another one by whose address pods are to be seen as they are.
const egressObjects = `
{apiVersion: v1, kind: Node, metadata: {name: n1}, spec: {podCIDRs: [10.1.0.0/24, "fd01::/64"]}, status: {addresses: [{type: InternalIP, address: 192.0.2.1}, {type: InternalIP, address: "2001:db8::1"}]}}
---
{apiVersion: v1, kind: Node, metadata: {name: n2}, spec: {podCIDRs: [10.2.0.0/24, "fd02::/64"]}, status: {addresses: [{type: InternalIP, address: 192.0.2.2}, {type: InternalIP, address: "2001:db8::2"}]}}
---
{apiVersion: v1, kind: Pod, metadata: {name: web, namespace: shop}, spec: {nodeName: n1, containers: []}, status: {phase: Running, podIPs: [{ip: 10.1.0.2}, {ip: "fd01::2"}]}}
`

const theirTable = "table ip theirs { chain c { type nat hook postrouting priority 100; ip saddr 10.9.0.0/16 masquerade; }; }"

// egress is a node without uplink, its agent, a pod, and all that is outside: one namespace
// with an address of each kind.
type egress struct {
	node, outside, pod *netnstest.Namespace
	millrace, state    string
	api                string
	engine, agent      *exec.Cmd
}

// outsideOf are the addresses outside and whether pods come there with the node's address.
var outsideOf = []struct {
	address    string
	masquerade bool
}{
	{"203.0.113.9", true}, {"2001:db8:9::9", true},
	{"192.0.2.9", true}, {"2001:db8::9", true}, // of the node's own subnet, and no node
	{"192.0.2.2", false}, {"2001:db8::2", false}, // another node
	{"10.2.0.7", false}, {"fd02::7", false}, // a pod of another node
	{"198.51.100.9", false}, {"2001:db8:5::9", false}, // configured
}

func newEgress(t *testing.T, config string) egress {
	t.Helper()
	binaries := buildProduct(t)
	e := egress{node: netnstest.New(t), outside: netnstest.New(t), millrace: filepath.Join(binaries, "millrace")}
	netnstest.Veth(t, e.node, "eth0", e.outside, "eth0")
	command(t, e.node, "ip", "addr", "add", "192.0.2.1/24", "dev", "eth0")
	command(t, e.node, "ip", "addr", "add", "2001:db8::1/64", "dev", "eth0", "nodad")
	for _, o := range outsideOf {
		args := []string{"addr", "add", o.address, "dev", "eth0"}
		if strings.HasPrefix(o.address, "192.0.2.") {
			args[2] += "/24"
		}
		if strings.HasPrefix(o.address, "2001:db8::") {
			args[2] += "/64"
		}
		if strings.Contains(o.address, ":") {
			args = append(args, "nodad")
		}
		command(t, e.outside, "ip", args...)
	}
	command(t, e.node, "ip", "route", "add", "default", "via", "192.0.2.9")
	command(t, e.node, "ip", "route", "add", "default", "via", "2001:db8::9")
	command(t, e.outside, "ip", "route", "add", "10.1.0.0/24", "via", "192.0.2.1")
	command(t, e.outside, "ip", "route", "add", "fd01::/64", "via", "2001:db8::1")
	e.start(t, binaries, config)
	return e
}

func (e *egress) start(t *testing.T, binaries, config string) {
	t.Helper()
	dir := t.TempDir()
	facts, cni := filepath.Join(dir, "facts"), filepath.Join(dir, "cni.sock")
	e.api, e.state = filepath.Join(dir, "api.sock"), filepath.Join(dir, "state")
	if err := os.Mkdir(facts, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(facts, "objects.yaml"), []byte(egressObjects), 0o600); err != nil {
		t.Fatal(err)
	}
	e.engine = startBeside(t, e.node, e.millrace, "engine", "--api-socket", e.api, "--stats-socket", filepath.Join(dir, "stats.sock"))
	awaitSocket(t, e.api)
	e.agent = startBeside(t, e.node, e.millrace, "agent", "--config", writeConfig(t, config), "--node-name", "n1", "--facts", facts,
		"--state-dir", e.state, "--api-socket", e.api, "--cni-socket", cni)
	awaitSocket(t, cni)
	e.pod, _ = addPod(t, e.node, filepath.Join(binaries, "millrace-cni"), cni, "web")
}

// seenAs connects from a namespace, by TCP and by UDP, and returns whom the other end sees.
func seenAs(t *testing.T, from, at *netnstest.Namespace, address string) string {
	t.Helper()
	var listener net.Listener
	var packets net.PacketConn
	at.Run(t, func() (err error) {
		if listener, err = net.Listen("tcp", net.JoinHostPort(address, "0")); err == nil {
			packets, err = net.ListenPacket("udp", listener.Addr().String())
		}
		return err
	})
	defer listener.Close()
	defer packets.Close()
	go func() {
		c, err := listener.Accept()
		if err == nil {
			io.WriteString(c, c.RemoteAddr().(*net.TCPAddr).IP.String())
			c.Close()
		}
	}()
	go func() {
		for buffer := make([]byte, 64); ; {
			_, from, err := packets.ReadFrom(buffer)
			if err != nil {
				return
			}
			packets.WriteTo([]byte(from.(*net.UDPAddr).IP.String()), from)
		}
	}()
	tcp, udp := dialed(t, from, "tcp", listener.Addr().String()), dialed(t, from, "udp", listener.Addr().String())
	if tcp != udp {
		t.Errorf("%s sees %s by TCP, %s by UDP", address, tcp, udp)
	}
	return tcp
}

// dialed returns what it is told at an address.
func dialed(t *testing.T, from *netnstest.Namespace, network, to string) string {
	t.Helper()
	var c net.Conn
	from.Run(t, func() (err error) {
		c, err = net.DialTimeout(network, to, time.Minute)
		return err
	})
	defer c.Close()
	c.SetDeadline(time.Now().Add(time.Minute))
	if network == "udp" {
		c.Write([]byte("?")) // the answer does not come if this fails
	}
	buffer := make([]byte, 64)
	n, err := c.Read(buffer)
	if err != nil {
		t.Fatalf("%s to %s: %v", network, to, err)
	}
	return string(buffer[:n])
}

func podAndNode(address string) (pod, node string) {
	if strings.Contains(address, ":") {
		return "fd01::2", "2001:db8::1"
	}
	return "10.1.0.2", "192.0.2.1"
}

// TestIntegrationEgress: a pod of a node without uplink reaches the outside with the node's
// address, and pods, nodes and configured ranges with its own; by both families. What others
// have in nftables stays, and nothing of ours is left when it is cleared away.
func TestIntegrationEgress(t *testing.T) {
	e := newEgress(t, "masquerade: {nonMasqueradeCIDRs: [198.51.100.0/24, \"2001:db8:5::/48\"]}\n")
	if _, err := e.node.Command(t, "nft", "list", "ruleset").Output(); err != nil {
		t.Skipf("needs nftables: %v", err)
	}
	command(t, e.node, "nft", theirTable)
	for _, o := range outsideOf {
		pod, node := podAndNode(o.address)
		want := map[bool]string{true: node, false: pod}[o.masquerade]
		if got := seenAs(t, e.pod, e.outside, o.address); got != want {
			t.Errorf("%s sees the pod as %s, want %s", o.address, got, want)
		}
	}
	rules, err := e.node.Command(t, "nft", "list", "tables").Output()
	if err != nil || !strings.Contains(string(rules), "theirs") || !strings.Contains(string(rules), "millrace") {
		t.Errorf("tables: %s (%v)", rules, err)
	}
	command(t, e.node, "nft", "delete", "table", "inet", "millrace")
	e.awaitTable(t)
	if got := seenAs(t, e.pod, e.outside, "203.0.113.9"); got != "192.0.2.1" {
		t.Errorf("when the table is back, the pod is seen as %s", got)
	}
	undo := func() (string, error) {
		out, err := e.node.Command(t, e.millrace, "agent", "undo", "--config", writeConfig(t, ""), "--node-name", "n1", "--state-dir", e.state).CombinedOutput()
		return string(out), err
	}
	if out, err := undo(); err == nil || !strings.Contains(out, "another agent holds it") {
		t.Errorf("undo beside a running agent: %v\n%s", err, out)
	}
	for _, started := range []*exec.Cmd{e.agent, e.engine} {
		wait := netnstest.Hold(t, started.Process.Pid)
		if err := started.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		wait()
	}
	for range 2 {
		if out, err := undo(); err != nil {
			t.Errorf("undo: %v\n%s", err, out)
		}
	}
	if err := e.node.Command(t, "ip", "link", "show", "millrace0").Run(); err == nil {
		t.Error("the link to the host is still there")
	}
	rules, err = e.node.Command(t, "nft", "list", "ruleset").Output()
	if err != nil || !strings.Contains(string(rules), "theirs") || strings.Contains(string(rules), "millrace") {
		t.Errorf("rules after all of ours is cleared away: %s (%v)", rules, err)
	}
	for _, name := range []string{"net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding"} {
		if out, err := e.node.Command(t, "sysctl", "-n", name).Output(); err != nil || strings.TrimSpace(string(out)) != "0" {
			t.Errorf("%s is %s (%v) after all is given back, want 0 as before", name, out, err)
		}
	}
}

// awaitTable waits for the agent's next look.
func (e *egress) awaitTable(t *testing.T) {
	t.Helper()
	for end := time.Now().Add(2 * time.Minute); e.node.Command(t, "nft", "list", "table", "inet", "millrace").Run() != nil; time.Sleep(100 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the table that somebody deleted does not come back")
		}
	}
}
