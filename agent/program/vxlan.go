package program

import (
	"context"
	"errors"
	"net/netip"

	"go.fd.io/govpp/api"
	"go.fd.io/govpp/binapi/feature"
	"go.fd.io/govpp/binapi/interface_types"
	"go.fd.io/govpp/binapi/vlib"
	"go.fd.io/govpp/binapi/vxlan"

	"github.com/millrace/millrace/dataplane"
	"github.com/millrace/millrace/vpp"
)

// VPP tells tunnels by both ends, the port, the VNI and the table of the outer packets. That
// is the uplink's: packets that come in are looked for by the table of where they do.
type tunnelKey struct {
	src, dst netip.Addr
	port     uint16
	vni      uint32
	table    uint32
}

// lackForTunnels is why no tunnel can be made or looked at.
func (p *Program) lackForTunnels() []string {
	return p.conn.Supports(
		&vxlan.VxlanAddDelTunnelV3{}, &vxlan.VxlanAddDelTunnelV3Reply{}, &vxlan.VxlanTunnelV2Dump{}, &vxlan.VxlanTunnelV2Details{},
		&vxlan.SwInterfaceSetVxlanBypass{}, &vxlan.SwInterfaceSetVxlanBypassReply{}, &vlib.AddNodeNext{}, &vlib.AddNodeNextReply{},
		&feature.FeatureIsEnabled{}, &feature.FeatureIsEnabledReply{},
	)
}

// findDecap asks for the numbers by which a tunnel's packets go on as Ethernet frames: by
// themselves VPP would bridge them.
func (p *Program) findDecap(ctx context.Context) error {
	for i, node := range []string{"vxlan4-input", "vxlan6-input"} {
		r, err := vpp.Call[vlib.AddNodeNextReply](ctx, p.conn, &vlib.AddNodeNext{NodeName: node, NextName: "ethernet-input"})
		if err != nil {
			return err
		}
		p.decap[i] = r.NextIndex
	}
	return nil
}

func (p *Program) decapOf(a netip.Addr) uint32 {
	if a.Is6() {
		return p.decap[1]
	}
	return p.decap[0]
}

// observeTunnels also notes tunnels that have no mark at all: an attempt of ours may have
// ended before it set one.
func (p *Program) observeTunnels(ctx context.Context, seen *observed) error {
	p.bare = map[tunnelKey]uint32{}
	if len(p.lackForTunnels()) > 0 {
		return nil
	}
	if err := p.findDecap(ctx); err != nil {
		return err
	}
	all := &vxlan.VxlanTunnelV2Dump{SwIfIndex: interface_types.InterfaceIndex(none)}
	for d, err := range vpp.Dump[vxlan.VxlanTunnelV2Details](ctx, p.conn, all) {
		if err != nil {
			return err
		}
		index := uint32(d.SwIfIndex)
		k := tunnelKey{addrOf(d.SrcAddress), addrOf(d.DstAddress), d.SrcPort, d.Vni, d.EncapVrfID}
		name, ours := seen.names[index]
		if !ours {
			if other := seen.all[index]; other != nil && other.Tag == "" {
				p.bare[k] = index
			}
			continue
		}
		port := p.ports[name]
		port.driver, port.tunnel = driverVXLAN, k
		p.ports[name] = port
		if d.SrcPort == d.DstPort && d.DecapNextIndex == p.decapOf(k.src) { // else it is made anew
			seen.devices[name] = dataplane.VXLAN{
				Src: k.src, Dst: k.dst, Port: k.port, VNI: k.vni, MAC: dataplane.MAC(seen.details[name].L2Address), Uplink: p.uplinkOf(k.table),
			}
		}
	}
	return nil
}

// uplinkOf names the uplink of a table, or none.
func (p *Program) uplinkOf(table uint32) string {
	for name, u := range p.uplinks {
		if u.table == table {
			return name
		}
	}
	return ""
}

func (p *Program) tunnelKeyOf(d dataplane.VXLAN) (tunnelKey, error) {
	if missing := p.lackForTunnels(); len(missing) > 0 {
		return tunnelKey{}, errors.New("the dataplane lacks " + missing[0] + ": it needs the vxlan plugin")
	}
	u, ok := p.uplinks[d.Uplink]
	if !ok {
		return tunnelKey{}, errors.New("there is no " + d.Uplink)
	}
	return tunnelKey{d.Src, d.Dst, d.Port, d.VNI, u.table}, nil
}

func (k tunnelKey) exchange(add bool, decap uint32) vpp.Exchange {
	return vpp.Exchange{
		Request: &vxlan.VxlanAddDelTunnelV3{
			IsAdd: add, Instance: none, SrcAddress: wireAddr(k.src), DstAddress: wireAddr(k.dst), SrcPort: k.port, DstPort: k.port,
			McastSwIfIndex: interface_types.InterfaceIndex(none), EncapVrfID: k.table, DecapNextIndex: decap, Vni: k.vni,
		},
		Reply: &vxlan.VxlanAddDelTunnelV3Reply{},
	}
}

func (p *Program) tunnelExchange(d dataplane.VXLAN) (vpp.Exchange, error) {
	k, err := p.tunnelKeyOf(d)
	return k.exchange(true, p.decapOf(d.Src)), err
}

// createdTunnel takes over what an attempt left that ended early.
func (p *Program) createdTunnel(d dataplane.VXLAN, e vpp.Exchange) (port, bool) {
	k, err := p.tunnelKeyOf(d)
	r, ok := e.Reply.(*vxlan.VxlanAddDelTunnelV3Reply)
	if err != nil || !ok {
		return port{}, false
	}
	made := port{index: uint32(r.SwIfIndex), driver: driverVXLAN, tunnel: k}
	if errors.Is(e.Err, api.TUNNEL_EXIST) {
		made.index, ok = p.bare[k]
		return made, ok
	}
	return made, e.Err == nil
}

// bypassFeature is VPP's name of a TunnelBypass.
func bypassFeature(f dataplane.Family) (arc, name string) {
	if f == dataplane.IPv6 {
		return "ip6-unicast", "ip6-vxlan-bypass"
	}
	return "ip4-unicast", "ip4-vxlan-bypass"
}

func (p *Program) observeBypasses(ctx context.Context, s *dataplane.State) error {
	if len(p.lackForTunnels()) > 0 {
		return nil
	}
	for name, u := range p.uplinks {
		for _, f := range []dataplane.Family{dataplane.IPv4, dataplane.IPv6} {
			arc, feat := bypassFeature(f)
			r, err := vpp.Call[feature.FeatureIsEnabledReply](ctx, p.conn, &feature.FeatureIsEnabled{
				ArcName: arc, FeatureName: feat, SwIfIndex: interface_types.InterfaceIndex(u.index),
			})
			if err != nil {
				return err
			}
			if r.IsEnabled {
				s.Put(dataplane.TunnelBypass{Uplink: name, Family: f})
			}
		}
	}
	return nil
}

// setBypasses: VPP keeps the mode of a deleted interface for the next one of its index and
// takes the same mode for no change, so that off comes first.
func (p *Program) setBypasses(ctx context.Context, steps []dataplane.Step) []error {
	b := newBatch(len(steps))
	for i, step := range steps {
		o := step.Object.(dataplane.TunnelBypass)
		index, err := p.index(o.Uplink)
		if err != nil && step.Verb == dataplane.Delete {
			continue // it went with the uplink
		}
		for _, on := range []bool{false, true} {
			if !on || step.Verb != dataplane.Delete {
				b.add(i, vpp.Exchange{
					Request: &vxlan.SwInterfaceSetVxlanBypass{SwIfIndex: interface_types.InterfaceIndex(index), IsIPv6: o.Family == dataplane.IPv6, Enable: on},
					Reply:   &vxlan.SwInterfaceSetVxlanBypassReply{},
				}, err)
			}
		}
	}
	b.run(ctx, p.conn)
	return b.errs
}
