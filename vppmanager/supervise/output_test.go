package supervise

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
)

func TestTailKeepsTheEnd(t *testing.T) {
	var out strings.Builder
	lines := &tail{out: &out}
	for i := range tailLines + 5 {
		fmt.Fprintf(lines, "line %d\n", i)
	}
	for _, part := range []string{"a", "", "b\n\nc", strings.Repeat("x", 3*lineBytes), "d"} {
		if n, err := lines.Write([]byte(part)); n != len(part) || err != nil {
			t.Errorf("write %q: %d, %v", part, n, err)
		}
	}
	kept := lines.end()
	if len(kept) != tailLines {
		t.Errorf("%d lines kept, want %d", len(kept), tailLines)
	}
	last := kept[len(kept)-3:]
	want := []string{"ab", "", "c" + strings.Repeat("x", lineBytes-1)}
	if !slices.Equal(last, want) {
		t.Errorf("the last lines are %.20q, want %.20q", last, want)
	}
	if !strings.HasPrefix(out.String(), "line 0\n") || !strings.HasSuffix(out.String(), "xd\n") {
		t.Errorf("passed on: %.40q ... %q", out.String(), out.String()[out.Len()-5:])
	}
	if again := lines.end(); !slices.Equal(again, kept) {
		t.Error("a second end changed the lines")
	}
}

// TestTailWithoutALog: a child must not end because its output cannot be written.
func TestTailWithoutALog(t *testing.T) {
	lines := &tail{out: brokenWriter{}}
	for range 2 {
		if n, err := lines.Write([]byte("hello\n")); n != 6 || err != nil {
			t.Errorf("write: %d, %v", n, err)
		}
	}
	if got := lines.end(); !slices.Equal(got, []string{"hello", "hello"}) {
		t.Errorf("kept %q", got)
	}
}

type brokenWriter struct{}

func (brokenWriter) Write([]byte) (int, error) { return 0, errors.New("no space left") }

func TestExitText(t *testing.T) {
	for want, e := range map[string]Exit{
		"exited with code 0":                                    {},
		"was killed by signal 9 (killed)":                       {Signal: 9},
		"was killed by signal 6 (aborted) and left a core file": {Signal: 6, Core: true},
	} {
		if got := e.String(); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}
