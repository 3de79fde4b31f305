package policy_test

import (
	"testing"

	"github.com/millrace/millrace/agent/compile"
	"github.com/millrace/millrace/internal/policytest"
	"github.com/millrace/millrace/policy/oracle"
	"github.com/millrace/millrace/policy/verdict"
)

// TestAgree: the ACLs say of connections in random clusters what the policies say, read
// one by one.
func TestAgree(t *testing.T) {
	cases := uint64(400)
	if testing.Short() {
		cases = 100
	}
	for seed := range cases {
		c := policytest.Random(seed, 100)
		for _, blind := range [...]bool{false, true} {
			if disagree(t, c, blind) == "" {
				continue
			}
			small := policytest.Shrink(c, func(c policytest.Case) bool { return disagree(t, c, blind) != "" })
			t.Fatalf("seed %d, blind %t: %s\n%s", seed, blind, disagree(t, small, blind), small)
		}
	}
}

// disagree says on what connection, and what both say. To a machine that is blind to ports
// of SCTP they are all 0: there the ACLs may deny more, and never allow more.
func disagree(t *testing.T, c policytest.Case, blind bool) string {
	t.Helper()
	o := compile.Defaults()
	o.Policy.SCTPPortsUnseen = blind
	r, err := compile.Compile(c.Snapshot, policytest.Node, o)
	if err != nil {
		t.Fatalf("%v\n%s", err, c)
	}
	tables := verdict.New(r.State)
	for _, f := range c.Flows {
		if f.From == f.To {
			continue // such packets never leave the pod
		}
		p := verdict.Packet{Src: f.From, Dst: f.To, Protocol: f.Protocol, DstPort: f.Port}
		if f.Protocol == oracle.ICMP || f.Protocol == oracle.ICMPv6 {
			p.SrcPort = uint16(f.Type)
		}
		unseen := blind && f.Protocol == oracle.SCTP
		if unseen {
			p.DstPort = 0
		}
		differ := func(want, got bool) bool { return want != got && !(unseen && want) }
		want, got := oracle.Judge(c.Snapshot, f), tables.Judge(p)
		// Only the interfaces of this node are here.
		if got.Input.Interface != "" && differ(want.Egress.Allowed, got.Input.Allowed) {
			return f.String() + ": " + got.Input.String() + ", but " + want.Egress.Reason + " in " + want.Egress.Policy
		}
		if got.Output.Interface != "" && differ(want.Ingress.Allowed, got.Output.Allowed) {
			return f.String() + ": " + got.Output.String() + ", but " + want.Ingress.Reason + " in " + want.Ingress.Policy
		}
	}
	return ""
}
