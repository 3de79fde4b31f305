package dataplane

import (
	"flag"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "rewrite the golden files")

func prefix(s string) netip.Prefix { return netip.MustParsePrefix(s) }
func addr(s string) netip.Addr     { return netip.MustParseAddr(s) }

func pod(name, address string) []Object {
	a := addr(address)
	whole := netip.PrefixFrom(a, a.BitLen())
	return []Object{
		Interface{
			Name: name, MTU: 1500, RPF: RPFStrict,
			Device: Tun{Netns: "/run/netns/" + name[4:], HostName: "eth0", Queues: 1, RxRing: 256, TxRing: 256, Offload: OffloadGSO},
			Host: HostSide{
				MTU: 1500, Addresses: []netip.Prefix{whole},
				Routes: []HostRoute{{Dst: prefix("0.0.0.0/0"), Via: addr("169.254.1.1")}},
			},
		},
		Unnumbered{name, "loop"},
		Route{0, whole, []Path{{Interface: name}}},
		Up{name},
	}
}

func node() []Object {
	return []Object{
		Interface{Name: "loop", Device: Loopback{}, MTU: 9000},
		Address{"loop", prefix("10.1.0.1/32")},
		Up{"loop"},
	}
}

func veth() []Object {
	mac := MAC{2, 0, 0, 0, 0, 1}
	return []Object{
		Interface{
			Name: "pod/v", MTU: 1400, Table: 7,
			Device: Veth{Netns: "/run/netns/v", HostName: "net1", Outer: "mr123", HostMAC: mac, MAC: MAC{2, 0, 0, 0, 0, 2}},
			Host: HostSide{
				MaxSegments: 1,
				Routes:      []HostRoute{{Dst: prefix("fd00::/8"), Source: addr("fd01::9")}, {Dst: prefix("10.0.0.0/8")}},
				Neighbors:   []HostNeighbor{{addr("fe80::1"), MAC{2, 0, 0, 0, 0, 2}}},
			},
		},
		Table{IPv4, 7, "blue"}, Table{IPv6, 7, ""},
		Neighbor{Interface: "pod/v", Addr: addr("fd01::9"), MAC: mac},
		Route{7, prefix("fd01::9/128"), []Path{{Interface: "pod/v", Via: addr("fd01::9"), Weight: 3}, {Interface: "pod/a"}}},
		Route{7, prefix("10.9.0.0/16"), []Path{{End: EndUnreachable}}},
		Route{0, prefix("10.8.0.0/16"), []Path{{End: EndDrop}}},
	}
}

// uplink is a NIC of each driver, a bond with a VLAN on it, and the tap towards the host.
func uplink() []Object {
	mac, host := MAC{2, 0, 0, 0, 1, 1}, MAC{2, 0, 0, 0, 1, 2}
	list := []Object{
		Table{IPv4, 1000, "uplink0"}, Table{IPv6, 1000, "uplink0"},
		Interface{Name: "uplink0", MTU: 1500, Table: 1000, Device: NIC{Driver: NICDPDK, Port: "uplink0"}},
		Interface{Name: "uplink1", MTU: 1500, Device: NIC{Driver: NICAFPacket, Port: "p-eth1", MAC: mac, RxQueues: 1, TxQueues: 2}},
		Interface{Name: "uplink2", MTU: 1500, Device: NIC{Driver: NICAFXDP, Port: "p-eth2", MAC: mac, RxRing: 1024, TxRing: 512}},
		Interface{Name: "uplink3", MTU: 1500, Device: NIC{Driver: NICAVF, Port: "0000:3b:02.1", RxQueues: 4}},
		Interface{Name: "uplink4", MTU: 1500, Device: NIC{Driver: NICVirtio, Port: "0000:00:03.0"}},
		Interface{Name: "uplink4a", MTU: 1500, Device: NIC{Driver: NICDPDK, Port: "uplink4a", Promiscuous: true}},
		Interface{Name: "uplink5", MTU: 9000, Device: NIC{Driver: NICRDMA, Port: "p-eth5"}},
		Interface{Name: "bond", MTU: 1500, Device: Bond{Mode: BondLACP, Balance: BalanceL34, MAC: mac}},
		BondMember{Interface: "uplink2", Bond: "bond", LongTimeout: true}, BondMember{Interface: "uplink3", Bond: "bond"},
		Interface{Name: "bond.7", MTU: 1500, Device: VLAN{"bond", 7}},
		Interface{Name: "host", MTU: 1500, Device: Tap{
			HostName: "eth0", HostMAC: mac, MAC: host, Queues: 1, RxRing: 1024, TxRing: 1024, Offload: OffloadGSO,
		}},
		Steering{Interface: "uplink:eth0", Prefix: prefix("10.1.0.0/24")}, SteerPort("uplink:eth0", addr("2001:db8::1"), 17, 4789),
		Interface{Name: "uplink6", MTU: 1500, Device: NIC{Driver: NICAFXDP, Port: "eth6", MAC: mac, Share: true}},
		ProxyARP{"host"}, ProxyRange{1000, addr("192.0.2.0"), addr("192.0.2.8")},
		Neighbor{Interface: "host", Addr: addr("192.0.2.9"), MAC: mac, Attached: true},
		Route{1000, prefix("0.0.0.0/0"), []Path{{End: EndLookup}}}, Route{0, prefix("2001:db8::/64"), []Path{{End: EndLookup, Table: 1000}}},
	}
	return list
}

func acls() []Object {
	any4, any6 := prefix("0.0.0.0/0"), prefix("::/0")
	return []Object{
		ACL{"base/in", []Rule{
			{Permit, any6, any6, 58, Ports{133, 136}, AnyPorts()},
			{Permit, any4, any4, 1, Ports{3, 3}, AnyPorts()},
		}},
		ACL{"policy/default/web/ingress/0", []Rule{
			{PermitReflect, prefix("10.1.0.0/16"), any4, 6, AnyPorts(), Ports{80, 90}},
			{PermitReflect, prefix("fd01::/64"), any6, 0, AnyPorts(), AnyPorts()},
			{Deny, any4, any4, 17, Ports{0, 0}, Ports{53, 53}},
		}},
		ACL{"policy/empty", nil},
		ACLBinding{"pod/a", []string{"base/in"}, []string{"base/in", "policy/default/web/ingress/0"}},
		ACLBinding{"pod/v", nil, []string{"policy/empty"}},
	}
}

func state(t testing.TB, lists ...[]Object) State {
	t.Helper()
	var all []Object
	for _, l := range lists {
		all = append(all, l...)
	}
	s, err := NewState(all...)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// golden compares text with testdata/name.
func golden(t *testing.T, name, text string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), text); diff != "" {
		t.Errorf("%s (-want +got):\n%s", path, diff)
	}
}

func TestStateText(t *testing.T) {
	s := state(t, node(), pod("pod/a", "10.1.0.5"), veth(), []Object{memif(), Up{"pod/m"}}, acls(), uplink())
	text := s.String()
	golden(t, "state.golden", text)
	again, err := ParseState(text)
	if err != nil {
		t.Fatal(err)
	}
	if !again.Equal(s) || again.String() != text {
		t.Errorf("read back:\n%s\nprinted:\n%s", again, text)
	}
}

func TestOrderWithinAnObjectIsNoDifference(t *testing.T) {
	a := Route{0, prefix("10.0.0.0/8"), []Path{{Interface: "a"}, {Interface: "b"}}}
	b := Route{0, prefix("10.0.0.0/8"), []Path{{Interface: "b", Weight: 1}, {Interface: "a"}}}
	if !same(a, b) {
		t.Errorf("%s and %s differ", a, b)
	}
}

func TestNewStateErrors(t *testing.T) {
	tun := pod("pod/a", "10.1.0.5")[0].(Interface)
	change := func(f func(*Interface, *Tun)) Interface {
		i, d := tun, tun.Device.(Tun)
		f(&i, &d)
		if i.Device != nil {
			i.Device = d
		}
		return i
	}
	tests := []struct {
		object Object
		want   string
	}{
		{change(func(i *Interface, _ *Tun) { i.Name = strings.Repeat("x", 55) }), "has 55 bytes"},
		{change(func(i *Interface, _ *Tun) { i.Name = "a b" }), "only letters"},
		{change(func(i *Interface, _ *Tun) { i.Device = nil }), "device is missing"},
		{change(func(i *Interface, _ *Tun) { i.MTU = 67 }), "mtu 67"},
		{change(func(i *Interface, _ *Tun) { i.MTU = 65536 }), "mtu 65536"},
		{change(func(i *Interface, _ *Tun) { i.Table = 4 }), "table ip4 4 is not there"},
		{change(func(_ *Interface, d *Tun) { d.Netns = "netns" }), "want an absolute path"},
		{change(func(_ *Interface, d *Tun) { d.Netns = "/" + strings.Repeat("x", 63) }), "want at most 63"},
		{change(func(_ *Interface, d *Tun) { d.HostName = "eth0/1" }), "may not hold"},
		{change(func(_ *Interface, d *Tun) { d.HostName = "0123456789abcdef" }), "want 1 to 15 bytes"},
		{change(func(_ *Interface, d *Tun) { d.Queues = 0 }), "queues 0"},
		{change(func(_ *Interface, d *Tun) { d.RxRing = 100 }), "ring of 100"},
		{change(func(i *Interface, _ *Tun) { i.Host.Routes = []HostRoute{{Dst: prefix("10.0.0.1/8")}} }), "host bits"},
		{change(func(i *Interface, _ *Tun) { i.Host.MaxSegments = 2 }), "want 1, or 0"},
		{change(func(i *Interface, _ *Tun) {
			i.Host.Routes = []HostRoute{{Dst: prefix("::/0"), Via: addr("10.0.0.1")}}
		}), "mixes families"},
		{Interface{Name: "l", Device: Loopback{}, MTU: 1500, Host: HostSide{MTU: 1}}, "no host side"},
		{Interface{Name: "v", Device: Veth{HostName: "a", Outer: "b", HostMAC: MAC{1}, MAC: MAC{2}}, MTU: 1500}, "unicast"},
		{Table{IPv4, 0, ""}, "table 0"},
		{Address{"loop", netip.Prefix{}}, "invalid"},
		{Address{"nowhere", prefix("10.0.0.1/32")}, "interface nowhere is not there"},
		{Unnumbered{"loop", "loop"}, "borrows from itself"},
		{Neighbor{Interface: "loop", Addr: addr("fe80::1%eth0")}, "has a zone"},
		{Route{0, prefix("10.0.0.1/8"), nil}, "host bits"},
		{Route{0, prefix("10.0.0.0/8"), nil}, "no path"},
		{Route{0, prefix("10.0.0.0/8"), []Path{{Interface: "loop", Via: addr("::1")}}}, "another family"},
		{Route{0, prefix("10.0.0.0/8"), []Path{{End: EndDrop, Weight: 2}}}, "no interface, next hop or weight"},
		{Route{0, prefix("10.0.0.0/8"), []Path{{Interface: "gone"}}}, "interface gone is not there"},
		{Route{0, prefix("10.0.0.0/8"), []Path{{End: EndDrop, Table: 5}}}, "a table stands only with !lookup"},
		{Route{0, prefix("10.0.0.0/8"), []Path{{Interface: "loop", Table: 5}}}, "a table stands only with !lookup"},
		{Route{0, prefix("10.0.0.0/8"), []Path{{End: EndLookup, Table: 5}}}, "table ip4 5 is not there"},
		{nic(NICDPDK, "a,b"), "none of them a space, comma or #"},
		{Interface{Name: "n", MTU: 1500, Device: NIC{Port: "u", RxRing: 64}}, "set at the machine's start"},
		{Interface{Name: "n", MTU: 1500, Device: NIC{Driver: NICRDMA, Port: "u", Promiscuous: true}}, "only a dpdk port"},
		{nic(NICAFPacket, "eth0"), "want a unicast address for af_packet"},
		{nic(NICAFXDP, "eth0"), "want a unicast address for af_packet and af_xdp"},
		{nic(NICRDMA, "a/b"), "may not hold"},
		{nic(NICRDMA, "a#b"), "may not stand in it"},
		{nic(NICAVF, "3b:02.1"), "want one such as 0000:03:00.0"},
		{nic(NICVirtio, "0000:00:20.0"), "want one such as 0000:03:00.0"},
		{nic(9, "x"), "driver-9: no such driver"},
		{Interface{Name: "b", MTU: 1500, Device: Bond{Mode: BondBroadcast, Balance: BalanceL34, MAC: MAC{2}}}, "in mode broadcast has none"},
		{Interface{Name: "b", MTU: 1500, Device: Bond{Mode: 7, MAC: MAC{2}}}, "mode-7"},
		{Interface{Name: "b", MTU: 1500, Device: Bond{}}, "unicast"},
		{BondMember{Interface: "loop", Bond: "loop"}, "its own member"},
		{BondMember{Interface: "loop", Bond: "gone"}, "interface gone is not there"},
		{Interface{Name: "v", MTU: 1500, Device: VLAN{"loop", 4095}}, "vlan 4095"},
		{Interface{Name: "a", MTU: 1500, Device: VLAN{"loop", 5}}, "want one that sorts behind"},
		{Interface{Name: "v", MTU: 1500, Device: VLAN{"gone", 5}}, "interface gone is not there"},
		{Interface{Name: "t", MTU: 1500, Device: Tap{HostName: "eth0", HostMAC: MAC{1}, MAC: MAC{2}, Queues: 1, RxRing: 64, TxRing: 64}}, "unicast"},
		{ProxyRange{5, addr("10.0.0.9"), addr("10.0.0.1")}, "the lower first"},
		{ProxyRange{5, addr("fd00::1"), addr("fd00::2")}, "two IPv4 addresses"},
		{ProxyRange{0, addr("10.0.0.1"), addr("10.0.0.9")}, "a table of its own"},
		{ProxyRange{5, addr("10.0.0.1"), addr("10.0.0.9")}, "table ip4 5 is not there"},
		{Steering{Interface: "eth0", Prefix: prefix("10.1.0.0/24")}, "eth0 is no uplink"},
		{Steering{Interface: "uplink:eth0", Prefix: prefix("10.1.0.1/24")}, "host bits"},
		{Steering{Interface: "uplink:eth0", Prefix: prefix("10.1.0.0/24"), Protocol: 6, Port: 80}, "one address"},
		{SteerPort("uplink:eth0", addr("10.1.0.1"), 1, 80), "want tcp, udp or sctp"},
		{Interface{Name: "x", MTU: 1500, Device: NIC{Driver: NICAFPacket, Port: "eth0", MAC: MAC{2}, Share: true}}, "cannot share"},
		{ProxyARP{"gone"}, "interface gone is not there"},
		{ACL{"a b", nil}, "only letters"},
		{ACL{"a", []Rule{{Src: prefix("10.0.0.0/8"), Dst: prefix("::/0"), SrcPorts: AnyPorts(), DstPorts: AnyPorts()}}}, "two families"},
		{ACL{"a", []Rule{{Src: prefix("10.0.0.1/8"), Dst: prefix("0.0.0.0/0")}}}, "host bits"},
		{ACL{"a", []Rule{{Src: prefix("10.0.0.0/8"), Dst: prefix("0.0.0.0/0"), DstPorts: AnyPorts()}}}, "the protocol is not"},
		{ACL{"a", []Rule{{Src: prefix("10.0.0.0/8"), Dst: prefix("0.0.0.0/0"), Protocol: 6, DstPorts: Ports{2, 1}}}}, "ends before"},
		{ACL{"a", []Rule{{Action: 3, Src: prefix("10.0.0.0/8"), Dst: prefix("0.0.0.0/0"), SrcPorts: AnyPorts(), DstPorts: AnyPorts()}}}, "action-3"},
		{ACLBinding{"loop", nil, nil}, "names 0 ACLs"},
		{ACLBinding{"loop", slices.Repeat([]string{"a"}, 256), nil}, "names 256 ACLs"},
		{ACLBinding{"loop", nil, []string{"a", "a"}}, "stands twice in a direction"},
		{ACLBinding{"loop", nil, []string{"gone"}}, "acl gone is not there"},
		{Up{"gone"}, "interface gone is not there"},
		{Up{"loop"}, "stands twice"},
	}
	for _, tt := range tests {
		_, err := NewState(append(node(), tt.object)...)
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: error %v, want %q", tt.object, err, tt.want)
		}
	}
}

func nic(d NICDriver, port string) Interface {
	return Interface{Name: "n", MTU: 1500, Device: NIC{Driver: d, Port: port}}
}

func TestParsePCI(t *testing.T) {
	if p, err := ParsePCI("0001:af:1f.7"); err != nil || p != (PCI{1, 0xaf, 0x1f, 7}) {
		t.Errorf("%+v, %v", p, err)
	}
	for _, s := range []string{"", "0000:00:00", "0000:00:00.8", "0000:00:00-0", "000g:00:00.0", "0000:0+:00.0"} {
		if p, err := ParsePCI(s); err == nil {
			t.Errorf("%q gives %+v", s, p)
		}
	}
}

func TestParseStateErrors(t *testing.T) {
	tests := []struct{ text, want string }{
		{"tunnel a b", "line 1: tunnel a b: no kind"},
		{"route 10.0.0.0/8 path=!drop", "1 words name it, want 2"},
		{"\nroute 0 10.0.0.0/8 path=!nowhere", "line 2"},
		{"route 0 10.0.0.0/8 path=a*1", "want a weight"},
		{"route 0 10.0.0.0/8 path=!drop metric=3", "field metric"},
		{"interface a mtu=1500 device=tape", "want tun, tap, veth, memif, nic, bond, vlan, vxlan or loopback"},
		{"interface a mtu=1500 device=loopback netns=/x", "field netns"},
		{"interface a mtu=1500 device=memif mode=punt", `mode "punt": want ethernet or ip`},
		{"interface a mtu=1500 device=memif rx-queues=256", "field rx-queues"},
		{"interface a mtu=1500 device=memif secret=abc", "field secret"},
		{"interface a mtu=1500 device=memif dma=false", "field dma"},
		{"neighbor a 10.0.0.1 mac=02:00", "six groups"},
		{"acl a rule=permit,10.0.0.0/8", "want action,src,dst"},
		{"acl a rule=allow,10.0.0.0/8,0.0.0.0/0", `action "allow"`},
		{"acl a rule=permit,10.0.0.0/8,0.0.0.0/0,port=1", "want proto, sport or dport"},
		{"acl a rule=permit,10.0.0.0/8,0.0.0.0/0,proto=6,dport=65536", "too large"},
		{"acl-binding a b input=c", "2 words name it, want 1"},
		{"table ip5 1", `family "ip5"`},
		{"route 0 10.0.0.0/8 path=!lookup", "want !drop, !unreachable or !lookup:TABLE"},
		{"route 0 10.0.0.0/8 path=!lookup:x", "table"},
		{"interface a mtu=1500 device=nic driver=e1000", `driver "e1000": want one of`},
		{"interface a mtu=1500 device=bond mode=balance-tlb", `bond mode "balance-tlb"`},
		{"interface a mtu=1500 device=bond balance=vlan+srcmac", `bond balance "vlan+srcmac"`},
		{"proxy-range 5 10.0.0.1", "ParseAddr"},
		{"neighbor a 10.0.0.1 attached=no", "field attached"},
		{"up a", "interface a is not there"},
	}
	for _, tt := range tests {
		_, err := ParseState(tt.text)
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("ParseState(%q) = %v, want an error with %q", tt.text, err, tt.want)
		}
	}
}

func FuzzParseState(f *testing.F) {
	f.Add(state(f, node(), pod("pod/a", "10.1.0.5"), veth(), []Object{memif()}, acls(), uplink()).String())
	f.Fuzz(func(t *testing.T, text string) {
		s, err := ParseState(text)
		if err != nil {
			return
		}
		again, err := ParseState(s.String())
		if err != nil {
			t.Fatalf("cannot read what was printed: %v\n%s", err, s)
		}
		if !s.Equal(again) {
			t.Fatalf("text is not stable:\n%s\n%s", s, again)
		}
	})
}
