// Package verdict owns the reading of compiled ACLs: what the objects of a dataplane.State
// do to the first packet of a connection, and which ACL and rule decided.
//
// It reads States as a machine would, and knows nothing of the policies they were made
// from: whether a State says what the policies say is found by comparing its answers with
// those of policy/oracle. It never asks a machine.
package verdict

import (
	"fmt"
	"net/netip"

	"github.com/millrace/millrace/dataplane"
)

// Packet is what rules look at. For ICMP and ICMPv6 the ports are type and code.
type Packet struct {
	Src, Dst         netip.Addr // of one family
	Protocol         uint8      // of IP
	SrcPort, DstPort uint16
}

// Decision is what the lists of one interface say in one direction.
type Decision struct {
	Allowed   bool
	Interface string // empty when no filtered interface has the address
	ACL       string // what decided; empty when nothing is filtered or nothing matched
	Rule      int    // of the ACL, from 0; -1 when none matched
}

// String is, for example, deny by acl policy/a/b/ingress/0 rule 3 of pod/a/web/eth0/12345678.
func (d Decision) String() string {
	word := "deny"
	if d.Allowed {
		word = "allow"
	}
	switch {
	case d.Interface == "":
		return word + ": no filtered interface"
	case d.ACL == "":
		return fmt.Sprintf("%s by the end of the list of %s", word, d.Interface)
	}
	return fmt.Sprintf("%s by acl %s rule %d of %s", word, d.ACL, d.Rule, d.Interface)
}

// Verdict is what becomes of a packet: it passes the input lists of its source's
// interface, then the output lists of its destination's.
type Verdict struct {
	Allowed       bool
	Input, Output Decision
}

// Deciding is the decision that a person wants to see: the one that denies, or else the
// last.
func (v Verdict) Deciding() Decision {
	if !v.Input.Allowed || v.Output.Interface == "" {
		return v.Input
	}
	return v.Output
}

// Tables answer for the States of one node or of many. They are immutable.
type Tables struct {
	interfaces map[netip.Addr]*lists
}

// lists are the ACLs of one interface.
type lists struct {
	name          string
	input, output []*table
}

// New reads States. An address belongs to the filtered interface that a route to it alone
// leads to; States of several nodes share no addresses.
func New(states ...dataplane.State) Tables {
	t := Tables{interfaces: map[netip.Addr]*lists{}}
	for _, s := range states {
		t.add(s)
	}
	return t
}

func (t *Tables) add(s dataplane.State) {
	acls, bound := map[string]*table{}, map[string]*lists{}
	var routes []dataplane.Route
	for o := range s.All() {
		switch o := o.(type) {
		case dataplane.ACL:
			acls[o.Name] = newTable(o)
		case dataplane.Route:
			routes = append(routes, o)
		case dataplane.ACLBinding:
			l := &lists{name: o.Interface}
			for _, name := range o.Input {
				l.input = append(l.input, acls[name])
			}
			for _, name := range o.Output {
				l.output = append(l.output, acls[name])
			}
			bound[o.Interface] = l
		}
	}
	for _, r := range routes {
		if r.Table != 0 || !r.Prefix.IsSingleIP() || len(r.Paths) != 1 {
			continue
		}
		if l := bound[r.Paths[0].Interface]; l != nil {
			t.interfaces[r.Prefix.Addr()] = l
		}
	}
}

// Interface is the filtered interface behind an address, or "".
func (t Tables) Interface(a netip.Addr) string {
	if l := t.interfaces[a]; l != nil {
		return l.name
	}
	return ""
}

// Judge says what becomes of a packet.
func (t Tables) Judge(p Packet) Verdict {
	v := Verdict{Input: Decision{Allowed: true, Rule: -1}, Output: Decision{Allowed: true, Rule: -1}}
	if l := t.interfaces[p.Src]; l != nil {
		v.Input = judge(l.name, l.input, p)
	}
	if l := t.interfaces[p.Dst]; l != nil {
		v.Output = judge(l.name, l.output, p)
	}
	v.Allowed = v.Input.Allowed && v.Output.Allowed
	return v
}

func judge(name string, list []*table, p Packet) Decision {
	d := Decision{Allowed: len(list) == 0, Interface: name, Rule: -1}
	for _, t := range list {
		if i := t.first(p); i >= 0 {
			return Decision{Allowed: t.rules[i].Action != dataplane.Deny, Interface: name, ACL: t.name, Rule: i}
		}
	}
	return d
}
