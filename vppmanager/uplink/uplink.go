// Package uplink owns how the node itself hangs on the dataplane: what is made there of the
// manager's uplinks, so that the host keeps its addresses, its connections and its way out,
// whether an agent runs or not.
//
// It never decides what an uplink is (package startup does), never moves the host's
// addresses and routes (package change does), and never touches what is the agent's.
//
// # How a packet finds its way
//
// An uplink U has two routing tables of its own, "wire" for what comes in by U and "host"
// for what comes in by the link to the host, T. Beside them table 0 is everybody's.
//
//	wire:   a host address    lookup in host
//	        a subnet of U     out of U
//	        a broadcast       out of T
//	        all else          lookup in table 0: pods, other uplinks
//	host:   a host address    out of T, to the host's MAC address
//	        a broadcast       out of U
//	        all else          lookup in table 0
//	0:      a subnet of U     lookup in wire
//	        the host's routes out of U, by their gateways
//	        pods              the agent's
//
// So every packet for the host reaches it, of any protocol, and the host's own go where it
// would have sent them. With several uplinks the host table of one also has what the host
// sends there though table 0 knows another way.
//
// VPP 25.10 shaped it, where it was tried:
//   - A host address lies on a loopback that U borrows from, as a /32 or /128. On U with its
//     subnet VPP answers ARP for it, but as soon as a better route takes its packets to the
//     host, VPP asks for neighbours in the name of the subnet's first address.
//   - That better route has to end with a lookup. One that names T makes VPP take ARP
//     requests on U for those of another link, and drop them.
//   - Table 0 looks subnets up in wire for the same reason: a subnet that is only attached
//     has no address to ask from.
//   - A subnet in wire is a route of the plain API source: below those of others VPP does
//     not put neighbours into the FIB.
//   - ARP from the host on T is answered by proxy, and only if the host's address counts as
//     attached there: its static neighbour entry has a route.
//   - There is no proxy for IPv6 neighbours that are not listed one by one. So the host gets
//     routes to the uplink's subnets through T's link-local address, better than the
//     kernel's own, and permanent entries for its gateways (see Dress).
//   - VPP advertises itself as a router only when it is told to.
//
// # A shared uplink
//
// It is on a NIC that stays the kernel's, with its MAC address. What comes in by it was
// steered there (package internal/steer), so it has the table wire and the loopback with the
// host's addresses, from which the dataplane speaks to the network: as a tunnel's end, and in
// ICMP errors. Neighbours are the kernel's, and the agent brings those that are needed: an
// ARP request of the dataplane's own gets its answer in the kernel. What comes in for a host
// address, as answers do whose destination a service's translation gives back, goes on by table
// 0, where the agent has the host's way. Table 0 knows nothing of it: what is not for another
// node's pods leaves by the host. There is no host link, and nothing is muted, dressed or moved.
//
// # What does not reach the host
//
// Frames that are no IP: LLDP, spanning tree, PTP over Ethernet. VPP's linux-cp plugin could
// hand them on (lcp_ethertype), but only beside taps that it makes itself; it is not used.
// Multicast of both families, and with it VRRP, OSPF, mDNS, IGMP and DHCPv6. Router
// advertisements: VPP would tell of them (want_ip6_ra_events), but without the
// MTU, routes and name servers in them, and nothing listens yet. The host keeps the IPv6
// addresses and routes that it had; those with a lifetime end with it. IPv6 link-local
// addresses of the host are the dataplane's on the wire.
//
// Packets lose one hop on their way, so that a session that insists on TTL 1 or 255, such as
// BGP to a direct neighbour, has to allow for one more; the hop itself shows in a
// traceroute by IPv4 only, since VPP has no IPv6 address on T to speak from. An IPv4 offer of
// DHCP for an address that the host did not have at the start arrives when it is a
// broadcast, and an address that the host takes later is answered for after the next Wire. A
// bond of links that stay with the kernel does not notice a lost carrier: VPP's packet
// sockets do not tell it.
package uplink

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/millrace/millrace/dataplane"
	"github.com/millrace/millrace/vppmanager/startup"
)

// The tables of the uplinks, counted from 0; VLANs count as uplinks of their own. The agent
// uses no numbers there.
const (
	firstWire = 1000
	firstHost = 2000
	most      = firstHost - firstWire
)

// local is what the dataplane calls itself to the host, in errors such as "time exceeded".
var local = netip.MustParsePrefix("169.254.0.1/32")

// Options are what the machine can do.
type Options struct {
	Tap bool // the host's link is a tap, else a veth that the machine reads with a packet socket
}

// State is what the dataplane shall have for these uplinks. An error names the uplink that
// cannot be.
func State(uplinks []startup.Uplink, o Options) (dataplane.State, error) {
	w := wiring{options: o}
	for _, u := range uplinks {
		if err := w.addUplink(u); err != nil {
			return dataplane.State{}, fmt.Errorf("uplink %s: %w", u.Name, err)
		}
	}
	if len(w.sites) > most {
		return dataplane.State{}, fmt.Errorf("%d uplinks: there are tables for %d", len(w.sites), most)
	}
	w.number()
	for i := range w.sites {
		w.wire(&w.sites[i])
	}
	w.common()
	s, err := dataplane.NewState(w.objects...)
	if err != nil {
		return dataplane.State{}, fmt.Errorf("wire uplinks: %w", err)
	}
	return s, nil
}

// wiring gathers objects.
type wiring struct {
	options Options
	sites   []site
	objects []dataplane.Object
}

// site is an uplink or a VLAN on one: what has addresses, and a host link unless the host
// gave it up.
type site struct {
	name       string
	link       string // the host's; "" = none
	shared     bool   // with the kernel, which has the way out
	mac        dataplane.MAC
	mtu        uint32
	addresses  []netip.Prefix // one a family and address
	subnets    []netip.Prefix // of addresses, those with more than one address
	routes     []route
	wire, host uint32 // tables
}

func (w *wiring) put(o ...dataplane.Object) { w.objects = append(w.objects, o...) }

// addUplink makes the interfaces of an uplink, and notes its sites.
func (w *wiring) addUplink(u startup.Uplink) error {
	mac, err := macOf(u)
	if err != nil {
		return err
	}
	device, err := w.device(u, mac)
	if err != nil {
		return err
	}
	base := newSite(u.Name, u.Host, mac, u.MTU, u.Addresses, u.Routes)
	base.shared = u.Share
	w.sites = append(w.sites, base)
	w.put(dataplane.Interface{Name: u.Name, Device: device, MTU: base.mtu})
	for _, v := range u.VLANs {
		s := newSite(fmt.Sprintf("%s.%d", u.Name, v.ID), v.Host, mac, v.MTU, v.Addresses, v.Routes)
		w.sites = append(w.sites, s)
		w.put(dataplane.Interface{Name: s.name, Device: dataplane.VLAN{Parent: u.Name, ID: uint16(v.ID)}, MTU: s.mtu})
	}
	return nil
}

// macOf is the uplink's MAC address. A device that the kernel had no link on has none that
// is known before it runs, and no host link that would need it.
func macOf(u startup.Uplink) (dataplane.MAC, error) {
	if u.MAC == "" && u.Link == "" && u.Host == "" {
		return dataplane.MAC{}, nil
	}
	return dataplane.ParseMAC(u.MAC)
}

func newSite(name, link string, mac dataplane.MAC, mtu int, addresses []netip.Prefix, routes []inventoryRoute) site {
	s := site{name: name, link: link, mac: mac, mtu: uint32(mtu)}
	if mtu == 0 {
		s.mtu = 1500
	}
	for _, p := range slices.SortedFunc(slices.Values(addresses), netip.Prefix.Compare) {
		if p.Addr().IsLinkLocalUnicast() && p.Addr().Is6() {
			continue
		}
		if whole := netip.PrefixFrom(p.Addr(), p.Addr().BitLen()); !slices.Contains(s.addresses, whole) {
			s.addresses = append(s.addresses, whole)
		}
		if net := p.Masked(); !net.IsSingleIP() && !slices.Contains(s.subnets, net) {
			s.subnets = append(s.subnets, net)
		}
	}
	s.routes = routesOf(routes)
	return s
}

// number gives each site its tables, and its interfaces theirs.
func (w *wiring) number() {
	tables := map[string]uint32{}
	for i := range w.sites {
		s := &w.sites[i]
		s.wire, s.host = uint32(firstWire+i), uint32(firstHost+i)
		tables[s.name] = s.wire
	}
	for i, o := range w.objects {
		if face, ok := o.(dataplane.Interface); ok {
			face.Table = tables[face.Name]
			w.objects[i] = face
		}
	}
}
