package vppmanager

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/millrace/millrace/internal/netnstest"
	"github.com/millrace/millrace/vppmanager/change"
)

// connected is a node whose NIC a manager takes, and the network it leads to.
type connected struct {
	*node
	outside *netnstest.Namespace
}

func newConnected(t *testing.T, binary, dataplane, driver string) connected {
	t.Helper()
	n := newNode(t, binary, dataplane)
	n.config = filepath.Join(n.dir, "node.yaml")
	write(t, n.config, fmt.Sprintf("apiVersion: millrace.io/v1alpha1\nkind: NodeConfig\nruntimeDir: %s\nstateDir: %s\nmaxPods: 16\nuplinks: [{interface: eth0, driver: %s, mode: own}]\n",
		n.runtimeDir(), n.stateDir(), driver), 0o644)
	return connected{n, n.plug(t)}
}

// uplinkDrivers runs a test for each way to have a NIC that stays with the kernel.
func uplinkDrivers(t *testing.T, test func(t *testing.T, dataplane, driver string)) {
	dataplanes(t, func(t *testing.T, dataplane string) {
		t.Run("af_packet", func(t *testing.T) { test(t, dataplane, "af_packet") })
		t.Run("af_xdp", func(t *testing.T) {
			if dataplane == "vpp" {
				needPlugin(t, "af_xdp")
			}
			test(t, dataplane, "af_xdp")
		})
	})
}

// needPlugin skips the test where VPP_BIN's VPP lacks a plugin.
func needPlugin(t *testing.T, name string) {
	t.Helper()
	root := filepath.Join(filepath.Dir(os.Getenv("VPP_BIN")), "..")
	for _, dir := range []string{"lib*/vpp_plugins", "lib*/*/vpp_plugins"} {
		if found, err := filepath.Glob(filepath.Join(root, dir, name+"_plugin.so")); err == nil && len(found) > 0 {
			return
		}
	}
	t.Skipf("needs a VPP with the %s plugin: %s has none", name, os.Getenv("VPP_BIN"))
}

// reaches sends what a host sends and gets, both ways and by both families.
func (c connected) reaches(t *testing.T) {
	t.Helper()
	for _, to := range []string{"203.0.113.1", "2001:db8:f::1"} {
		ping(t, c.ns, to)
		stream(t, c.ns, c.outside, to)
	}
	for _, to := range []string{"192.0.2.4", "2001:db8::4"} {
		ping(t, c.outside, to)
		stream(t, c.outside, c.ns, to)
	}
}

// ready starts a manager and waits until it is ready.
func (c connected) ready(t *testing.T) *managed {
	t.Helper()
	m := c.start(t)
	awaitMessage(t, m.notices, "READY=1\nSTATUS="+c.dataplane)
	return m
}

// TestIntegrationUplinks has the whole manager take the node's NIC and give it back, however
// it and its dataplane end; in between the host, and a pod, reach the world.
func TestIntegrationUplinks(t *testing.T) {
	netnstest.NeedTun(t)
	binary := build(t)
	uplinkDrivers(t, func(t *testing.T, dataplane, driver string) {
		c := newConnected(t, binary, dataplane, driver)
		before := c.look(t)
		m := c.ready(t)
		c.reaches(t)
		c.pod(t)

		ended := netnstest.Hold(t, c.dataplanePID(t))
		if err := syscall.Kill(c.dataplanePID(t), syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		ended()
		awaitMessage(t, m.notices, "READY=1\nSTATUS="+dataplane)
		c.reaches(t)

		c.kill(t, m)
		m = c.ready(t) // it gives the NIC back first, and takes it again
		c.reaches(t)

		c.kill(t, m)
		if note := filepath.Join(c.stateDir(), change.JournalFile) + " holds "; !strings.Contains(c.dryRun(t), note) {
			t.Errorf("the dry run does not say %q:\n%s", note, c.dryRun(t))
		}
		c.undo(t)
		c.unchanged(t, before)
		if text := c.dryRun(t); strings.Contains(text, "holds") || !strings.Contains(text, "save-link eth0") {
			t.Errorf("the dry run after undoing:\n%s", text)
		}
		c.reaches(t)

		m = c.ready(t)
		c.reaches(t)
		m.terminate(t, c.node)
		c.unchanged(t, before)
		c.reaches(t)
	})
}

// dryRun is the plan, or why there is none.
func (c connected) dryRun(t *testing.T) string {
	t.Helper()
	text, err := c.ns.Command(t, c.binary, "manager", "--dry-run", "--dataplane", c.dataplane, "--config", c.config).CombinedOutput()
	if err != nil {
		t.Logf("dry run: %v", err)
	}
	return string(text)
}

// kill ends a manager without warning; its dataplane ends with it.
func (c connected) kill(t *testing.T, m *managed) {
	t.Helper()
	ended := netnstest.Hold(t, c.dataplanePID(t))
	if err := m.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	m.cmd.Wait() // says that it was killed
	ended()
}

// TestIntegrationEndings ends the manager after every line of its journal, and at moments of
// the wiring that comes then, by SIGKILL and by SIGTERM. Each time the host is given back as
// it was.
func TestIntegrationEndings(t *testing.T) {
	netnstest.NeedTun(t)
	binary := build(t)
	for _, signal := range []syscall.Signal{syscall.SIGKILL, syscall.SIGTERM} {
		t.Run(signal.String(), func(t *testing.T) {
			c := newConnected(t, binary, "engine", "af_packet")
			before := c.look(t)
			m := c.ready(t)
			lines := c.lines()
			m.terminate(t, c.node)
			if lines < 10 {
				t.Fatalf("a journal of %d lines: that is too few", lines)
			}
			moments := 0
			for over := false; !over; {
				moments++
				over = c.endAt(t, signal, moments, lines)
				c.unchanged(t, before)
				if c.lines() != 0 {
					t.Fatalf("moment %d: the journal is still there", moments)
				}
			}
			t.Logf("%d moments, %d of them lines of the journal", moments, lines)
			c.reaches(t)
		})
	}
}

// lines counts those of the journal.
func (c connected) lines() int {
	text, err := os.ReadFile(filepath.Join(c.stateDir(), change.JournalFile))
	if err != nil {
		return 0
	}
	return strings.Count(string(text), "\n")
}

// endAt starts a manager, ends it at a moment, and undoes what it left. The moments are the
// lines of the journal, then steps of time. It is over when the manager was ready before.
func (c connected) endAt(t *testing.T, signal syscall.Signal, moment, lines int) (over bool) {
	t.Helper()
	m := c.start(t)
	ready := make(chan struct{})
	go func() {
		defer close(ready)
		buf := make([]byte, 4096)
		for {
			n, err := m.notices.Read(buf)
			if err != nil || strings.Contains(string(buf[:n]), "READY=1") {
				return
			}
		}
	}()
	over = c.await(t, ready, min(moment, lines), time.Duration(max(moment-lines, 0))*2*time.Millisecond)
	if err := m.cmd.Process.Signal(signal); err != nil {
		t.Fatal(err)
	}
	err := m.cmd.Wait()
	m.notices.Close()
	<-ready
	if signal == syscall.SIGKILL {
		c.undo(t)
	} else if err != nil {
		t.Fatalf("moment %d: the manager ended with %v:\n%s", moment, err, &m.output)
	}
	return over
}

// await waits for so many lines of the journal, and then for a while; less if the manager is
// ready.
func (c connected) await(t *testing.T, ready <-chan struct{}, lines int, then time.Duration) (over bool) {
	t.Helper()
	for end := time.Now().Add(patience); c.lines() < lines; {
		if time.Now().After(end) {
			t.Fatalf("the journal has not got %d lines", lines)
		}
		time.Sleep(100 * time.Microsecond)
	}
	select {
	case <-ready:
		return true
	case <-time.After(then):
		return false
	}
}
