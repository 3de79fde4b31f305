package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/millrace/millrace/internal/kubetest"
)

// TestIntegrationAgentKubeconfig: the agent finds an API server by its flag, knows all
// kinds with the rights of deploy/base/rbac.yaml, and says by its metrics that it does.
func TestIntegrationAgentKubeconfig(t *testing.T) {
	c := kubetest.Start(t)
	c.ApplyFile("../../deploy/base/rbac.yaml")
	dir := t.TempDir()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	l.Close() // for the agent to take
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- runAgent(ctx, []string{
			"--config", writeConfig(t, ""), "--kubeconfig", c.Kubeconfig("millrace", "millrace-agent", 0), "--metrics", address, "--node-name", "n",
			"--api-socket", filepath.Join(dir, "api.sock"), "--cni-socket", filepath.Join(dir, "cni.sock"), "--state-dir", filepath.Join(dir, "state"),
		})
	}()
	want := []string{"Node", "Namespace", "Pod", "NetworkPolicy", "ClusterNetworkPolicy", "Service", "EndpointSlice"}
	for end := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		text, err := fetch(ctx, "http://"+address+"/metrics")
		missing := ""
		for _, kind := range want {
			for _, line := range []string{fmt.Sprintf("millrace_watch_synced{kind=%q} 1", kind), fmt.Sprintf("millrace_watch_contact_timestamp_seconds{kind=%q} 1.", kind)} {
				if !strings.Contains(text, line) {
					missing = line
				}
			}
		}
		if missing == "" {
			break
		}
		select {
		case err := <-done:
			t.Fatalf("the agent ended: %v", err)
		default:
		}
		if time.Now().After(end) {
			t.Fatalf("%q is not among the metrics (%v):\n%s", missing, err, text)
		}
	}
	// There is no dataplane here.
	if text, err := fetch(ctx, "http://"+address+"/readyz"); err == nil {
		t.Errorf("ready without a dataplane: %s", text)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// fetch reads a page; an answer other than 200 is an error.
func fetch(ctx context.Context, url string) (string, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	reply, err := http.DefaultClient.Do(r)
	if err != nil {
		return "", err
	}
	defer reply.Body.Close()
	text, err := io.ReadAll(reply.Body)
	if err == nil && reply.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s", reply.Status)
	}
	return string(text), err
}
