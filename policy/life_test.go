package policy_test

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/millrace/millrace/cluster"
	"github.com/millrace/millrace/policy"
)

// TestSecondLife: a pod that has the name of one before it is not judged by what the API
// server still says of that one, neither as a subject nor as a peer.
func TestSecondLife(t *testing.T) {
	s := manifests(t, []byte(`
apiVersion: v1
kind: Pod
metadata: {namespace: shop, name: db-0, uid: first, labels: {app: db}}
spec: {nodeName: n1, containers: []}
status: {phase: Running, podIPs: [{ip: 10.1.0.4}]}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {namespace: shop, name: db}
spec:
  podSelector: {matchLabels: {app: db}}
  ingress: [{from: [{podSelector: {matchLabels: {app: db}}}]}]
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {namespace: shop, name: others}
spec:
  podSelector: {matchLabels: {app: other}}
`))
	key := cluster.PodKey{Namespace: "shop", Name: "db-0"}
	attach := func(uids ...string) {
		var list []cluster.Attachment
		for i, uid := range uids {
			list = append(list, cluster.Attachment{
				ID: cluster.AttachmentID{ContainerID: "c" + uid, IfName: "eth0"}, Pod: key, PodUID: uid, Revision: uint64(i + 1),
				Addresses: []netip.Addr{netip.AddrFrom4([4]byte{10, 1, 0, byte(8 + i)})},
			})
		}
		s = s.WithAttachments(uint64(len(list)), list)
	}
	c := policy.NewCompiler("n1", policy.Options{})
	before := cluster.Snapshot{}
	for _, step := range []struct {
		what  string
		uids  []string // of the attachments, the latest last
		fact  string
		rules string // for peers; empty: the pod is closed
	}{
		{"its own interface", []string{"first"}, "first", "10.1.0.4/32 10.1.0.8/32"},
		{"a caller that tells no uid", []string{""}, "first", "10.1.0.4/32 10.1.0.8/32"},
		{"a second life that the facts do not know", []string{"first", "second"}, "first", ""},
		{"the first interface is gone", []string{"second"}, "first", ""},
		{"the facts know", []string{"second"}, "second", "10.1.0.4/32 10.1.0.8/32"},
		{"the first interface is still there", []string{"first", "second"}, "second", "10.1.0.4/32 10.1.0.9/32"},
	} {
		attach(step.uids...)
		pod := s.Pods[key]
		pod.UID = step.fact
		s.Pods = map[cluster.PodKey]cluster.Pod{key: pod}
		r := c.Update(s, cluster.Compare(before, s), []cluster.PodKey{key})
		before = s
		var peers []string
		for _, a := range r.ACLs {
			if strings.HasPrefix(a.Name, "policy/") {
				for _, rule := range a.Rules {
					peers = append(peers, rule.Src.String())
				}
			}
		}
		slices.Sort(peers)
		if got := strings.Join(peers, " "); got != step.rules {
			t.Errorf("%s: allowed from %q, want %q", step.what, got, step.rules)
		}
		if l := r.Lists[key]; slices.Contains(l.Output, "base/all") {
			t.Errorf("%s: open: %v", step.what, l.Output)
		}
	}
}
