package compile

import (
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/tools/txtar"

	"github.com/millrace/millrace/cluster"
)

// TestWalk: a Compiler that has seen other facts before comes to what Compile comes to.
func TestWalk(t *testing.T) {
	paths, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(paths) < 2 {
		t.Fatalf("no scenarios: %v", err)
	}
	back := slices.Clone(paths)
	slices.Reverse(back)
	c, before := NewCompiler("worker-1", Defaults()), cluster.Snapshot{}
	for _, path := range append(paths, back...) {
		archive, err := txtar.ParseFile(path)
		if err != nil {
			t.Fatal(err)
		}
		snapshot, err := cluster.ParseSnapshot(section(archive, "snapshot"))
		if err != nil {
			t.Fatal(err)
		}
		got, gotErr := c.Update(snapshot, cluster.Compare(before, snapshot))
		want, wantErr := Compile(snapshot, "worker-1", Defaults())
		before = snapshot
		if (gotErr == nil) != (wantErr == nil) {
			t.Fatalf("%s: %v, compiled from nothing %v", path, gotErr, wantErr)
		}
		if diff := cmp.Diff(want.State.String(), got.State.String()); diff != "" {
			t.Errorf("%s (-compiled from nothing +walked to):\n%s", path, diff)
		}
	}
}
