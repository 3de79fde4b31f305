package main

import (
	"context"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestCtl asks an engine for its version, and for what it does not know.
func TestCtl(t *testing.T) {
	dir := t.TempDir()
	socket := filepath.Join(dir, "api.sock")
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() {
		ended <- runEngine(ctx, []string{"--api-socket", socket, "--stats-socket", filepath.Join(dir, "stats.sock")})
	}()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	config := writeConfig(t, "")
	ask := func(command ...string) (string, error) {
		var out strings.Builder
		err := ctl(t.Context(), append([]string{"--config", config, "--api-socket", socket}, command...), &out)
		return out.String(), err
	}
	out, err := ask("show", "version")
	for end := time.Now().Add(20 * time.Second); err != nil && time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		out, err = ask("show", "version")
	}
	if err != nil || !strings.Contains(out, "engine") {
		t.Errorf("show version: %q, %v", out, err)
	}
	if out, err := ask("make coffee"); err == nil || !strings.Contains(out, "unknown input") {
		t.Errorf("make coffee: %q, %v; want an error, and what the dataplane says", out, err)
	}
}
