package policy_test

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/tools/txtar"

	"github.com/millrace/millrace/agent/watch"
	"github.com/millrace/millrace/cluster"
	"github.com/millrace/millrace/dataplane"
	"github.com/millrace/millrace/internal/textline"
	"github.com/millrace/millrace/policy"
)

var update = flag.Bool("update", false, "rewrite what the scenarios come to")

// TestScenarios compiles each testdata/*.txtar: its manifests come to its acls, for the
// pods of node n1 that are not on the host's network, and those that a line "local
// namespace/name" adds. A line "options key=value" bounds them.
func TestScenarios(t *testing.T) {
	paths, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(paths) == 0 {
		t.Fatalf("no scenarios: %v", err)
	}
	for _, path := range paths {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".txtar"), func(t *testing.T) {
			archive, err := txtar.ParseFile(path)
			if err != nil || len(archive.Files) == 0 {
				t.Fatalf("no manifests: %v", err)
			}
			s := manifests(t, archive.Files[0].Data)
			pods, o := settings(t, string(archive.Comment))
			for key, p := range s.Pods {
				if p.Node == "n1" && !p.HostNetwork {
					pods = append(pods, key)
				}
			}
			r := policy.Compile(s, "n1", pods, o)
			check(t, r)
			got := print(r)
			if *update {
				archive.Files = append(archive.Files[:1], txtar.File{Name: "acls", Data: []byte(got)})
				if err := os.WriteFile(path, txtar.Format(archive), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			if diff := cmp.Diff(string(archive.Files[1].Data), got); diff != "" {
				t.Errorf("acls (-want +got):\n%s", diff)
			}
		})
	}
}

// check wants ACLs that a dataplane can have, lists that name nothing else, and origins of
// all rules.
func check(t *testing.T, r policy.Result) {
	t.Helper()
	used := map[string]bool{}
	for key, l := range r.Lists {
		for _, name := range append(append([]string{}, l.Input...), l.Output...) {
			used[name] = true
		}
		if err := dataplane.Check(dataplane.ACLBinding{Interface: "x", Input: l.Input, Output: l.Output}); err != nil {
			t.Errorf("%s: %v", key, err)
		}
	}
	for _, a := range r.ACLs {
		if err := dataplane.Check(a); err != nil {
			t.Error(err)
		}
		if !used[a.Name] {
			t.Errorf("%s stands in no list", a.Name)
		}
		delete(used, a.Name)
		n := 0
		for _, o := range r.Origins[a.Name] {
			n += o.Rules
		}
		if n != len(a.Rules) || n == 0 {
			t.Errorf("%s has %d rules, and origins of %d", a.Name, len(a.Rules), n)
		}
	}
	for name := range used {
		t.Errorf("%s stands in a list, and is not there", name)
	}
}

func manifests(t *testing.T, yaml []byte) cluster.Snapshot {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "facts.yaml"), yaml, 0o600); err != nil {
		t.Fatal(err)
	}
	d, err := watch.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	return d.Snapshot()
}

func settings(t *testing.T, comment string) (pods []cluster.PodKey, o policy.Options) {
	t.Helper()
	for line := range strings.Lines(comment) {
		l, err := textline.Parse(strings.TrimSpace(line))
		switch {
		case err != nil || len(l.Words) == 0:
		case l.Words[0] == "local":
			key, err := cluster.ParsePodKey(l.Words[1])
			if err != nil {
				t.Fatal(err)
			}
			pods = append(pods, key)
		case l.Words[0] == "options":
			for _, f := range l.Fields {
				if f.Key == "sctp-ports-unseen" {
					o.SCTPPortsUnseen = true
					continue
				}
				into := map[string]*int{"applied-rules": &o.AppliedRules, "rules-per-acl": &o.RulesPerACL, "interface-acls": &o.InterfaceACLs}[f.Key]
				if _, err := fmt.Sscan(f.Value, into); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	return pods, o
}
