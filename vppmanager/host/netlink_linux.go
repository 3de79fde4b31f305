package host

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/cilium/ebpf"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// netlinkKernel is the kernel of this machine, in the network namespace of the calling
// thread.
type netlinkKernel struct{}

// dump is what rtnetlink says, link by link and table by table.
type dump struct {
	links     []netlink.Link
	addresses []netlink.Addr
	routes    []netlink.Route
	rules     []netlink.Rule
	neighbors []netlink.Neigh
	programs  map[uint32]string // names of XDP programs on links, those that have one
}

// Links implements Kernel.
func (netlinkKernel) Links() (Links, error) {
	h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return Links{}, fmt.Errorf("ask rtnetlink: %w", err)
	}
	defer h.Close()
	var d dump
	if err := d.read(h); err != nil {
		return Links{}, fmt.Errorf("ask rtnetlink: %w", err)
	}
	return d.value(), nil
}

func (d *dump) read(h *netlink.Handle) error {
	var err error
	if d.links, err = whole(h.LinkList); err != nil {
		return fmt.Errorf("list links: %w", err)
	}
	d.readPrograms()
	for _, family := range []int{unix.AF_INET, unix.AF_INET6} {
		if err := d.readFamily(h, family); err != nil {
			return err
		}
	}
	return nil
}

// readPrograms finds out what the XDP programs on links are called. One whose name cannot be
// had, for lack of a right or because it has gone since, has its number.
func (d *dump) readPrograms() {
	d.programs = map[uint32]string{}
	for _, l := range d.links {
		x := l.Attrs().Xdp
		if x == nil || !x.Attached {
			continue
		}
		p, err := ebpf.NewProgramFromID(ebpf.ProgramID(x.ProgId))
		if err != nil {
			continue
		}
		if info, err := p.Info(); err == nil {
			d.programs[x.ProgId] = info.Name
		}
		p.Close()
	}
}

// readFamily reads one of IPv4 and IPv6. The kernel answers for all families when it was
// built or booted without the one that is asked for.
func (d *dump) readFamily(h *netlink.Handle, family int) error {
	addresses, err := whole(func() ([]netlink.Addr, error) { return h.AddrList(nil, family) })
	if err := orNoFamily(err); err != nil {
		return fmt.Errorf("list addresses: %w", err)
	}
	for _, a := range addresses {
		if a.IPNet != nil && (a.IP.To4() != nil) == (family == unix.AF_INET) {
			d.addresses = append(d.addresses, a)
		}
	}
	routes, err := whole(func() ([]netlink.Route, error) {
		return h.RouteListFiltered(family, &netlink.Route{Table: unix.RT_TABLE_UNSPEC}, netlink.RT_FILTER_TABLE)
	})
	if err := orNoFamily(err); err != nil {
		return fmt.Errorf("list routes: %w", err)
	}
	for _, r := range routes {
		if r.Family == family {
			d.routes = append(d.routes, r)
		}
	}
	rules, err := listRules(h, family)
	if err := orNoFamily(err); err != nil {
		return fmt.Errorf("list rules: %w", err)
	}
	for _, r := range rules {
		r.Family = family
		d.rules = append(d.rules, r)
	}
	neighbors, err := whole(func() ([]netlink.Neigh, error) { return h.NeighList(0, family) })
	if err := orNoFamily(err); err != nil {
		return fmt.Errorf("list neighbours: %w", err)
	}
	for _, n := range neighbors {
		if n.Family == family {
			d.neighbors = append(d.neighbors, n)
		}
	}
	return nil
}

// orNoFamily takes a missing family for one with nothing in it.
func orNoFamily(err error) error {
	if errors.Is(err, unix.EAFNOSUPPORT) || errors.Is(err, unix.EOPNOTSUPP) {
		return nil
	}
	return err
}

// whole asks again when something changed while the answer was given.
func whole[T any](ask func() ([]T, error)) ([]T, error) {
	const tries = 20
	for i := 1; ; i++ {
		list, err := ask()
		if !errors.Is(err, netlink.ErrDumpInterrupted) || i == tries {
			return list, err
		}
	}
}

// Way implements Kernel by asking for the route.
func (netlinkKernel) Way(src, dst netip.Addr) (int, error) {
	h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return 0, fmt.Errorf("ask rtnetlink: %w", err)
	}
	defer h.Close()
	routes, err := h.RouteGetWithOptions(dst.AsSlice(), &netlink.RouteGetOptions{SrcAddr: src.AsSlice()})
	if errors.Is(err, unix.ENETUNREACH) || errors.Is(err, unix.EHOSTUNREACH) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("ask rtnetlink for the route from %v to %v: %w", src, dst, err)
	}
	for _, r := range routes {
		if r.LinkIndex != 0 {
			return r.LinkIndex, nil
		}
	}
	return 0, nil
}
