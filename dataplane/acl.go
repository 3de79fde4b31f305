package dataplane

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/millrace/millrace/internal/textline"
)

// ACL is a list of rules that interfaces are bound to by name. The first rule that matches
// a packet decides; what is after the last rule is the binding's matter.
type ACL struct {
	Name  string // at most NameMax bytes
	Rules []Rule // in order; without any, the ACL matches nothing
}

// Rule is one line of an ACL. Both prefixes are of one family: a packet of the other never
// matches.
type Rule struct {
	Action   Action
	Src, Dst netip.Prefix // masked
	Protocol uint8        // of IP; 0 = any, and then the ports must be AnyPorts
	// SrcPorts and DstPorts bound the ports. For ICMP and ICMPv6 they bound type and code,
	// as in VPP's acl_types.api.
	SrcPorts, DstPorts Ports
}

// Action is what a Rule does with a packet that it matches.
type Action uint8

const (
	Deny          Action = iota // drop it
	Permit                      // let it pass, and remember nothing
	PermitReflect               // let it pass, with all of its flow in both directions
)

var actionNames = [...]string{Deny: "deny", Permit: "permit", PermitReflect: "permit+reflect"}

func (a Action) String() string {
	if int(a) < len(actionNames) {
		return actionNames[a]
	}
	return fmt.Sprintf("action-%d", uint8(a))
}

// Ports is a range, both ends in it. The zero value is port 0 alone.
type Ports struct{ First, Last uint16 }

// AnyPorts is all of them.
func AnyPorts() Ports { return Ports{0, 65535} }

func (p Ports) String() string {
	if p.First == p.Last {
		return strconv.Itoa(int(p.First))
	}
	return fmt.Sprintf("%d-%d", p.First, p.Last)
}

func parsePorts(s string) (p Ports, err error) {
	first, last, isRange := strings.Cut(s, "-")
	if p.First, err = parseUint[uint16](first); err != nil {
		return Ports{}, err
	}
	if p.Last = p.First; isRange {
		p.Last, err = parseUint[uint16](last)
	}
	return p, err
}

func aclKey(name string) Key { return Key{KindACL, name} }

// Key of an ACL is its name.
func (a ACL) Key() Key       { return aclKey(a.Name) }
func (a ACL) String() string { return a.line().String() }

func (a ACL) line() textline.Line {
	l := textline.New("acl", a.Name)
	textline.AddAll(&l, "rule", a.Rules)
	return l
}

func (a ACL) check() error {
	if err := checkName(a.Name); err != nil {
		return err
	}
	for i, r := range a.Rules {
		if err := r.check(); err != nil {
			return fmt.Errorf("rule %d (%s): %w", i, r, err)
		}
	}
	return nil
}

func (a ACL) requires() []Key     { return nil }
func (a ACL) becomes(Object) bool { return true }

// equal is quick where both share their rules, as they do from one compile to the next.
func (a ACL) equal(b ACL) bool {
	if a.Name != b.Name || len(a.Rules) != len(b.Rules) {
		return false
	}
	return len(a.Rules) == 0 || &a.Rules[0] == &b.Rules[0] || slices.Equal(a.Rules, b.Rules)
}

// String is, for example, permit+reflect,10.1.0.0/16,0.0.0.0/0,proto=6,dport=80-90. What
// is any is not printed.
func (r Rule) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s,%s,%s", r.Action, r.Src, r.Dst)
	if r.Protocol != 0 {
		fmt.Fprintf(&b, ",proto=%d", r.Protocol)
	}
	if r.SrcPorts != AnyPorts() {
		fmt.Fprintf(&b, ",sport=%s", r.SrcPorts)
	}
	if r.DstPorts != AnyPorts() {
		fmt.Fprintf(&b, ",dport=%s", r.DstPorts)
	}
	return b.String()
}

func parseRule(s string) (Rule, error) {
	r := Rule{SrcPorts: AnyPorts(), DstPorts: AnyPorts()}
	parts := strings.Split(s, ",")
	err := fmt.Errorf("want action,src,dst[,proto=N][,sport=N[-N]][,dport=N[-N]]")
	if len(parts) >= 3 {
		err = r.parse(parts)
	}
	if err != nil {
		return Rule{}, fmt.Errorf("parse rule %q: %w", s, err)
	}
	return r, nil
}

func (r *Rule) parse(parts []string) (err error) {
	i := slices.Index(actionNames[:], parts[0])
	if i < 0 {
		return fmt.Errorf("action %q: want deny, permit or permit+reflect", parts[0])
	}
	r.Action = Action(i)
	if r.Src, err = netip.ParsePrefix(parts[1]); err != nil {
		return err
	}
	if r.Dst, err = netip.ParsePrefix(parts[2]); err != nil {
		return err
	}
	for _, part := range parts[3:] {
		key, value, _ := strings.Cut(part, "=")
		switch key {
		case "proto":
			r.Protocol, err = parseUint[uint8](value)
		case "sport":
			r.SrcPorts, err = parsePorts(value)
		case "dport":
			r.DstPorts, err = parsePorts(value)
		default:
			err = fmt.Errorf("part %q: want proto, sport or dport", part)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (r Rule) check() error {
	for _, p := range [...]netip.Prefix{r.Src, r.Dst} {
		if !p.IsValid() || p != p.Masked() || p.Addr().Is4In6() {
			return fmt.Errorf("prefix %s: want a valid one without host bits", p)
		}
	}
	switch {
	case r.Src.Addr().Is4() != r.Dst.Addr().Is4():
		return fmt.Errorf("source and destination are of two families")
	case r.SrcPorts.First > r.SrcPorts.Last || r.DstPorts.First > r.DstPorts.Last:
		return fmt.Errorf("a range of ports ends before it begins")
	case r.Protocol == 0 && (r.SrcPorts != AnyPorts() || r.DstPorts != AnyPorts()):
		return fmt.Errorf("ports are bounded, and the protocol is not")
	case r.Action > PermitReflect:
		return fmt.Errorf("%s is not known", r.Action)
	}
	return nil
}

// ACLBinding is the ACLs that an interface's packets have to pass, as one list per
// direction: the first match over all of its ACLs decides, and what matches none is
// dropped. A direction without ACLs is not filtered. An ACL stands at most once in each.
type ACLBinding struct {
	Interface string
	Input     []string // names of ACLs, in order, for packets that come in from the interface
	Output    []string // for packets that leave by it
}

// BindingMax is how many ACLs a binding may name, both directions together: the count is a
// u8 in acl.api.
const BindingMax = 255

// Key of a binding is that of its interface.
func (b ACLBinding) Key() Key       { return Key{KindACLBinding, b.Interface} }
func (b ACLBinding) String() string { return b.line().String() }

func (b ACLBinding) line() textline.Line {
	l := textline.New("acl-binding", b.Interface)
	for _, name := range b.Input {
		l.Add("input", name)
	}
	for _, name := range b.Output {
		l.Add("output", name)
	}
	return l
}

func (b ACLBinding) check() error {
	if err := checkName(b.Interface); err != nil {
		return err
	}
	if n := len(b.Input) + len(b.Output); n == 0 || n > BindingMax {
		return fmt.Errorf("it names %d ACLs, want 1 to %d", n, BindingMax)
	}
	for _, list := range [...][]string{b.Input, b.Output} {
		seen := map[string]bool{}
		for _, name := range list {
			if err := checkName(name); err != nil {
				return err
			}
			if seen[name] {
				return fmt.Errorf("acl %s stands twice in a direction", name)
			}
			seen[name] = true
		}
	}
	return nil
}

func (b ACLBinding) requires() []Key {
	keys := []Key{InterfaceKey(b.Interface)}
	for _, list := range [...][]string{b.Input, b.Output} {
		for _, name := range list {
			keys = append(keys, aclKey(name))
		}
	}
	return keys
}

func (b ACLBinding) becomes(Object) bool { return true }

func (b ACLBinding) equal(o ACLBinding) bool {
	return b.Interface == o.Interface && slices.Equal(b.Input, o.Input) && slices.Equal(b.Output, o.Output)
}
