package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/millrace/millrace/vppmanager/change"
)

func TestManagerUndo(t *testing.T) {
	dir := t.TempDir()
	undo := func(stateDir string) (string, error) {
		var out bytes.Buffer
		err := undoChanges(t.Context(), stateDir, &out)
		return out.String(), err
	}
	none := filepath.Join(dir, "none")
	if out, err := undo(none); err != nil || !strings.Contains(out, "nothing to undo") {
		t.Errorf("without a state directory: %q, %v", out, err)
	}
	if _, err := os.Stat(none); err == nil {
		t.Error("it made the state directory")
	}
	if out, err := undo(dir); err != nil || out != "nothing to undo\n" {
		t.Errorf("without a journal: %q, %v", out, err)
	}
	// What a manager of another boot left: nothing of it is there any more.
	path := filepath.Join(dir, change.JournalFile)
	text := `{"journal":"millrace-manager","version":1,"boot":"an earlier one"}
{"step":1,"mark":"intend","change":{"kind":"set-sysctl","path":"vm/none","value":"1","why":"w"},"before":{"value":"0"}}
`
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := undo(dir); err != nil || !strings.Contains(out, "has booted since: the 1 changes") {
		t.Errorf("after a boot: %q, %v", out, err)
	}
	if _, err := os.Stat(path); err == nil {
		t.Error("the journal is still there")
	}
	running, err := change.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer running.Close()
	if _, err := undo(dir); err == nil || !strings.Contains(err.Error(), "a manager that runs holds it") {
		t.Errorf("while a manager runs: %v", err)
	}
}
