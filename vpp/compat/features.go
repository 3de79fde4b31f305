package compat

import (
	"go.fd.io/govpp/api"
	"go.fd.io/govpp/binapi/acl"
	"go.fd.io/govpp/binapi/af_packet"
	"go.fd.io/govpp/binapi/af_xdp"
	"go.fd.io/govpp/binapi/arp"
	"go.fd.io/govpp/binapi/avf"
	"go.fd.io/govpp/binapi/bond"
	"go.fd.io/govpp/binapi/cnat"
	"go.fd.io/govpp/binapi/feature"
	"go.fd.io/govpp/binapi/fib"
	interfaces "go.fd.io/govpp/binapi/interface"
	"go.fd.io/govpp/binapi/ip"
	"go.fd.io/govpp/binapi/ip_neighbor"
	"go.fd.io/govpp/binapi/memif"
	"go.fd.io/govpp/binapi/rdma"
	"go.fd.io/govpp/binapi/tapv2"
	"go.fd.io/govpp/binapi/urpf"
	"go.fd.io/govpp/binapi/virtio"
	"go.fd.io/govpp/binapi/vlib"
	"go.fd.io/govpp/binapi/vpe"
	"go.fd.io/govpp/binapi/vxlan"
)

// Features lists all that Millrace does with the binary API, the essential ones first.
func Features() []Feature {
	return append(essential(), optional()...)
}

func essential() []Feature {
	return []Feature{
		{Name: "forwarding", Without: "no packet finds its way", Essential: true, Messages: []api.Message{
			&vpe.ShowVersion{}, &vpe.ShowVersionReply{}, &vlib.CliInband{}, &vlib.CliInbandReply{},
			&interfaces.SwInterfaceDump{}, &interfaces.SwInterfaceDetails{}, &interfaces.SwInterfaceSetFlags{}, &interfaces.SwInterfaceSetFlagsReply{},
			&interfaces.SwInterfaceSetMtu{}, &interfaces.SwInterfaceSetMtuReply{}, &interfaces.SwInterfaceTagAddDel{}, &interfaces.SwInterfaceTagAddDelReply{},
			&interfaces.SwInterfaceSetTable{}, &interfaces.SwInterfaceSetTableReply{}, &interfaces.SwInterfaceGetTable{}, &interfaces.SwInterfaceGetTableReply{},
			&interfaces.SwInterfaceAddDelAddress{}, &interfaces.SwInterfaceAddDelAddressReply{}, &interfaces.SwInterfaceSetUnnumbered{}, &interfaces.SwInterfaceSetUnnumberedReply{},
			&interfaces.CreateLoopback{}, &interfaces.CreateLoopbackReply{}, &interfaces.DeleteLoopback{}, &interfaces.DeleteLoopbackReply{},
			&interfaces.WantInterfaceEvents{}, &interfaces.WantInterfaceEventsReply{}, &interfaces.SwInterfaceEvent{},
			&ip.IPTableAddDelV2{}, &ip.IPTableAddDelV2Reply{}, &ip.IPTableDump{}, &ip.IPTableDetails{},
			&ip.IPRouteAddDelV2{}, &ip.IPRouteAddDelV2Reply{}, &ip.IPRouteV2Dump{}, &ip.IPRouteV2Details{},
			&ip.IPAddressDump{}, &ip.IPAddressDetails{}, &ip.IPUnnumberedDump{}, &ip.IPUnnumberedDetails{},
			&ip.SwInterfaceIP6EnableDisable{}, &ip.SwInterfaceIP6EnableDisableReply{},
			&ip_neighbor.IPNeighborAddDel{}, &ip_neighbor.IPNeighborAddDelReply{}, &ip_neighbor.IPNeighborDump{}, &ip_neighbor.IPNeighborDetails{},
			&fib.FibSourceAdd{}, &fib.FibSourceAddReply{}, &fib.FibSourceDump{}, &fib.FibSourceDetails{},
		}},
		{Name: "access lists", Without: "no pod is connected", Plugin: "acl", Essential: true, Messages: []api.Message{
			&acl.ACLAddReplace{}, &acl.ACLAddReplaceReply{}, &acl.ACLDel{}, &acl.ACLDelReply{}, &acl.ACLDump{}, &acl.ACLDetails{},
			&acl.ACLInterfaceSetACLList{}, &acl.ACLInterfaceSetACLListReply{}, &acl.ACLInterfaceListDump{}, &acl.ACLInterfaceListDetails{},
		}},
		{Name: "source checks", Without: "no pod is connected", Plugin: "urpf", Essential: true, Messages: []api.Message{
			&urpf.UrpfUpdateV2{}, &urpf.UrpfUpdateV2Reply{}, &urpf.UrpfInterfaceDump{}, &urpf.UrpfInterfaceDetails{},
		}},
	}
}

func optional() []Feature {
	return []Feature{
		{Name: "taps", Without: "pods get veth and af_packet, and the host a veth", Messages: []api.Message{
			&tapv2.TapCreateV3{}, &tapv2.TapCreateV3Reply{}, &tapv2.TapDeleteV2{}, &tapv2.TapDeleteV2Reply{}, &tapv2.SwInterfaceTapV2Dump{}, &tapv2.SwInterfaceTapV2Details{},
			&interfaces.SwInterfaceRxPlacementDump{}, &interfaces.SwInterfaceRxPlacementDetails{},
		}},
		{Name: "packet sockets", Without: "there are no uplinks by af_packet, and no pods where there are no taps", Plugin: "af_packet", Messages: []api.Message{
			&af_packet.AfPacketCreateV3{}, &af_packet.AfPacketCreateV3Reply{}, &af_packet.AfPacketDelete{}, &af_packet.AfPacketDeleteReply{}, &af_packet.AfPacketDump{}, &af_packet.AfPacketDetails{},
		}},
		{Name: "memif", Without: "pods that ask for memif interfaces are refused", Plugin: "memif", Messages: []api.Message{
			&memif.MemifCreateV2{}, &memif.MemifCreateV2Reply{}, &memif.MemifDelete{}, &memif.MemifDeleteReply{}, &memif.MemifDump{}, &memif.MemifDetails{},
			&memif.MemifSocketFilenameAddDelV2{}, &memif.MemifSocketFilenameAddDelV2Reply{}, &memif.MemifSocketFilenameDump{}, &memif.MemifSocketFilenameDetails{},
		}},
		{Name: "memif peers that change", Without: "a memif keeps what it learned of its last peer for a while", Messages: []api.Message{
			&ip_neighbor.IPNeighborFlush{}, &ip_neighbor.IPNeighborFlushReply{},
		}},
		{Name: "counters of rules", Without: "what each rule of a policy matches is not counted", Plugin: "acl", Messages: []api.Message{&acl.ACLStatsIntfCountersEnable{}}},
		{Name: "proxy ARP", Without: "uplinks cannot be wired", Messages: []api.Message{
			&arp.ProxyArpAddDel{}, &arp.ProxyArpAddDelReply{}, &arp.ProxyArpDump{}, &arp.ProxyArpDetails{},
			&arp.ProxyArpIntfcEnableDisable{}, &arp.ProxyArpIntfcEnableDisableReply{}, &arp.ProxyArpIntfcDump{}, &arp.ProxyArpIntfcDetails{},
		}},
		{Name: "tunnels", Without: "no VXLAN reaches nodes that are no neighbours", Plugin: "vxlan", Messages: []api.Message{
			&vlib.AddNodeNext{}, &vlib.AddNodeNextReply{}, &feature.FeatureIsEnabled{}, &feature.FeatureIsEnabledReply{},
			&vxlan.SwInterfaceSetVxlanBypass{}, &vxlan.SwInterfaceSetVxlanBypassReply{},
			&vxlan.VxlanAddDelTunnelV3{}, &vxlan.VxlanAddDelTunnelV3Reply{}, &vxlan.VxlanTunnelV2Dump{}, &vxlan.VxlanTunnelV2Details{},
		}},
		{Name: "services", Without: "no service is translated to its pods", Plugin: "cnat", Messages: []api.Message{
			&feature.FeatureEnableDisable{}, &feature.FeatureEnableDisableReply{},
			&cnat.CnatTranslationUpdate{}, &cnat.CnatTranslationUpdateReply{}, &cnat.CnatTranslationDel{}, &cnat.CnatTranslationDelReply{},
			&cnat.CnatTranslationDump{}, &cnat.CnatTranslationDetails{},
			&cnat.CnatSetSnatAddresses{}, &cnat.CnatSetSnatAddressesReply{}, &cnat.CnatGetSnatAddresses{}, &cnat.CnatGetSnatAddressesReply{},
			&cnat.CnatSetSnatPolicy{}, &cnat.CnatSetSnatPolicyReply{}, &cnat.CnatSnatPolicyAddDelIf{}, &cnat.CnatSnatPolicyAddDelIfReply{},
			&cnat.CnatSnatPolicyAddDelExcludePfx{}, &cnat.CnatSnatPolicyAddDelExcludePfxReply{},
		}},
		{Name: "VLANs", Without: "there are no VLANs on uplinks", Messages: []api.Message{
			&interfaces.SwInterfaceSetPromisc{}, &interfaces.SwInterfaceSetPromiscReply{}, &interfaces.CreateVlanSubif{}, &interfaces.CreateVlanSubifReply{}, &interfaces.DeleteSubif{}, &interfaces.DeleteSubifReply{},
		}},
		{Name: "bonds", Without: "there are no bonds of uplinks", Messages: []api.Message{
			&bond.BondCreate2{}, &bond.BondCreate2Reply{}, &bond.BondDelete{}, &bond.BondDeleteReply{}, &bond.BondAddMember{}, &bond.BondAddMemberReply{},
			&bond.BondDetachMember{}, &bond.BondDetachMemberReply{}, &bond.SwBondInterfaceDump{}, &bond.SwBondInterfaceDetails{}, &bond.SwMemberInterfaceDump{}, &bond.SwMemberInterfaceDetails{},
		}},
		{Name: "AF_XDP", Without: "there are no uplinks by af_xdp", Plugin: "af_xdp", Messages: []api.Message{
			&interfaces.SwInterfaceSetMacAddress{}, &interfaces.SwInterfaceSetMacAddressReply{}, &af_xdp.AfXdpCreateV3{}, &af_xdp.AfXdpCreateV3Reply{}, &af_xdp.AfXdpDelete{}, &af_xdp.AfXdpDeleteReply{},
		}},
		{Name: "AVF", Without: "there are no uplinks by avf", Plugin: "avf", Messages: []api.Message{&avf.AvfCreate{}, &avf.AvfCreateReply{}, &avf.AvfDelete{}, &avf.AvfDeleteReply{}}},
		{Name: "RDMA", Without: "there are no uplinks by rdma", Plugin: "rdma", Messages: []api.Message{&rdma.RdmaCreateV4{}, &rdma.RdmaCreateV4Reply{}, &rdma.RdmaDelete{}, &rdma.RdmaDeleteReply{}}},
		{Name: "virtio", Without: "there are no uplinks by virtio", Messages: []api.Message{
			&virtio.VirtioPciCreateV2{}, &virtio.VirtioPciCreateV2Reply{}, &virtio.VirtioPciDelete{}, &virtio.VirtioPciDeleteReply{},
		}},
	}
}
