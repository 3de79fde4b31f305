package dataplane

import (
	"fmt"
	"slices"
	"strings"

	"github.com/millrace/millrace/internal/textline"
)

// Bond is one Ethernet interface made of several, its BondMembers. Modes and balancing as
// in VPP's bond.api, which are those of Linux but for balance-tlb and balance-alb.
type Bond struct {
	Mode    BondMode
	Balance BondBalance // of BondXOR and BondLACP
	MAC     MAC         // unicast
}

// BondMode is how a bond uses its members.
type BondMode uint8

const (
	BondRoundRobin   BondMode = iota // in turn
	BondActiveBackup                 // one at a time
	BondXOR                          // by Balance
	BondBroadcast                    // all of them
	BondLACP                         // by Balance, those that the other end agrees to (IEEE 802.3ad)
)

var bondModeNames = [...]string{
	BondRoundRobin: "balance-rr", BondActiveBackup: "active-backup", BondXOR: "balance-xor", BondBroadcast: "broadcast", BondLACP: "802.3ad",
}

func (m BondMode) String() string { return nameOf(bondModeNames[:], uint8(m), "mode") }

// ParseBondMode reads a mode by Linux's name of it.
func ParseBondMode(s string) (BondMode, error) {
	i := slices.Index(bondModeNames[:], s)
	if i < 0 {
		return 0, fmt.Errorf("bond mode %q: want one of %s", s, strings.Join(bondModeNames[:], ", "))
	}
	return BondMode(i), nil
}

// BondBalance is what decides the member that a frame leaves by.
type BondBalance uint8

const (
	BalanceL2  BondBalance = iota // MAC addresses
	BalanceL34                    // IP addresses and ports
	BalanceL23                    // MAC and IP addresses
)

var bondBalanceNames = [...]string{BalanceL2: "layer2", BalanceL34: "layer3+4", BalanceL23: "layer2+3"}

func (b BondBalance) String() string { return nameOf(bondBalanceNames[:], uint8(b), "balance") }

// ParseBondBalance reads layer2, layer2+3 or layer3+4.
func ParseBondBalance(s string) (BondBalance, error) {
	i := slices.Index(bondBalanceNames[:], s)
	if i < 0 {
		return 0, fmt.Errorf("bond balance %q: want one of %s", s, strings.Join(bondBalanceNames[:], ", "))
	}
	return BondBalance(i), nil
}

func nameOf(names []string, n uint8, what string) string {
	if int(n) < len(names) {
		return names[n]
	}
	return fmt.Sprintf("%s-%d", what, n)
}

func (d Bond) device(l *textline.Line) {
	l.Add("device", "bond")
	l.Add("mode", d.Mode.String())
	l.Add("balance", d.Balance.String())
	l.Add("mac", d.MAC.String())
}

func (Bond) hasHost() bool    { return false }
func (d Bond) sealed() Device { return d }

func (d Bond) check() error {
	if int(d.Mode) >= len(bondModeNames) || int(d.Balance) >= len(bondBalanceNames) {
		return fmt.Errorf("%s, %s: no such mode or balance", d.Mode, d.Balance)
	}
	if d.Balance != BalanceL2 && d.Mode != BondXOR && d.Mode != BondLACP {
		return fmt.Errorf("balance %s: a bond in mode %s has none", d.Balance, d.Mode)
	}
	if d.MAC == (MAC{}) || d.MAC[0]&1 != 0 {
		return fmt.Errorf("MAC %s: want a unicast address", d.MAC)
	}
	return nil
}

func readBond(r *textline.Reader) Bond {
	return Bond{textline.One(r, "mode", ParseBondMode), textline.One(r, "balance", ParseBondBalance), textline.One(r, "mac", ParseMAC)}
}

// BondMember makes an interface a member of a bond. It then has no life of its own.
type BondMember struct {
	Interface   string // the member
	Bond        string
	LongTimeout bool // LACP: the other end is heard of each 30 s instead of each second
}

func (m BondMember) Key() Key       { return Key{KindBondMember, m.Interface} }
func (m BondMember) String() string { return m.line().String() }

func (m BondMember) line() textline.Line {
	l := textline.New("bond-member", m.Interface)
	l.Add("bond", m.Bond)
	if m.LongTimeout {
		l.Add("long-timeout", "true")
	}
	return l
}

func (m BondMember) check() error {
	if m.Interface == m.Bond {
		return fmt.Errorf("%s is its own member", m.Interface)
	}
	if err := checkName(m.Interface); err != nil {
		return err
	}
	return checkName(m.Bond)
}

func (m BondMember) requires() []Key     { return []Key{InterfaceKey(m.Interface), InterfaceKey(m.Bond)} }
func (m BondMember) becomes(Object) bool { return false }

// VLAN is an interface on another one, for the frames there with that tag (IEEE 802.1Q).
// Its interface is called such that it sorts behind the parent, and so comes after it.
type VLAN struct {
	Parent string
	ID     uint16 // 1 to 4094
}

func (d VLAN) device(l *textline.Line) {
	l.Add("device", "vlan")
	l.Add("parent", d.Parent)
	l.AddUint("vlan", uint64(d.ID))
}

func (VLAN) hasHost() bool    { return false }
func (d VLAN) sealed() Device { return d }

func (d VLAN) check() error {
	if d.ID == 0 || d.ID > 4094 {
		return fmt.Errorf("vlan %d: want 1 to 4094", d.ID)
	}
	return checkName(d.Parent)
}
