package host

import (
	"cmp"
	"encoding/json"
	"fmt"
	"net/netip"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/millrace/millrace/internal/netnstest"
	"github.com/millrace/millrace/vppmanager/inventory"
)

// wiring makes links of all kinds with all kinds of things on them. A line that starts
// with ? may fail: this kernel may lack the kind of link.
const wiring = `
link add eth0 type veth peer name far0
link add eth1 type veth peer name far1
link add eth2 type veth peer name far2
link set eth0 addrgenmode none
link set eth0 mtu 1400 up
link set far0 up
link property add dev eth0 altname a-rather-long-name-of-a-link
link add br0 type bridge
link set eth1 master br0
link set br0 up
link set eth1 up
?link add mv0 link eth0 type macvlan mode bridge
?link add link eth0 name eth0.100 type vlan id 100
?link add link eth0 name eth0.200 type vlan proto 802.1ad id 200
?link add bond0 type bond mode 802.3ad xmit_hash_policy layer3+4 lacp_rate fast
?link set eth2 master bond0
?link add vrf1 type vrf table 77
address add 192.0.2.2/24 dev eth0
address add 192.0.2.3/24 dev eth0
address add 198.51.100.1 peer 198.51.100.2/32 dev eth0
address add 203.0.113.9/25 dev eth0 valid_lft 3600 preferred_lft 1800 noprefixroute
address add 2001:db8::2/64 dev eth0 nodad
address add 2001:db8:1::2/64 dev eth0 nodad noprefixroute valid_lft 7200 preferred_lft 7200
address add fe80::2/64 dev eth0 nodad
address add 10.9.0.1/16 dev br0
route add default via 192.0.2.1 dev eth0 proto static metric 50
route add 10.1.0.0/16 via 192.0.2.1 mtu 1300
route add 10.2.0.0/16 nexthop via 192.0.2.1 dev eth0 weight 3 nexthop via 10.9.0.2 dev br0 weight 1
route add 10.3.0.0/16 via 10.99.99.99 dev eth0 onlink
route add 10.4.0.0/16 via inet6 fe80::1 dev eth0
route add 10.5.0.0/16 dev eth0 src 192.0.2.3 table 100
route add broadcast 10.6.255.255 dev eth0
route add local 10.7.0.1/32 dev br0 table 100
route add default via 2001:db8::1 dev eth0 metric 77 proto ra
route add 2001:db8:5::/48 dev eth0 table 1000
rule add from 192.0.2.2 lookup 100 priority 100
rule add to 10.0.0.0/8 fwmark 0x10/0xff lookup 100 priority 101
rule add not iif eth0 lookup main suppress_prefixlength 0 priority 102
rule add ipproto tcp dport 22 lookup 100 priority 103
rule add sport 1000-2000 oif br0 blackhole priority 104
rule add from 10.8.0.0/16 goto 32766 priority 105
-6 rule add from 2001:db8::/64 lookup 1000 priority 100
-6 rule add unreachable priority 200 uidrange 5-6
neigh add 192.0.2.1 lladdr 02:00:00:00:00:01 dev eth0 nud permanent
neigh add 2001:db8::1 lladdr 02:00:00:00:00:02 dev eth0 nud permanent
neigh add 192.0.2.77 lladdr 02:00:00:00:00:77 dev eth0 nud reachable
`

// TestIntegrationLinks reads links that ip has made, and compares with what ip says.
func TestIntegrationLinks(t *testing.T) {
	netnstest.CheckLeaks(t)
	ns := netnstest.New(t)
	if _, err := exec.LookPath("ip"); err != nil {
		t.Skip("needs ip (iproute2)")
	}
	ip := func(args ...string) string {
		out, err := exec.Command("ip", append([]string{"-n", ns.Name}, args...)...).CombinedOutput()
		if err != nil {
			t.Fatalf("ip %v: %v\n%s", args, err, out)
		}
		return string(out)
	}
	lacks := ""
	for line := range strings.Lines(wiring) {
		line, optional := strings.CutPrefix(strings.TrimSpace(line), "?")
		if line == "" {
			continue
		}
		if !optional {
			ip(strings.Fields(line)...)
		} else if out, err := exec.Command("ip", append([]string{"-n", ns.Name}, strings.Fields(line)...)...).CombinedOutput(); err != nil {
			lacks += fmt.Sprintf("\nip %s: %s", line, strings.TrimSpace(string(out)))
		}
	}
	if lacks != "" {
		t.Logf("this kernel lacks kinds of links:%s", lacks)
	}
	var inv inventory.Node
	ns.Run(t, func() error {
		var err error
		inv, err = Machine().Inspect(Query{})
		return err
	})
	for _, nic := range inv.NICs {
		if nic.Name != "" && (nic.PCI != "" || nic.Bus != "") {
			t.Errorf("%s: a virtual link is on %s %s", nic.Name, nic.Bus, nic.PCI)
		}
	}
	checkLinks(t, inv, ip("-j", "-d", "link", "show"))
	checkAddresses(t, inv, ip("-j", "-d", "address", "show"))
	checkNeighbors(t, inv, ip("-j", "neigh", "show", "nud", "permanent"))
	checkRoutes(t, inv, 4, ip("-j", "-d", "-4", "route", "show", "table", "all"))
	checkRoutes(t, inv, 6, ip("-j", "-d", "-6", "route", "show", "table", "all"))
	checkRules(t, inv, ip("-4", "rule", "show"), ip("-6", "rule", "show"))
}

// same compares two sets of lines.
func same(t *testing.T, what string, ip, ours []string) {
	t.Helper()
	slices.Sort(ip)
	slices.Sort(ours)
	if diff := gocmp.Diff(ip, ours); diff != "" {
		t.Errorf("%s (-ip +ours):\n%s", what, diff)
	}
	if len(ip) == 0 {
		t.Errorf("%s: none", what)
	}
}

func parse(t *testing.T, text string, into any) {
	t.Helper()
	if err := json.Unmarshal([]byte(text), into); err != nil {
		t.Fatalf("%v in %s", err, text)
	}
}

func checkLinks(t *testing.T, inv inventory.Node, text string) {
	var list []struct {
		IfIndex                       int
		IfName, Link, Master, Address string
		MTU                           int
		Flags, AltNames               []string
		LinkType                      string `json:"link_type"`
		LinkInfo                      struct {
			Kind string `json:"info_kind"`
			Data struct {
				Protocol, Mode string
				ID             int
				Hash           string `json:"xmit_hash_policy"`
				Rate           string `json:"ad_lacp_rate"`
			} `json:"info_data"`
		}
	}
	parse(t, text, &list)
	var ip, ours []string
	for _, l := range list {
		if l.LinkType != "ether" {
			continue
		}
		s := fmt.Sprint(l.IfIndex, l.IfName, l.AltNames, l.Address, l.MTU, " kind ", l.LinkInfo.Kind, " in ", l.Master,
			slices.Contains(l.Flags, "UP"), slices.Contains(l.Flags, "LOWER_UP"))
		switch d := l.LinkInfo.Data; l.LinkInfo.Kind {
		case "vlan":
			s += fmt.Sprint(" vlan ", d.ID, " on ", l.Link, d.Protocol == "802.1ad")
		case "bond":
			s += fmt.Sprint(" bond ", d.Mode, d.Hash, d.Rate == "fast")
		}
		ip = append(ip, s)
	}
	for _, n := range inv.NICs {
		if n.Name == "" {
			continue
		}
		s := fmt.Sprint(n.Index, n.Name, n.AltNames, n.MAC, n.MTU, " kind ", n.Kind, " in ", n.Master, n.Up, n.Carrier)
		if n.VLAN != nil {
			s += fmt.Sprint(" vlan ", n.VLAN.ID, " on ", n.VLAN.Parent, n.VLAN.Tag == "802.1ad")
		}
		if n.Bond != nil {
			s += fmt.Sprint(" bond ", n.Bond.Mode, n.Bond.XmitHash, n.Bond.LACPFast)
		}
		ours = append(ours, s)
		if n.Kind == "veth" && (n.Driver != "veth" || len(n.Offloads) == 0 || n.RxQueues == 0) {
			t.Errorf("%s: ethtool said nothing: driver %q, %d features, %d queues", n.Name, n.Driver, len(n.Offloads), n.RxQueues)
		}
	}
	same(t, "links", ip, ours)
}

func checkAddresses(t *testing.T, inv inventory.Node, text string) {
	type address struct {
		Local, Address, Scope       string
		PrefixLen                   int
		Dynamic, NoPrefixRoute      bool
		Secondary, NoDAD, Permanent bool
		Valid                       uint32 `json:"valid_life_time"`
	}
	var list []struct {
		IfName string
		Addr   []address `json:"addr_info"`
	}
	parse(t, text, &list)
	var ip, ours []string
	for _, l := range list {
		for _, a := range l.Addr {
			if l.IfName == "lo" {
				continue
			}
			peer := ""
			if a.Address != "" {
				peer = fmt.Sprintf("%s/%d", a.Address, a.PrefixLen)
			}
			ip = append(ip, fmt.Sprint(l.IfName, " ", a.Local, "/", a.PrefixLen, " ", peer, " ", a.Scope, a.Dynamic, a.NoPrefixRoute, a.Secondary, a.NoDAD, a.Valid != 1<<32-1))
		}
	}
	for _, n := range inv.NICs {
		for _, a := range n.Addresses {
			peer := ""
			if a.Peer.IsValid() {
				peer = a.Peer.String()
			}
			has := func(flag string) bool { return slices.Contains(a.Flags, flag) }
			ours = append(ours, fmt.Sprint(n.Name, " ", a.Prefix, " ", peer, " ", a.Scope, has("dynamic"), has("noprefixroute"), has("secondary"), has("nodad"), a.ValidFor > 0))
			if a.ValidFor > 7200 || a.Permanent == has("dynamic") {
				t.Errorf("%s %v: valid for %d s, permanent %t", n.Name, a.Prefix, a.ValidFor, a.Permanent)
			}
		}
	}
	same(t, "addresses", ip, ours)
}

func checkNeighbors(t *testing.T, inv inventory.Node, text string) {
	var list []struct{ Dst, Dev, LLAddr string }
	parse(t, text, &list)
	var ip, ours []string
	for _, n := range list {
		ip = append(ip, n.Dev+" "+n.Dst+" "+n.LLAddr)
	}
	for _, n := range inv.NICs {
		for _, e := range n.Neighbors {
			ours = append(ours, n.Name+" "+e.Addr.String()+" "+e.MAC)
		}
	}
	same(t, "neighbours", ip, ours)
}

// way is the part of a route that ip prints for the whole of it, or for each next hop.
type way struct {
	Gateway string
	Via     struct{ Host string }
	Dev     string
	Flags   []string
	Weight  int
}

func (w way) text() string {
	return fmt.Sprint(" via ", cmp.Or(w.Gateway, w.Via.Host), " onlink ", slices.Contains(w.Flags, "onlink"), " weight ", w.Weight)
}

func checkRoutes(t *testing.T, inv inventory.Node, family int, text string) {
	var list []struct {
		way
		Type, Dst, Table, Protocol, Scope, PrefSrc string
		Metric                                     int
		Nexthops                                   []way
		Metrics                                    []struct{ MTU int }
	}
	parse(t, text, &list)
	var ip, ours []string
	for _, r := range list {
		table := cmp.Or(map[string]string{"": "254", "main": "254", "local": "255"}[r.Table], r.Table)
		if table == "255" && r.Protocol == "kernel" {
			continue
		}
		mtu := 0
		for _, m := range r.Metrics {
			mtu = m.MTU
		}
		s := fmt.Sprint(r.Type, " ", prefixOf(r.Dst, family), " table ", table, " metric ", r.Metric, " src ", r.PrefSrc, " mtu ", mtu)
		if len(r.Nexthops) == 0 && r.Dev != "lo" {
			ip = append(ip, r.Dev+" "+s+r.text())
		}
		for _, hop := range r.Nexthops {
			ip = append(ip, hop.Dev+" "+s+hop.text())
		}
	}
	for _, n := range inv.NICs {
		for _, r := range n.Routes {
			if r.Dst.Addr().Is4() != (family == 4) {
				continue
			}
			source := ""
			if r.Source.IsValid() {
				source = r.Source.String()
			}
			w := way{Weight: r.Weight}
			if r.Via.IsValid() {
				w.Gateway = r.Via.String()
			}
			if r.OnLink {
				w.Flags = []string{"onlink"}
			}
			ours = append(ours, fmt.Sprint(n.Name, " ", cmp.Or(r.Type, "unicast"), " ", r.Dst, " table ", r.Table, " metric ", r.Metric, " src ", source, " mtu ", r.MTU)+w.text())
		}
	}
	same(t, fmt.Sprintf("IPv%d routes", family), ip, ours)
}

func prefixOf(dst string, family int) string {
	if dst == "default" {
		return map[int]string{4: "0.0.0.0/0", 6: "::/0"}[family]
	}
	if addr, err := netip.ParseAddr(dst); err == nil {
		return netip.PrefixFrom(addr, addr.BitLen()).String()
	}
	return dst
}

func checkRules(t *testing.T, inv inventory.Node, four, six string) {
	var ip, ours []string
	for i, text := range []string{four, six} {
		for line := range strings.Lines(text) {
			priority, rule, _ := strings.Cut(strings.TrimSpace(line), ":\t")
			ip = append(ip, fmt.Sprint(4+2*i, " ", priority, " ", rule))
		}
	}
	for _, r := range inv.Rules {
		ours = append(ours, fmt.Sprint(r.Family, " ", strconv.Itoa(r.Priority), " ", r.Text))
	}
	same(t, "rules", ip, ours)
}
