package dataplane

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/millrace/millrace/internal/textline"
)

// parseObject reads one line of a State.
func parseObject(l textline.Line) (Object, error) {
	if len(l.Words) == 0 {
		return nil, fmt.Errorf("want a kind of object first")
	}
	words := l.Words[1:]
	want := 2
	switch l.Words[0] {
	case "acl", "acl-binding", "bond-member", "host-nat", "host-setting", "interface", "nat-interface", "nat-kept", "proxy-arp", "source-nat", "unnumbered", "up":
		want = 1
	}
	if len(words) != want {
		return nil, fmt.Errorf("%s: %d words name it, want %d", l.Words[0], len(words), want)
	}
	r := textline.Read(l)
	o, err := readObject(l.Words[0], words, r)
	if err == nil {
		err = r.Done()
	}
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", l.Words[0], strings.Join(words, " "), err)
	}
	return o, nil
}

func readObject(kind string, words []string, r *textline.Reader) (Object, error) {
	switch kind {
	case "table":
		f, err := parseFamily(words[0])
		if err != nil {
			return nil, err
		}
		id, err := parseUint[uint32](words[1])
		return Table{Family: f, ID: id, Label: r.String("label")}, err
	case "acl":
		return ACL{words[0], textline.All(r, "rule", parseRule)}, nil
	case "acl-binding":
		name := func(s string) (string, error) { return s, nil }
		return ACLBinding{words[0], textline.All(r, "input", name), textline.All(r, "output", name)}, nil
	case "interface":
		return readInterface(words[0], r)
	case "address":
		p, err := netip.ParsePrefix(words[1])
		return Address{words[0], p}, err
	case "unnumbered":
		return Unnumbered{words[0], r.String("lender")}, nil
	case "neighbor":
		a, err := netip.ParseAddr(words[1])
		return Neighbor{words[0], a, textline.One(r, "mac", ParseMAC), textline.One(r, "attached", parseTrue)}, err
	case "route":
		table, err := parseUint[uint32](words[0])
		if err != nil {
			return nil, err
		}
		p, err := netip.ParsePrefix(words[1])
		return Route{table, p, textline.All(r, "path", parsePath)}, err
	case "bond-member":
		return BondMember{words[0], r.String("bond"), textline.One(r, "long-timeout", parseTrue)}, nil
	case "tunnel-bypass":
		f, err := parseFamily(words[1])
		return TunnelBypass{words[0], f}, err
	case "proxy-arp":
		return ProxyARP{words[0]}, nil
	case "proxy-range":
		return readProxyRange(words)
	case "source-nat":
		return readSourceNAT(words[0], r)
	case "translation":
		return readTranslation(words, r)
	case "nat-kept":
		prefix, err := netip.ParsePrefix(words[0])
		return NATKept{prefix}, err
	case "nat-interface":
		return NATInterface{words[0], textline.One(r, "side", parseNATSide)}, nil
	case "steering":
		return readSteering(words)
	case "host-setting":
		return HostSetting{words[0], r.String("value"), r.String("interface")}, nil
	case "host-nat":
		return readHostNAT(words[0], r)
	case "up":
		return Up{words[0]}, nil
	}
	return nil, fmt.Errorf("no kind of object is called that")
}

func readProxyRange(words []string) (Object, error) {
	table, err := parseUint[uint32](words[0])
	if err != nil {
		return nil, err
	}
	low, high, _ := strings.Cut(words[1], "-")
	p := ProxyRange{Table: table}
	if p.Low, err = netip.ParseAddr(low); err == nil {
		p.High, err = netip.ParseAddr(high)
	}
	return p, err
}

func readInterface(name string, r *textline.Reader) (Object, error) {
	i := Interface{
		Name:  name,
		MTU:   textline.One(r, "mtu", parseUint[uint32]),
		Table: textline.One(r, "table", parseUint[uint32]),
		RPF:   textline.One(r, "rpf", parseRPF),
		Host: HostSide{
			MTU:         textline.One(r, "host-mtu", parseUint[uint32]),
			MaxSegments: textline.One(r, "host-max-segments", parseUint[uint32]),
			Addresses:   textline.All(r, "host-address", netip.ParsePrefix),
			Routes:      textline.All(r, "host-route", parseHostRoute),
			Neighbors:   textline.All(r, "host-neighbor", parseHostNeighbor),
		},
	}
	var err error
	i.Device, err = readDevice(r)
	return i, err
}

func readDevice(r *textline.Reader) (Device, error) {
	switch kind := r.String("device"); kind {
	case "tun":
		return Tun{
			Netns: r.String("netns"), HostName: r.String("host"),
			Queues: textline.One(r, "queues", parseUint[uint16]),
			RxRing: textline.One(r, "rx-ring", parseUint[uint16]), TxRing: textline.One(r, "tx-ring", parseUint[uint16]),
			Offload: textline.One(r, "offload", parseOffload),
		}, nil
	case "tap":
		return readTap(r), nil
	case "veth":
		return Veth{
			Netns: r.String("netns"), HostName: r.String("host"), Outer: r.String("outer"),
			HostMAC: textline.One(r, "host-mac", ParseMAC), MAC: textline.One(r, "mac", ParseMAC),
		}, nil
	case "nic":
		return readNIC(r), nil
	case "bond":
		return readBond(r), nil
	case "vlan":
		return VLAN{r.String("parent"), textline.One(r, "vlan", parseUint[uint16])}, nil
	case "memif":
		return readMemif(r), nil
	case "vxlan":
		return readVXLAN(r), nil
	case "loopback":
		return Loopback{}, nil
	default:
		return nil, fmt.Errorf("field device: %q: want tun, tap, veth, memif, nic, bond, vlan, vxlan or loopback", kind)
	}
}

func parseHostRoute(s string) (r HostRoute, err error) {
	for i, part := range strings.Split(s, ",") {
		key, value, _ := strings.Cut(part, "=")
		switch {
		case i == 0:
			r.Dst, err = netip.ParsePrefix(part)
		case key == "via" && !r.Via.IsValid():
			r.Via, err = netip.ParseAddr(value)
		case key == "src" && !r.Source.IsValid():
			r.Source, err = netip.ParseAddr(value)
		default:
			err = fmt.Errorf("want dst[,via=addr][,src=addr]")
		}
		if err != nil {
			return HostRoute{}, fmt.Errorf("parse host route %q: %w", s, err)
		}
	}
	return r, nil
}

func parseHostNeighbor(s string) (n HostNeighbor, err error) {
	addr, mac, _ := strings.Cut(s, ",")
	if n.Addr, err = netip.ParseAddr(addr); err == nil {
		n.MAC, err = ParseMAC(mac)
	}
	if err != nil {
		return HostNeighbor{}, fmt.Errorf("parse host neighbor %q: %w", s, err)
	}
	return n, nil
}

func parseUint[T uint8 | uint16 | uint32](s string) (T, error) {
	n, err := strconv.ParseUint(s, 10, 32)
	if err == nil && uint64(T(n)) != n {
		err = fmt.Errorf("%s is too large", s)
	}
	return T(n), err
}
