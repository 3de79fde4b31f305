package uplink

import (
	"encoding/binary"
	"maps"
	"net/netip"
	"slices"

	"github.com/millrace/millrace/dataplane"
	"github.com/millrace/millrace/vppmanager/inventory"
)

type inventoryRoute = inventory.Route

// route is what is of use of a kernel's route.
type route struct {
	dst    netip.Prefix
	via    netip.Addr // may be absent: the neighbours themselves
	metric int
	main   bool // of the kernel's main table, else of one that rules lead to
}

// onLink says that it makes everything a neighbour: an uplink that is a link to one router.
func (r route) onLink() bool { return !r.via.IsValid() && r.dst.Bits() == 0 }

const mainTable = 254

// routesOf leaves out what the dataplane cannot carry: multicast and link-local.
func routesOf(list []inventory.Route) (out []route) {
	for _, r := range list {
		a := r.Dst.Addr()
		if !r.Dst.IsValid() || a.IsMulticast() || a.IsLinkLocalUnicast() && a.Is6() {
			continue
		}
		via := r.Via
		if via.IsValid() && dataplane.FamilyOf(via) != dataplane.FamilyOf(a) {
			continue // VPP has no IPv4 through IPv6 neighbours by this road
		}
		out = append(out, route{r.Dst.Masked(), via.WithZone(""), r.Metric, r.Table == 0 || r.Table == mainTable})
	}
	return out
}

// whole is an address as a prefix.
func whole(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, a.BitLen()) }

func lookup(table uint32) []dataplane.Path {
	return []dataplane.Path{{End: dataplane.EndLookup, Table: table}}
}

var (
	everywhere = []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0")}
	broadcast  = netip.MustParseAddr("255.255.255.255")
	allOnes    = dataplane.MAC{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
)

// wire makes what hangs on one site.
func (w *wiring) wire(s *site) {
	own := s.name + "/own"
	w.table(s.wire, s.name+" wire")
	w.put(
		dataplane.Interface{Name: own, Device: dataplane.Loopback{}, MTU: s.mtu, Table: s.wire},
		dataplane.Unnumbered{Interface: s.name, Lender: own},
		dataplane.Up{Interface: s.name}, dataplane.Up{Interface: own},
	)
	for _, p := range s.addresses {
		w.put(dataplane.Address{Interface: own, Prefix: p})
	}
	for _, p := range s.attached() {
		w.put(dataplane.Route{Table: s.wire, Prefix: p, Paths: []dataplane.Path{{Interface: s.name}}})
	}
	for _, p := range everywhere {
		w.put(dataplane.Route{Table: s.wire, Prefix: p, Paths: lookup(0)})
	}
	if s.link != "" {
		w.hostSide(s)
	}
	if s.shared { // what is the host's came by here to be translated: the agent has the way
		for _, p := range s.addresses {
			w.put(dataplane.Route{Table: s.wire, Prefix: p, Paths: lookup(0)})
		}
	}
}

func (w *wiring) table(id uint32, label string) {
	for _, f := range []dataplane.Family{dataplane.IPv4, dataplane.IPv6} {
		w.put(dataplane.Table{Family: f, ID: id, Label: label})
	}
}

// hostSide makes the link to the host, and brings it what is the host's.
func (w *wiring) hostSide(s *site) {
	i := w.hostLink(s)
	w.table(s.host, s.name+" host")
	w.put(i, dataplane.Address{Interface: i.Name, Prefix: local}, dataplane.ProxyARP{Interface: i.Name}, dataplane.Up{Interface: i.Name})
	for _, p := range s.addresses {
		w.put(
			dataplane.Neighbor{Interface: i.Name, Addr: p.Addr(), MAC: s.mac, Attached: true},
			dataplane.Route{Table: s.host, Prefix: p, Paths: []dataplane.Path{{Interface: i.Name}}},
			dataplane.Route{Table: s.wire, Prefix: p, Paths: lookup(s.host)},
		)
	}
	for _, a := range s.broadcasts() {
		for _, way := range []struct {
			table uint32
			out   string
		}{{s.wire, i.Name}, {s.host, s.name}} {
			w.put(
				dataplane.Neighbor{Interface: way.out, Addr: a, MAC: allOnes},
				dataplane.Route{Table: way.table, Prefix: whole(a), Paths: []dataplane.Path{{Interface: way.out}}},
			)
		}
	}
	for _, r := range s.proxied() {
		w.put(dataplane.ProxyRange{Table: s.host, Low: r.low, High: r.high})
	}
}

// attached is what lies on the wire itself: subnets, and what the host reaches there
// without a gateway.
func (s *site) attached() []netip.Prefix {
	list := slices.Clone(s.subnets)
	for _, r := range s.routes {
		if !r.via.IsValid() && !slices.Contains(list, r.dst) && !slices.Contains(s.addresses, r.dst) && r.dst.Bits() > 0 {
			list = append(list, r.dst)
		}
	}
	return list
}

// broadcasts are 255.255.255.255 and those of the subnets.
func (s *site) broadcasts() []netip.Addr {
	list := []netip.Addr{broadcast}
	for _, p := range s.subnets {
		if last := lastOf(p); p.Addr().Is4() && p.Bits() <= 30 && !slices.Contains(s.addresses, whole(last)) && !slices.Contains(list, last) {
			list = append(list, last)
		}
	}
	return list
}

func lastOf(p netip.Prefix) netip.Addr {
	if !p.Addr().Is4() {
		return netip.Addr{}
	}
	a := p.Masked().Addr().As4()
	n := binary.BigEndian.Uint32(a[:]) | uint32(1<<(32-p.Bits())-1)
	return netip.AddrFrom4([4]byte(binary.BigEndian.AppendUint32(nil, n)))
}

// span is a range of IPv4 addresses, both ends in it.
type span struct{ low, high netip.Addr }

// proxied is what the host asks for on its link: what is attached to the wire, and gateways
// elsewhere, but not its own addresses, which it has to be able to check for others.
func (s *site) proxied() []span {
	var list []span
	add := func(low, high netip.Addr) {
		if r := (span{low, high}); !high.Less(low) && !slices.Contains(list, r) {
			list = append(list, r)
		}
	}
	covered := s.attached()
	if slices.ContainsFunc(s.routes, func(r route) bool { return r.onLink() && r.dst == everywhere[0] }) {
		covered = append(covered, everywhere[0])
	}
	for _, p := range covered {
		if !p.Addr().Is4() {
			continue
		}
		low, last := p.Addr(), lastOf(p)
		for _, a := range s.addresses { // rising
			if p.Contains(a.Addr()) {
				add(low, a.Addr().Prev())
				low = a.Addr().Next()
			}
		}
		add(low, last)
	}
	for _, r := range s.routes {
		if r.via.Is4() && !slices.ContainsFunc(covered, func(p netip.Prefix) bool { return p.Contains(r.via) }) {
			add(r.via, r.via)
		}
	}
	return list
}

// common makes what several uplinks share: table 0, by the host's own choice among them,
// and in the table of each host link what the host sends there in spite of it.
func (w *wiring) common() {
	owner := map[netip.Prefix]*site{} // of what is attached
	for i := range w.sites {
		s := &w.sites[i]
		if s.shared {
			continue
		}
		for _, p := range s.attached() {
			if owner[p] == nil {
				owner[p] = s
				w.put(dataplane.Route{Table: 0, Prefix: p, Paths: lookup(s.wire)})
			} else if s.link != "" {
				w.put(dataplane.Route{Table: s.host, Prefix: p, Paths: lookup(s.wire)})
			}
		}
	}
	chosen := w.chosen(owner)
	for _, p := range slices.SortedFunc(maps.Keys(chosen), netip.Prefix.Compare) {
		w.put(dataplane.Route{Table: 0, Prefix: p, Paths: chosen[p].paths})
	}
	for i := range w.sites {
		s := &w.sites[i]
		if s.link != "" {
			w.insist(s, owner, chosen)
		}
	}
}

// insist fills the table of a host link: as table 0 says, but for prefixes that lead out of
// other uplinks there and out of this one here.
func (w *wiring) insist(s *site, owner map[netip.Prefix]*site, chosen map[netip.Prefix]choice) {
	paths := map[netip.Prefix][]dataplane.Path{}
	for _, p := range everywhere {
		paths[p] = lookup(0)
	}
	for p, c := range s.choices() {
		if owner[p] == nil && !slices.Contains(chosen[p].sites, s.name) {
			paths[p] = c.paths
		}
	}
	for _, p := range slices.SortedFunc(maps.Keys(paths), netip.Prefix.Compare) {
		w.put(dataplane.Route{Table: s.host, Prefix: p, Paths: paths[p]})
	}
}

// choice is the best way to a prefix.
type choice struct {
	metric int
	paths  []dataplane.Path
	sites  []string
}

func (c *choice) offer(r route, name string) {
	if c.paths != nil && r.metric > c.metric {
		return
	}
	if c.paths == nil || r.metric < c.metric {
		*c = choice{metric: r.metric}
	}
	if path := (dataplane.Path{Interface: name, Via: r.via}); !slices.Contains(c.paths, path) {
		c.paths, c.sites = append(c.paths, path), append(c.sites, name)
	}
}

// chosen are the routes of the main table, each by its lowest metric.
func (w *wiring) chosen(attached map[netip.Prefix]*site) map[netip.Prefix]choice {
	all := map[netip.Prefix]choice{}
	for i := range w.sites {
		s := &w.sites[i]
		for _, r := range s.routes {
			if r.main && (r.via.IsValid() || r.onLink()) && attached[r.dst] == nil {
				c := all[r.dst]
				c.offer(r, s.name)
				all[r.dst] = c
			}
		}
	}
	return all
}

// choices are a site's own.
func (s *site) choices() map[netip.Prefix]choice {
	all := map[netip.Prefix]choice{}
	for _, r := range s.routes {
		if r.via.IsValid() || r.onLink() {
			c := all[r.dst]
			c.offer(r, s.name)
			all[r.dst] = c
		}
	}
	return all
}
