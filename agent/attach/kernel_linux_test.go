package attach

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/millrace/millrace/internal/netnstest"
)

// makeNetns binds a new network namespace to a path of the test's own.
func makeNetns(t *testing.T, name string) string {
	t.Helper()
	path := filepath.Join("/run", fmt.Sprintf("millrace-attach-%d-%s", os.Getpid(), name))
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { dropNetns(t, path) })
	made := make(chan error)
	go func() {
		runtime.LockOSThread() // the thread ends with the goroutine: it stays in the new namespace
		err := unix.Unshare(unix.CLONE_NEWNET)
		if err == nil {
			err = unix.Mount(fmt.Sprintf("/proc/self/task/%d/ns/net", unix.Gettid()), path, "", unix.MS_BIND, "")
		}
		made <- err
	}()
	if err := <-made; err != nil {
		t.Fatalf("make network namespace: %v", err)
	}
	return path
}

func dropNetns(t *testing.T, path string) {
	t.Helper()
	if err := unix.Unmount(path, unix.MNT_DETACH); err != nil && !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.EINVAL) {
		t.Errorf("unmount %s: %v", path, err)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
}

func TestIntegrationKernelNamespace(t *testing.T) {
	netnstest.NeedRoot(t)
	own, err := Kernel{}.Namespace("/proc/thread-self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	a, b := makeNetns(t, "a"), makeNetns(t, "b")
	seen := map[NamespaceID]string{own: "own"}
	for _, path := range []string{a, b} {
		id, err := Kernel{}.Namespace(path)
		if err != nil {
			t.Fatal(err)
		}
		if id.Boot == "" || seen[id] != "" {
			t.Errorf("%s has the identity %v of %s", path, id, seen[id])
		}
		seen[id] = path
		again, err := Kernel{}.Namespace(path)
		if err != nil || again != id {
			t.Errorf("%s is %v, then %v, %v", path, id, again, err)
		}
	}
	// The same path, and most likely the same inode number, but another namespace.
	dropNetns(t, a)
	if _, err := (Kernel{}).Namespace(a); !errors.Is(err, ErrNoNamespace) {
		t.Errorf("a removed namespace: %v, want ErrNoNamespace", err)
	}
	id, err := Kernel{}.Namespace(makeNetns(t, "a"))
	if err != nil || seen[id] != "" {
		t.Errorf("a new namespace at an old path is %v, %v", id, err)
	}
}

func TestKernelNoNamespace(t *testing.T) {
	dir := t.TempDir()
	file, fifo := filepath.Join(dir, "file"), filepath.Join(dir, "fifo")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{file, fifo, dir, file + "/below", dir + "/none", "/dev/null", "/proc/self/ns/mnt"} {
		if _, err := (Kernel{}).Namespace(path); !errors.Is(err, ErrNoNamespace) {
			t.Errorf("Namespace(%s) = %v, want ErrNoNamespace", path, err)
		}
		if _, err := (Kernel{}).Link(path, "eth0"); !errors.Is(err, ErrNoNamespace) {
			t.Errorf("Link(%s) = %v, want ErrNoNamespace", path, err)
		}
	}
}

func TestIntegrationKernelLink(t *testing.T) {
	netnstest.NeedRoot(t)
	path := makeNetns(t, "link")
	ns, err := netns.GetFromPath(path)
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	h, err := netlink.NewHandleAt(ns)
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	wireVeth(t, h)
	got, err := Kernel{}.Link(path, "eth0")
	if err != nil {
		t.Fatal(err)
	}
	want := Link{
		MAC: "02:00:00:00:00:01", MTU: 1400, Up: true,
		Addresses: []netip.Prefix{netip.MustParsePrefix("10.1.0.5/32"), netip.MustParsePrefix("fd00::5/128")},
		Routes: []LinkRoute{
			{Destination: netip.MustParsePrefix("169.254.1.1/32")},
			{Destination: netip.MustParsePrefix("0.0.0.0/0"), Gateway: netip.MustParseAddr("169.254.1.1"), MTU: 1300},
			{Destination: netip.MustParsePrefix("::/0"), Gateway: netip.MustParseAddr("fe80::1")},
		},
	}
	compare := cmp.Options{
		cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{}),
		cmpopts.IgnoreSliceElements(func(p netip.Prefix) bool { return p.Addr().IsLinkLocalUnicast() }),
		cmpopts.SortSlices(func(a, b LinkRoute) bool { return a.Destination.String() < b.Destination.String() }),
	}
	if diff := cmp.Diff(want, got, compare); diff != "" {
		t.Error(diff)
	}
	if _, err := (Kernel{}).Link(path, "eth7"); err == nil {
		t.Error("an interface that is not there was read")
	}
}

func wireVeth(t *testing.T, h *netlink.Handle) {
	t.Helper()
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU, attrs.HardwareAddr = "eth0", 1400, []byte{2, 0, 0, 0, 0, 1}
	veth := &netlink.Veth{LinkAttrs: attrs, PeerName: "peer"}
	peer := func() netlink.Link {
		l, err := h.LinkByName("peer")
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	address := func(text string) *netlink.Addr {
		a, err := netlink.ParseAddr(text)
		if err != nil {
			t.Fatal(err)
		}
		a.Flags = unix.IFA_F_NODAD
		return a
	}
	gateway4, gateway6 := netip.MustParseAddr("169.254.1.1").AsSlice(), netip.MustParseAddr("fe80::1").AsSlice()
	whole, err := netlink.ParseIPNet("169.254.1.1/32")
	if err != nil {
		t.Fatal(err)
	}
	steps := []func() error{
		func() error { return h.LinkAdd(veth) },
		func() error { return h.LinkSetUp(veth) },
		func() error { return h.LinkSetUp(peer()) },
		func() error { return h.AddrAdd(veth, address("10.1.0.5/32")) },
		func() error { return h.AddrAdd(veth, address("fd00::5/128")) },
		func() error {
			return h.RouteAdd(&netlink.Route{LinkIndex: veth.Index, Dst: whole, Scope: netlink.SCOPE_LINK})
		},
		func() error { return h.RouteAdd(&netlink.Route{LinkIndex: veth.Index, Gw: gateway4, MTU: 1300}) },
		func() error { return h.RouteAdd(&netlink.Route{LinkIndex: veth.Index, Gw: gateway6}) },
	}
	for i, step := range steps {
		if err := step(); err != nil {
			t.Fatalf("wire the interface, step %d: %v", i, err)
		}
	}
}

// TestIntegrationKernelListens finds a listening SOCK_SEQPACKET socket of that very name
// and namespace, and comes back to its own namespace.
func TestIntegrationKernelListens(t *testing.T) {
	netnstest.NeedRoot(t)
	netnstest.CheckLeaks(t)
	ns := netnstest.New(t)
	open := func(name string, kind int, listening bool) {
		ns.Run(t, func() error {
			fd, err := unix.Socket(unix.AF_UNIX, kind|unix.SOCK_CLOEXEC, 0)
			if err != nil {
				return err
			}
			t.Cleanup(func() { unix.Close(fd) })
			if err = unix.Bind(fd, &unix.SockaddrUnix{Name: "@" + name}); err == nil && listening {
				err = unix.Listen(fd, 1)
			}
			return err
		})
	}
	open("millrace/memif0", unix.SOCK_SEQPACKET, true)
	open("millrace/bound", unix.SOCK_SEQPACKET, false)
	open("millrace/stream", unix.SOCK_STREAM, true)
	for _, tt := range []struct {
		path, socket string
		want         bool
	}{
		{ns.Path, "millrace/memif0", true},
		{ns.Path, "millrace/memif", false},
		{ns.Path, "millrace/bound", false},
		{ns.Path, "millrace/stream", false},
		{netnstest.New(t).Path, "millrace/memif0", false},
	} {
		got, err := Kernel{}.Listens(tt.path, tt.socket)
		if got != tt.want || err != nil {
			t.Errorf("@%s in %s: %v, %v, want %v", tt.socket, tt.path, got, err, tt.want)
		}
	}
	if _, err := (Kernel{}).Listens("/run/netns/never-was", "x"); !errors.Is(err, ErrNoNamespace) {
		t.Errorf("without a namespace: %v", err)
	}
}
