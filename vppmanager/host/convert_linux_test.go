package host

import (
	"encoding/json"
	"net"
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/millrace/millrace/vppmanager/inventory"
)

func attrs(index int, name string) netlink.LinkAttrs {
	return netlink.LinkAttrs{Index: index, Name: name, EncapType: "ether", MTU: 1500, NetNsID: -1, RawFlags: unix.IFF_UP}
}

// TestDumpValue has what the kernel of a test machine need not be able to make: bonds,
// VLANs, offloaded XDP, routes over them.
func TestDumpValue(t *testing.T) {
	bond := netlink.NewLinkBond(attrs(5, "bond0"))
	bond.Mode, bond.XmitHashPolicy, bond.LacpRate, bond.ActiveSlave = netlink.BOND_MODE_802_3AD, netlink.BOND_XMIT_HASH_POLICY_LAYER3_4, netlink.BOND_LACP_RATE_FAST, 3
	member := attrs(3, "eth0")
	member.MasterIndex, member.ParentDev, member.ParentDevBus = 5, "0000:03:00.0", "pci"
	member.Xdp = &netlink.LinkXdp{Attached: true, ProgId: 12, AttachMode: 1}
	vlan := attrs(6, "bond0.100")
	vlan.ParentIndex = 5
	elsewhere := attrs(7, "eth9")
	elsewhere.ParentIndex, elsewhere.NetNsID = 5, 3 // its parent is in another namespace
	loopback := attrs(1, "lo")
	loopback.EncapType = "loopback"
	_, subnet, _ := net.ParseCIDR("10.1.0.0/16")
	d := dump{
		programs: map[uint32]string{12: "cil_xdp_entry"},
		links: []netlink.Link{
			bond, &netlink.Device{LinkAttrs: member}, &netlink.Device{LinkAttrs: loopback}, &netlink.Veth{LinkAttrs: elsewhere},
			&netlink.Vlan{LinkAttrs: vlan, VlanId: 100, VlanProtocol: netlink.VLAN_PROTOCOL_8021AD},
		},
		routes: []netlink.Route{
			{Family: unix.AF_INET, Dst: subnet, Table: 254, Protocol: unix.RTPROT_STATIC, Type: unix.RTN_UNICAST, Scope: unix.RT_SCOPE_UNIVERSE, MultiPath: []*netlink.NexthopInfo{
				{LinkIndex: 6, Hops: 2, Gw: net.ParseIP("10.0.0.1"), Flags: unix.RTNH_F_ONLINK}, {LinkIndex: 3, Gw: net.ParseIP("10.0.0.2")},
			}},
			{Family: unix.AF_INET6, LinkIndex: 6, Table: 255, Protocol: unix.RTPROT_KERNEL, Type: unix.RTN_LOCAL},
			{Family: unix.AF_INET6, LinkIndex: 6, Table: 100, Protocol: 99, Type: unix.RTN_UNICAST, Scope: unix.RT_SCOPE_LINK, MTU: 1280},
		},
		neighbors: []netlink.Neigh{
			{LinkIndex: 6, IP: net.ParseIP("10.0.0.1"), HardwareAddr: net.HardwareAddr{2, 0, 0, 0, 0, 1}, State: netlink.NUD_PERMANENT},
			{LinkIndex: 6, IP: net.ParseIP("10.0.0.9"), State: netlink.NUD_REACHABLE},
		},
	}
	got := d.value()
	route := func(dst string) inventory.Route { return inventory.Route{Dst: netip.MustParsePrefix(dst)} }
	way := route("10.1.0.0/16")
	way.Table, way.Protocol, way.Scope = 254, "static", "global"
	first, second := way, way
	first.Via, first.OnLink, first.Weight = netip.MustParseAddr("10.0.0.1"), true, 3
	second.Via, second.Weight = netip.MustParseAddr("10.0.0.2"), 1
	six := route("::/0")
	six.Table, six.Protocol, six.Scope, six.MTU = 100, "99", "link", 1280
	want := []Link{
		{NIC: inventory.NIC{Name: "bond0", Index: 5, Kind: "bond", MTU: 1500, Up: true, Uppers: []string{"bond0.100"},
			Bond: &inventory.Bond{Mode: "802.3ad", XmitHash: "layer3+4", LACPFast: true, Members: []string{"eth0"}, Active: "eth0"}}},
		{NIC: inventory.NIC{Name: "bond0.100", Index: 6, Kind: "vlan", MTU: 1500, Up: true, VLAN: &inventory.VLAN{Parent: "bond0", ID: 100, Tag: "802.1ad"},
			Routes: []inventory.Route{first, six}, Neighbors: []inventory.Neighbor{{Addr: netip.MustParseAddr("10.0.0.1"), MAC: "02:00:00:00:00:01"}}}},
		{NIC: inventory.NIC{Name: "eth0", Index: 3, MTU: 1500, Up: true, Bus: "pci", Master: "bond0", MasterIs: "bond", XDP: "cil_xdp_entry (id 12 in the driver)",
			Routes: []inventory.Route{second}}, Parent: "0000:03:00.0"},
		{NIC: inventory.NIC{Name: "eth9", Index: 7, Kind: "veth", MTU: 1500, Up: true}},
	}
	equal := cmp.Options{cmp.Comparer(func(a, b netip.Prefix) bool { return a == b }), cmp.Comparer(func(a, b netip.Addr) bool { return a == b })}
	if diff := cmp.Diff(want, got.Links, equal); diff != "" {
		t.Errorf("links (-want +got):\n%s", diff)
	}
	text, err := json.Marshal(recording{Net: got})
	var back recording
	if err == nil {
		err = json.Unmarshal(text, &back)
	}
	if err != nil || !slices.EqualFunc(back.Net.Links, got.Links, func(a, b Link) bool { return cmp.Equal(a, b, equal) }) {
		t.Errorf("a recording does not read back: %v\n%s", err, text)
	}
}
