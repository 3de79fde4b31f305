package api

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"

	"go.fd.io/govpp/api"
	"go.fd.io/govpp/binapi/interface_types"
	"go.fd.io/govpp/binapi/ip_types"
	"go.fd.io/govpp/binapi/vlib"
	"go.fd.io/govpp/binapi/vxlan"

	"github.com/millrace/millrace/engine/vnet"
	"github.com/millrace/millrace/engine/worker"
)

const deviceVXLAN = "VXLAN"

// vxlanMessages are those of vxlan.api that need no multicast and no hardware, and what
// says and switches where packets of tunnels go.
func (s *Server) vxlanMessages() []*entry {
	return slices.Concat(
		handle(s.vxlanAddDelTunnel),
		handle(s.vxlanAddDelTunnelV2),
		handle(s.vxlanAddDelTunnelV3),
		handleDump(s.vxlanTunnelDump),
		handleDump(s.vxlanTunnelV2Dump),
		handle(s.swInterfaceSetVxlanBypass),
		handle(s.addNodeNext),
	)
}

// tunnelNodes are the next nodes of vxlan4-input and vxlan6-input by index: VPP gives out
// further indexes as clients ask for them.
type tunnelNodes struct {
	mu   sync.Mutex
	next [2][]string
}

func newTunnelNodes() *tunnelNodes {
	first := []string{"error-drop", "l2-input"}
	return &tunnelNodes{next: [2][]string{slices.Clone(first), slices.Clone(first)}}
}

// decapOf is what a node does with a tunnel's packets; DecapDrop of one unknown here.
func decapOf(node string) worker.Decap {
	return map[string]worker.Decap{
		"l2-input": worker.DecapBridge, "ethernet-input": worker.DecapEthernet,
		"ip4-input": worker.DecapIP4, "ip6-input": worker.DecapIP6,
	}[node]
}

// addNodeNext knows the nodes that tunnels can lead to, and no others of VPP's graph.
func (s *Server) addNodeNext(_ *session, q *vlib.AddNodeNext, r *vlib.AddNodeNextReply) error {
	r.NextIndex = vnet.NoIndex
	n := slices.Index([]string{"vxlan4-input", "vxlan6-input"}, q.NodeName)
	if n < 0 {
		return api.NO_SUCH_NODE
	}
	if q.NextName != "error-drop" && decapOf(q.NextName) == worker.DecapDrop {
		return api.NO_SUCH_NODE2
	}
	s.nodes.mu.Lock()
	defer s.nodes.mu.Unlock()
	at := slices.Index(s.nodes.next[n], q.NextName)
	if at < 0 {
		at = len(s.nodes.next[n])
		s.nodes.next[n] = append(s.nodes.next[n], q.NextName)
	}
	r.NextIndex = uint32(at)
	return nil
}

// nextNode is the node of an index; ~0 is l2-input.
func (s *Server) nextNode(v6 bool, index uint32) (string, error) {
	n := 0
	if v6 {
		n = 1
	}
	s.nodes.mu.Lock()
	defer s.nodes.mu.Unlock()
	switch {
	case index == vnet.NoIndex:
		return "l2-input", nil
	case uint64(index) >= uint64(len(s.nodes.next[n])):
		return "", api.INVALID_DECAP_NEXT
	}
	return s.nodes.next[n][index], nil
}

// decapIndex is the reverse of nextNode.
func (s *Server) decapIndex(v vnet.VXLAN) uint32 {
	n := 0
	if v.Dst.Is6() {
		n = 1
	}
	s.nodes.mu.Lock()
	defer s.nodes.mu.Unlock()
	return uint32(max(0, slices.IndexFunc(s.nodes.next[n], func(node string) bool { return decapOf(node) == v.Decap })))
}

func (s *Server) vxlanAddDelTunnel(c *session, q *vxlan.VxlanAddDelTunnel, r *vxlan.VxlanAddDelTunnelReply) (err error) {
	r.SwIfIndex, err = s.addDelVXLAN(&vxlan.VxlanAddDelTunnelV3{
		IsAdd: q.IsAdd, Instance: q.Instance, SrcAddress: q.SrcAddress, DstAddress: q.DstAddress, McastSwIfIndex: q.McastSwIfIndex,
		EncapVrfID: q.EncapVrfID, DecapNextIndex: q.DecapNextIndex, Vni: q.Vni,
	})
	return err
}

func (s *Server) vxlanAddDelTunnelV2(c *session, q *vxlan.VxlanAddDelTunnelV2, r *vxlan.VxlanAddDelTunnelV2Reply) (err error) {
	r.SwIfIndex, err = s.addDelVXLAN(&vxlan.VxlanAddDelTunnelV3{
		IsAdd: q.IsAdd, Instance: q.Instance, SrcAddress: q.SrcAddress, DstAddress: q.DstAddress, SrcPort: q.SrcPort, DstPort: q.DstPort, McastSwIfIndex: q.McastSwIfIndex,
		EncapVrfID: q.EncapVrfID, DecapNextIndex: q.DecapNextIndex, Vni: q.Vni,
	})
	return err
}

func (s *Server) vxlanAddDelTunnelV3(_ *session, q *vxlan.VxlanAddDelTunnelV3, r *vxlan.VxlanAddDelTunnelV3Reply) (err error) {
	r.SwIfIndex, err = s.addDelVXLAN(q)
	return err
}

func (s *Server) addDelVXLAN(q *vxlan.VxlanAddDelTunnelV3) (interface_types.InterfaceIndex, error) {
	const none = interface_types.InterfaceIndex(vnet.NoIndex)
	v := vnet.VXLAN{SrcPort: q.SrcPort, DstPort: q.DstPort, Table: q.EncapVrfID, VNI: q.Vni, L3: q.IsL3, Multicast: uint32(q.McastSwIfIndex)}
	v.Src, v.Dst = vxlanAddr(q.SrcAddress), vxlanAddr(q.DstAddress)
	found, err := s.plane.FindVXLAN(v)
	if !q.IsAdd {
		if err != nil {
			return none, err
		}
		return interface_types.InterfaceIndex(found), s.deleteVXLAN(found)
	}
	switch {
	case err == nil:
		return none, api.TUNNEL_EXIST
	case err != error(api.NO_SUCH_ENTRY):
		return none, err
	}
	node, err := s.nextNode(v.Dst.Is6(), q.DecapNextIndex)
	if err != nil {
		return none, err
	}
	v.Decap = decapOf(node)
	index, err := s.addVXLAN(v, q.Instance)
	return interface_types.InterfaceIndex(index), err
}

// vxlanAddr reads an address as VPP does: an unknown family is IPv4's.
func vxlanAddr(a ip_types.Address) netip.Addr {
	addr, err := addrOf(a)
	if err != nil {
		return unionAddr(a.Un, vnet.IPv4)
	}
	return addr
}

// addVXLAN makes vxlan_tunnel<instance>; for ~0 that is its place among the tunnels, the
// lowest that is free.
func (s *Server) addVXLAN(v vnet.VXLAN, instance uint32) (uint32, error) {
	d := s.devices
	d.mu.Lock()
	place, ok := d.vxlanPlaces.takeFree()
	if instance == vnet.NoIndex {
		instance = place
	}
	if ok = ok && d.vxlans.take(instance); !ok {
		delete(d.vxlanPlaces.index, place)
	}
	d.mu.Unlock()
	if !ok {
		return vnet.NoIndex, api.INSTANCE_IN_USE
	}
	index, err := s.plane.AddVXLAN(vnet.InterfaceSpec{Name: fmt.Sprintf("vxlan_tunnel%d", instance), DeviceType: deviceVXLAN, NoMTU: v.L3}, v)
	if err == nil {
		err = s.nameVXLAN(v, index, instance)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if err != nil {
		delete(d.vxlans.index, instance)
		delete(d.vxlanPlaces.index, place)
		return vnet.NoIndex, err
	}
	d.vxlans.index[instance], d.vxlanPlaces.index[place] = index, index
	return index, nil
}

// nameVXLAN gives a new tunnel its statistics, and an address like VPP's, 02:fe and four
// bytes of its own.
func (s *Server) nameVXLAN(v vnet.VXLAN, index, instance uint32) error {
	err := s.stats.SetInterface(index, fmt.Sprintf("vxlan_tunnel%d", instance))
	if err == nil && !v.L3 {
		mac := binary.BigEndian.AppendUint32(net.HardwareAddr{2, 0xfe}, instance^v.VNI<<8)
		err = s.plane.SetMAC(index, mac)
	}
	if err != nil {
		err = join(err, s.plane.DeleteInterface(index))
	}
	return err
}

func (s *Server) deleteVXLAN(index uint32) error {
	if err := s.deleteInterface(index); err != nil {
		return err
	}
	s.devices.mu.Lock()
	defer s.devices.mu.Unlock()
	for _, k := range []numbers{s.devices.vxlans, s.devices.vxlanPlaces} {
		if n, ok := k.of(index); ok {
			delete(k.index, n)
		}
	}
	return nil
}

// vxlansOf are the tunnels that a dump asks for: all for ~0.
func (s *Server) vxlansOf(index interface_types.InterfaceIndex) []vnet.VXLAN {
	list := s.plane.VXLANs()
	if uint32(index) == vnet.NoIndex {
		return list
	}
	return slices.DeleteFunc(list, func(v vnet.VXLAN) bool { return v.Index != uint32(index) })
}

func (s *Server) instanceOf(v vnet.VXLAN) uint32 {
	s.devices.mu.Lock()
	defer s.devices.mu.Unlock()
	n, _ := s.devices.vxlans.of(v.Index)
	return n
}

func (s *Server) vxlanTunnelDump(_ *session, q *vxlan.VxlanTunnelDump, send func(*vxlan.VxlanTunnelDetails)) {
	for _, v := range s.vxlansOf(q.SwIfIndex) {
		send(&vxlan.VxlanTunnelDetails{
			SwIfIndex: interface_types.InterfaceIndex(v.Index), Instance: s.instanceOf(v), SrcAddress: wireAddr(v.Src), DstAddress: wireAddr(v.Dst),
			McastSwIfIndex: interface_types.InterfaceIndex(v.Multicast), EncapVrfID: v.Table, DecapNextIndex: s.decapIndex(v), Vni: v.VNI,
		})
	}
}

func (s *Server) vxlanTunnelV2Dump(_ *session, q *vxlan.VxlanTunnelV2Dump, send func(*vxlan.VxlanTunnelV2Details)) {
	for _, v := range s.vxlansOf(q.SwIfIndex) {
		send(&vxlan.VxlanTunnelV2Details{
			SwIfIndex: interface_types.InterfaceIndex(v.Index), Instance: s.instanceOf(v), SrcAddress: wireAddr(v.Src), DstAddress: wireAddr(v.Dst),
			SrcPort: v.SrcPort, DstPort: v.DstPort, McastSwIfIndex: interface_types.InterfaceIndex(v.Multicast), EncapVrfID: v.Table, DecapNextIndex: s.decapIndex(v), Vni: v.VNI,
		})
	}
}

func (s *Server) swInterfaceSetVxlanBypass(_ *session, q *vxlan.SwInterfaceSetVxlanBypass, _ *vxlan.SwInterfaceSetVxlanBypassReply) error {
	return s.plane.SetTunnelBypass(uint32(q.SwIfIndex), familyFlag(q.IsIPv6), q.Enable)
}
