package agent

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

func TestHandler(t *testing.T) {
	registry := prometheus.NewRegistry()
	a, err := New(Config{Node: "n", Cluster: ranges(), Attachments: newDoors(), Log: slog.New(slog.DiscardHandler), Metrics: registry})
	if err != nil {
		t.Fatal(err)
	}
	ask := func(path string) (int, string) {
		w := httptest.NewRecorder()
		a.handler(registry).ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
		return w.Code, w.Body.String()
	}
	if code, body := ask("/readyz"); code != http.StatusServiceUnavailable || !strings.Contains(body, ErrNotReady.Error()) {
		t.Errorf("before a round /readyz says %d %q", code, body)
	}
	a.publish(outcome{})
	if code, body := ask("/readyz"); code != http.StatusOK {
		t.Errorf("after a round /readyz says %d %q", code, body)
	}
	if code, body := ask("/metrics"); code != http.StatusOK || !strings.Contains(body, "millrace_agent_connected 0") {
		t.Errorf("/metrics says %d\n%s", code, body)
	}
	if code, _ := ask("/"); code != http.StatusNotFound {
		t.Errorf("/ says %d", code)
	}
}
