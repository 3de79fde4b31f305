package agent

import (
	"context"
	"log/slog"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/millrace/millrace/vpp"
)

// late is a cluster whose objects are not all known until it is closed.
type late struct {
	cidrs
	known chan struct{}
}

func (l late) WaitSynced(ctx context.Context) error {
	select {
	case <-l.known:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// TestWaitsForFacts: the machine is left alone until all facts are known, since a policy
// that is not known yet would leave its pods open.
func TestWaitsForFacts(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "api.sock")
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	l := late{ranges(), make(chan struct{})}
	a, err := New(Config{Node: "n", VPP: vpp.Config{Socket: socket}, Cluster: l, Attachments: newDoors(), Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	if err := a.Ready(); err == nil || !strings.Contains(err.Error(), "not all known") {
		t.Errorf("ready before the facts are known: %v", err)
	}
	// A connection that comes too early is queued by the kernel, so it cannot be missed.
	unix := listener.(*net.UnixListener)
	if err := unix.SetDeadline(time.Now().Add(100 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	if _, err := unix.Accept(); err == nil {
		t.Error("the agent turned to the machine before it knew the facts")
	}
	close(l.known)
	if err := unix.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	if _, err := unix.Accept(); err != nil {
		t.Errorf("the agent does not turn to the machine: %v", err)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
