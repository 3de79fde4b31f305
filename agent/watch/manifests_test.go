package watch_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/millrace/millrace/agent/watch"
	"github.com/millrace/millrace/cluster"
)

// TestManifests: what people keep beside pods and policies is passed over by name, and
// what would be taken for an enforced policy is not.
func TestManifests(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	app := write("app.yaml", "{apiVersion: apps/v1, kind: Deployment, metadata: {name: web}}\n---\n{apiVersion: v1, kind: Pod, metadata: {name: web, namespace: a}}\n")
	flows := write("flows.yaml", "- {from: a/b}\n")
	s, skipped, err := watch.Manifests(dir, flows, filepath.Join(dir, "missing"))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{app + ": document 1: Deployment web"}, skipped); diff != "" {
		t.Errorf("skipped (-want +got):\n%s", diff)
	}
	if _, ok := s.Pods[cluster.PodKey{Namespace: "a", Name: "web"}]; !ok || len(s.Pods) != 1 {
		t.Errorf("pods: %v", s.Pods)
	}
	if s, _, err := watch.Manifests(app); err != nil || len(s.Pods) != 1 {
		t.Errorf("one file: %v, %v", s.Pods, err)
	}
	for _, tt := range []struct{ text, want string }{
		{"- {from: a/b}", "document 1"},
		{"{metadata: {name: x}}", "it has no kind"},
		{"{apiVersion: extensions/v1beta1, kind: NetworkPolicy, metadata: {name: x}}", `kind "NetworkPolicy" is not known here`},
		{"{apiVersion: policy.networking.k8s.io/v1alpha1, kind: AdminNetworkPolicy, metadata: {name: x}}", `kind "AdminNetworkPolicy" is not known here`},
		{"{apiVersion: v1, kind: Pod, metadata: {name: x}, spec: {nodename: n}}", `unknown field "spec.nodename"`},
	} {
		_, _, err := watch.Manifests(write("bad.yaml", tt.text))
		if err == nil || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), filepath.Join(dir, "bad.yaml")) {
			t.Errorf("%s: error %v does not say %q and the file", tt.text, err, tt.want)
		}
	}
	if _, _, err := watch.Manifests(filepath.Join(dir, "nowhere")); err == nil {
		t.Error("a directory that is not there is no error")
	}
}
