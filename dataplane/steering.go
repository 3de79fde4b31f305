package dataplane

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/millrace/millrace/internal/textline"
)

// Steering hands packets that come in by a shared Uplink to the dataplane; all others are the
// kernel's. With a protocol it is about one port of one address, else about all packets to a
// prefix.
type Steering struct {
	Interface string       // an Uplink's
	Prefix    netip.Prefix // masked; one address if there is a protocol
	Protocol  uint8        // of IP: TCP, UDP or SCTP; 0 = any
	Port      uint16       // of the destination; 0 without a protocol
}

// SteerPort is the Steering of one port.
func SteerPort(uplink string, a netip.Addr, protocol uint8, port uint16) Steering {
	return Steering{uplink, netip.PrefixFrom(a, a.BitLen()), protocol, port}
}

var steeredProtocols = map[uint8]string{6: "tcp", 17: "udp", 132: "sctp"}

// match is what is steered: prefix, or address,protocol,port.
func (s Steering) match() string {
	if s.Protocol == 0 {
		return s.Prefix.String()
	}
	return fmt.Sprintf("%s,%s,%d", s.Prefix.Addr(), steeredProtocols[s.Protocol], s.Port)
}

func (s Steering) Key() Key       { return Key{KindSteering, s.Interface + " " + s.match()} }
func (s Steering) String() string { return s.line().String() }

func (s Steering) line() textline.Line { return textline.New("steering", s.Interface, s.match()) }

func (s Steering) check() error {
	_, known := steeredProtocols[s.Protocol]
	switch {
	case !IsUplink(s.Interface):
		return fmt.Errorf("interface %s is no uplink, and nothing can be steered there", s.Interface)
	case !s.Prefix.IsValid() || s.Prefix != s.Prefix.Masked() || s.Prefix.Addr().Is4In6():
		return fmt.Errorf("the prefix is invalid, or has host bits")
	case s.Protocol == 0 && s.Port == 0:
		return checkName(s.Interface)
	case !known || s.Port == 0 || !s.Prefix.IsSingleIP():
		return fmt.Errorf("protocol %d and port %d of %s: want tcp, udp or sctp, a port, and one address", s.Protocol, s.Port, s.Prefix)
	}
	return checkName(s.Interface)
}

func (s Steering) requires() []Key     { return []Key{InterfaceKey(s.Interface)} }
func (s Steering) becomes(Object) bool { return false }

func readSteering(words []string) (Object, error) {
	s := Steering{Interface: words[0]}
	parts := strings.Split(words[1], ",")
	if len(parts) == 1 {
		var err error
		s.Prefix, err = netip.ParsePrefix(words[1])
		return s, err
	}
	if len(parts) != 3 {
		return nil, fmt.Errorf("match %q: want a prefix, or address,protocol,port", words[1])
	}
	a, err := netip.ParseAddr(parts[0])
	if err != nil {
		return nil, err
	}
	for number, name := range steeredProtocols {
		if name == parts[1] {
			s.Protocol = number
		}
	}
	port, err := strconv.ParseUint(parts[2], 10, 16)
	if s.Protocol == 0 || err != nil {
		return nil, fmt.Errorf("match %q: want tcp, udp or sctp, and a port", words[1])
	}
	return SteerPort(s.Interface, a, s.Protocol, uint16(port)), nil
}

// NextHop is a neighbour of a shared Uplink that routes lead to: the kernel knows its MAC
// address.
type NextHop struct {
	Uplink string     // by the name that objects have for it
	Link   string     // the kernel's, in its words
	Addr   netip.Addr // of the neighbour
}

// NextHops are those that the routes and tunnels of a State need, in order.
func NextHops(s State, uplinks []Uplink) []NextHop {
	shared := map[string]Uplink{}
	for _, u := range uplinks {
		if u.Mode == UplinkShare {
			shared[u.Interface()] = u
		}
	}
	if len(shared) == 0 {
		return nil
	}
	var list []NextHop
	add := func(uplink string, a netip.Addr) {
		if u, ok := shared[uplink]; ok && a.IsValid() {
			list = append(list, NextHop{uplink, u.Link, a})
		}
	}
	for o := range s.All() {
		switch x := o.(type) {
		case Route:
			for _, p := range x.Paths {
				add(p.Interface, p.Via)
			}
		case Interface:
			if d, ok := x.Device.(VXLAN); ok && shared[d.Uplink].Attached(d.Dst) {
				add(d.Uplink, d.Dst)
			}
		}
	}
	slices.SortFunc(list, func(a, b NextHop) int {
		if a.Uplink != b.Uplink {
			return strings.Compare(a.Uplink, b.Uplink)
		}
		return a.Addr.Compare(b.Addr)
	})
	return slices.Compact(list)
}
