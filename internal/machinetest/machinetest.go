// Package machinetest starts dataplanes for tests: the embedded engine, and real VPP where
// VPP_BIN names one, in a network namespace that is the test process's own.
//
// It ends what it started, also when a test fails. It never programs a dataplane: that is
// for the test to do.
package machinetest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/millrace/millrace/engine"
	"github.com/millrace/millrace/internal/netnstest"
	"github.com/millrace/millrace/vpp"
)

// inside tells the child process that it lies in a network namespace of its own.
const inside = "MILLRACE_TEST_NETNS"

// Main is the body of a TestMain: it runs the tests of root in a network namespace of
// their own, for packages that work on the devices of the namespace they run in.
func Main(m *testing.M) {
	if os.Geteuid() != 0 {
		os.Exit(m.Run())
	}
	if os.Getenv(inside) != "" {
		if err := loopbackUp(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(m.Run())
	}
	child := exec.Command(os.Args[0], os.Args[1:]...)
	child.Env = append(os.Environ(), inside+"=1")
	child.Stdin, child.Stdout, child.Stderr = os.Stdin, os.Stdout, os.Stderr
	child.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	err := child.Run()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		os.Exit(exit.ExitCode())
	}
	if err != nil {
		os.Exit(m.Run()) // no namespace to be had: All skips
	}
}

// loopbackUp makes the namespace one like a node's: the kernel refuses routes where no
// address at all is local.
func loopbackUp() error {
	lo, err := netlink.LinkByName("lo")
	if err == nil {
		err = netlink.LinkSetUp(lo)
	}
	if err != nil {
		return fmt.Errorf("set lo up: %w", err)
	}
	return nil
}

// Machine is a dataplane that a test starts and stops as often as it likes.
type Machine struct {
	Name   string
	Socket string // of the binary API
	Stats  string // of the statistics segment
	start  func(t *testing.T) (stop func())
}

// Start starts the machine and returns what stops it without warning; the end of the test
// does too.
func (m Machine) Start(t *testing.T) (stop func()) {
	t.Helper()
	stop = m.start(t)
	t.Cleanup(stop)
	return stop
}

// All returns the embedded engine and, when VPP_BIN names it, real VPP. It skips the test
// where neither can work.
func All(t *testing.T) []Machine {
	t.Helper()
	netnstest.NeedTun(t)
	if os.Getenv(inside) == "" {
		t.Skip("needs the right to make network namespaces")
	}
	dir := t.TempDir()
	list := []Machine{{"engine", filepath.Join(dir, "engine.sock"), filepath.Join(dir, "engine-stats.sock"), func(t *testing.T) func() { return startEngine(t, dir) }}}
	if bin := os.Getenv("VPP_BIN"); bin != "" {
		list = append(list, Machine{"vpp", filepath.Join(dir, "vpp.sock"), filepath.Join(dir, "stats.sock"), func(t *testing.T) func() { return startVPP(t, bin, dir) }})
	}
	return list
}

// startEngine runs the embedded engine in this process.
func startEngine(t *testing.T, dir string) (stop func()) {
	t.Helper()
	e, err := engine.New(engine.Config{
		APISocket: filepath.Join(dir, "engine.sock"), StatsSocket: filepath.Join(dir, "engine-stats.sock"),
		MaxInterfaces: 64, MaxRoutes: 1024, Logger: slog.New(slog.NewTextHandler(t.Output(), nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- e.Run(ctx, func() {}) }()
	return sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("engine: %v", err)
		}
	})
}

func startVPP(t *testing.T, bin, dir string) (stop func()) {
	t.Helper()
	conf := filepath.Join(dir, "startup.conf")
	text := fmt.Sprintf(`unix { nodaemon log %[1]s/vpp.log runtime-dir %[1]s gid root cli-listen %[1]s/cli.sock }
api-segment { prefix mrp%[2]d gid root }
socksvr { socket-name %[1]s/vpp.sock }
statseg { socket-name %[1]s/stats.sock size 16m page-size 4k }
memory { main-heap-size 192M main-heap-page-size 4k }
buffers { page-size 4k buffers-per-numa 8192 }
plugins {
  plugin default { disable }
  plugin af_packet_plugin.so { enable }
  plugin af_xdp_plugin.so { enable }
  plugin urpf_plugin.so { enable }
  plugin ping_plugin.so { enable }
  plugin memif_plugin.so { enable }
  plugin acl_plugin.so { enable }
  plugin vxlan_plugin.so { enable }
  plugin cnat_plugin.so { enable }
}
`, dir, os.Getpid())
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(bin, "-c", conf)
	cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	started, end, ended := make(chan error), make(chan struct{}), make(chan struct{})
	go func() {
		// The signal comes when the thread that started the child ends: it is kept.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		defer close(ended)
		err := cmd.Start()
		started <- err
		if err == nil {
			<-end
			cmd.Process.Kill() // an error means that it has died already
			cmd.Wait()
		}
	}()
	if err := <-started; err != nil {
		t.Fatal(err)
	}
	return sync.OnceFunc(func() {
		close(end)
		<-ended
	})
}

// Connect waits until the machine answers. The connection ends with the test.
func (m Machine) Connect(t *testing.T) *vpp.Conn {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var last error
	for _, err := range vpp.Connections(ctx, vpp.Config{Socket: m.Socket}) {
		if err != nil {
			last = err
			continue
		}
		// The iterator would close its connection; this one outlives it.
		conn, err := vpp.Dial(ctx, vpp.Config{Socket: m.Socket})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(conn.Close)
		return conn
	}
	t.Fatalf("connect to %s: %v", m.Name, last)
	return nil
}
