package watch

import (
	"errors"
	"log/slog"
	"strings"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// TestReporter: an outage is two lines, however many kinds it is seen by.
func TestReporter(t *testing.T) {
	var log strings.Builder
	r := reporter{log: slog.New(slog.NewTextHandler(&log, nil))}
	away := errors.New("dial tcp: connection refused")
	forbidden := apierrors.NewForbidden(schema.GroupResource{Resource: "nodes"}, "", errors.New("no"))
	steps := []struct {
		kind string
		err  error
		want string // a part of the line, "" = no line
	}{
		{"Pod", nil, ""},
		{"Pod", away, "cannot be reached"},
		{"Node", away, ""},
		{"Pod", away, ""},
		{"Pod", nil, ""},
		{"Node", forbidden, "refuses to tell of a kind"},
		{"Node", forbidden, ""},
		{"Node", nil, "answers again"},
		{"Node", nil, ""},
		{"Pod", away, "cannot be reached"},
	}
	for i, s := range steps {
		log.Reset()
		r.report(s.kind, s.err)
		if got := log.String(); (got == "") != (s.want == "") || !strings.Contains(got, s.want) {
			t.Errorf("step %d, %s %v: logged %q, want %q", i, s.kind, s.err, got, s.want)
		}
	}
}
