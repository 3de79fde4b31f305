package explain

import (
	"fmt"
	"io"
	"net/netip"
	"strings"

	"github.com/millrace/millrace/dataplane"
	"github.com/millrace/millrace/policy/oracle"
	"github.com/millrace/millrace/policy/verdict"
)

// Machine is what a node's dataplane has, as it was observed.
type Machine struct {
	Node    string // whose dataplane it is
	State   dataplane.State
	Indexes map[string]uint32   // of ACLs in the machine, by name
	Matches map[string][]uint64 // by name of an ACL: packets that each rule matched; first packets, as a rule
}

// Explanation is the three readings of one connection.
type Explanation struct {
	From     netip.Addr `json:"from"`
	To       netip.Addr `json:"to"`
	Protocol uint8      `json:"protocol"` // of IP
	Port     uint16     `json:"port,omitempty"`
	Allowed  bool       `json:"allowed"` // by the policies
	Egress   Side       `json:"egress"`
	Ingress  Side       `json:"ingress"`
	// Disagreements say where two readings differ; without any they agree.
	Disagreements []string `json:"disagreements"`
	// FailClosed are the policies that the agent could not compile as they are written,
	// where the readings disagree.
	FailClosed []string `json:"failClosed,omitempty"`
}

// Side is the readings at one end. A reading that has nothing to say there is nil: where
// no pod is, and for the dataplane at the pods of other nodes.
type Side struct {
	Policies  Policies `json:"policies"`
	Compiled  *Lists   `json:"compiled,omitempty"`
	Dataplane *Lists   `json:"dataplane,omitempty"`
}

// Policies is what the policies say.
type Policies struct {
	Allowed bool   `json:"allowed"`
	Pod     string `json:"pod,omitempty"`
	Tier    string `json:"tier"`
	Policy  string `json:"policy,omitempty"` // kind and name
	Rule    int    `json:"rule"`             // from 0; -1 = none
	Reason  string `json:"reason"`
}

// Lists is what ACLs say.
type Lists struct {
	Allowed   bool    `json:"allowed"`
	Interface string  `json:"interface,omitempty"`
	ACL       string  `json:"acl,omitempty"`
	Rule      int     `json:"rule"`               // from 0; -1 = none matches, which denies
	Text      string  `json:"text,omitempty"`     // of the rule
	Index     *uint32 `json:"aclIndex,omitempty"` // in the machine
	Packets   *uint64 `json:"packets,omitempty"`  // that the rule has matched
}

// Explain gives the readings of each flow. machine may be nil.
func (c *Cluster) Explain(flows []oracle.Flow, machine *Machine) ([]Explanation, error) {
	var have verdict.Tables
	if machine != nil {
		have = verdict.New(machine.State)
	}
	var list []Explanation
	for _, f := range flows {
		policies := c.world.Judge(f)
		compiled, err := c.Compiled(f)
		if err != nil {
			return nil, err
		}
		e := Explanation{
			From: f.From, To: f.To, Protocol: f.Protocol, Port: f.Port, Allowed: policies.Allowed, Disagreements: []string{},
			Egress:  Side{Policies: sayPolicies(policies.Egress), Compiled: sayLists(compiled.Input)},
			Ingress: Side{Policies: sayPolicies(policies.Ingress), Compiled: sayLists(compiled.Output)},
		}
		if machine != nil && f.From != f.To {
			found := have.Judge(packet(f))
			e.Egress.Dataplane = c.observed(machine, f.From, found.Input)
			e.Ingress.Dataplane = c.observed(machine, f.To, found.Output)
		}
		e.Egress.compare("egress", &e.Disagreements)
		e.Ingress.compare("ingress", &e.Disagreements)
		if len(e.Disagreements) > 0 {
			e.FailClosed = c.closed
		}
		list = append(list, e)
	}
	return list, nil
}

// observed is what the machine's lists say at an end, if that is one of its pods.
func (c *Cluster) observed(m *Machine, end netip.Addr, d verdict.Decision) *Lists {
	pod, ok := c.owners[end]
	if !ok || pod.Node != m.Node {
		return nil
	}
	l := sayLists(d)
	if l == nil {
		l = &Lists{Allowed: true, Rule: -1} // the pod's interface has no lists, or is not there
	}
	if index, ok := m.Indexes[l.ACL]; ok {
		l.Index = &index
	}
	if o, ok := m.State.Object(dataplane.Key{Kind: dataplane.KindACL, Name: l.ACL}); ok && l.Rule >= 0 {
		l.Text = o.(dataplane.ACL).Rules[l.Rule].String()
		if counts := m.Matches[l.ACL]; l.Rule < len(counts) {
			l.Packets = &counts[l.Rule]
		}
	}
	return l
}

func sayPolicies(d oracle.Decision) Policies {
	p := Policies{Allowed: d.Allowed, Tier: d.Tier.String(), Policy: d.Policy, Rule: d.Rule, Reason: d.Reason}
	if d.Tier != oracle.TierNone {
		p.Pod = d.Pod.String()
	}
	return p
}

func sayLists(d verdict.Decision) *Lists {
	if d.Interface == "" {
		return nil
	}
	return &Lists{Allowed: d.Allowed, Interface: d.Interface, ACL: d.ACL, Rule: d.Rule}
}

// compare says where the readings of a side differ.
func (s Side) compare(direction string, into *[]string) {
	word := map[bool]string{true: "allow", false: "deny"}
	if s.Compiled != nil && s.Compiled.Allowed != s.Policies.Allowed {
		*into = append(*into, fmt.Sprintf("%s: the policies %s it, the ACLs compiled from them %s it", direction, word[s.Policies.Allowed], word[s.Compiled.Allowed]))
	}
	switch {
	case s.Dataplane == nil:
	case s.Dataplane.Interface == "":
		*into = append(*into, fmt.Sprintf("%s: the dataplane has no interface with ACLs for pod %s", direction, s.Policies.Pod))
	case s.Compiled != nil && s.Dataplane.Allowed != s.Compiled.Allowed:
		*into = append(*into, fmt.Sprintf("%s: the compiled ACLs %s it, those in the dataplane %s it", direction, word[s.Compiled.Allowed], word[s.Dataplane.Allowed]))
	}
}

// Print writes an explanation for a person.
func (e Explanation) Print(w io.Writer) error {
	word := map[bool]string{true: "ALLOWED", false: "DENIED"}
	f := oracle.Flow{From: e.From, To: e.To, Protocol: e.Protocol, Port: e.Port}
	if e.Protocol == oracle.ICMP {
		f.Type = 8
	} else if e.Protocol == oracle.ICMPv6 {
		f.Type = 128
	}
	if _, err := fmt.Fprintf(w, "%s: %s\n", f, word[e.Allowed]); err != nil {
		return err
	}
	for _, s := range []struct {
		name string
		side Side
	}{{"egress", e.Egress}, {"ingress", e.Ingress}} {
		if err := s.side.print(w, s.name); err != nil {
			return err
		}
	}
	for _, d := range e.Disagreements {
		if _, err := fmt.Fprintf(w, "  DISAGREEMENT: %s\n", d); err != nil {
			return err
		}
	}
	for _, p := range e.FailClosed {
		if _, err := fmt.Fprintf(w, "  fails closed: %s\n", strings.TrimSpace(p)); err != nil {
			return err
		}
	}
	return nil
}

func (s Side) print(w io.Writer, direction string) error {
	word := map[bool]string{true: "allow", false: "deny"}
	p := s.Policies
	if p.Pod == "" {
		_, err := fmt.Fprintf(w, "  %-8s %s\n", direction, p.Reason)
		return err
	}
	decided := p.Policy
	if p.Rule >= 0 {
		decided += fmt.Sprintf(" %s[%d]", direction, p.Rule)
	}
	if decided != "" {
		decided += ": "
	}
	_, err := fmt.Fprintf(w, "  %-8s of pod %s\n    policies   %-5s  %s%s (tier %s)\n", direction, p.Pod, word[p.Allowed], decided, p.Reason, p.Tier)
	for _, l := range []struct {
		name  string
		lists *Lists
	}{{"compiled", s.Compiled}, {"dataplane", s.Dataplane}} {
		if l.lists != nil && err == nil {
			_, err = fmt.Fprintf(w, "    %-10s %-5s  %s\n", l.name, word[l.lists.Allowed], l.lists)
		}
	}
	return err
}

// String is what decided.
func (l Lists) String() string {
	switch {
	case l.Interface == "":
		return "no interface with ACLs"
	case l.ACL == "":
		return "the end of the lists of " + l.Interface
	}
	text := "acl " + l.ACL
	if l.Index != nil {
		text += fmt.Sprintf(" (index %d)", *l.Index)
	}
	text += fmt.Sprintf(" rule %d", l.Rule)
	if l.Text != "" {
		text += " " + l.Text
	}
	if l.Packets != nil {
		text += fmt.Sprintf(", matched %d packets", *l.Packets)
	}
	return text
}
