package program

import (
	"context"
	"errors"
	"slices"

	"go.fd.io/govpp/binapi/acl_types"
	"go.fd.io/govpp/binapi/ip_types"
	"go.fd.io/govpp/binapi/vpe"

	"github.com/millrace/millrace/dataplane"
	"github.com/millrace/millrace/vpp"
)

// On VPP a forbidden flow can live on by its answers: see guard. Of TCP most answers can be
// told by looking: they open nothing, and come from a port that clients do not use. So
// there, a rule that permits and reflects everything is written as four:
//
//	TCP that opens a connection      permit+reflect
//	TCP from a client's port         permit+reflect, for connections older than the session
//	other TCP                        permit
//	everything                       permit+reflect
//
// What the third lets pass makes no session, and nothing comes back by it. What is left:
// servers on ports that clients use too; for UDP see acl_hold.go.

const (
	// clientPorts is where the ports begin that Linux gives to clients
	// (net.ipv4.ip_local_port_range).
	clientPorts = 32768
	flagSYN     = 0x02
	flagACK     = 0x10
)

// learnAnswers finds out whether the machine tells the answers of forbidden flows itself,
// as the engine does.
func (p *Program) learnAnswers(ctx context.Context) error {
	version, err := vpp.Call[vpe.ShowVersionReply](ctx, p.conn, &vpe.ShowVersion{})
	if errors.Is(err, vpp.ErrUnsupported) {
		return nil
	}
	p.spreads = err == nil && version.Program != "millrace"
	return err
}

// wireRules are the rules of an ACL as the machine gets them.
func (p *Program) wireRules(rules []dataplane.Rule) []acl_types.ACLRule {
	list := make([]acl_types.ACLRule, 0, len(rules))
	for _, r := range rules {
		if p.spreads && reflectsAll(r) {
			list = append(list, spread(r)...)
		} else {
			list = append(list, wireRule(r))
		}
	}
	return list
}

func reflectsAll(r dataplane.Rule) bool {
	return r.Action == dataplane.PermitReflect && r.Protocol == 0 && r.Src.Bits() == 0 && r.Dst.Bits() == 0
}

// spread is the four rules, the last of which is the rule itself.
func spread(r dataplane.Rule) []acl_types.ACLRule {
	all := wireRule(r)
	rest := all
	rest.Proto = ip_types.IP_API_PROTO_TCP
	opens, client := rest, rest
	opens.TCPFlagsMask, opens.TCPFlagsValue = flagSYN|flagACK, flagSYN
	client.SrcportOrIcmptypeFirst = clientPorts
	rest.IsPermit = acl_types.ACL_ACTION_API_PERMIT
	return []acl_types.ACLRule{opens, client, rest, all}
}

// rulesOf reads an ACL back, with how many of the machine's rules each one is.
func rulesOf(wire []acl_types.ACLRule) (rules []dataplane.Rule, spans []int) {
	for i, n := 0, 0; i < len(wire); i += n {
		n = 1
		if i+4 <= len(wire) && reflectsAll(ruleOf(wire[i+3])) && slices.Equal(spread(ruleOf(wire[i+3])), wire[i:i+4]) {
			n = 4
		}
		rules, spans = append(rules, ruleOf(wire[i+n-1])), append(spans, n)
	}
	return rules, spans
}
