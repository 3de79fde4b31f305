package uplink

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/millrace/millrace/dataplane"
	"github.com/millrace/millrace/internal/nodeconfig"
	"github.com/millrace/millrace/vppmanager/startup"
)

const (
	// dressMetric is better than that of any route the kernel makes itself (256).
	dressMetric = 1
	// dressProtocol marks the routes that are ours, as agent/program does its own.
	dressProtocol netlink.RouteProtocol = 109
)

// readyLinks sets the kernel's links up that the dataplane reads, and keeps the kernel's own
// IPv6 off them: it would speak there in its own name.
func readyLinks(uplinks []startup.Uplink) (errs []error) {
	for _, name := range kernelLinks(uplinks) {
		if err := readyLink(name); err != nil {
			errs = append(errs, fmt.Errorf("ready uplink %s: %w", name, err))
		}
	}
	return errs
}

func readyLink(name string) error {
	dev, err := netlink.LinkByName(name)
	if err != nil {
		return err
	}
	err = os.WriteFile("/proc/sys/net/ipv6/conf/"+name+"/disable_ipv6", []byte("1"), 0o644)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("switch IPv6 off: %w", err)
	}
	return netlink.LinkSetUp(dev)
}

// Dress sets the host's links up and gives them what IPv6 needs there, where nobody answers
// for neighbours: a route to each subnet of the uplink through the dataplane, better than
// the kernel's, and permanent entries for the gateways. It comes after the host's own
// settings: the kernel takes no route through a gateway that is behind another. And it is to
// be repeated after each Wire: a dataplane that takes a tap over sets its address, at which
// the kernel forgets all neighbours. A link that IPv6 is switched off on gets none of that.
//
// A veth towards an uplink that takes no packets of 64 kB is to send none: of what a packet
// socket reads, VPP 25.10 cannot cut those of IPv4 (vnet/gso/gso.h takes them for IPv6 unless
// the header's checksum is left to it, and plugins/af_packet does not).
func Dress(uplinks []startup.Uplink) error {
	var errs []error
	for _, u := range uplinks {
		w := wiring{}
		if err := w.addUplink(u); err != nil {
			return fmt.Errorf("uplink %s: %w", u.Name, err)
		}
		for i := range w.sites {
			if s := &w.sites[i]; s.link != "" {
				if err := s.dress(takesWhole(u)); err != nil {
					errs = append(errs, fmt.Errorf("dress host link %s: %w", s.link, err))
				}
			}
		}
	}
	return errors.Join(errs...)
}

// takesWhole says whether an uplink takes packets that are larger than its MTU, and has them
// cut by the kernel.
func takesWhole(u startup.Uplink) bool {
	return u.Driver == nodeconfig.DriverAFPacket && u.Bond == nil
}

func (s *site) dress(whole bool) error {
	dev, err := netlink.LinkByName(s.link)
	if err != nil {
		return err
	}
	if dev.Type() == "veth" && !whole {
		if err := netlink.LinkSetGSOMaxSegs(dev, 1); err != nil {
			return fmt.Errorf("have the kernel cut what it sends: %w", err)
		}
	}
	if err := netlink.LinkSetUp(dev); err != nil {
		return fmt.Errorf("set it up: %w", err)
	}
	off, err := os.ReadFile("/proc/sys/net/ipv6/conf/" + s.link + "/disable_ipv6")
	if errors.Is(err, os.ErrNotExist) || err == nil && off[0] != '0' {
		return nil
	}
	if err != nil {
		return err
	}
	peer := HostPeer(s.mac)
	for _, p := range s.attached() {
		if p.Addr().Is4() {
			continue
		}
		r := &netlink.Route{
			LinkIndex: dev.Attrs().Index, Dst: &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), 128)},
			Gw: linkLocal(peer).AsSlice(), Priority: dressMetric, Protocol: dressProtocol, Table: unix.RT_TABLE_MAIN,
		}
		r.SetFlag(netlink.FLAG_ONLINK)
		if err := netlink.RouteReplace(r); err != nil {
			return fmt.Errorf("route to %s: %w", p, err)
		}
	}
	for _, a := range append(s.gateways6(), linkLocal(peer)) {
		n := &netlink.Neigh{LinkIndex: dev.Attrs().Index, State: netlink.NUD_PERMANENT, IP: a.AsSlice(), HardwareAddr: peer[:]}
		if err := netlink.NeighSet(n); err != nil {
			return fmt.Errorf("neighbour %s: %w", a, err)
		}
	}
	return nil
}

// gateways6 are the IPv6 next hops of the host's routes.
func (s *site) gateways6() (list []netip.Addr) {
	for _, r := range s.routes {
		if r.via.Is6() && !slices.Contains(list, r.via) {
			list = append(list, r.via)
		}
	}
	return list
}

// linkLocal is what a machine calls itself by its MAC address (RFC 4291, appendix A).
func linkLocal(m dataplane.MAC) netip.Addr {
	return netip.AddrFrom16([16]byte{0: 0xfe, 1: 0x80, 8: m[0] ^ 2, 9: m[1], 10: m[2], 11: 0xff, 12: 0xfe, 13: m[3], 14: m[4], 15: m[5]})
}
