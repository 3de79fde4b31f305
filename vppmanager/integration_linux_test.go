package vppmanager

import (
	"context"
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

	"golang.org/x/sys/unix"

	"github.com/millrace/millrace/internal/netnstest"
	"github.com/millrace/millrace/vpp"
)

// build compiles the product once for all integration tests of the package.
func build(t *testing.T) string {
	t.Helper()
	binary := filepath.Join(t.TempDir(), "millrace")
	if out, err := exec.Command("go", "build", "-o", binary, "../cmd/millrace").CombinedOutput(); err != nil {
		t.Fatalf("build millrace: %v\n%s", err, out)
	}
	return binary
}

// node is a namespace in which managers run, with one runtime directory.
type node struct {
	binary, dataplane string
	dir               string // of the node; the runtime directory is run in it
	ns                *netnstest.Namespace
	config            string // file; "" = none
}

func newNode(t *testing.T, binary, dataplane string) *node {
	t.Helper()
	dir, err := os.MkdirTemp("", "node") // t.TempDir is too long for a socket's path
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return &node{binary: binary, dataplane: dataplane, dir: dir, ns: netnstest.New(t)}
}

func (n *node) runtimeDir() string { return filepath.Join(n.dir, "run") }

func (n *node) stateDir() string { return filepath.Join(n.dir, "state") }

// managed is one running millrace manager, with systemd's side of it.
type managed struct {
	cmd     *exec.Cmd
	notices *net.UnixConn
	output  strings.Builder // read after the end
}

func (n *node) start(t *testing.T) *managed {
	t.Helper()
	notify := filepath.Join(n.dir, fmt.Sprintf("notify%d", time.Now().UnixNano()))
	m := &managed{notices: systemd(t, notify)}
	args := []string{"manager", "--dataplane", n.dataplane, "--runtime-dir", n.runtimeDir(), "--state-dir", n.stateDir()}
	if n.config != "" {
		args = append(args, "--config", n.config)
	}
	m.cmd = n.ns.Command(t, n.binary, args...)
	m.cmd.Env = append(os.Environ(), "NOTIFY_SOCKET="+notify)
	m.cmd.Stdout, m.cmd.Stderr = &m.output, &m.output
	if err := m.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if m.cmd.ProcessState == nil {
			m.cmd.Process.Kill()
			m.cmd.Wait()
		}
		if t.Failed() {
			t.Logf("manager printed:\n%s", &m.output)
		}
	})
	return m
}

// terminate stops the manager and wants a clean end.
func (m *managed) terminate(t *testing.T, n *node) {
	t.Helper()
	if err := m.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := m.cmd.Wait(); err != nil {
		t.Errorf("manager: %v", err)
	}
	n.checkNothingLeft(t)
}

func (n *node) checkNothingLeft(t *testing.T) {
	t.Helper()
	if _, err := os.Stat(n.runtimeDir()); !errors.Is(err, os.ErrNotExist) {
		entries, _ := os.ReadDir(n.runtimeDir())
		t.Errorf("the runtime directory is left with %v (%v)", entries, err)
	}
	segments, err := filepath.Glob("/dev/shm/*" + filepath.Base(n.dir) + "*")
	if err != nil || len(segments) > 0 {
		t.Errorf("left in /dev/shm: %v (%v)", segments, err)
	}
}

// dataplanePID asks the API socket who serves it.
func (n *node) dataplanePID(t *testing.T) int {
	t.Helper()
	return servedPID(t, filepath.Join(n.runtimeDir(), "api.sock"))
}

// answers wants a reply of the dataplane's API and a stats socket.
func (n *node) answers(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	conn, err := vpp.Dial(ctx, vpp.Config{Socket: filepath.Join(n.runtimeDir(), "api.sock")})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	text, err := conn.CLI(ctx, "show version")
	if err != nil || text == "" {
		t.Errorf("show version: %q, %v", text, err)
	}
	if n.dataplane == "vpp" {
		n.hasBuffers(t, ctx, conn)
	}
	if _, err := os.Stat(filepath.Join(n.runtimeDir(), "stats.sock")); err != nil {
		t.Error(err)
	}
}

// hasBuffers: VPP drops those buffers that would straddle small pages; the plan asks for
// so many that what was configured is there nevertheless.
func (n *node) hasBuffers(t *testing.T, ctx context.Context, conn *vpp.Conn) {
	t.Helper()
	text, err := conn.CLI(ctx, "show buffers")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(text) {
		fields := strings.Fields(line) // name, index, NUMA node, size, data size, total, ...
		if len(fields) < 6 || !strings.HasPrefix(line, "default-numa") {
			continue
		}
		if total, err := strconv.Atoi(fields[5]); err != nil || total < 16384 {
			t.Errorf("VPP has %d buffers, want at least 16384 (%v):\n%s", total, err, text)
		}
		return
	}
	t.Errorf("no buffer pool in\n%s", text)
}

// dataplanes are those this machine can run, with the name of each.
func dataplanes(t *testing.T, test func(t *testing.T, name string)) {
	netnstest.NeedTun(t)
	t.Run("engine", func(t *testing.T) { test(t, "engine") })
	t.Run("vpp", func(t *testing.T) {
		if os.Getenv("VPP_BIN") == "" {
			t.Skip("needs FD.io VPP 25.10: set VPP_BIN to its program")
		}
		test(t, "vpp")
	})
}

// TestIntegrationManager boots a real dataplane, kills it, kills its manager, and stops
// it; each time nothing may be left.
func TestIntegrationManager(t *testing.T) {
	netnstest.NeedTun(t)
	binary := build(t)
	dataplanes(t, func(t *testing.T, name string) {
		n := newNode(t, binary, name)
		m := n.start(t)
		awaitMessage(t, m.notices, "READY=1\nSTATUS="+name)
		n.answers(t)

		pid := n.dataplanePID(t)
		ended := netnstest.Hold(t, pid)
		killed := time.Now()
		if err := unix.Kill(pid, unix.SIGKILL); err != nil {
			t.Fatal(err)
		}
		awaitMessage(t, m.notices, "READY=1\nSTATUS="+name)
		t.Logf("%s answers again %v after kill -9", name, time.Since(killed).Round(time.Millisecond))
		ended()
		n.answers(t)

		refused := n.start(t)
		if err := refused.cmd.Wait(); err == nil || !strings.Contains(refused.output.String(), "another manager (pid "+strconv.Itoa(m.cmd.Process.Pid)+")") {
			t.Errorf("a second manager ended with %v:\n%s", err, &refused.output)
		}

		ended = netnstest.Hold(t, n.dataplanePID(t))
		if err := m.cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		m.cmd.Wait() // says that it was killed
		ended()

		m = n.start(t)
		awaitMessage(t, m.notices, "READY=1\nSTATUS="+name)
		n.answers(t)
		ended = netnstest.Hold(t, n.dataplanePID(t))
		m.terminate(t, n)
		ended()
	})
}

// TestIntegrationStopDuringStart asks for the end before the dataplane is ready.
func TestIntegrationStopDuringStart(t *testing.T) {
	netnstest.NeedTun(t)
	binary := build(t)
	dataplanes(t, func(t *testing.T, name string) {
		n := newNode(t, binary, name)
		m := n.start(t)
		awaitMessage(t, m.notices, "starting")
		m.terminate(t, n)
	})
}

// TestIntegrationRefusals: what the machine cannot do is said before anything is touched.
func TestIntegrationRefusals(t *testing.T) {
	netnstest.NeedTun(t)
	binary := build(t)
	readable(t, binary)
	dir := t.TempDir()
	plain := filepath.Join(dir, "vpp")
	if err := os.WriteFile(plain, []byte("no program"), 0o644); err != nil {
		t.Fatal(err)
	}
	run := filepath.Join(dir, "run")
	for _, tt := range []struct {
		name string
		cmd  []string
		user uint32
		want string
	}{
		{"not executable", []string{binary, "manager", "--dataplane", "vpp", "--vpp-bin", plain, "--runtime-dir", run, "--state-dir", run + "-state"}, 0, plain + " is not executable (mode 0644)"},
		{"missing", []string{binary, "manager", "--vpp-bin", plain + "x", "--runtime-dir", run, "--state-dir", run + "-state"}, 0, plain + "x was named but is missing"},
		{"no privilege", []string{binary, "manager", "--dataplane", "engine", "--runtime-dir", run, "--state-dir", run + "-state"}, 65534, "no privilege: CAP_NET_ADMIN is missing"},
		{"not writable", []string{binary, "manager", "--dataplane", "engine", "--runtime-dir", run, "--state-dir", run + "-state"}, 65534, "directory " + run + " cannot be written: permission denied"},
		{"read-only", []string{"unshare", "-m", "sh", "-c", "mount -t tmpfs -o ro none " + dir + " && exec " + binary + " manager --dataplane engine --runtime-dir " + run + " --state-dir " + run + "-state"}, 0,
			"directory " + run + " cannot be written: read-only file system"},
		{"no tun", []string{"unshare", "-m", "sh", "-c", "mount -t tmpfs none /dev/net && exec " + binary + " manager --dataplane engine --runtime-dir " + run + " --state-dir " + run + "-state"}, 0,
			"/dev/net/tun (missing)"},
		{"bad flag", []string{binary, "manager", "--dataplane", "ebpf"}, 0, `flag --dataplane: "ebpf" is not one of auto, vpp, engine`},
		{"no such file", []string{binary, "manager", "--config", dir + "/none.yaml"}, 0, "none.yaml: no such file"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cmd := exec.Command(tt.cmd[0], tt.cmd[1:]...)
			cmd.Env = []string{"PATH=" + os.Getenv("PATH")}
			if tt.user != 0 {
				cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: tt.user, Gid: tt.user}}
			}
			out, err := cmd.CombinedOutput()
			if err == nil || !strings.Contains(string(out), tt.want) {
				t.Errorf("%v, and it does not say %q:\n%s", err, tt.want, out)
			}
			if _, err := os.Stat(run); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("the runtime directory was made: %v", err)
			}
		})
	}
}

// readable lets other users reach a file in the test's own directory.
func readable(t *testing.T, path string) {
	t.Helper()
	for at := path; at != os.TempDir() && at != "/"; at = filepath.Dir(at) {
		if err := os.Chmod(at, 0o755); err != nil {
			t.Fatal(err)
		}
	}
}

// TestIntegrationDryRun prints the plan and changes nothing.
func TestIntegrationDryRun(t *testing.T) {
	netnstest.NeedTun(t)
	binary, run := build(t), filepath.Join(t.TempDir(), "run")
	out, err := exec.Command(binary, "manager", "--dataplane", "engine", "--dry-run", "--runtime-dir", run, "--state-dir", run+"-state").CombinedOutput()
	if err != nil || !strings.Contains(string(out), "command    "+binary+" engine --api-socket "+run+"/api.sock") {
		t.Errorf("%v:\n%s", err, out)
	}
	if _, err := os.Stat(run); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the runtime directory was made: %v", err)
	}
}
