package textline

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestRoundTrip(t *testing.T) {
	lines := []Line{
		{},
		{Words: []string{"a"}},
		{Words: []string{"", "#x", "k=v", `q"`, "sp ace", "ü", "\xff"}},
		{Words: []string{"a"}, Fields: []Field{{"k", ""}, {"k", "a=b"}, {"k", "#"}, {"k", `"`}, {"k", "\n\t"}}},
	}
	for _, l := range lines {
		got, err := Parse(l.String())
		if err != nil {
			t.Errorf("%s: %v", l, err)
			continue
		}
		if diff := cmp.Diff(l, got); diff != "" {
			t.Errorf("%s: %s", l, diff)
		}
	}
}

func TestParseErrors(t *testing.T) {
	for text, want := range map[string]string{
		`a "b`:      "unfinished quote",
		`a k="b"c`:  "text follows a closing quote",
		`a k=v b`:   "a word stands after a field",
		`a "\xq" b`: "unfinished quote",
	} {
		if _, err := Parse(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Parse(%q) = %v, want an error with %q", text, err, want)
		}
	}
}

func TestReaderIsStrict(t *testing.T) {
	l, err := Parse("x a=1 b=2 a=3")
	if err != nil {
		t.Fatal(err)
	}
	r := Read(l)
	if got := r.Strings("a"); !cmp.Equal(got, []string{"1", "3"}) {
		t.Errorf("a = %q", got)
	}
	if err := r.Done(); err == nil || !strings.Contains(err.Error(), "field b") {
		t.Errorf("Done = %v, want it to name b", err)
	}
	if r.String("b") != "2" || r.Done() != nil {
		t.Errorf("b was not taken: %v", r.Done())
	}
}

func FuzzParse(f *testing.F) {
	f.Add(`a "b c" k=v k="x y"`)
	f.Add("\xff=1")
	f.Fuzz(func(t *testing.T, text string) {
		l, err := Parse(text)
		if err != nil {
			return
		}
		got, err := Parse(l.String())
		if err != nil {
			t.Fatalf("cannot read %q: %v", l.String(), err)
		}
		if diff := cmp.Diff(l, got); diff != "" {
			t.Fatal(diff)
		}
	})
}
