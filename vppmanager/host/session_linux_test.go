package host

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/millrace/millrace/internal/netnstest"
	"github.com/millrace/millrace/vppmanager/inventory"
)

// asServer, in the environment of this test program, is the address at which it plays an
// SSH server that has one session; the program's name is then sshd.
const asServer = "MILLRACE_TEST_SSHD"

func TestMain(m *testing.M) {
	if address := os.Getenv(asServer); address != "" {
		if err := serveOne(address); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// serveOne accepts one connection and keeps it until standard input ends.
func serveOne(address string) error {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	fmt.Println("listening")
	conn, err := listener.Accept()
	if err != nil {
		return err
	}
	defer conn.Close()
	fmt.Println("accepted")
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}

// TestIntegrationSessions has a server named sshd on an unusual port, reached through a
// veth in a bridge whose address is used, while answers leave by another link.
func TestIntegrationSessions(t *testing.T) {
	near, far := netnstest.New(t), netnstest.New(t)
	sshd := filepath.Join(t.TempDir(), "sshd")
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(self, sshd); err != nil {
		t.Fatal(err)
	}
	ip := func(text string) {
		t.Helper()
		for line := range strings.Lines(text) {
			if out, err := exec.Command("ip", strings.Fields(line)...).CombinedOutput(); err != nil {
				t.Fatalf("ip %s: %v\n%s", line, err, out)
			}
		}
	}
	ip(strings.NewReplacer("NEAR", near.Name, "FAR", far.Name).Replace(
		`-n NEAR link add port0 type veth peer name far0 netns FAR
-n NEAR link add back0 type veth peer name far1 netns FAR
-n NEAR link add idle0 type veth peer name idle1
-n NEAR link add br0 type bridge
-n NEAR link set port0 master br0
-n NEAR address add 192.0.2.1/24 dev br0
-n NEAR address add 198.51.100.1/24 dev back0
-n NEAR address add 203.0.113.1/24 dev idle0
-n FAR address add 192.0.2.2/24 dev far0
-n FAR address add 198.51.100.2/24 dev far1
-n NEAR link set br0 up
-n NEAR link set port0 up
-n NEAR link set back0 up
-n NEAR link set idle0 up
-n FAR link set far0 up
-n FAR link set far1 up
-n NEAR route add 192.0.2.2/32 dev back0 via 198.51.100.2`))
	for _, f := range []string{"all", "far0", "far1"} {
		far.Run(t, func() error { return os.WriteFile("/proc/sys/net/ipv4/conf/"+f+"/rp_filter", []byte("0"), 0o644) })
	}
	server := exec.Command("ip", "netns", "exec", near.Name, sshd)
	server.Env = append(os.Environ(), asServer+"=192.0.2.1:2222")
	stdin, err := server.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := server.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stdin.Close(); server.Wait() })
	lines := bufio.NewScanner(stdout)
	if !lines.Scan() || lines.Text() != "listening" {
		t.Fatalf("the server says %q", lines.Text())
	}
	var conn net.Conn
	far.Run(t, func() error {
		conn, err = net.Dial("tcp", "192.0.2.1:2222")
		return err
	})
	defer conn.Close()
	if !lines.Scan() || lines.Text() != "accepted" {
		t.Fatalf("the server says %q", lines.Text())
	}
	var inv inventory.Node
	near.Run(t, func() error {
		inv, err = Machine().Inspect(Query{})
		return err
	})
	peer := conn.LocalAddr().String()
	for name, want := range map[string][]string{"br0": {peer}, "port0": {peer}, "back0": {peer}, "idle0": nil} {
		nic, found := inv.NIC(name)
		if !found || !slices.Equal(nic.Sessions, want) {
			t.Errorf("%s: sessions %q, want %q", name, nic.Sessions, want)
		}
	}
}
