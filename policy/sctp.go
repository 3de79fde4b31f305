package policy

import (
	"errors"
	"fmt"
	"slices"

	"github.com/millrace/millrace/dataplane"
)

// Some machines' ACLs do not see ports of SCTP. Where a rule names some, the safe side is
// written instead. This is done where terms are made, since pods decide to what protocol a
// named port belongs.

// narrowSCTP says whether a span is some ports of SCTP, not all.
func narrowSCTP(s span) bool { return s.protocol == sctp && s.ports != dataplane.AnyPorts() }

// namesSCTPPorts says whether a rule surely has ports of SCTP.
func (r *rule) namesSCTPPorts() bool {
	return slices.ContainsFunc(r.spans, narrowSCTP) || slices.ContainsFunc(r.names, func(n portName) bool { return n.protocol == sctp })
}

// unseenKey tells apart what rules of two actions come to.
func (r *rule) unseenKey() string { return fmt.Sprintf(" unseen %d %t", r.action, r.sctpOnly) }

// unseen replaces the spans of terms by what a machine can do that does not see them.
func (r *rule) unseen(terms []term) (out []term) {
	for _, t := range terms {
		var spans []span
		for _, s := range t.spans {
			switch {
			case narrowSCTP(s) && r.action == deny:
				spans = append(spans, span{sctp, dataplane.AnyPorts()})
			case !narrowSCTP(s) && !r.sctpOnly:
				spans = append(spans, s)
			}
		}
		if len(spans) > 0 {
			out = append(out, term{t.who, mergeSpans(spans)})
		}
	}
	return out
}

// denySCTP is what stands before a rule that passes ports of SCTP, or may do so.
func (r *rule) denySCTP() *rule {
	d := *r
	d.action, d.sctpOnly = deny, true
	return &d
}

// unseenIn says which rules of a policy are changed.
func unseenIn(rules [2][]*rule) error {
	var errs []error
	for _, list := range rules {
		for _, r := range list {
			if r.namesSCTPPorts() && !r.sctpOnly {
				errs = append(errs, fmt.Errorf("spec.%s[%d]: the dataplane does not see ports of SCTP: they are not allowed", r.direction, r.index))
			}
		}
	}
	return errors.Join(errs...)
}
