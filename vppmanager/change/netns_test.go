package change

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/millrace/millrace/internal/netnstest"
)

// node is a namespace with the links of a node: eth1 is the NIC that is taken, eth2 stays.
type node struct {
	*netnstest.Namespace
	peer *netnstest.Namespace // what the NICs are plugged into
}

func newNode(t *testing.T) node {
	t.Helper()
	n := node{netnstest.New(t), netnstest.New(t)}
	// Without duplicate address detection the kernel comes to rest a second earlier, and
	// walks come to that hundreds of times.
	n.Run(t, func() error {
		return errors.Join(os.WriteFile("/proc/sys/net/ipv6/conf/default/accept_dad", []byte("0"), 0o644),
			os.WriteFile("/proc/sys/net/ipv6/conf/all/accept_dad", []byte("0"), 0o644))
	})
	n.plug(t)
	n.ip(t, "link add eth2 type veth peer name far2 netns "+n.peer.Name, "link set eth2 up", "address add 198.51.100.2/24 dev eth2",
		"-6 address add 2001:db8:2::2/64 dev eth2 nodad")
	n.peer.Run(t, func() error { return command("ip", "link", "set", "far2", "up") })
	return n
}

// plug makes the NIC as a driver does: with the kernel's defaults, down.
func (n node) plug(t *testing.T) {
	t.Helper()
	if err := n.makeNIC(); err != nil {
		t.Fatal(err)
	}
}

func (n node) makeNIC() error {
	return n.Do(func() error {
		if err := command("ip", "link", "add", "eth1", "address", "02:00:00:00:00:01", "type", "veth", "peer", "name", "far1", "netns", n.peer.Name); err != nil {
			return err
		}
		return n.peer.Do(func() error { return command("ip", "link", "set", "far1", "up") })
	})
}

func (n node) unplugNIC() error {
	return n.Do(func() error {
		for _, name := range []string{"eth1", "p-eth1"} {
			l, err := linkByName(name)
			if err == nil && l.virtual() == "veth" && text(l.find(1)) == "\x02\x00\x00\x00\x00\x01" {
				return command("ip", "link", "delete", name)
			}
		}
		return fmt.Errorf("there is no NIC")
	})
}

func command(name string, args ...string) error {
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, out)
	}
	return nil
}

func (n node) ip(t *testing.T, lines ...string) {
	t.Helper()
	n.Run(t, func() error {
		for _, line := range lines {
			if err := command("ip", strings.Fields(line)...); err != nil {
				return err
			}
		}
		return nil
	})
}

// furnish hangs all kinds of things on a link.
func (n node) furnish(t *testing.T) {
	t.Helper()
	n.ip(t,
		"link set eth1 alias uplink txqueuelen 777 group 7 mtu 1400",
		"link property add dev eth1 altname enp3s0",
		"link set eth1 allmulticast on up",
		"address add 192.0.2.1/24 brd + dev eth1",
		"address add 192.0.2.7/24 dev eth1",
		"address add 10.7.0.1/16 dev eth1 noprefixroute",
		"address add 203.0.113.5/32 peer 203.0.113.6 dev eth1",
		"address add 192.0.2.99/25 dev eth1 valid_lft 5000 preferred_lft 4000",
		"-6 address add 2001:db8:1::1/64 dev eth1 nodad",
		"-6 address add 2001:db8:1::7/64 dev eth1",
		"-6 address add 2001:db8:1::8/64 dev eth1 valid_lft 5000 preferred_lft 4000",
		"route add default via 192.0.2.254 dev eth1 proto dhcp src 192.0.2.1 metric 100",
		"route add 10.1.0.0/16 via 192.0.2.253 mtu 1300 advmss 1200",
		"route add 10.2.0.0/16 via 10.9.9.9 dev eth1 onlink proto static",
		"route add 10.3.0.0/16 via 10.1.0.1 onlink dev eth1 tos 0x10",
		"route add 10.4.0.0/16 nexthop via 192.0.2.250 dev eth1 weight 2 nexthop via 192.0.2.251 dev eth1 weight 1",
		"route add 10.5.0.0/16 nexthop via 192.0.2.250 dev eth1 nexthop via 198.51.100.9 dev eth2",
		"route add default via 192.0.2.254 dev eth1 table 100",
		"route add 192.0.2.0/24 dev eth1 scope link table 100",
		"route append 10.4.0.0/16 via 192.0.2.252 dev eth1",
		"route add blackhole 10.66.0.0/16",
		"route add 10.67.0.0/16 via 198.51.100.9",
		"rule add from 192.0.2.1 lookup 100 priority 1000",
		"rule add iif eth1 lookup 100 priority 1001",
		"rule add oif eth1 fwmark 0x10/0xff lookup 100 priority 1002",
		"-6 rule add iif eth1 lookup 100 priority 1003",
		"neighbour add 192.0.2.254 lladdr 02:00:00:00:01:fe dev eth1",
		"neighbour add 2001:db8:1::fe lladdr 02:00:00:00:01:ff dev eth1",
		"neighbour add proxy 192.0.2.33 dev eth1",
		"-6 route add default via fe80::fe dev eth1 metric 100 proto ra expires 4000",
		"-6 route add 2001:db8:a::/48 via 2001:db8:1::fe src 2001:db8:1::1",
		"-6 route add 2001:db8:b::/48 nexthop via 2001:db8:1::fd dev eth1 nexthop via 2001:db8:1::fe dev eth1",
		"-6 route add 2001:db8:c::/48 nexthop via 2001:db8:1::fd dev eth1 nexthop via 2001:db8:2::fe dev eth2",
		"-6 route add 2001:db8:d::/48 dev eth1 table 100",
		"-6 route add unreachable 2001:db8:66::/48",
		"nexthop add id 41 via 192.0.2.249 dev eth1",
		"nexthop add id 42 group 41",
		"route add 10.8.0.0/16 nhid 41",
		"route add 10.9.0.0/16 nhid 42",
		"link add mv1 link eth1 address 02:00:00:00:00:02 type macvlan mode bridge",
		"link set mv1 mtu 1350 up",
		"address add 192.0.3.1/24 dev mv1",
		"route add 10.10.0.0/16 via 192.0.3.254",
	)
	n.Run(t, func() error {
		for path, value := range map[string]string{
			"ipv4/conf/eth1/rp_filter": "2", "ipv4/conf/eth1/forwarding": "1", "ipv4/neigh/eth1/gc_stale_time": "77",
			"ipv6/conf/eth1/accept_ra": "0", "ipv6/conf/eth1/use_tempaddr": "0", "ipv4/conf/mv1/arp_ignore": "1",
		} {
			if err := os.WriteFile("/proc/sys/net/"+path, []byte(value), 0o644); err != nil {
				return err
			}
		}
		return nil
	})
	if _, err := exec.LookPath("ethtool"); err == nil {
		n.Run(t, func() error { return command("ethtool", "-K", "eth1", "tso", "off") })
	}
}

// look reads all of the namespace in a form that can be compared, once the kernel has
// come to rest.
func (n node) look(t *testing.T) map[string]string {
	t.Helper()
	last := n.read(t)
	for end := time.Now().Add(2 * time.Minute); ; {
		time.Sleep(20 * time.Millisecond)
		now := n.read(t)
		rest := !slices.ContainsFunc(slices.Collect(mapValues(now)), func(v string) bool { return strings.Contains(v, `"tentative"`) })
		if rest && cmp.Equal(last, now) {
			return now
		}
		if time.Now().After(end) {
			t.Fatalf("the namespace does not come to rest: %s", cmp.Diff(last, now))
		}
		last = now
	}
}

func mapValues(m map[string]string) func(func(string) bool) {
	return func(yield func(string) bool) {
		for _, v := range m {
			if !yield(v) {
				return
			}
		}
	}
}

func (n node) read(t *testing.T) map[string]string {
	t.Helper()
	all := map[string]string{}
	for _, what := range []string{
		"-d address", "-d link", "-4 -d route show table all", "-6 -d route show table all", "-4 rule", "-6 rule",
		"neighbour show nud permanent", "neighbour show proxy", "nexthop",
	} {
		out, err := n.Command(t, "ip", append([]string{"-j"}, strings.Fields(what)...)...).Output()
		if err != nil {
			t.Fatalf("ip %s: %v", what, err)
		}
		var list []map[string]any
		if err := json.Unmarshal(out, &list); err != nil && len(out) > 2 {
			t.Fatalf("ip %s: %v: %s", what, err, out)
		}
		number := 0
		for _, object := range list {
			normal(object)
			line, err := json.Marshal(object)
			if err != nil {
				t.Fatal(err)
			}
			// Routes and rules have an order. Links, and what the kernel makes for them by
			// itself, come in that of their making.
			name := fmt.Sprint(number)
			if link, ok := object["ifname"].(string); ok {
				name = link
			} else if object["protocol"] == "kernel" {
				name = string(line)
			} else {
				number++
			}
			all[what+" "+name] = string(line)
		}
	}
	n.Run(t, func() error { return n.readFiles(all) })
	return all
}

func (n node) readFiles(all map[string]string) error {
	files, err := filepath.Glob("/proc/sys/net/ipv[46]/*/*[a-z]*[0-9]/*")
	if err != nil {
		return err
	}
	for _, f := range files {
		if value, err := os.ReadFile(f); err == nil {
			all[f] = string(value)
		}
	}
	for _, link := range []string{"eth1", "eth2", "mv1"} {
		hw, err := readHardware(link)
		if err != nil {
			return err
		}
		text, err := json.Marshal(hw)
		if err != nil {
			return err
		}
		all["hardware "+link] = string(text)
	}
	return nil
}

// normal leaves out numbers that the kernel gives, and how many seconds are left.
func normal(v any) {
	switch v := v.(type) {
	case map[string]any:
		for _, key := range []string{"ifindex", "link_index", "link_netnsid"} {
			delete(v, key)
		}
		for _, key := range []string{"valid_life_time", "preferred_life_time", "expires"} {
			if left, ok := v[key].(float64); ok && left < 1e6 {
				v[key] = "finite"
			}
		}
		for _, inner := range v {
			normal(inner)
		}
	case []any:
		for _, inner := range v {
			normal(inner)
		}
	}
}
