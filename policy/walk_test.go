package policy_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/millrace/millrace/cluster"
	"github.com/millrace/millrace/internal/policytest"
	"github.com/millrace/millrace/policy"
)

// local are the pods of a snapshot that have an interface.
func local(s cluster.Snapshot) []cluster.PodKey {
	var list []cluster.PodKey
	for _, a := range s.Attachments {
		list = append(list, a.Pod)
	}
	return list
}

// print is all of a Result as text: before rules of an ACL stands where they come from.
func print(r policy.Result) string {
	var b strings.Builder
	for _, a := range r.ACLs {
		fmt.Fprintf(&b, "acl %s\n", a.Name)
		rules := a.Rules
		for _, o := range r.Origins[a.Name] {
			fmt.Fprintf(&b, "  # %s\n", strings.TrimSpace(o.String()+" "+o.Object.UID))
			for _, rule := range rules[:o.Rules] {
				fmt.Fprintf(&b, "  %s\n", rule)
			}
			rules = rules[o.Rules:]
		}
	}
	for _, key := range slices.SortedFunc(maps.Keys(r.Lists), cluster.PodKey.Compare) {
		fmt.Fprintf(&b, "from %s: %s\n  to %s: %s\n", key, strings.Join(r.Lists[key].Input, " "), key, strings.Join(r.Lists[key].Output, " "))
	}
	for _, p := range r.Problems {
		fmt.Fprintf(&b, "%s: %s: %s\n", p.Object, p.Reason, strings.ReplaceAll(p.Err.Error(), "\n", "; "))
	}
	return b.String()
}

// TestWalk: however facts came to be what they are, the result is that of a fresh compile.
// Clusters of two seeds have objects of the same names, so that going from one to the next
// changes, adds and removes everything there is.
func TestWalk(t *testing.T) {
	walks := uint64(40)
	if testing.Short() {
		walks = 10
	}
	for seed := range walks {
		r := rand.New(rand.NewPCG(seed, 9))
		o := policy.Options{}
		if r.IntN(3) == 0 {
			o = policy.Options{AppliedRules: 40 + r.IntN(400), RulesPerACL: 3 + r.IntN(20), InterfaceACLs: 4 + r.IntN(8)}
		}
		o.SCTPPortsUnseen = r.IntN(4) == 0
		c := policy.NewCompiler(policytest.Node, o)
		var at cluster.Snapshot
		var road []cluster.Snapshot
		for n := range uint64(6) {
			next := policytest.Random(seed*100+n, 0).Snapshot
			identify(r, next)
			switch r.IntN(4) {
			case 0: // all at once
			case 1: // by parts
				for range 4 {
					road = append(road, mix(r, at, next))
				}
			case 2: // there and back
				road = append(road, next, at)
			case 3: // in small steps
				road = append(road, steps(r, at, next)...)
			}
			road = append(road, next)
			for _, to := range road {
				changed := cluster.Compare(at, to)
				if r.IntN(2) == 0 { // what did not change may be named, too
					changed.Union(cluster.Compare(cluster.Snapshot{}, to))
				}
				here := local(to)
				r.Shuffle(len(here), func(i, j int) { here[i], here[j] = here[j], here[i] })
				got := print(c.Update(to, changed, here))
				if want := print(policy.Compile(to, policytest.Node, local(to), o)); got != want {
					t.Fatalf("seed %d: (-fresh +walk)\n%s\n%s", seed, cmp.Diff(want, got), to)
				}
				at = to
			}
			road = nil
		}
	}
}

// identify gives objects the UIDs that they may have on their second life.
func identify(r *rand.Rand, s cluster.Snapshot) {
	for key, p := range s.Pods {
		if r.IntN(4) == 0 {
			p.UID = "another"
			s.Pods[key] = p
		}
	}
	for key, p := range s.NetworkPolicies {
		p.UID = fmt.Sprint("uid", r.IntN(2))
		s.NetworkPolicies[key] = p
	}
	for key, p := range s.ClusterPolicies {
		p.UID = fmt.Sprint("uid", r.IntN(2))
		s.ClusterPolicies[key] = p
	}
}

// mix has some objects of either.
func mix(r *rand.Rand, a, b cluster.Snapshot) cluster.Snapshot {
	return cluster.Snapshot{
		Nodes: mixed(r, a.Nodes, b.Nodes), Namespaces: mixed(r, a.Namespaces, b.Namespaces), Pods: mixed(r, a.Pods, b.Pods),
		NetworkPolicies: mixed(r, a.NetworkPolicies, b.NetworkPolicies), ClusterPolicies: mixed(r, a.ClusterPolicies, b.ClusterPolicies),
		Attachments: mixed(r, a.Attachments, b.Attachments),
	}
}

func mixed[K comparable, V any](r *rand.Rand, a, b map[K]V) map[K]V {
	out := map[K]V{}
	for _, m := range [...]map[K]V{a, b} {
		for k, v := range m {
			if r.IntN(2) == 0 {
				out[k] = v
			}
		}
	}
	return out
}

// steps goes from a to b kind by kind, in any order.
func steps(r *rand.Rand, a, b cluster.Snapshot) (road []cluster.Snapshot) {
	for _, kind := range r.Perm(6) {
		switch kind {
		case 0:
			a.Nodes = b.Nodes
		case 1:
			a.Namespaces = b.Namespaces
		case 2:
			a.Pods = b.Pods
		case 3:
			a.NetworkPolicies = b.NetworkPolicies
		case 4:
			a.ClusterPolicies = b.ClusterPolicies
		case 5:
			a.Attachments = b.Attachments
		}
		road = append(road, a)
	}
	return road
}
