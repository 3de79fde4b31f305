package vnet

import (
	"net/netip"
	"slices"

	"go.fd.io/govpp/api"

	"github.com/millrace/millrace/engine/packet"
	"github.com/millrace/millrace/engine/port"
	"github.com/millrace/millrace/engine/worker"
)

// vxlanPort is the port of a tunnel that names none (RFC 7348).
const vxlanPort = 4789

// VXLAN is a tunnel to one other end. Its packets have an Ethernet header, or none if L3.
type VXLAN struct {
	Index            uint32 // of its interface
	Src, Dst         netip.Addr
	SrcPort, DstPort uint16 // ours and the other end's; 0 = 4789
	Table            uint32 // of the outer packets
	VNI              uint32 // 24 bits; what is above does not count
	Decap            worker.Decap
	L3               bool
	Multicast        uint32 // an interface, as the client gave it; of no use here
}

// tunnels are all of them, and the ports that any of them has or had.
type tunnels struct {
	byKey map[worker.TunnelKey]*tunnel
	ports []uint16
}

// tunnel is one with what the workers send by. It holds its table.
type tunnel struct {
	VXLAN
	key    worker.TunnelKey
	table  *table
	sender worker.Tunnel
}

// tunnelKey is what VPP tells tunnels by: over IPv6 the address of this end does not count.
func (v VXLAN) tunnelKey() worker.TunnelKey {
	k := worker.TunnelKey{Table: v.Table, VNI: v.VNI << 8, Port: v.SrcPort, V6: v.Dst.Is6()}
	copy(k.Remote[:], v.Dst.AsSlice())
	if !k.V6 {
		copy(k.Local[:], v.Src.AsSlice())
	}
	return k
}

// checked fills in the ports and finds what VPP refuses, in its order.
func (p *Plane) checked(v VXLAN) (VXLAN, *table, error) {
	for _, n := range []*uint16{&v.SrcPort, &v.DstPort} {
		if *n == 0 {
			*n = vxlanPort
		}
	}
	t := p.tables[slot(familyOf(v.Src))][v.Table]
	switch {
	case t == nil:
		return v, nil, api.NO_SUCH_FIB
	case v.Src.Is4() != v.Dst.Is4():
		return v, nil, api.INVALID_VALUE
	case v.Src == v.Dst:
		return v, nil, api.SAME_SRC_DST
	case v.Dst.IsMulticast(): // there is no group to be in
		return v, nil, api.INVALID_SW_IF_INDEX
	}
	return v, t, nil
}

// FindVXLAN returns the interface of the tunnel with the ends, table and VNI of v.
func (p *Plane) FindVXLAN(v VXLAN) (uint32, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	v, _, err := p.checked(v)
	if err != nil {
		return NoIndex, err
	}
	if t := p.tunnels.byKey[v.tunnelKey()]; t != nil {
		return t.Index, nil
	}
	return NoIndex, api.NO_SUCH_ENTRY
}

// AddVXLAN makes a tunnel's interface. Like VPP's it is up at once.
func (p *Plane) AddVXLAN(s InterfaceSpec, v VXLAN) (uint32, error) {
	index := NoIndex
	err := p.edit(func() error {
		v, t, err := p.checked(v)
		if err != nil {
			return err
		}
		k := v.tunnelKey()
		switch {
		case p.tunnels.byKey[k] != nil:
			return api.TUNNEL_EXIST
		case p.byName(s.Name) != nil:
			return api.INSTANCE_IN_USE
		case len(p.freeIfs) == 0 && len(p.ifs) >= p.cfg.MaxInterfaces:
			return api.LIMIT_EXCEEDED
		}
		i := p.newInterface(s, nil)
		if v.L3 {
			i.link = port.IP
		}
		v.Index, index = i.index, i.index
		i.tunnel = newTunnel(v, k, t)
		t.locks++
		p.openTunnel(i.tunnel)
		p.events.add(event{iface: &InterfaceEvent{Index: index}})
		p.setAdmin(i, true)
		return nil
	})
	return index, err
}

func newTunnel(v VXLAN, k worker.TunnelKey, t *table) *tunnel {
	n := &tunnel{VXLAN: v, key: k, table: t}
	n.sender = worker.Tunnel{
		Header: packet.NewVXLANHeader(v.Src.AsSlice(), v.Dst.AsSlice(), v.SrcPort, v.DstPort, v.VNI),
		Table4: t.t4, Table6: t.t6, Remote: k.Remote,
	}
	return n
}

func (p *Plane) openTunnel(t *tunnel) {
	if p.tunnels.byKey == nil {
		p.tunnels.byKey = map[worker.TunnelKey]*tunnel{}
	}
	p.tunnels.byKey[t.key] = t
	if !slices.Contains(p.tunnels.ports, t.SrcPort) {
		p.tunnels.ports = append(slices.Clone(p.tunnels.ports), t.SrcPort)
	}
	p.publishTunnels()
}

func (p *Plane) closeTunnel(i *iface) {
	if i.tunnel == nil {
		return
	}
	delete(p.tunnels.byKey, i.tunnel.key)
	p.publishTunnels()
	i.tunnel.table.locks--
	p.releaseTable(i.tunnel.table)
}

// publishTunnels tells the workers how packets find tunnels. They compare both addresses.
func (p *Plane) publishTunnels() {
	var list []worker.Entrance
	for _, t := range p.tunnels.byKey {
		e := worker.Entrance{Key: t.key, Interface: t.Index, Decap: t.Decap}
		copy(e.Key.Local[:], t.Src.AsSlice())
		list = append(list, e)
	}
	p.state.SetEntrances(worker.NewEntrances(list, p.tunnels.ports))
}

// VXLANs are copies of all tunnels, by the index of their interfaces.
func (p *Plane) VXLANs() []VXLAN {
	p.mu.Lock()
	defer p.mu.Unlock()
	var list []VXLAN
	for _, i := range p.ifs {
		if i != nil && i.tunnel != nil {
			list = append(list, i.tunnel.VXLAN)
		}
	}
	return list
}

// SetTunnelBypass takes packets of tunnels that come in by an interface out before all
// lookups, or ends that.
func (p *Plane) SetTunnelBypass(index uint32, f Family, on bool) error {
	return p.withInterface(index, func(i *iface) error {
		i.bypass[slot(f)], i.dirty = on, true
		return nil
	})
}

// TunnelBypass says whether that is on.
func (p *Plane) TunnelBypass(index uint32, f Family) (bool, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	i := p.iface(index)
	if i == nil {
		return false, api.INVALID_SW_IF_INDEX
	}
	return i.bypass[slot(f)], nil
}
