package memifspec

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParseAnnotation(t *testing.T) {
	got, err := ParseAnnotation(`[
		{"name": "memif0"},
		{"name": "m.1-_", "mode": "ip", "rxQueues": 4, "txQueues": 255, "ringSize": 32768, "bufferSize": 65535, "secret": "my-secret.v1/some_KEY.a"}
	]`)
	if err != nil {
		t.Fatal(err)
	}
	want := []Spec{
		{Name: "memif0", RxQueues: 1, TxQueues: 1, RingSize: 1024, BufferSize: 2048},
		{Name: "m.1-_", Mode: IP, RxQueues: 4, TxQueues: 255, RingSize: 32768, BufferSize: 65535, Secret: SecretRef{"my-secret.v1", "some_KEY.a"}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if none, err := ParseAnnotation(" [] "); len(none) != 0 || err != nil {
		t.Errorf("an empty list gives %v, %v", none, err)
	}
}

func TestParseAnnotationErrors(t *testing.T) {
	one := func(fields string) string { return `[{"name": "a"}, {"name": "b", ` + fields + `}]` }
	tests := []struct{ text, want string }{
		{"", "millrace.io/memif: ends too early"},
		{"{}", "millrace.io/memif: want a list"},
		{"null", "millrace.io/memif: want a list"},
		{"[1]", "millrace.io/memif[0]: want an object"},
		{"[null]", "millrace.io/memif[0]: want an object"},
		{"[{}] x", "millrace.io/memif: more follows after the list"},
		{"[{}]", "millrace.io/memif[0].name: is missing"},
		{`[{"name": ""}]`, "millrace.io/memif[0].name: is missing"},
		{`[{"name": "a"}, {"name": "a"}]`, `millrace.io/memif[1].name: "a" is already that of millrace.io/memif[0]`},
		{`[{"name": "a", "name": "b"}]`, "millrace.io/memif[0].name: stands twice"},
		{`[{"Name": "a"}]`, "millrace.io/memif[0].Name: no such field"},
		{`[{"name": 7}]`, "millrace.io/memif[0].name: 7: want text"},
		{`[{"name": "0123456789abcdef"}]`, "want 1 to 15 letters"},
		{`[{"name": "a/b"}]`, "want 1 to 15 letters"},
		{`[{"name": "a,netns_pid=1"}]`, "want 1 to 15 letters"},
		{`[{"name": "a\u0000"}]`, "want 1 to 15 letters"},
		{`[{"name": ".."}]`, "want 1 to 15 letters"},
		{one(`"mode": "punt"`), `millrace.io/memif[1].mode: "punt": want ethernet or ip`},
		{one(`"mode": null`), "millrace.io/memif[1].mode: null: want text"},
		{one(`"rxQueues": 0`), "millrace.io/memif[1].rxQueues: 0: want 1 to 255"},
		{one(`"txQueues": 0`), "millrace.io/memif[1].txQueues: 0: want 1 to 255"},
		{one(`"rxQueues": 256`), "millrace.io/memif[1].rxQueues: 256: want a whole number, at most 255"},
		{one(`"rxQueues": "1"`), `millrace.io/memif[1].rxQueues: "1": want a whole number`},
		{one(`"rxQueues": 1.5`), "millrace.io/memif[1].rxQueues: 1.5: want a whole number"},
		{one(`"rxQueues": -1`), "millrace.io/memif[1].rxQueues: -1: want a whole number"},
		{one(`"rxQueues": null`), "millrace.io/memif[1].rxQueues: null: want a whole number"},
		{one(`"ringSize": 1000`), "millrace.io/memif[1].ringSize: 1000: want a power of two, 2 to 32768"},
		{one(`"ringSize": 65536`), "millrace.io/memif[1].ringSize: 65536: want a power of two"},
		{one(`"ringSize": 1`), "millrace.io/memif[1].ringSize: 1: want a power of two"},
		{one(`"bufferSize": 63`), "millrace.io/memif[1].bufferSize: 63: want 64 to 65535"},
		{one(`"bufferSize": 65536`), "millrace.io/memif[1].bufferSize: 65536: want a whole number, at most 65535"},
		{one(`"secret": "name"`), `millrace.io/memif[1].secret: "name": want secretName/key`},
		{one(`"secret": "/key"`), "want secretName/key"},
		{one(`"secret": "a/b/c"`), "want secretName/key"},
		{one(`"secret": "../a"`), "millrace.io/memif[1].secret"},
		{one(`"useDMA": true`), "millrace.io/memif[1].useDMA: no such field; known are"},
		{"[" + strings.Repeat(`{"name": "a"}, `, 16) + `{"name": "a"}]`, "millrace.io/memif: 17 interfaces: want at most 16"},
	}
	for _, tt := range tests {
		got, err := ParseAnnotation(tt.text)
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, error %v, want %q", tt.text, got, err, tt.want)
		}
	}
}

func TestWithKeepsTheRest(t *testing.T) {
	s := Default()
	s.Name, s.RxQueues = "net1", 2
	got, err := s.With("memif", []byte(`{"ringSize": 64}`))
	want := s
	want.RingSize = 64
	if err != nil || got != want {
		t.Errorf("%+v, %v, want %+v", got, err, want)
	}
}

func FuzzParseAnnotation(f *testing.F) {
	f.Add(`[{"name":"memif0","mode":"ip","rxQueues":1,"txQueues":1,"ringSize":1024,"bufferSize":2048,"secret":"a/b"}]`)
	f.Add(`[{"name":"a","ringSize":1e3},{"name":"A"}]`)
	f.Add(`[{"name":"\ud800"},[]]`)
	f.Fuzz(func(t *testing.T, text string) {
		specs, err := ParseAnnotation(text)
		if err != nil {
			if !strings.HasPrefix(err.Error(), Annotation) {
				t.Errorf("the error %v names no path", err)
			}
			return
		}
		// What was accepted is written out whole and read back to the same.
		var items []string
		for _, s := range specs {
			item := fmt.Sprintf(`{"name":%q,"mode":%q,"rxQueues":%d,"txQueues":%d,"ringSize":%d,"bufferSize":%d`,
				s.Name, s.Mode, s.RxQueues, s.TxQueues, s.RingSize, s.BufferSize)
			if s.Secret != (SecretRef{}) {
				item += fmt.Sprintf(`,"secret":%q`, s.Secret)
			}
			items = append(items, item+"}")
		}
		again, err := ParseAnnotation("[" + strings.Join(items, ",") + "]")
		if err != nil || !cmp.Equal(specs, again) {
			t.Errorf("%+v was read back as %+v, %v", specs, again, err)
		}
	})
}
