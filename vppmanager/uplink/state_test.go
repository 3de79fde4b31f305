package uplink

import (
	"flag"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/millrace/millrace/dataplane"
	"github.com/millrace/millrace/internal/nodeconfig"
	"github.com/millrace/millrace/vppmanager/inventory"
	"github.com/millrace/millrace/vppmanager/startup"
)

var update = flag.Bool("update", false, "rewrite the golden files")

func prefixes(list ...string) (out []netip.Prefix) {
	for _, s := range list {
		out = append(out, netip.MustParsePrefix(s))
	}
	return out
}

// via is a route of the main table.
func via(dst, gateway string, metric int) inventory.Route {
	r := inventory.Route{Dst: netip.MustParsePrefix(dst), Metric: metric, Table: 254}
	if gateway != "" {
		r.Via = netip.MustParseAddr(gateway)
	}
	return r
}

// first is an uplink as most nodes have one.
func first() startup.Uplink {
	return startup.Uplink{
		Name: "uplink0", Driver: nodeconfig.DriverDPDK, PCI: "0000:03:00.0", Host: "eth0", MAC: "02:00:00:00:01:00", MTU: 1500,
		Addresses: prefixes("192.0.2.9/24", "2001:db8::9/64", "fe80::1/64"),
		Routes:    []inventory.Route{via("0.0.0.0/0", "192.0.2.1", 100), via("::/0", "fe80::99", 1024), via("fe80::/64", "", 256), via("ff00::/8", "", 256)},
	}
}

func second() startup.Uplink {
	policy := via("0.0.0.0/0", "198.51.100.1", 0)
	policy.Table = 7
	return startup.Uplink{
		Name: "uplink1", Driver: nodeconfig.DriverAFPacket, Link: "p-eth1", Host: "eth1", MAC: "02:00:00:00:01:01", RxQueues: 2,
		Addresses: prefixes("198.51.100.9/25", "198.51.100.10/25", "192.0.2.10/24", "203.0.113.7/32"),
		Routes: []inventory.Route{
			via("0.0.0.0/0", "198.51.100.1", 200), policy, via("10.0.0.0/8", "198.51.100.2", 0), via("10.0.0.0/8", "198.51.100.3", 0),
			via("172.16.0.0/16", "", 0), via("192.168.0.0/16", "10.99.99.1", 0),
		},
	}
}

func TestState(t *testing.T) {
	bond := startup.Uplink{
		Name: "uplink0", MAC: "02:00:00:00:01:00", MTU: 9000,
		Bond: &inventory.Bond{Mode: "802.3ad", XmitHash: "encap3+4", Members: []string{"eth0", "eth1"}},
		Members: []startup.Uplink{
			{Name: "member0", Driver: nodeconfig.DriverDPDK, PCI: "0000:03:00.0", MAC: "02:00:00:00:01:00"},
			{Name: "member1", Driver: nodeconfig.DriverAVF, PCI: "0000:03:02.1", MAC: "02:00:00:00:01:01", RxQueues: 4},
		},
		VLANs: []startup.SubUplink{{ID: 7, Host: "bond0.7", MTU: 1500, Addresses: prefixes("192.0.2.9/24"), Routes: []inventory.Route{via("0.0.0.0/0", "192.0.2.1", 0)}}},
	}
	alone := first()
	alone.Host = ""
	shared := first()
	shared.Driver, shared.PCI, shared.Host, shared.Link, shared.Share, shared.Routes = nodeconfig.DriverAFXDP, "", "", "eth0", true, nil
	tests := []struct {
		name    string
		uplinks []startup.Uplink
		options Options
	}{
		{"one", []startup.Uplink{first()}, Options{Tap: true}},
		{"veth", []startup.Uplink{first()}, Options{}},
		{"no-host-link", []startup.Uplink{alone}, Options{Tap: true}},
		{"several", []startup.Uplink{first(), second()}, Options{Tap: true}},
		{"bond-vlan", []startup.Uplink{bond}, Options{Tap: true}},
		{"no-address", []startup.Uplink{{Name: "uplink0", Driver: nodeconfig.DriverVirtio, PCI: "0000:00:03.0", Host: "eth0", MAC: "02:00:00:00:01:00"}}, Options{Tap: true}},
		{"share", []startup.Uplink{shared}, Options{Tap: true}},
		{"none", nil, Options{}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s, err := State(tt.uplinks, tt.options)
			if err != nil {
				t.Fatal(err)
			}
			path := filepath.Join("testdata", tt.name+".golden")
			if *update {
				if err := os.WriteFile(path, []byte(s.String()), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), s.String()); diff != "" {
				t.Errorf("%s (-want +got):\n%s", path, diff)
			}
			again, err := State(tt.uplinks, tt.options)
			if err != nil || len(dataplane.Diff(s, again)) != 0 {
				t.Errorf("a second time leads elsewhere: %v", err)
			}
		})
	}
}

func TestStateErrors(t *testing.T) {
	tests := []struct {
		edit func(*startup.Uplink)
		want string
	}{
		{func(u *startup.Uplink) { u.MAC = "" }, "uplink uplink0: parse MAC"},
		{func(u *startup.Uplink) { u.Driver = nodeconfig.DriverAuto }, `uplink uplink0: driver "auto"`},
		{func(u *startup.Uplink) { u.Driver, u.PCI = nodeconfig.DriverAVF, "eth0" }, "check interface uplink0: PCI address"},
		{func(u *startup.Uplink) { u.Bond = &inventory.Bond{Mode: "balance-tlb"} }, `bond mode "balance-tlb"`},
		{func(u *startup.Uplink) { u.VLANs = []startup.SubUplink{{ID: 5000}} }, "check interface uplink0.5000: vlan 5000"},
		{func(u *startup.Uplink) { u.Host = "much-too-long-for-it" }, "host device"},
		{func(u *startup.Uplink) { u.Driver, u.Link, u.RxRing = nodeconfig.DriverAFXDP, "p-eth0", 1<<17 }, "want 0 to 65535"},
	}
	for _, tt := range tests {
		u := first()
		tt.edit(&u)
		if _, err := State([]startup.Uplink{u}, Options{Tap: true}); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("error %v, want %q", err, tt.want)
		}
	}
	if _, err := State([]startup.Uplink{first(), first()}, Options{}); err == nil || !strings.Contains(err.Error(), "stands twice") {
		t.Errorf("the same uplink twice: %v", err)
	}
}
