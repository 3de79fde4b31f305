package install

import (
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"

	"github.com/millrace/millrace/internal/kubetest"
)

// TestGoing: what the API server answers, in turn, and what that means.
func TestGoing(t *testing.T) {
	const there, marked = `{"metadata":{"name":"millrace"}}`, `{"metadata":{"name":"millrace","deletionTimestamp":"2026-01-01T00:00:00Z"}}`
	type answer struct {
		status int
		body   string
		going  bool
		fails  bool
	}
	for name, answers := range map[string][]answer{
		"there":                 {{200, there, false, false}},
		"marked for deletion":   {{200, marked, true, false}},
		"deleted":               {{404, "", true, false}},
		"rights deleted":        {{200, there, false, false}, {403, "", true, false}},
		"account deleted":       {{200, there, false, false}, {401, "", true, false}},
		"rights never there":    {{403, "", false, true}, {401, "", false, true}},
		"server in trouble":     {{200, there, false, false}, {500, "etcd", false, true}, {429, "", false, true}},
		"something else speaks": {{200, "<html>", false, true}},
	} {
		t.Run(name, func(t *testing.T) {
			next := 0
			server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path != "/apis/apps/v1/namespaces/net/daemonsets/millrace" || r.Header.Get("Authorization") != "Bearer sesame" {
					t.Errorf("asked %s as %q", r.URL.Path, r.Header.Get("Authorization"))
				}
				w.WriteHeader(answers[next].status)
				w.Write([]byte(answers[next].body))
				next++
			}))
			defer server.Close()
			account := t.TempDir()
			writeFile(t, filepath.Join(account, "ca.crt"), string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})))
			writeFile(t, filepath.Join(account, "token"), "sesame\n")
			d, err := newDaemonSet("net/millrace", server.URL, account)
			if err != nil {
				t.Fatal(err)
			}
			for i, want := range answers {
				going, err := d.Going(t.Context())
				if going != want.going || (err != nil) != want.fails {
					t.Errorf("answer %d: going %t, %v", i, going, err)
				}
			}
		})
	}
}

func TestNewDaemonSetErrors(t *testing.T) {
	account := t.TempDir()
	writeFile(t, filepath.Join(account, "ca.crt"), "no certificate")
	for _, which := range []string{"", "millrace", "/millrace", "millrace/", "a/b/c", "a/b"} {
		if _, err := newDaemonSet(which, "https://127.0.0.1:1", account); err == nil {
			t.Errorf("%q: no error", which)
		}
	}
}

// TestIntegrationGoing asks a real API server with the rights that the manifests give, and
// while these are taken away as kubectl delete does.
func TestIntegrationGoing(t *testing.T) {
	api := kubetest.Start(t)
	for _, file := range []string{"rbac.yaml", "config.yaml", "daemonset.yaml"} {
		api.ApplyFile("../deploy/base/" + file)
	}
	account := t.TempDir()
	server := api.Account(account, "millrace", "millrace-agent")
	d, err := newDaemonSet("millrace/millrace", server, account)
	if err != nil {
		t.Fatal(err)
	}
	expect := func(want bool, when string) {
		t.Helper()
		if going, err := d.Going(t.Context()); err != nil || going != want {
			t.Errorf("%s: going %t, %v", when, going, err)
		}
	}
	expect(false, "installed")
	daemonSet, err := os.ReadFile("../deploy/base/daemonset.yaml")
	if err != nil {
		t.Fatal(err)
	}
	api.Delete(string(daemonSet))
	expect(true, "the DaemonSet is deleted")
	api.Apply(string(daemonSet))
	expect(false, "installed again")
	rbac, err := os.ReadFile("../deploy/base/rbac.yaml")
	if err != nil {
		t.Fatal(err)
	}
	api.Delete(string(rbac))
	expect(true, "rights, account and namespace are deleted")
}
