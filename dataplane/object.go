// Package dataplane owns the wish: the objects a packet dataplane is made of, a State of
// them, and the Plan that turns one State into another.
//
// It is a language between Kubernetes and a machine. It never talks to a machine, holds no
// index that a machine gave out, and does nothing but compare and print values.
package dataplane

import (
	"cmp"
	"fmt"
	"net/netip"
	"strings"

	"github.com/millrace/millrace/internal/textline"
)

// Kind is a kind of object. Kinds stand in the order in which objects are created; they
// are deleted in the reverse order. An object depends only on kinds before its own.
type Kind uint8

const (
	KindTable Kind = iota + 1
	KindACL
	KindInterface
	KindTunnelBypass
	KindBondMember
	KindAddress
	KindUnnumbered
	KindNeighbor
	KindRoute
	KindProxyRange
	KindProxyARP
	KindACLBinding
	KindSourceNAT
	KindTranslation
	KindNATKept
	KindNATInterface
	KindSteering
	KindHostSetting
	KindHostNAT
	KindUp // last, so that nothing passes an interface before all else is in force
)

var kindNames = [...]string{
	KindTable: "table", KindACL: "acl", KindInterface: "interface", KindTunnelBypass: "tunnel-bypass", KindBondMember: "bond-member",
	KindAddress: "address", KindUnnumbered: "unnumbered",
	KindNeighbor: "neighbor", KindRoute: "route", KindProxyRange: "proxy-range", KindProxyARP: "proxy-arp",
	KindACLBinding: "acl-binding", KindSourceNAT: "source-nat", KindTranslation: "translation",
	KindNATKept: "nat-kept", KindNATInterface: "nat-interface", KindSteering: "steering",
	KindHostSetting: "host-setting", KindHostNAT: "host-nat", KindUp: "up",
}

func (k Kind) String() string {
	if int(k) < len(kindNames) && kindNames[k] != "" {
		return kindNames[k]
	}
	return fmt.Sprintf("kind-%d", uint8(k))
}

// Key is what makes an object itself: two objects of one Key are two versions of the same.
type Key struct {
	Kind Kind
	Name string // the identity words of the text form, separated by a space
}

func (k Key) String() string { return k.Kind.String() + " " + k.Name }

// Compare orders by kind in order of creation, then by name.
func (k Key) Compare(o Key) int {
	return cmp.Or(cmp.Compare(k.Kind, o.Kind), strings.Compare(k.Name, o.Name))
}

// Object is one thing of the dataplane: Table, ACL, Interface, TunnelBypass, BondMember, Address,
// Unnumbered, Neighbor, Route, ProxyRange, ProxyARP, ACLBinding, SourceNAT, Translation,
// NATKept, NATInterface, Steering, HostSetting, HostNAT or Up. Objects are values; their text form is one line and says all of them.
type Object interface {
	Key() Key
	String() string

	line() textline.Line
	// check finds what is wrong with the object alone.
	check() error
	// requires lists what must be there before the object and go after it.
	requires() []Key
	// becomes says whether a machine can change was, an older version, into the object
	// without deleting it.
	becomes(was Object) bool
}

// NameMax is the longest interface name in bytes. A machine keeps it in a tag of 63 bytes
// beside a mark of ownership.
const NameMax = 54

// checkName accepts what stands in a tag and in a text form as it is.
func checkName(name string) error {
	if name == "" || len(name) > NameMax {
		return fmt.Errorf("interface name %q has %d bytes, want 1 to %d", name, len(name), NameMax)
	}
	for _, c := range []byte(name) {
		letter := c|0x20 >= 'a' && c|0x20 <= 'z'
		if !letter && (c < '0' || c > '9') && !strings.ContainsRune("/._:-", rune(c)) {
			return fmt.Errorf("interface name %q has %q: only letters, digits and / . _ : - may stand there", name, c)
		}
	}
	return nil
}

// CleanName replaces each character that the name of an interface or ACL may not hold. What
// it returns may be too long, and may be that of another text, too.
func CleanName(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', strings.ContainsRune("/._:-", r):
			return r
		}
		return '_'
	}, s)
}

// Family is an address family.
type Family uint8

const (
	IPv4 Family = 4
	IPv6 Family = 6
)

// FamilyOf returns the family of an address.
func FamilyOf(a netip.Addr) Family {
	if a.Is4() {
		return IPv4
	}
	return IPv6
}

func (f Family) String() string { return fmt.Sprintf("ip%d", uint8(f)) }

func parseFamily(s string) (Family, error) {
	switch s {
	case "ip4":
		return IPv4, nil
	case "ip6":
		return IPv6, nil
	}
	return 0, fmt.Errorf("family %q: want ip4 or ip6", s)
}

// Table is one more routing table of a family. Table 0 of either family is always there
// and is no object.
type Table struct {
	Family Family
	ID     uint32
	Label  string // shown by the machine; may be empty
}

func tableKey(f Family, id uint32) Key {
	return Key{KindTable, fmt.Sprintf("%s %d", f, id)}
}

// requireTables appends the keys of a table that something of those families needs.
func requireTables(keys []Key, id uint32, families ...Family) []Key {
	if id == 0 {
		return keys
	}
	for _, f := range families {
		keys = append(keys, tableKey(f, id))
	}
	return keys
}

func (t Table) Key() Key       { return tableKey(t.Family, t.ID) }
func (t Table) String() string { return t.line().String() }

func (t Table) line() textline.Line {
	l := textline.New("table", t.Family.String(), fmt.Sprint(t.ID))
	l.Add("label", t.Label)
	return l
}

func (t Table) check() error {
	if t.ID == 0 || t.Family != IPv4 && t.Family != IPv6 {
		return fmt.Errorf("table 0 is always there and a family is ip4 or ip6")
	}
	if len(t.Label) > 63 {
		return fmt.Errorf("label has %d bytes, want at most 63", len(t.Label))
	}
	return nil
}

func (t Table) requires() []Key     { return nil }
func (t Table) becomes(Object) bool { return false }
