package dataplane

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/millrace/millrace/internal/textline"
)

// Address is an address of the dataplane itself, on an interface that lends or owns it.
type Address struct {
	Interface string
	Prefix    netip.Prefix // the address with its length, host bits kept
}

func (a Address) Key() Key       { return Key{KindAddress, a.Interface + " " + a.Prefix.String()} }
func (a Address) String() string { return a.line().String() }

func (a Address) line() textline.Line { return textline.New("address", a.Interface, a.Prefix.String()) }

func (a Address) check() error {
	if !a.Prefix.IsValid() {
		return fmt.Errorf("the prefix is invalid")
	}
	return checkName(a.Interface)
}

func (a Address) requires() []Key     { return []Key{InterfaceKey(a.Interface)} }
func (a Address) becomes(Object) bool { return false }

// addressesOf stands for all addresses of an interface. Whoever requires it is taken down
// before any of them comes or goes: machines copy the list when it is borrowed.
func addressesOf(name string) Key { return Key{KindAddress, name} }

// Unnumbered lets an interface use the addresses of another, and carries IP of both
// families without any of its own.
type Unnumbered struct {
	Interface string // the borrower
	Lender    string
}

func (u Unnumbered) Key() Key       { return Key{KindUnnumbered, u.Interface} }
func (u Unnumbered) String() string { return u.line().String() }

func (u Unnumbered) line() textline.Line {
	l := textline.New("unnumbered", u.Interface)
	l.Add("lender", u.Lender)
	return l
}

func (u Unnumbered) check() error {
	if u.Interface == u.Lender {
		return fmt.Errorf("%s borrows from itself", u.Interface)
	}
	if err := checkName(u.Interface); err != nil {
		return err
	}
	return checkName(u.Lender)
}

func (u Unnumbered) requires() []Key {
	return []Key{InterfaceKey(u.Interface), InterfaceKey(u.Lender), addressesOf(u.Lender)}
}

func (u Unnumbered) becomes(Object) bool { return false }

// Neighbor is a static neighbour entry on an Ethernet interface. It makes no route.
type Neighbor struct {
	Interface string
	Addr      netip.Addr
	MAC       MAC
}

func (n Neighbor) Key() Key       { return Key{KindNeighbor, n.Interface + " " + n.Addr.String()} }
func (n Neighbor) String() string { return n.line().String() }

func (n Neighbor) line() textline.Line {
	l := textline.New("neighbor", n.Interface, n.Addr.String())
	l.Add("mac", n.MAC.String())
	return l
}

func (n Neighbor) check() error {
	if !n.Addr.IsValid() || n.Addr.Zone() != "" {
		return fmt.Errorf("the address is invalid, or has a zone")
	}
	return checkName(n.Interface)
}

func (n Neighbor) requires() []Key     { return []Key{InterfaceKey(n.Interface)} }
func (n Neighbor) becomes(Object) bool { return true }

// Route says where packets to a prefix go.
type Route struct {
	Table  uint32
	Prefix netip.Prefix // masked
	Paths  []Path       // at least one; their order has no meaning
}

// Path is one way of a Route: out of an interface, or one of the ends.
type Path struct {
	End       End
	Interface string     // of an EndForward path
	Via       netip.Addr // next hop; absent where the link has one other end, and where it is the prefix itself
	Weight    uint8      // share among several paths; 0 counts as 1
}

// End is how a path ends.
type End uint8

const (
	EndForward     End = iota // the packet leaves by Interface
	EndDrop                   // silently
	EndUnreachable            // with an ICMP error to the sender
)

var endNames = [...]string{EndForward: "!forward", EndDrop: "!drop", EndUnreachable: "!unreachable"}

func (r Route) Key() Key {
	return Key{KindRoute, fmt.Sprintf("%d %s", r.Table, r.Prefix)}
}
func (r Route) String() string { return r.line().String() }

func (r Route) line() textline.Line {
	l := textline.New("route", fmt.Sprint(r.Table), r.Prefix.String())
	addSorted(&l, "path", r.Paths)
	return l
}

func (r Route) check() error {
	if !r.Prefix.IsValid() || r.Prefix != r.Prefix.Masked() {
		return fmt.Errorf("prefix %s has host bits", r.Prefix)
	}
	if len(r.Paths) == 0 {
		return fmt.Errorf("it has no path; an end such as !unreachable is one")
	}
	for _, p := range r.Paths {
		if err := p.check(FamilyOf(r.Prefix.Addr())); err != nil {
			return fmt.Errorf("path %s: %w", p, err)
		}
	}
	return nil
}

func (p Path) check(f Family) error {
	if p.End != EndForward {
		if p != (Path{End: p.End}) || int(p.End) >= len(endNames) {
			return fmt.Errorf("an end has no interface, next hop or weight")
		}
		return nil
	}
	if p.Via.IsValid() && FamilyOf(p.Via) != f {
		return fmt.Errorf("the next hop is of another family")
	}
	return checkName(p.Interface)
}

func (r Route) requires() []Key {
	keys := requireTables(nil, r.Table, FamilyOf(r.Prefix.Addr()))
	for _, p := range r.Paths {
		if p.End == EndForward {
			keys = append(keys, InterfaceKey(p.Interface))
		}
	}
	return keys
}

func (r Route) becomes(Object) bool { return true }

// String is interface[@via][*weight], or the name of an end.
func (p Path) String() string {
	if p.End != EndForward {
		return endNames[min(int(p.End), len(endNames)-1)]
	}
	s := p.Interface
	if p.Via.IsValid() {
		s += "@" + p.Via.String()
	}
	if p.Weight > 1 {
		s += fmt.Sprintf("*%d", p.Weight)
	}
	return s
}

func parsePath(s string) (Path, error) {
	if strings.HasPrefix(s, "!") {
		i := slices.Index(endNames[:], s)
		if i <= int(EndForward) {
			return Path{}, fmt.Errorf("parse path %q: want !drop or !unreachable", s)
		}
		return Path{End: End(i)}, nil
	}
	var p Path
	var err error
	rest, weight, weighed := strings.Cut(s, "*")
	if weighed {
		if p.Weight, err = parseUint[uint8](weight); err != nil || p.Weight < 2 {
			return Path{}, fmt.Errorf("parse path %q: want a weight of 2 to 255", s)
		}
	}
	name, via, hop := strings.Cut(rest, "@")
	if p.Interface = name; hop {
		if p.Via, err = netip.ParseAddr(via); err != nil {
			return Path{}, fmt.Errorf("parse path %q: %w", s, err)
		}
	}
	return p, nil
}

// Up opens an interface. As the last kind it comes after all that guards the interface,
// and goes first.
type Up struct{ Interface string }

func (u Up) Key() Key            { return Key{KindUp, u.Interface} }
func (u Up) String() string      { return u.line().String() }
func (u Up) line() textline.Line { return textline.New("up", u.Interface) }
func (u Up) check() error        { return checkName(u.Interface) }
func (u Up) requires() []Key {
	return []Key{InterfaceKey(u.Interface), {KindACLBinding, u.Interface}}
}
func (u Up) becomes(Object) bool { return false }
