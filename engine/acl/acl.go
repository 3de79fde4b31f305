// Package acl owns the answer to one question: which rule of a sequence of access lists is
// the first to match a packet? It answers as VPP's acl plugin does, in a time that hardly
// depends on the number of rules.
//
//	rules ─► New ─► List ─┐
//	rules ─► New ─► List ─┴─► Join ─► Chain ─► Match(Key) ─► Verdict
//
// A List is compiled once, however many interfaces use it, and a Chain only names Lists in
// order. Both are immutable, so that workers read them without a lock. The package never
// sees a packet or a session: what is in a Key, and what a Verdict leads to, is its
// caller's matter.
//
// Facts about matching are from src/plugins/acl of VPP 25.10 (public_inlines.h).
package acl

import (
	"fmt"
	"net/netip"
)

// Action is what a rule does with the packets it matches, as vl_api_acl_action_t in
// acl_types.api. Other values are kept as they are.
type Action uint8

const (
	Deny          Action = 0 // drop it
	Permit        Action = 1 // let it pass
	PermitReflect Action = 2 // let it pass, and what comes back
)

func (a Action) String() string {
	switch a {
	case Deny:
		return "deny"
	case Permit:
		return "permit"
	case PermitReflect:
		return "permit+reflect"
	}
	return fmt.Sprintf("action-%d", uint8(a))
}

// Ports is a range of ports, both ends in it.
type Ports struct{ First, Last uint16 }

// AnyPorts is the range of all ports.
func AnyPorts() Ports { return Ports{0, 65535} }

func (p Ports) has(port uint16) bool { return p.First <= port && port <= p.Last }

// Rule is one line of an access list. A packet matches it when all of these hold:
//
//   - Its family is that of the prefixes, and both its addresses are in them.
//   - Protocol is 0, or that of the packet. With 0 nothing below is looked at.
//   - Its ports are in SrcPorts and DstPorts. ICMP and ICMPv6 have their type and code in
//     place of them; what has no ports in its Key has port 0. VPP sees none but those of
//     TCP and UDP.
//   - It is not TCP, or its flags under TCPMask are TCPValue. With a bit in TCPValue that
//     is not in TCPMask no TCP packet matches.
//
// A fragment other than the first has no ports or flags: these hold for it whatever they
// are. A packet too short to have them matches rules of Protocol 0 only.
type Rule struct {
	Action             Action
	Src, Dst           netip.Prefix // both of one family, without host bits
	Protocol           uint8        // of IP, or the last next header of IPv6
	SrcPorts, DstPorts Ports
	TCPMask, TCPValue  uint8
}

// Field is the part of a rule that New refuses.
type Field uint8

const (
	FieldSrc   Field = iota // the source, or a destination of another family
	FieldDst                // the destination
	FieldPorts              // a range that ends before it begins
)

// RuleError says which rule New refuses and why. VPP answers to the fields with
// INVALID_SRC_ADDRESS, INVALID_DST_ADDRESS and INVALID_VALUE_2.
type RuleError struct {
	Rule   int // its number in the list, from 0
	Field  Field
	Reason string
}

func (e *RuleError) Error() string { return fmt.Sprintf("compile acl rule %d: %s", e.Rule, e.Reason) }

// check returns nil for a rule that can be compiled. The order of tests is VPP's.
func (r *Rule) check(i int) error {
	refuse := func(f Field, format string, args ...any) error {
		return &RuleError{Rule: i, Field: f, Reason: fmt.Sprintf(format, args...)}
	}
	switch {
	case !r.Src.IsValid():
		return refuse(FieldSrc, "source is no prefix")
	case r.Src != r.Src.Masked():
		return refuse(FieldSrc, "source %v has host bits, want %v", r.Src, r.Src.Masked())
	case !r.Dst.IsValid():
		return refuse(FieldDst, "destination is no prefix")
	case r.Dst != r.Dst.Masked():
		return refuse(FieldDst, "destination %v has host bits, want %v", r.Dst, r.Dst.Masked())
	case r.Src.Addr().Is4() != r.Dst.Addr().Is4():
		return refuse(FieldSrc, "source %v and destination %v are of different families", r.Src, r.Dst)
	case r.SrcPorts.First > r.SrcPorts.Last:
		return refuse(FieldPorts, "source ports %d-%d end before they begin", r.SrcPorts.First, r.SrcPorts.Last)
	case r.DstPorts.First > r.DstPorts.Last:
		return refuse(FieldPorts, "destination ports %d-%d end before they begin", r.DstPorts.First, r.DstPorts.Last)
	}
	return nil
}
