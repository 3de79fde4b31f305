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

// Neighbor is a static neighbour entry on an Ethernet interface.
type Neighbor struct {
	Interface string
	Addr      netip.Addr
	MAC       MAC
	// Attached counts the address as on the link, though no prefix of the interface holds
	// it: ARP requests from it are answered. Without it the entry makes no route.
	Attached bool
}

func (n Neighbor) Key() Key       { return Key{KindNeighbor, n.Interface + " " + n.Addr.String()} }
func (n Neighbor) String() string { return n.line().String() }

func (n Neighbor) line() textline.Line {
	l := textline.New("neighbor", n.Interface, n.Addr.String())
	l.Add("mac", n.MAC.String())
	if n.Attached {
		l.Add("attached", "true")
	}
	return l
}

func (n Neighbor) check() error {
	if !n.Addr.IsValid() || n.Addr.Zone() != "" {
		return fmt.Errorf("the address is invalid, or has a zone")
	}
	return checkName(n.Interface)
}

func (n Neighbor) requires() []Key { return []Key{InterfaceKey(n.Interface)} }

func (n Neighbor) becomes(was Object) bool {
	w, ok := was.(Neighbor)
	return ok && w.Attached == n.Attached
}

// Route says where packets to a prefix go.
type Route struct {
	Table  uint32
	Prefix netip.Prefix // masked
	Paths  []Path       // at least one; their order has no meaning
}

// Path is one way of a Route: out of an interface, or one of the ends.
type Path struct {
	End       End
	Interface string     // of an EndForward path; may be an Uplink's
	Via       netip.Addr // next hop; absent where the link has one other end, and where it is the prefix itself
	Weight    uint8      // share among several paths; 0 counts as 1
	Table     uint32     // of an EndLookup path
}

// End is how a path ends.
type End uint8

const (
	EndForward     End = iota // the packet leaves by Interface
	EndDrop                   // silently
	EndUnreachable            // with an ICMP error to the sender
	EndLookup                 // the destination is looked up in another Table of the family
)

var endNames = [...]string{EndForward: "!forward", EndDrop: "!drop", EndUnreachable: "!unreachable", EndLookup: "!lookup"}

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
		if p != (Path{End: p.End, Table: p.Table}) || int(p.End) >= len(endNames) {
			return fmt.Errorf("an end has no interface, next hop or weight")
		}
		if p.Table != 0 && p.End != EndLookup {
			return fmt.Errorf("a table stands only with %s", endNames[EndLookup])
		}
		return nil
	}
	if p.Via.IsValid() && FamilyOf(p.Via) != f {
		return fmt.Errorf("the next hop is of another family")
	}
	if p.Table != 0 {
		return fmt.Errorf("a table stands only with %s", endNames[EndLookup])
	}
	return checkName(p.Interface)
}

func (r Route) requires() []Key {
	keys := requireTables(nil, r.Table, FamilyOf(r.Prefix.Addr()))
	for _, p := range r.Paths {
		switch p.End {
		case EndForward:
			keys = append(keys, InterfaceKey(p.Interface))
		case EndLookup:
			keys = requireTables(keys, p.Table, FamilyOf(r.Prefix.Addr()))
		}
	}
	return keys
}

// Attached says that the prefix lies on a link, in a table of its own: machines find
// neighbours there, and keep the two kinds of route apart.
func (r Route) Attached() bool {
	return r.Table != 0 && len(r.Paths) == 1 && r.Paths[0].End == EndForward && !r.Paths[0].Via.IsValid() && !r.Prefix.IsSingleIP()
}

func (r Route) becomes(was Object) bool {
	w, ok := was.(Route)
	return ok && w.Attached() == r.Attached()
}

// String is interface[@via][*weight], or the name of an end; that of EndLookup has its table
// behind a colon.
func (p Path) String() string {
	if p.End == EndLookup {
		return fmt.Sprintf("%s:%d", endNames[EndLookup], p.Table)
	}
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
		return parseEnd(s)
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

func parseEnd(s string) (Path, error) {
	if id, lookup := strings.CutPrefix(s, endNames[EndLookup]+":"); lookup {
		table, err := parseUint[uint32](id)
		if err != nil {
			return Path{}, fmt.Errorf("parse path %q: table: %w", s, err)
		}
		return Path{End: EndLookup, Table: table}, nil
	}
	if i := slices.Index(endNames[:], s); i > int(EndForward) && i != int(EndLookup) {
		return Path{End: End(i)}, nil
	}
	return Path{}, fmt.Errorf("parse path %q: want !drop, !unreachable or !lookup:TABLE", s)
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
