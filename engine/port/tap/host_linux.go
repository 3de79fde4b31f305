package tap

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// setUpHost sets the host's end up as c says and notes what came of it. Each step takes
// a state that is already there as done, so that attaching twice works.
func (p *Port) setUpHost(c *Config, name string) error {
	h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("open netlink: %w", err)
	}
	defer h.Close()
	link, err := h.LinkByName(name)
	if err != nil {
		return fmt.Errorf("find it: %w", err)
	}
	if err := setLink(h, link, c); err != nil {
		return err
	}
	if err := setAddresses(h, link, c); err != nil {
		return err
	}
	if err := h.LinkSetUp(link); err != nil {
		return fmt.Errorf("set up: %w", err)
	}
	if err := setGateways(h, link, c); err != nil {
		return err
	}
	if link, err = h.LinkByIndex(link.Attrs().Index); err != nil {
		return fmt.Errorf("read back: %w", err)
	}
	a := link.Attrs()
	p.host.IfName, p.host.IfIndex, p.host.MTU = a.Name, a.Index, a.MTU
	if c.Flags&TUN == 0 {
		p.host.HardwareAddr = a.HardwareAddr
	}
	return nil
}

func setLink(h *netlink.Handle, link netlink.Link, c *Config) error {
	if c.Flags&TUN == 0 && c.HostHardwareAddr != nil {
		if err := h.LinkSetHardwareAddr(link, c.HostHardwareAddr); err != nil {
			return fmt.Errorf("set hardware address %v: %w", c.HostHardwareAddr, err)
		}
	}
	if c.HostMTU != 0 {
		if err := h.LinkSetMTU(link, c.HostMTU); err != nil {
			return fmt.Errorf("set MTU %d: %w", c.HostMTU, err)
		}
	}
	if c.HostBridge == "" {
		return nil
	}
	bridge, err := h.LinkByName(c.HostBridge)
	if err != nil {
		return fmt.Errorf("find bridge %s: %w", c.HostBridge, err)
	}
	if err := h.LinkSetMaster(link, bridge); err != nil {
		return fmt.Errorf("join bridge %s: %w", c.HostBridge, err)
	}
	return nil
}

func setAddresses(h *netlink.Handle, link netlink.Link, c *Config) error {
	if c.HostPrefix4.IsValid() {
		if err := h.AddrReplace(link, &netlink.Addr{IPNet: ipNet(c.HostPrefix4)}); err != nil {
			return fmt.Errorf("add address %v: %w", c.HostPrefix4, err)
		}
	}
	if !c.HostPrefix6.IsValid() {
		return nil
	}
	// The address shall be usable when we return: no duplicate address detection on it,
	// nor on the link-local one that the kernel adds. We are the only neighbour.
	if err := setIPv6(link.Attrs().Name, "disable_ipv6", "0"); err != nil {
		return err
	}
	if err := setIPv6(link.Attrs().Name, "accept_dad", "0"); err != nil {
		return err
	}
	if err := h.AddrReplace(link, &netlink.Addr{IPNet: ipNet(c.HostPrefix6), Flags: unix.IFA_F_NODAD}); err != nil {
		return fmt.Errorf("add address %v: %w", c.HostPrefix6, err)
	}
	return nil
}

// setIPv6 writes a setting of the interface in the namespace of this thread. Where
// /proc/sys is read-only (containers) the default has to do; where IPv6 is absent,
// adding the address will say so.
func setIPv6(ifName, setting, value string) error {
	path := filepath.Join("/proc/sys/net/ipv6/conf", ifName, setting)
	now, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) || err == nil && strings.TrimSpace(string(now)) == value {
		return nil
	}
	if err == nil {
		err = os.WriteFile(path, []byte(value), 0)
	}
	if err != nil && !errors.Is(err, unix.EROFS) && !errors.Is(err, os.ErrPermission) {
		return fmt.Errorf("set %s: %w", setting, err)
	}
	return nil
}

func setGateways(h *netlink.Handle, link netlink.Link, c *Config) error {
	for _, gw := range []netip.Addr{c.HostGateway4, c.HostGateway6} {
		if !gw.IsValid() {
			continue
		}
		all := &net.IPNet{IP: make(net.IP, gw.BitLen()/8), Mask: net.CIDRMask(0, gw.BitLen())}
		r := &netlink.Route{LinkIndex: link.Attrs().Index, Dst: all, Gw: gw.AsSlice()}
		if err := h.RouteReplace(r); err != nil {
			return fmt.Errorf("add default route by %v (it must be on a prefix of the interface): %w", gw, err)
		}
	}
	return nil
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}
