package program

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	interfaces "go.fd.io/govpp/binapi/interface"
	"go.fd.io/govpp/binapi/interface_types"
	"go.fd.io/govpp/binapi/ip"
	"go.fd.io/govpp/binapi/ip_types"

	"github.com/millrace/millrace/dataplane"
	"github.com/millrace/millrace/vpp"
)

// An uplink NAME of the manager (package vppmanager/uplink) has beside it a loopback
// NAME/own with the host's addresses and, unless it is shared, the link NAME/host. What is attached to it are routes of the plain API
// source in its table. Whether it is shared stands in its settings.
const ownSuffix, hostSuffix = "/own", "/host"

// uplinkPort is an uplink and what the machine calls it.
type uplinkPort struct {
	dataplane.Uplink
	index uint32
	table uint32
	host  uint32 // its link to the host, if it has one
}

// foreign are the manager's interfaces that objects may name.
func (p *Program) foreign() map[string]uint32 {
	all := map[string]uint32{}
	for name, u := range p.uplinks {
		all[name] = u.index
		if u.HostLink {
			all[u.HostInterface()] = u.host
		}
	}
	return all
}

// Uplinks are those that the machine had at the last Observe, in order of their names.
func (p *Program) Uplinks() []dataplane.Uplink {
	var list []dataplane.Uplink
	for _, name := range slices.Sorted(maps.Keys(p.uplinks)) {
		list = append(list, p.uplinks[name].Uplink)
	}
	return list
}

// observeUplinks finds the manager's uplinks by their tags. What it makes of the machine
// are no objects.
func (p *Program) observeUplinks(ctx context.Context, _ *dataplane.State) error {
	p.uplinks = map[string]uplinkPort{}
	if p.id.Uplinks == "" {
		return nil
	}
	sites := map[string]*interfaces.SwInterfaceDetails{}
	settings := map[string]string{}
	all := &interfaces.SwInterfaceDump{SwIfIndex: interface_types.InterfaceIndex(none)}
	for d, err := range vpp.Dump[interfaces.SwInterfaceDetails](ctx, p.conn, all) {
		if err != nil {
			return err
		}
		if tag, is := strings.CutPrefix(d.Tag, p.id.Uplinks); is {
			name, rest, _ := strings.Cut(tag, settingsMark)
			sites[name], settings[name] = d, rest
		}
	}
	for name, d := range sites {
		own, ok := sites[name+ownSuffix]
		if !ok {
			continue
		}
		u := uplinkPort{Uplink: dataplane.Uplink{Name: name}, index: uint32(d.SwIfIndex)}
		if len(d.Mtu) > 0 {
			u.MTU = d.Mtu[0]
		}
		if nic, ok := parseNICSettings(settings[name]); ok {
			u.Whole = nic.Driver == dataplane.NICAFPacket
			if nic.Share {
				u.Mode, u.Link = dataplane.UplinkShare, nic.Port
			}
		}
		if err := p.uplinkAddresses(ctx, &u, own.SwIfIndex); err != nil {
			return fmt.Errorf("uplink %s: %w", name, err)
		}
		if host, ok := sites[name+hostSuffix]; ok {
			u.HostLink, u.host = true, uint32(host.SwIfIndex)
		}
		p.uplinks[u.Interface()] = u
	}
	return nil
}

// uplinkAddresses asks for the addresses of the loopback and for what is attached.
func (p *Program) uplinkAddresses(ctx context.Context, u *uplinkPort, own interface_types.InterfaceIndex) error {
	for _, is6 := range []bool{false, true} {
		for d, err := range vpp.Dump[ip.IPAddressDetails](ctx, p.conn, &ip.IPAddressDump{SwIfIndex: own, IsIPv6: is6}) {
			if err != nil {
				return err
			}
			u.Addresses = append(u.Addresses, prefixOf(ip_types.Prefix(d.Prefix)).Addr())
		}
		table, err := vpp.Call[interfaces.SwInterfaceGetTableReply](ctx, p.conn, &interfaces.SwInterfaceGetTable{
			SwIfIndex: interface_types.InterfaceIndex(u.index), IsIPv6: is6,
		})
		if err != nil {
			return err
		}
		u.table = table.VrfID
		req := &ip.IPRouteV2Dump{Table: ip.IPTable{TableID: table.VrfID, IsIP6: is6}, Src: p.plain}
		for d, err := range vpp.Dump[ip.IPRouteV2Details](ctx, p.conn, req) {
			if err != nil {
				return err
			}
			if r := d.Route; attachedTo(r, u.index) {
				u.Subnets = append(u.Subnets, prefixOf(r.Prefix).Masked())
			}
		}
	}
	slices.SortFunc(u.Addresses, netip.Addr.Compare)
	slices.SortFunc(u.Subnets, netip.Prefix.Compare)
	return nil
}

// attachedTo says whether a route makes neighbours of what is behind an interface.
func attachedTo(r ip.IPRouteV2, index uint32) bool {
	if len(r.Paths) != 1 || r.Paths[0].SwIfIndex != index || prefixOf(r.Prefix).IsSingleIP() {
		return false
	}
	return r.Paths[0].Nh.Address == ip_types.AddressUnion{}
}

// isUplink says whether an interface that opened is an uplink, or belongs to one: all that
// the manager makes stands by then.
func (p *Program) isUplink(ctx context.Context, index interface_types.InterfaceIndex) (bool, error) {
	found := false
	for d, err := range vpp.Dump[interfaces.SwInterfaceDetails](ctx, p.conn, &interfaces.SwInterfaceDump{SwIfIndex: index}) {
		if err != nil {
			return false, fmt.Errorf("look at interface %d: %w", index, err)
		}
		if d.SwIfIndex == index && p.id.Uplinks != "" && strings.HasPrefix(d.Tag, p.id.Uplinks) {
			found = true
		}
	}
	return found, nil
}

// uplinkGone takes our routes through a deleted uplink away: VPP leaves their paths dropping
// for good, also when there is an interface of that number again.
func (p *Program) uplinkGone(ctx context.Context, name string) error {
	gone := p.uplinks[name].index
	delete(p.uplinks, name)
	b := newBatch(1)
	for _, is6 := range []bool{false, true} {
		req := &ip.IPRouteV2Dump{Table: ip.IPTable{IsIP6: is6}, Src: p.source}
		for d, err := range vpp.Dump[ip.IPRouteV2Details](ctx, p.conn, req) {
			if err != nil {
				return fmt.Errorf("find routes of lost %s: %w", name, err)
			}
			for _, path := range d.Route.Paths {
				if path.SwIfIndex == gone {
					b.add(0, vpp.Exchange{
						Request: &ip.IPRouteAddDelV2{Route: ip.IPRouteV2{Prefix: d.Route.Prefix, Src: p.source}},
						Reply:   &ip.IPRouteAddDelV2Reply{},
					}, nil)
					break
				}
			}
		}
	}
	b.run(ctx, p.conn)
	if b.errs[0] != nil {
		return fmt.Errorf("delete routes of lost %s: %w", name, b.errs[0])
	}
	return nil
}
