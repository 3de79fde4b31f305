package dataplane

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/millrace/millrace/internal/textline"
)

// HostNAT is what the node's own kernel translates of what passes it: packets of pods that
// leave the node without a dataplane's uplink get the node's address, and connections of the
// node to its own ports go to where the dataplane serves them. There is one at most.
type HostNAT struct {
	Masquerade []netip.Prefix // sources that get an address of the interface they leave by
	Keep       []netip.Prefix // destinations to which those keep theirs
	Ports      []HostPort     // where the node's own connections go instead
	Arriving   []HostPort     // where those that come to the kernel from elsewhere do
}

// HostPort is a port of the node's and where it leads.
type HostPort struct {
	At       netip.AddrPort
	Protocol uint8 // of IP: TCP, UDP or SCTP
	To       netip.AddrPort
}

// Key is the same for all.
func (n HostNAT) Key() Key       { return Key{KindHostNAT, "node"} }
func (n HostNAT) String() string { return n.line().String() }

func (n HostNAT) line() textline.Line {
	l := textline.New("host-nat", "node")
	textline.AddAll(&l, "masquerade", slices.SortedFunc(slices.Values(n.Masquerade), netip.Prefix.Compare))
	textline.AddAll(&l, "keep", slices.SortedFunc(slices.Values(n.Keep), netip.Prefix.Compare))
	addSorted(&l, "port", n.Ports)
	addSorted(&l, "arriving", n.Arriving)
	return l
}

func (n HostNAT) check() error {
	if len(n.Masquerade) == 0 && len(n.Ports) == 0 && len(n.Arriving) == 0 {
		return fmt.Errorf("it translates nothing; without anything to translate there is none")
	}
	if err := checkDisjoint("masquerade", n.Masquerade); err != nil {
		return err
	}
	if err := checkDisjoint("keep", n.Keep); err != nil {
		return err
	}
	if err := checkHostPorts(n.Ports); err != nil {
		return fmt.Errorf("port %w", err)
	}
	if err := checkHostPorts(n.Arriving); err != nil {
		return fmt.Errorf("arriving %w", err)
	}
	return nil
}

func checkHostPorts(list []HostPort) error {
	type front struct {
		at       netip.AddrPort
		protocol uint8
	}
	seen := map[front]bool{}
	for _, p := range list {
		switch f := (front{p.At, p.Protocol}); {
		case translated[p.Protocol] == "":
			return fmt.Errorf("%s: %s: only tcp, udp and sctp are translated", p, protocolName(p.Protocol))
		case checkEndpoint(p.At) != nil || checkEndpoint(p.To) != nil || p.At.Addr().Is4() != p.To.Addr().Is4():
			return fmt.Errorf("%s: want two addresses of one family with their ports", p)
		case seen[f]:
			return fmt.Errorf("%s stands twice", p)
		default:
			seen[f] = true
		}
	}
	return nil
}

// equal compares values in their order, which is enough for those made alike.
func (n HostNAT) equal(o HostNAT) bool {
	return slices.Equal(n.Masquerade, o.Masquerade) && slices.Equal(n.Keep, o.Keep) && slices.Equal(n.Ports, o.Ports) && slices.Equal(n.Arriving, o.Arriving)
}

// checkDisjoint: the kernel has no set of which one part holds another.
func checkDisjoint(what string, list []netip.Prefix) error {
	list = slices.SortedFunc(slices.Values(list), netip.Prefix.Compare)
	for i, p := range list {
		if !p.IsValid() || p != p.Masked() || p.Addr().Is4In6() {
			return fmt.Errorf("%s %s: it is invalid, or has host bits", what, p)
		}
		if i > 0 && p.Overlaps(list[i-1]) {
			return fmt.Errorf("%s %s lies in %s", what, p, list[i-1])
		}
	}
	return nil
}

// Compare orders by protocol, then address and port.
func (p HostPort) Compare(o HostPort) int {
	return cmp.Or(cmp.Compare(p.Protocol, o.Protocol), p.At.Compare(o.At))
}

// String is protocol,address:port,address:port.
func (p HostPort) String() string {
	return protocolName(p.Protocol) + "," + p.At.String() + "," + p.To.String()
}

func parseHostPort(s string) (p HostPort, err error) {
	parts := strings.Split(s, ",")
	if len(parts) != 3 {
		return p, fmt.Errorf("host port %q: want protocol,address:port,address:port", s)
	}
	if p.Protocol, err = parseProtocol(parts[0]); err == nil {
		p.At, err = netip.ParseAddrPort(parts[1])
	}
	if err == nil {
		p.To, err = netip.ParseAddrPort(parts[2])
	}
	return p, err
}

func readHostNAT(name string, r *textline.Reader) (Object, error) {
	if name != "node" {
		return nil, fmt.Errorf("it is called %q, want node", name)
	}
	return HostNAT{
		Masquerade: textline.All(r, "masquerade", netip.ParsePrefix), Keep: textline.All(r, "keep", netip.ParsePrefix),
		Ports: textline.All(r, "port", parseHostPort), Arriving: textline.All(r, "arriving", parseHostPort),
	}, nil
}

func (n HostNAT) requires() []Key     { return nil }
func (n HostNAT) becomes(Object) bool { return true }

// HostSetting is a setting of the node's own kernel (sysctl) that packets on their way
// through it need. What it was before is kept, and comes back when the setting goes.
type HostSetting struct {
	Name  string // below /proc/sys: net/ipv4/ip_forward
	Value string
	// Interface is the one whose end in the kernel the setting is of; empty = none.
	Interface string
}

func (s HostSetting) Key() Key       { return Key{KindHostSetting, s.Name} }
func (s HostSetting) String() string { return s.line().String() }

func (s HostSetting) line() textline.Line {
	l := textline.New("host-setting", s.Name)
	l.Add("value", s.Value)
	l.Add("interface", s.Interface)
	return l
}

func (s HostSetting) check() error {
	for _, part := range strings.Split(s.Name, "/") {
		if part == "" || part == "." || part == ".." || strings.ContainsFunc(part, func(r rune) bool { return r <= ' ' || r >= 0x7f }) {
			return fmt.Errorf("name %q: want a path below /proc/sys", s.Name)
		}
	}
	if !strings.HasPrefix(s.Name, "net/") || s.Value == "" || strings.ContainsAny(s.Value, "\n\x00") {
		return fmt.Errorf("value %q of %s: want a line, and a setting below net/", s.Value, s.Name)
	}
	if s.Interface != "" {
		return checkName(s.Interface)
	}
	return nil
}

func (s HostSetting) requires() []Key {
	if s.Interface == "" {
		return nil
	}
	return []Key{InterfaceKey(s.Interface)}
}

func (s HostSetting) becomes(was Object) bool {
	w, ok := was.(HostSetting)
	return ok && w.Interface == s.Interface
}
