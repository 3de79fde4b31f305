package scenario

import (
	"net/netip"
	"testing"
	"time"

	"go.fd.io/govpp/binapi/acl_types"
	"go.fd.io/govpp/binapi/ip_types"

	"github.com/millrace/millrace/benchmarks/generator"
	"github.com/millrace/millrace/benchmarks/rig"
)

// lets says whether a list lets a flow of UDP through, rule by rule.
func lets(rules []acl_types.ACLRule, f generator.Flow) bool {
	for _, r := range rules {
		if r.Proto == ip_types.IP_API_PROTO_UDP && prefixOf(r.SrcPrefix).Contains(f.From) && prefixOf(r.DstPrefix).Contains(f.To) &&
			r.SrcportOrIcmptypeFirst <= f.SrcPort && f.SrcPort <= r.SrcportOrIcmptypeLast &&
			r.DstportOrIcmpcodeFirst <= f.DstPort && f.DstPort <= r.DstportOrIcmpcodeLast {
			return r.IsPermit == acl_types.ACL_ACTION_API_PERMIT_REFLECT
		}
	}
	return false
}

func prefixOf(p ip_types.Prefix) netip.Prefix {
	four := p.Address.Un.GetIP4()
	return netip.PrefixFrom(netip.AddrFrom4(four), int(p.Len))
}

// TestRuleSets: each set has as many rules as it says, lets its flows through, each of them
// different, and stops what the name of the stopping list says.
func TestRuleSets(t *testing.T) {
	want := map[string]int{"10": 10, "1k": 1000, "1k-pods": 1000, "10k": 10_000}
	routes, err := peerRoutes(1000, 1000)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range ruleSets() {
		egress, ingress := s.lists()
		if len(egress) != want[s.name] || len(ingress) != want[s.name] {
			t.Errorf("%s: %d and %d rules", s.name, len(egress), len(ingress))
		}
		seen := map[generator.Flow]bool{}
		for _, f := range s.flowList(300) {
			if seen[f] || !lets(egress, f) || !lets(ingress, f) || !routed24(routes, f.To) {
				t.Errorf("%s: %+v is not new, or does not pass", s.name, f)
			}
			seen[f] = true
		}
		for _, byEgress := range []bool{true, false} {
			for _, f := range s.forbiddenList(100, byEgress) {
				if lets(egress, f) == byEgress || !byEgress && lets(ingress, f) || !routed24(routes, f.To) {
					t.Errorf("%s: %+v is not stopped by the right list (egress %t)", s.name, f, byEgress)
				}
			}
		}
	}
}

func routed24(routes []netip.Prefix, a netip.Addr) bool {
	for _, p := range routes {
		if p.Contains(a) {
			return true
		}
	}
	return false
}

// TestBaseRules: they are of one family each, and let no UDP through.
func TestBaseRules(t *testing.T) {
	f := generator.Flow{From: netip.AddrFrom4([4]byte{10, 0, 0, 1}), To: netip.AddrFrom4([4]byte{10, 0, 0, 2}), SrcPort: 1, DstPort: 2}
	if rules := baseRules(); lets(rules, f) || len(rules) == 0 {
		t.Errorf("%+v passes %v", f, rules)
	}
	for _, r := range baseRules() {
		if r.SrcPrefix.Address.Af != r.DstPrefix.Address.Af {
			t.Errorf("%+v is of two families", r)
		}
	}
}

func TestDistanceOf(t *testing.T) {
	near, far := aclWindow{}, aclWindow{}
	near.cond.Distance, far.cond.Distance = "near", "far"
	if d := distanceOf([]aclWindow{near, near}); d != "near" {
		t.Errorf("near twice is %s", d)
	}
	if d := distanceOf([]aclWindow{near, far}); d != "mixed" {
		t.Errorf("near and far is %s", d)
	}
}

// TestIntegrationACL runs the comparison with the engine alone: forbidden frames are
// stopped, or Run would fail, and all others come back.
func TestIntegrationACL(t *testing.T) {
	router := engineRouter(t)
	router.Arms = 2
	r, err := ACL{Title: "test", Routers: []*rig.Router{router}, Rules: []string{"10"}, Routes: 1000, Size: 64, Batch: 64, Repetitions: 1,
		Timing: rig.Timing{Settle: 20 * time.Millisecond, Warm: 40 * time.Millisecond, Window: 50 * time.Millisecond},
		Cores:  [2]int{1, 0}, Progress: func(Progress) {}}.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []string{"none", "10"} {
		for _, load := range aclLoads() {
			samples := 0
			for _, distance := range []string{"near", "far"} {
				m, _ := r.Find("acl-"+c+"-"+load.name+"-"+distance, "engine")
				samples += len(m.Samples)
			}
			if samples == 0 && len(r.Discarded) == 0 {
				t.Errorf("%s, %s: no samples at all", c, load.name)
			}
		}
	}
	if !r.Complete {
		t.Errorf("result: %q", r.Problem)
	}
}
