// Package netnstest makes network namespaces for tests, runs functions inside them, and
// tells when a test leaves something behind.
//
// It owns the namespaces it made and deletes them also when the test fails. It never
// touches the namespace the test was started in.
package netnstest

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// Namespace is a named network namespace with its loopback up.
type Namespace struct {
	Name string // as "ip netns" shows it
	Path string // a file that setns takes
}

// NeedRoot skips the test unless it may make namespaces and devices.
func NeedRoot(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: network namespaces and devices are made")
	}
}

// NeedTun skips the test unless it is root and there is a usable /dev/net/tun.
func NeedTun(t testing.TB) {
	t.Helper()
	NeedRoot(t)
	f, err := os.OpenFile("/dev/net/tun", os.O_RDWR, 0)
	if err != nil {
		t.Skipf("needs /dev/net/tun: %v", err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

// prefix begins the name of every namespace of ours; the process number follows.
const prefix = "mrtest-"

// New makes a namespace that lives as long as the test. Its name carries the process
// number, so that what a killed test left can be told from what is in use; New deletes
// it.
func New(t testing.TB) *Namespace {
	t.Helper()
	NeedRoot(t)
	if err := sweep(); err != nil {
		t.Logf("delete namespaces of tests that were killed: %v", err)
	}
	name := fmt.Sprintf("%s%d-%08x", prefix, os.Getpid(), rand.Uint32())
	n := &Namespace{Name: name, Path: filepath.Join("/run/netns", name)}
	if err := n.make(); err != nil {
		t.Skipf("needs network namespaces: %v", err)
	}
	t.Cleanup(func() {
		if err := netns.DeleteNamed(name); err != nil {
			t.Errorf("delete namespace %s: %v", name, err)
		}
	})
	return n
}

// sweep deletes namespaces whose process is no more.
func sweep() error {
	entries, err := os.ReadDir("/run/netns")
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	var errs []error
	for _, e := range entries {
		pid, _, ok := strings.Cut(strings.TrimPrefix(e.Name(), prefix), "-")
		if !ok || !strings.HasPrefix(e.Name(), prefix) {
			continue
		}
		if _, err := os.Stat(filepath.Join("/proc", pid)); !errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err := netns.DeleteNamed(e.Name()); err != nil && !errors.Is(err, os.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// make creates the namespace on a thread that ends with its goroutine.
func (n *Namespace) make() error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread is in the new namespace
		h, err := netns.NewNamed(n.Name)
		if err != nil {
			done <- fmt.Errorf("make namespace %s: %w", n.Name, err)
			return
		}
		done <- errors.Join(loopbackUp(), h.Close())
	}()
	return <-done
}

func loopbackUp() error {
	h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("open netlink: %w", err)
	}
	defer h.Close()
	lo, err := h.LinkByName("lo")
	if err != nil {
		return fmt.Errorf("find lo: %w", err)
	}
	return h.LinkSetUp(lo)
}

// Do runs f on a thread inside the namespace and returns its error. Sockets that f
// opens stay in the namespace afterwards; goroutines that f starts do not run in it.
// f must not call t.FailNow: it runs on another goroutine.
func (n *Namespace) Do(f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // the thread ends with the goroutine
		h, err := netns.GetFromPath(n.Path)
		if err != nil {
			done <- fmt.Errorf("open namespace %s: %w", n.Name, err)
			return
		}
		defer h.Close()
		if err := netns.Set(h); err != nil {
			done <- fmt.Errorf("enter namespace %s: %w", n.Name, err)
			return
		}
		done <- f()
	}()
	return <-done
}

// Run is Do for a step that must succeed.
func (n *Namespace) Run(t testing.TB, f func() error) {
	t.Helper()
	if err := n.Do(f); err != nil {
		t.Fatalf("in namespace %s: %v", n.Name, err)
	}
}

// Netlink runs f with a netlink handle of the namespace.
func (n *Namespace) Netlink(t testing.TB, f func(h *netlink.Handle) error) {
	t.Helper()
	n.Run(t, func() error {
		h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
		if err != nil {
			return fmt.Errorf("open netlink: %w", err)
		}
		defer h.Close()
		return f(h)
	})
}

// Command is exec.Command inside the namespace, by nsenter; it skips the test when
// nsenter or the program is missing.
func (n *Namespace) Command(t testing.TB, name string, args ...string) *exec.Cmd {
	t.Helper()
	for _, need := range []string{"nsenter", name} {
		if _, err := exec.LookPath(need); err != nil {
			t.Skipf("needs %s: %v", need, err)
		}
	}
	return exec.CommandContext(t.Context(), "nsenter", append([]string{"--net=" + n.Path, name}, args...)...)
}

// Veth joins two namespaces by a veth pair, both ends up, with the given names.
func Veth(t testing.TB, a *Namespace, aName string, b *Namespace, bName string) {
	t.Helper()
	peer, err := netns.GetFromPath(b.Path)
	if err != nil {
		t.Fatal(err)
	}
	defer peer.Close()
	a.Netlink(t, func(h *netlink.Handle) error {
		v := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: aName}, PeerName: bName, PeerNamespace: netlink.NsFd(int(peer))}
		if err := h.LinkAdd(v); err != nil {
			return fmt.Errorf("add veth %s: %w", aName, err)
		}
		return up(h, aName)
	})
	b.Netlink(t, func(h *netlink.Handle) error { return up(h, bName) })
}

func up(h *netlink.Handle, name string) error {
	l, err := h.LinkByName(name)
	if err != nil {
		return fmt.Errorf("find %s: %w", name, err)
	}
	if err := h.LinkSetUp(l); err != nil {
		return fmt.Errorf("set %s up: %w", name, err)
	}
	return nil
}
