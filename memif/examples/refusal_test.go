package examples_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/millrace/millrace/internal/netnstest"
	"github.com/millrace/millrace/memif"
)

// TestUsersErrors: what is wrong at once ends the program with a sentence that says so.
func TestUsersErrors(t *testing.T) {
	busy := memif.SocketConfig{Role: memif.Server, Address: address(t)}
	newPeer(t, busy, memif.Config{})
	for _, tt := range []struct {
		args []string
		want []string
	}{
		{[]string{"reflector", "--socket", ""}, []string{`address ""`, "want a path, or @name"}},
		{[]string{"reflector", "--socket", "/no/such/place/memif.sock", "--role", "server"}, []string{"/no/such/place/memif.sock", "no such file or directory", "make the directory first"}},
		{[]string{"reflector", "--socket", busy.Address, "--role", "server"}, []string{busy.Address, "another process listens there"}},
		{[]string{"reflector", "--role", "master"}, []string{`"master"`, "want server or client"}},
		{[]string{"reflector", "--mode", "tap"}, []string{`"tap"`, "want ethernet or ip"}},
		{[]string{"reflector", "--id", "4294967296"}, []string{"4294967296", "out of range"}},
		{[]string{"reflector", "--queues", "257"}, []string{"257", "1 to 256"}},
		{[]string{"reflector", "--secret", strings.Repeat("s", 24)}, []string{"24 bytes", "at most 23"}},
		{[]string{"reflector", "@millrace/memif0"}, []string{`unexpected argument "@millrace/memif0"`, "--help"}},
		{[]string{"reflector", "--netns", "/no/such/netns", "--role", "server"}, []string{"/no/such/netns", "no such file or directory"}},
		{[]string{"router", "--route0", "10.0.0.0"}, []string{"10.0.0.0", "route0"}},
		{[]string{"router", "--mode0", "ip"}, []string{"mode0"}},
		{[]string{"capture", "--write", "/no/such/place/x.pcapng"}, []string{"/no/such/place/x.pcapng"}},
	} {
		t.Run(strings.Join(tt.args, " "), func(t *testing.T) {
			p := start(t, tt.args[0], tt.args[1:]...)
			if _, failed := errors.AsType[*exec.ExitError](p.wait(t)); !failed {
				t.Error("it ended well")
			}
			p.waitFor(t, tt.want...)
		})
	}
}

// TestNoLink: what may pass is said once, and tried again until it has passed.
func TestNoLink(t *testing.T) {
	t.Run("server comes later", func(t *testing.T) {
		at := memif.SocketConfig{Role: memif.Server, Address: address(t)}
		p := start(t, "reflector", "--socket", at.Address)
		p.waitFor(t, "link down", "connect to "+at.Address, "no such file or directory")
		newPeer(t, at, memif.Config{})
		p.waitFor(t, "link up")
		if n := strings.Count(p.said(), "no such file"); n != 1 {
			t.Errorf("it said so %d times", n)
		}
	})
	for _, tt := range []struct {
		name   string
		role   memif.Role // the example's
		args   []string
		other  memif.Config
		reason string
	}{
		{"mode, client", memif.Client, nil, memif.Config{Mode: memif.IP}, "Mode mismatch: this interface is ip"},
		{"mode, server", memif.Server, nil, memif.Config{Mode: memif.IP}, "Mode mismatch: this interface is ethernet"},
		{"secret, client", memif.Client, []string{"--secret", "one"}, memif.Config{Secret: "two"}, "Incorrect secret"},
		{"secret, server", memif.Server, []string{"--secret", "one"}, memif.Config{}, "Secret required"},
		{"id, client", memif.Client, []string{"--id", "1"}, memif.Config{}, "ID 1 not found"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			at := memif.SocketConfig{Role: other(tt.role), Address: address(t)}
			if tt.role == memif.Client {
				newPeer(t, at, tt.other)
			}
			p := start(t, "reflector", append(tt.args, "--socket", at.Address, "--role", tt.role.String())...)
			if tt.role == memif.Server {
				waitForFile(t, at.Address)
				newPeer(t, at, tt.other)
			}
			p.waitFor(t, "link down", tt.reason)
			p.end(t, syscall.SIGTERM)
			if tt.role == memif.Server {
				if _, err := os.Stat(at.Address); err == nil {
					t.Errorf("%s is left behind", at.Address)
				}
			}
		})
	}
}

// TestIntegrationNoPermission runs an example as a user who may not use the socket.
func TestIntegrationNoPermission(t *testing.T) {
	netnstest.NeedRoot(t)
	dir := t.TempDir()
	for d := dir; d != os.TempDir() && d != "/"; d = filepath.Dir(d) {
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	at := memif.SocketConfig{Role: memif.Server, Address: filepath.Join(dir, "memif.sock")}
	newPeer(t, at, memif.Config{})
	if err := os.Chmod(at.Address, 0o600); err != nil {
		t.Fatal(err)
	}
	nobody := func(args ...string) *process {
		cmd := exec.Command(filepath.Join(programs, "reflector"), args...)
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
		return startCommand(t, cmd)
	}
	client := nobody("--socket", at.Address)
	client.waitFor(t, "link down", at.Address, "permission denied")
	client.end(t, syscall.SIGTERM)
	server := nobody("--socket", filepath.Join(dir, "other.sock"), "--role", "server")
	if server.wait(t) == nil {
		t.Error("the server ended well")
	}
	server.waitFor(t, "other.sock", "permission denied")
	elsewhere := nobody("--socket", "@millrace/memif0", "--netns", netnstest.New(t).Path, "--role", "server")
	if elsewhere.wait(t) == nil {
		t.Error("the server in another namespace ended well")
	}
	elsewhere.waitFor(t, "network namespace", "operation not permitted")
}
