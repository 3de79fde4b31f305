package program

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/millrace/millrace/dataplane"
)

// hostEnd is the kernel's end of an interface: a device in a network namespace.
type hostEnd struct {
	netns string // absolute path; empty = our own
	name  string
}

// errNoHost says that the namespace or the device in it is gone.
var errNoHost = errors.New("the kernel's end is gone")

// routeProtocol marks the kernel routes that are ours.
const routeProtocol netlink.RouteProtocol = 109

// link is a device with the netlink handle of its namespace.
type link struct {
	*netlink.Handle
	dev netlink.Link
}

// open finds the device, or returns an errNoHost. The caller closes the link.
func (e hostEnd) open() (link, error) {
	h, err := handle(e.netns)
	if err != nil {
		return link{}, err
	}
	dev, err := h.LinkByName(e.name)
	if err != nil {
		h.Close()
		if errors.As(err, &netlink.LinkNotFoundError{}) {
			return link{}, fmt.Errorf("find %s in %s: %w", e.name, e.where(), errNoHost)
		}
		return link{}, fmt.Errorf("find %s in %s: %w", e.name, e.where(), err)
	}
	return link{h, dev}, nil
}

func (e hostEnd) where() string {
	if e.netns == "" {
		return "the node's namespace"
	}
	return e.netns
}

func handle(path string) (*netlink.Handle, error) {
	if path == "" {
		return netlink.NewHandle(unix.NETLINK_ROUTE)
	}
	ns, err := netns.GetFromPath(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("open namespace %s: %w", path, errNoHost)
	}
	if err != nil {
		return nil, fmt.Errorf("open namespace %s: %w", path, err)
	}
	defer ns.Close()
	h, err := netlink.NewHandleAt(ns, unix.NETLINK_ROUTE)
	if errors.Is(err, unix.EINVAL) { // a file that once carried a namespace
		return nil, fmt.Errorf("enter namespace %s: %w", path, errNoHost)
	}
	if err != nil {
		return nil, fmt.Errorf("enter namespace %s: %w", path, err)
	}
	return h, nil
}

// observe reads what is ours on the device: whole addresses, our routes, permanent
// neighbours. A device that is down has nothing.
func (e hostEnd) observe() (dataplane.HostSide, error) {
	l, err := e.open()
	if err != nil {
		return dataplane.HostSide{}, err
	}
	defer l.Close()
	if l.dev.Attrs().Flags&net.FlagUp == 0 {
		return dataplane.HostSide{}, nil
	}
	h := dataplane.HostSide{MTU: uint32(l.dev.Attrs().MTU)}
	if l.dev.Attrs().GSOMaxSegs == 1 {
		h.MaxSegments = 1
	}
	if h.Addresses, err = l.addresses(); err != nil {
		return dataplane.HostSide{}, err
	}
	routes, err := l.routes()
	if err != nil {
		return dataplane.HostSide{}, err
	}
	for _, r := range routes {
		h.Routes = append(h.Routes, routeOf(r))
	}
	h.Neighbors, err = l.neighbors()
	return h, err
}

// apply makes the device have what is wanted and nothing else of ours; it goes on from
// wherever an earlier attempt ended.
func (e hostEnd) apply(want dataplane.HostSide) error {
	l, err := e.open()
	if err != nil {
		return err
	}
	defer l.Close()
	if wantsIPv6(want) {
		if err := enableIPv6(e.netns, e.name); err != nil {
			return fmt.Errorf("switch IPv6 on for %s in %s: %w", e.name, e.where(), err)
		}
	}
	for _, step := range []func(dataplane.HostSide) error{l.raise, l.setNeighbors, l.setAddresses, l.setRoutes} {
		if err := step(want); err != nil {
			return fmt.Errorf("set up %s in %s: %w", e.name, e.where(), err)
		}
	}
	return nil
}

func wantsIPv6(h dataplane.HostSide) bool {
	return slices.ContainsFunc(h.Addresses, func(p netip.Prefix) bool { return p.Addr().Is6() }) ||
		slices.ContainsFunc(h.Routes, func(r dataplane.HostRoute) bool { return r.Dst.Addr().Is6() })
}

// remove deletes the device if it is still there and of a kind we make.
func (e hostEnd) remove() error {
	l, err := e.open()
	if errors.Is(err, errNoHost) {
		return nil
	}
	if err != nil {
		return err
	}
	defer l.Close()
	if t := l.dev.Type(); t != "tuntap" && t != "tun" && t != "veth" {
		return nil
	}
	if err := l.LinkDel(l.dev); err != nil && !isNoDevice(err) {
		return fmt.Errorf("delete %s in %s: %w", e.name, e.where(), err)
	}
	return nil
}

// removeAbandoned deletes a persistent tun or tap that no process holds: a machine of the
// other kind, now gone for good, left it in the place of the device to be made.
func (e hostEnd) removeAbandoned(mode netlink.TuntapMode) error {
	l, err := e.open()
	if errors.Is(err, errNoHost) {
		return nil
	}
	if err != nil {
		return err
	}
	defer l.Close()
	tun, ok := l.dev.(*netlink.Tuntap)
	if !ok || tun.Mode != mode || l.dev.Attrs().RawFlags&unix.IFF_LOWER_UP != 0 {
		return nil
	}
	if err := l.LinkDel(l.dev); err != nil && !isNoDevice(err) {
		return fmt.Errorf("delete abandoned %s in %s: %w", e.name, e.where(), err)
	}
	return nil
}

func isNoDevice(err error) bool { return errors.Is(err, unix.ENODEV) || errors.Is(err, unix.ENOENT) }

func (l link) raise(want dataplane.HostSide) error {
	if want.MTU != 0 && l.dev.Attrs().MTU != int(want.MTU) {
		if err := l.LinkSetMTU(l.dev, int(want.MTU)); err != nil {
			return fmt.Errorf("set mtu %d: %w", want.MTU, err)
		}
	}
	if now := l.dev.Attrs().GSOMaxSegs; (now == 1) != (want.MaxSegments == 1) {
		segments := 65535 // the kernel's limit (GSO_MAX_SEGS), which new devices have
		if want.MaxSegments != 0 {
			segments = int(want.MaxSegments)
		}
		if err := l.LinkSetGSOMaxSegs(l.dev, segments); err != nil {
			return fmt.Errorf("set how many segments a packet may have to %d: %w", segments, err)
		}
	}
	if l.dev.Attrs().Flags&net.FlagUp == 0 {
		if err := l.LinkSetUp(l.dev); err != nil {
			return fmt.Errorf("set it up: %w", err)
		}
	}
	return nil
}

// addresses are those of full length and global scope: the kernel's own are neither.
func (l link) addresses() ([]netip.Prefix, error) {
	list, err := l.AddrList(l.dev, netlink.FAMILY_ALL)
	if err != nil {
		return nil, fmt.Errorf("list addresses: %w", err)
	}
	var out []netip.Prefix
	for _, a := range list {
		p, ok := prefixFrom(a.IPNet)
		if ok && p.IsSingleIP() && a.Scope == int(netlink.SCOPE_UNIVERSE) {
			out = append(out, p)
		}
	}
	return out, nil
}

func (l link) setAddresses(want dataplane.HostSide) error {
	have, err := l.addresses()
	if err != nil {
		return err
	}
	for _, p := range want.Addresses {
		if slices.Contains(have, p) {
			continue
		}
		// No duplicate address detection: the address is usable when this returns.
		a := &netlink.Addr{IPNet: ipNet(p)}
		if p.Addr().Is6() {
			a.Flags = unix.IFA_F_NODAD
		}
		if err := l.AddrAdd(l.dev, a); err != nil && !errors.Is(err, unix.EEXIST) {
			return fmt.Errorf("add address %s: %w", p, err)
		}
		if err := l.awaitLocal(p); err != nil {
			return err
		}
	}
	for _, p := range have {
		if slices.Contains(want.Addresses, p) {
			continue
		}
		if err := l.AddrDel(l.dev, &netlink.Addr{IPNet: ipNet(p)}); err != nil && !errors.Is(err, unix.EADDRNOTAVAIL) {
			return fmt.Errorf("delete address %s: %w", p, err)
		}
	}
	return nil
}

// awaitLocal returns when the kernel takes packets to a new address. Of an IPv6 address it
// makes the route in its own time, after the call that added it has returned.
func (l link) awaitLocal(p netip.Prefix) error {
	if p.Addr().Is4() {
		return nil
	}
	local := &netlink.Route{Table: unix.RT_TABLE_LOCAL, Dst: ipNet(p)}
	for end := time.Now().Add(localPatience); ; time.Sleep(time.Millisecond) {
		found, err := l.RouteListFiltered(netlink.FAMILY_V6, local, netlink.RT_FILTER_TABLE|netlink.RT_FILTER_DST)
		if err != nil {
			return fmt.Errorf("list local routes: %w", err)
		}
		if len(found) > 0 {
			return nil
		}
		if time.Now().After(end) {
			return fmt.Errorf("add address %s: the kernel has made no local route to it in %s", p, localPatience)
		}
	}
}

// localPatience is long: the kernel is late only when it has no time.
const localPatience = 5 * time.Second

// routes are those on the device that carry our protocol number.
func (l link) routes() ([]netlink.Route, error) {
	filter := &netlink.Route{LinkIndex: l.dev.Attrs().Index, Protocol: routeProtocol}
	list, err := l.RouteListFiltered(netlink.FAMILY_ALL, filter, netlink.RT_FILTER_OIF|netlink.RT_FILTER_PROTOCOL)
	if err != nil {
		return nil, fmt.Errorf("list routes: %w", err)
	}
	return list, nil
}

func (l link) setRoutes(want dataplane.HostSide) error {
	have, err := l.routes()
	if err != nil {
		return err
	}
	wanted, there := map[dataplane.HostRoute]bool{}, map[dataplane.HostRoute]bool{} // services may be many
	for _, r := range want.Routes {
		wanted[r] = true
	}
	for _, r := range have {
		there[routeOf(r)] = true
	}
	// What goes, goes first: the kernel takes no two routes to one destination.
	for _, r := range have {
		if wanted[routeOf(r)] {
			continue
		}
		if err := l.RouteDel(&r); err != nil && !errors.Is(err, unix.ESRCH) {
			return fmt.Errorf("delete route %s: %w", routeOf(r), err)
		}
	}
	for _, w := range want.Routes {
		if there[w] {
			continue
		}
		if err := l.RouteAdd(l.route(w)); err != nil {
			return fmt.Errorf("add route %s: %w%s", w, err, routeHint(err, w))
		}
	}
	return nil
}

// routeHint says what a person can do about the kernel's refusal.
func routeHint(err error, w dataplane.HostRoute) string {
	switch {
	case errors.Is(err, unix.EEXIST):
		return " (somebody else has a route to it there: remove that one)"
	case errors.Is(err, unix.EINVAL) && w.Source.IsValid():
		return fmt.Sprintf(" (is %s an address of this machine? the Node object says so)", w.Source)
	}
	return ""
}

func (l link) route(w dataplane.HostRoute) *netlink.Route {
	r := &netlink.Route{
		LinkIndex: l.dev.Attrs().Index, Dst: ipNet(w.Dst), Protocol: routeProtocol, Scope: netlink.SCOPE_LINK,
	}
	if w.Via.IsValid() {
		r.Gw, r.Scope = w.Via.AsSlice(), netlink.SCOPE_UNIVERSE
		r.SetFlag(netlink.FLAG_ONLINK)
	}
	if w.Source.IsValid() {
		r.Src = w.Source.AsSlice()
	}
	return r
}

func routeOf(r netlink.Route) dataplane.HostRoute {
	out := dataplane.HostRoute{}
	out.Via, _ = addrFrom(r.Gw)
	out.Source, _ = addrFrom(r.Src)
	if p, ok := prefixFrom(r.Dst); ok {
		out.Dst = p
	} else if r.Family == netlink.FAMILY_V6 {
		out.Dst = netip.PrefixFrom(netip.IPv6Unspecified(), 0)
	} else {
		out.Dst = netip.PrefixFrom(netip.IPv4Unspecified(), 0)
	}
	return out
}

func (l link) neighbors() ([]dataplane.HostNeighbor, error) {
	list, err := l.NeighList(l.dev.Attrs().Index, netlink.FAMILY_ALL)
	if err != nil {
		return nil, fmt.Errorf("list neighbours: %w", err)
	}
	var out []dataplane.HostNeighbor
	for _, n := range list {
		a, ok := addrFrom(n.IP)
		if ok && n.State == netlink.NUD_PERMANENT && len(n.HardwareAddr) == 6 {
			out = append(out, dataplane.HostNeighbor{Addr: a, MAC: dataplane.MAC(n.HardwareAddr)})
		}
	}
	return out, nil
}

func (l link) setNeighbors(want dataplane.HostSide) error {
	have, err := l.neighbors()
	if err != nil {
		return err
	}
	entry := func(n dataplane.HostNeighbor) *netlink.Neigh {
		return &netlink.Neigh{
			LinkIndex: l.dev.Attrs().Index, State: netlink.NUD_PERMANENT, IP: n.Addr.AsSlice(), HardwareAddr: n.MAC[:],
		}
	}
	for _, n := range have {
		same := func(w dataplane.HostNeighbor) bool { return w.Addr == n.Addr }
		if slices.ContainsFunc(want.Neighbors, same) {
			continue
		}
		if err := l.NeighDel(entry(n)); err != nil && !isNoDevice(err) {
			return fmt.Errorf("delete neighbour %s: %w", n, err)
		}
	}
	for _, n := range want.Neighbors {
		if slices.Contains(have, n) {
			continue
		}
		if err := l.NeighSet(entry(n)); err != nil {
			return fmt.Errorf("set neighbour %s: %w", n, err)
		}
	}
	return nil
}

// enableIPv6 lets a device of a namespace have IPv6 addresses where IPv6 is switched off
// by default. The thread that visits the namespace dies with its goroutine if it cannot
// come back.
func enableIPv6(path, device string) error {
	return within(path, func() error {
		name := "/proc/sys/net/ipv6/conf/" + device + "/disable_ipv6"
		now, err := os.ReadFile(name)
		if err != nil || strings.TrimSpace(string(now)) == "0" {
			return err
		}
		return os.WriteFile(name, []byte("0"), 0o644)
	})
}

// within runs f on a thread that lies in the namespace at path.
func within(path string, f func() error) error {
	if path == "" {
		return f()
	}
	result := make(chan error)
	go func() {
		runtime.LockOSThread()
		result <- func() error {
			home, err := netns.Get()
			if err != nil {
				return err
			}
			defer home.Close()
			there, err := netns.GetFromPath(path)
			if err != nil {
				return err
			}
			defer there.Close()
			if err := netns.Set(there); err != nil {
				return err
			}
			err = f()
			if back := netns.Set(home); back != nil {
				return errors.Join(err, back) // locked still: the thread ends here
			}
			runtime.UnlockOSThread()
			return err
		}()
	}()
	return <-result
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

func prefixFrom(n *net.IPNet) (netip.Prefix, bool) {
	if n == nil {
		return netip.Prefix{}, false
	}
	a, ok := addrFrom(n.IP)
	bits, _ := n.Mask.Size()
	return netip.PrefixFrom(a, bits), ok
}

func addrFrom(ip net.IP) (netip.Addr, bool) {
	a, ok := netip.AddrFromSlice(ip)
	return a.Unmap(), ok
}
