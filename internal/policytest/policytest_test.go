package policytest_test

import (
	"slices"
	"strings"
	"testing"

	networkingv1 "k8s.io/api/networking/v1"

	"github.com/millrace/millrace/agent/compile"
	"github.com/millrace/millrace/cluster"
	"github.com/millrace/millrace/internal/policytest"
	"github.com/millrace/millrace/policy/oracle"
)

// TestRandom: a seed is a case, which prints whole, and whose attachments a node can have.
// All that decides about connections is met.
func TestRandom(t *testing.T) {
	met := map[string]int{}
	for seed := range uint64(300) {
		c := policytest.Random(seed, 50)
		if again := policytest.Random(seed, 50); again.String() != c.String() {
			t.Fatalf("seed %d is two cases:\n%s\n%s", seed, c, again)
		}
		parsed, err := cluster.ParseSnapshot(c.Snapshot.String())
		if err != nil || parsed.String() != c.Snapshot.String() {
			t.Fatalf("seed %d does not come back: %v\n%s\n%s", seed, err, c.Snapshot, parsed)
		}
		r, err := compile.Compile(c.Snapshot, policytest.Node, compile.Defaults())
		if err != nil || len(r.Problems) > 0 {
			t.Fatalf("seed %d: %v %v\n%s", seed, err, r.Problems, c)
		}
		for _, f := range c.Flows {
			v := oracle.Judge(c.Snapshot, f)
			for _, d := range []oracle.Decision{v.Egress, v.Ingress} {
				text := d.Direction.String() + " " + d.Tier.String() + map[bool]string{true: " allowed", false: " denied"}[d.Allowed]
				if met[text]++; strings.Contains(d.Reason, "broken") {
					met["broken"]++
				}
			}
		}
	}
	for _, tier := range []oracle.Tier{oracle.TierAdmin, oracle.TierNetworkPolicy, oracle.TierBaseline, oracle.TierAlways, oracle.TierDefault} {
		for _, direction := range []string{"egress ", "ingress "} {
			if n := met[direction+tier.String()+" allowed"]; n < 50 {
				t.Errorf("%d connections are allowed in %s%s", n, direction, tier)
			}
			if n := met[direction+tier.String()+" denied"]; tier > oracle.TierAlways && tier < oracle.TierDefault && n < 50 {
				t.Errorf("%d connections are denied in %s%s", n, direction, tier)
			}
		}
	}
	if met["broken"] < 50 {
		t.Errorf("%d connections meet a broken policy", met["broken"])
	}
	t.Log(met)
}

// TestShrink: of a case that fails for one thing, little but that thing is left.
func TestShrink(t *testing.T) {
	done := 0
	for seed := range uint64(200) {
		c := policytest.Random(seed, 20)
		fails := func(c policytest.Case) bool {
			for _, p := range c.Snapshot.NetworkPolicies {
				for _, r := range p.Spec.Ingress {
					hole := slices.ContainsFunc(r.From, func(p networkingv1.NetworkPolicyPeer) bool { return p.IPBlock != nil && len(p.IPBlock.Except) > 0 })
					if hole && len(r.Ports) > 0 {
						return true
					}
				}
			}
			return false
		}
		if !fails(c) {
			continue
		}
		done++
		small := policytest.Shrink(c, fails)
		s := small.Snapshot
		if !fails(small) || len(small.Flows) != 1 || len(s.Pods)+len(s.Nodes)+len(s.Namespaces)+len(s.Attachments)+len(s.ClusterPolicies) != 0 || len(s.NetworkPolicies) != 1 {
			t.Fatalf("seed %d shrinks to\n%s", seed, small)
		}
		for _, p := range s.NetworkPolicies {
			r := p.Spec.Ingress[0]
			if len(p.Spec.Ingress) != 1 || len(p.Spec.Egress) != 0 || len(r.From) != 1 || len(r.From[0].IPBlock.Except) != 1 || len(r.Ports) != 1 || r.Ports[0].Port != nil {
				t.Fatalf("seed %d shrinks to\n%s", seed, small)
			}
		}
	}
	if done < 5 {
		t.Errorf("only %d seeds have what is looked for", done)
	}
}
