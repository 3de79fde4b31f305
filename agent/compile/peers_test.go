package compile

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/millrace/millrace/cluster"
	"github.com/millrace/millrace/dataplane"
)

// twoUplinks are a node's, in two subnets.
func twoUplinks() []dataplane.Uplink {
	return []dataplane.Uplink{
		uplink("eth0,1500,own,192.0.2.1/24,2001:db8::1/64"),
		uplink("eth1,1500,own,198.51.100.1/24"),
	}
}

// TestPeersApart: a node that joins, leaves or changes its address touches its own objects
// only.
func TestPeersApart(t *testing.T) {
	node := func(n byte, addresses ...string) cluster.Node {
		c := cluster.Node{Name: "worker-" + string('0'+n), PodCIDRs: []netip.Prefix{
			netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 1, n, 0}), 24),
			netip.PrefixFrom(netip.AddrFrom16([16]byte{0: 0xfd, 1: 1, 3: n}), 64),
		}}
		for _, a := range addresses {
			c.Addresses = append(c.Addresses, netip.MustParseAddr(a))
		}
		return c
	}
	self := node(1, "192.0.2.1", "2001:db8::1")
	walk := []struct {
		what  string
		nodes []cluster.Node
		moves string // the node that the plan may speak of
	}{
		{"one peer", []cluster.Node{node(2, "192.0.2.2", "2001:db8::2")}, "2"},
		{"another joins", []cluster.Node{node(2, "192.0.2.2", "2001:db8::2"), node(3, "192.0.2.3", "2001:db8::3")}, "3"},
		{"a third, elsewhere", []cluster.Node{node(2, "192.0.2.2", "2001:db8::2"), node(3, "192.0.2.3", "2001:db8::3"), node(4, "203.0.113.4", "2001:db8:4::4")}, "4"},
		{"one changes its address", []cluster.Node{node(2, "192.0.2.2", "2001:db8::2"), node(3, "192.0.2.33", "2001:db8::33"), node(4, "203.0.113.4", "2001:db8:4::4")}, "3"},
		{"one moves to another subnet", []cluster.Node{node(2, "198.51.100.2"), node(3, "192.0.2.33", "2001:db8::33"), node(4, "203.0.113.4", "2001:db8:4::4")}, "2"},
		{"one moves away", []cluster.Node{node(2, "203.0.113.2"), node(3, "192.0.2.33", "2001:db8::33"), node(4, "203.0.113.4", "2001:db8:4::4")}, "2"},
		{"the third moves", []cluster.Node{node(2, "203.0.113.2"), node(3, "192.0.2.33", "2001:db8::33"), node(4, "203.0.113.44", "2001:db8:4::44")}, "4"},
		{"one leaves", []cluster.Node{node(2, "203.0.113.2"), node(4, "203.0.113.44", "2001:db8:4::44")}, "3"},
	}
	o := Defaults()
	o.Uplinks = twoUplinks()
	before := compiled(t, o, self)
	for _, step := range walk {
		after := compiled(t, o, append(step.nodes, self)...)
		plan := dataplane.Diff(before, after)
		if len(plan) == 0 {
			t.Errorf("%s: nothing changes", step.what)
		}
		for _, s := range plan {
			if s.Verb == dataplane.Update && s.Object.Key() == dataplane.InterfaceKey("host/millrace0") {
				continue // its routes
			}
			if key := s.Object.Key().String(); !strings.Contains(key, "10.1."+step.moves+".0") && !strings.Contains(key, "fd01:"+step.moves+"::") && !strings.Contains(key, "worker-"+step.moves) {
				t.Errorf("%s: %s", step.what, s)
			}
		}
		before = after
	}
}

func compiled(t *testing.T, o Options, nodes ...cluster.Node) dataplane.State {
	t.Helper()
	s := cluster.Snapshot{Nodes: map[string]cluster.Node{}}
	for _, n := range nodes {
		s.Nodes[n.Name] = n
	}
	r, err := Compile(s, "worker-1", o)
	if err != nil {
		t.Fatal(err)
	}
	return r.State
}

// TestMaxSegments: kernels' ends cut what they send where an uplink or a tunnel does not take
// it whole, and the dataplane reads a veth.
func TestMaxSegments(t *testing.T) {
	self := cluster.Node{Name: "worker-1", PodCIDRs: []netip.Prefix{netip.MustParsePrefix("10.1.1.0/24")}, Addresses: []netip.Addr{netip.MustParseAddr("192.0.2.1")}}
	whole := twoUplinks()
	whole[0].Whole, whole[1].Whole = true, true
	for _, tt := range []struct {
		device        Device
		uplinks       []dataplane.Uplink
		encapsulation Encapsulation
		want          bool
	}{
		{DeviceVeth, twoUplinks(), EncapsulateNever, true},
		{DeviceVeth, whole, EncapsulateNever, false},
		{DeviceVeth, whole, EncapsulateCrossSubnet, true},
		{DeviceVeth, append(twoUplinks()[:1], whole[1]), EncapsulateNever, true},
		{DeviceVeth, nil, EncapsulateAlways, false},
		{DeviceTun, twoUplinks(), EncapsulateAlways, false},
	} {
		o := Defaults()
		o.Device, o.Uplinks, o.Encapsulation = tt.device, tt.uplinks, tt.encapsulation
		text := compiled(t, o, self).String()
		if strings.Contains(text, "host-max-segments=1") != tt.want {
			t.Errorf("%v, %v: want %v in\n%s", tt.device, tt.uplinks, tt.want, text)
		}
	}
}

// TestMTUInPlace: when uplinks come, the interfaces that exist get the MTU that fits, and are
// not made anew.
func TestMTUInPlace(t *testing.T) {
	s := cluster.Snapshot{Nodes: map[string]cluster.Node{"worker-1": {
		Name: "worker-1", PodCIDRs: []netip.Prefix{netip.MustParsePrefix("10.1.1.0/24")}, Addresses: []netip.Addr{netip.MustParseAddr("192.0.2.1")},
	}}}.WithAttachments(1, []cluster.Attachment{{
		ID: cluster.AttachmentID{ContainerID: "c1", IfName: "eth0"}, Netns: "/run/netns/c1", MTU: 1500,
		Addresses: []netip.Addr{netip.MustParseAddr("10.1.1.2")}, Revision: 1,
	}})
	c := NewCompiler("worker-1", Defaults())
	before, err := c.Update(s, cluster.Compare(cluster.Snapshot{}, s))
	if err != nil {
		t.Fatal(err)
	}
	c.Learn(twoUplinks(), nil)
	after, err := c.Update(s, cluster.Changes{})
	if err != nil {
		t.Fatal(err)
	}
	changed := 0
	for _, step := range dataplane.Diff(before.State, after.State) {
		i, ok := step.Object.(dataplane.Interface)
		if !ok {
			continue
		}
		if changed++; step.Verb != dataplane.Update || i.MTU != 1450 || i.Host.MTU != 1450 {
			t.Errorf("%s: want an update to 1450", step)
		}
	}
	if changed != 2 {
		t.Errorf("%d interfaces change, want the pod's and the host's", changed)
	}
}
