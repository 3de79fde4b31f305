package host

import (
	"cmp"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/millrace/millrace/vppmanager/inventory"
)

// routesThrough are the ways of a route that lead through one link.
func routesThrough(r netlink.Route, link int) []inventory.Route {
	base := inventory.Route{
		Dst: prefix(r.Dst), Source: addr(r.Src), Table: r.Table, Metric: r.Priority, Type: routeType(r.Type),
		Protocol: r.Protocol.String(), Scope: scope(r.Scope), MTU: r.MTU,
	}
	if r.Dst == nil {
		base.Dst = everything(r.Family)
	}
	if len(r.MultiPath) == 0 {
		if r.LinkIndex != link {
			return nil
		}
		base.Via, base.OnLink = via(r.Gw, r.Via), r.Flags&unix.RTNH_F_ONLINK != 0
		return []inventory.Route{base}
	}
	var out []inventory.Route
	for _, hop := range r.MultiPath {
		if hop.LinkIndex != link {
			continue
		}
		way := base
		way.Via, way.OnLink, way.Weight = via(hop.Gw, hop.Via), hop.Flags&unix.RTNH_F_ONLINK != 0, hop.Hops+1
		out = append(out, way)
	}
	return out
}

func everything(family int) netip.Prefix {
	if family == unix.AF_INET6 {
		return netip.PrefixFrom(netip.IPv6Unspecified(), 0)
	}
	return netip.PrefixFrom(netip.IPv4Unspecified(), 0)
}

func addr(ip net.IP) netip.Addr {
	a, _ := netip.AddrFromSlice(ip)
	return a.Unmap()
}

// via is the gateway, which may be of the other family (RFC 8950).
func via(gateway net.IP, other netlink.Destination) netip.Addr {
	if v, ok := other.(*netlink.Via); ok && gateway == nil {
		return addr(v.Addr)
	}
	return addr(gateway)
}

func routeType(t int) string {
	switch t {
	case unix.RTN_UNICAST, unix.RTN_UNSPEC:
		return ""
	case unix.RTN_LOCAL:
		return "local"
	case unix.RTN_BROADCAST:
		return "broadcast"
	case unix.RTN_ANYCAST:
		return "anycast"
	case unix.RTN_MULTICAST:
		return "multicast"
	case unix.RTN_BLACKHOLE:
		return "blackhole"
	case unix.RTN_UNREACHABLE:
		return "unreachable"
	case unix.RTN_PROHIBIT:
		return "prohibit"
	case unix.RTN_THROW:
		return "throw"
	case unix.RTN_NAT:
		return "nat"
	}
	return strconv.Itoa(t)
}

func rules(list []netlink.Rule) []inventory.Rule {
	var out []inventory.Rule
	for _, r := range list {
		family := 4
		if r.Family == unix.AF_INET6 {
			family = 6
		}
		out = append(out, inventory.Rule{Family: family, Priority: max(r.Priority, 0), Text: ruleText(r)})
	}
	slices.SortStableFunc(out, func(a, b inventory.Rule) int {
		return cmp.Or(cmp.Compare(a.Family, b.Family), cmp.Compare(a.Priority, b.Priority))
	})
	return out
}

// ruleText is the rule as `ip rule` prints it, without the priority.
func ruleText(r netlink.Rule) string {
	var b strings.Builder
	if r.Invert {
		b.WriteString("not ")
	}
	b.WriteString("from " + orAll(r.Src))
	if r.Dst != nil {
		b.WriteString(" to " + orAll(r.Dst))
	}
	if r.Tos != 0 {
		fmt.Fprintf(&b, " tos 0x%02x", r.Tos)
	}
	if r.Mark != 0 || r.Mask != nil && *r.Mask != 0 {
		fmt.Fprintf(&b, " fwmark 0x%x", r.Mark)
		if r.Mask != nil && *r.Mask != 0xffffffff {
			fmt.Fprintf(&b, "/0x%x", *r.Mask)
		}
	}
	for _, name := range []struct{ word, link string }{{"iif", r.IifName}, {"oif", r.OifName}} {
		if name.link != "" {
			b.WriteString(" " + name.word + " " + name.link)
		}
	}
	if r.UIDRange != nil {
		fmt.Fprintf(&b, " uidrange %d-%d", r.UIDRange.Start, r.UIDRange.End)
	}
	ruleTransport(&b, r)
	if r.TunID != 0 {
		fmt.Fprintf(&b, " tun_id %d", r.TunID)
	}
	ruleAction(&b, r)
	return b.String()
}

func ruleTransport(b *strings.Builder, r netlink.Rule) {
	if r.IPProto != 0 {
		name, known := map[int]string{unix.IPPROTO_ICMP: "icmp", unix.IPPROTO_TCP: "tcp", unix.IPPROTO_UDP: "udp"}[r.IPProto]
		if !known {
			name = strconv.Itoa(r.IPProto)
		}
		b.WriteString(" ipproto " + name)
	}
	for _, p := range []struct {
		word  string
		ports *netlink.RulePortRange
	}{{"sport", r.Sport}, {"dport", r.Dport}} {
		switch {
		case p.ports == nil:
		case p.ports.Start == p.ports.End:
			fmt.Fprintf(b, " %s %d", p.word, p.ports.Start)
		default:
			fmt.Fprintf(b, " %s %d-%d", p.word, p.ports.Start, p.ports.End)
		}
	}
}

// The actions of linux/fib_rules.h.
const (
	toTable       = 1
	toBlackhole   = 6
	toUnreachable = 7
	toProhibit    = 8
)

func ruleAction(b *strings.Builder, r netlink.Rule) {
	switch {
	case r.Goto > 0:
		fmt.Fprintf(b, " goto %d", r.Goto)
	case r.Type == toBlackhole:
		b.WriteString(" blackhole")
	case r.Type == toUnreachable:
		b.WriteString(" unreachable")
	case r.Type == toProhibit:
		b.WriteString(" prohibit")
	case r.Type == toTable && r.Table == 0:
		b.WriteString(" lookup [l3mdev-table]")
	case r.Table != 0:
		b.WriteString(" lookup " + tableName(r.Table))
	default:
		b.WriteString(" nop")
	}
	if r.SuppressPrefixlen >= 0 {
		fmt.Fprintf(b, " suppress_prefixlength %d", r.SuppressPrefixlen)
	}
	if r.SuppressIfgroup >= 0 {
		fmt.Fprintf(b, " suppress_ifgroup %d", r.SuppressIfgroup)
	}
}

func tableName(table int) string {
	switch table {
	case unix.RT_TABLE_LOCAL:
		return "local"
	case unix.RT_TABLE_MAIN:
		return "main"
	case unix.RT_TABLE_DEFAULT:
		return "default"
	}
	return strconv.Itoa(table)
}

func orAll(n *net.IPNet) string {
	if n == nil {
		return "all"
	}
	p := prefix(n)
	if p.IsSingleIP() {
		return p.Addr().String()
	}
	return p.String()
}
