package host

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/millrace/millrace/vppmanager/inventory"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// TestRecordedMachines reads each machine of testdata. The node it finds is published to
// the tests of package startup; how it prints is a golden file here.
func TestRecordedMachines(t *testing.T) {
	files, err := filepath.Glob("testdata/*.tree")
	if err != nil || len(files) < 8 {
		t.Fatalf("machines: %v, %v", files, err)
	}
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".tree")
		t.Run(name, func(t *testing.T) {
			n := recorded(t, file)
			inv, err := n.Inspect(Query{VPP: "/usr/bin/vpp", Engine: "/usr/bin/vpp", Dirs: []string{"/run/vpp"}})
			if err != nil {
				t.Fatal(err)
			}
			if strings.Contains(fmt.Sprint(inv.Unread), n.Root) {
				t.Errorf("a message names a path of this machine: %q", inv.Unread)
			}
			var b bytes.Buffer
			e := json.NewEncoder(&b)
			e.SetIndent("", " ")
			if err := e.Encode(inv); err != nil {
				t.Fatal(err)
			}
			golden(t, filepath.Join("../startup/testdata/nodes", "read-"+name+".json"), b.String())
			golden(t, filepath.Join("testdata", name+".golden"), inv.Text(nil))
			var back inventory.Node
			if err := json.Unmarshal(b.Bytes(), &back); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(inv, back, cmp.Comparer(func(a, b netip.Prefix) bool { return a == b }), cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
				t.Errorf("the node read back from JSON (-want +got):\n%s", diff)
			}
		})
	}
}

func golden(t *testing.T, file, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatalf("%v; -update writes it", err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got); -update rewrites it:\n%s", file, diff)
	}
}
