package attach

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// Kernel is the PodSide of this machine.
type Kernel struct{}

// Namespace identifies the network namespace at a path by the kernel's boot id and the
// namespace's cookie. A kernel before 5.14 has no cookies; there the inode number serves,
// which a later namespace may get again.
func (Kernel) Namespace(path string) (NamespaceID, error) {
	ns, err := openNamespace(path)
	if err != nil {
		return NamespaceID{}, err
	}
	defer ns.Close()
	boot, err := bootID()
	if err != nil {
		return NamespaceID{}, err
	}
	socket, err := nl.GetNetlinkSocketAt(ns, netns.None(), unix.NETLINK_ROUTE)
	if err != nil {
		return NamespaceID{}, fmt.Errorf("enter network namespace %s: %w", path, err)
	}
	defer socket.Close()
	cookie, err := unix.GetsockoptUint64(socket.GetFd(), unix.SOL_SOCKET, unix.SO_NETNS_COOKIE)
	if errors.Is(err, unix.ENOPROTOOPT) {
		var st unix.Stat_t
		err = unix.Fstat(int(ns), &st)
		cookie = st.Ino
	}
	if err != nil {
		return NamespaceID{}, fmt.Errorf("identify network namespace %s: %w", path, err)
	}
	return NamespaceID{Boot: boot, Cookie: cookie}, nil
}

// openNamespace opens a path and makes sure that it is a network namespace. O_NONBLOCK: a
// path that leads to a pipe must not hold the server.
func openNamespace(path string) (netns.NsHandle, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) {
		return netns.None(), fmt.Errorf("open %s: %w: %w", path, ErrNoNamespace, err)
	}
	if err != nil {
		return netns.None(), fmt.Errorf("open %s: %w", path, err)
	}
	kind, err := unix.IoctlRetInt(fd, unix.NS_GET_NSTYPE)
	if err == nil && kind == unix.CLONE_NEWNET {
		return netns.NsHandle(fd), nil
	}
	if err := unix.Close(fd); err != nil {
		return netns.None(), fmt.Errorf("close %s: %w", path, err)
	}
	return netns.None(), fmt.Errorf("open %s: %w", path, ErrNoNamespace)
}

// Link reads an interface of the network namespace at a path.
func (Kernel) Link(path, ifName string) (Link, error) {
	ns, err := openNamespace(path)
	if err != nil {
		return Link{}, err
	}
	defer ns.Close()
	h, err := netlink.NewHandleAt(ns, unix.NETLINK_ROUTE)
	if err != nil {
		return Link{}, fmt.Errorf("enter network namespace %s: %w", path, err)
	}
	defer h.Close()
	dev, err := h.LinkByName(ifName)
	if err != nil {
		return Link{}, fmt.Errorf("find interface %s in %s: %w", ifName, path, err)
	}
	l := Link{MTU: uint32(dev.Attrs().MTU), Up: dev.Attrs().Flags&net.FlagUp != 0}
	if mac := dev.Attrs().HardwareAddr; len(mac) == 6 {
		l.MAC = mac.String()
	}
	for _, f := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		if err := l.readFamily(h, dev, f); err != nil {
			return Link{}, fmt.Errorf("read interface %s in %s: %w", ifName, path, err)
		}
	}
	return l, nil
}

// Listens looks for a listening SOCK_SEQPACKET socket of an abstract name among the unix
// sockets of the network namespace at a path.
func (Kernel) Listens(path, socket string) (bool, error) {
	ns, err := openNamespace(path)
	if err != nil {
		return false, err
	}
	defer ns.Close()
	type table struct {
		text []byte
		err  error
	}
	read := make(chan table)
	go func() {
		text, err := unixSockets(ns)
		read <- table{text, err}
	}()
	t := <-read
	if t.err != nil {
		return false, fmt.Errorf("list unix sockets in %s: %w", path, t.err)
	}
	return listens(string(t.text), "@"+socket), nil
}

// unixSockets reads the table of a namespace. The goroutine that calls it ends with it: a
// thread that cannot come back from the namespace stays locked, and ends with it too.
func unixSockets(ns netns.NsHandle) ([]byte, error) {
	runtime.LockOSThread()
	home, err := netns.Get()
	if err != nil {
		return nil, err
	}
	defer home.Close()
	if err := netns.Set(ns); err != nil {
		return nil, err
	}
	text, err := os.ReadFile("/proc/thread-self/net/unix")
	if back := netns.Set(home); back != nil {
		return nil, errors.Join(err, fmt.Errorf("come back: %w", back))
	}
	runtime.UnlockOSThread()
	return text, err
}

// listens reads /proc/net/unix: "Num RefCount Protocol Flags Type St Inode Path".
func listens(table, name string) bool {
	const acceptCon, seqPacket = 1 << 16, "0005" // include/linux/net.h
	for line := range strings.Lines(table) {
		f := strings.Fields(line)
		if len(f) != 8 || f[7] != name || f[4] != seqPacket {
			continue
		}
		flags, err := strconv.ParseUint(f[3], 16, 32)
		if err == nil && flags&acceptCon != 0 {
			return true
		}
	}
	return false
}

func (l *Link) readFamily(h *netlink.Handle, dev netlink.Link, f int) error {
	addresses, err := h.AddrList(dev, f)
	if err != nil {
		return fmt.Errorf("list addresses: %w", err)
	}
	for _, a := range addresses {
		if p, ok := prefix(a.IPNet); ok {
			l.Addresses = append(l.Addresses, p)
		}
	}
	filter := &netlink.Route{LinkIndex: dev.Attrs().Index, Table: unix.RT_TABLE_MAIN}
	routes, err := h.RouteListFiltered(f, filter, netlink.RT_FILTER_OIF|netlink.RT_FILTER_TABLE)
	if err != nil {
		return fmt.Errorf("list routes: %w", err)
	}
	for _, r := range routes {
		if r.Protocol == unix.RTPROT_KERNEL || r.Type != unix.RTN_UNICAST {
			continue
		}
		out := LinkRoute{Destination: everywhere(f), MTU: uint32(r.MTU)}
		if r.Dst != nil {
			p, ok := prefix(r.Dst)
			if !ok {
				continue
			}
			out.Destination = p
		}
		if g, ok := netip.AddrFromSlice(r.Gw); ok {
			out.Gateway = g.Unmap()
		}
		l.Routes = append(l.Routes, out)
	}
	slices.SortStableFunc(l.Routes, func(a, b LinkRoute) int { return b.Destination.Bits() - a.Destination.Bits() })
	return nil
}

func everywhere(f int) netip.Prefix {
	if f == netlink.FAMILY_V4 {
		return netip.PrefixFrom(netip.IPv4Unspecified(), 0)
	}
	return netip.PrefixFrom(netip.IPv6Unspecified(), 0)
}

func prefix(n *net.IPNet) (netip.Prefix, bool) {
	a, ok := netip.AddrFromSlice(n.IP)
	if !ok {
		return netip.Prefix{}, false
	}
	ones, bits := n.Mask.Size()
	if a.Is4In6() && bits == 32 {
		a = a.Unmap()
	}
	return netip.PrefixFrom(a, ones), true
}
