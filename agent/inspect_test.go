package agent

import (
	"context"
	"errors"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/millrace/millrace/internal/machinetest"
	"github.com/millrace/millrace/internal/netnstest"
	"github.com/millrace/millrace/policy"
)

// serveViews gives a life its socket.
func serveViews(t *testing.T, l life) Views {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "agent.sock")
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- l.ServeViews(ctx, listener) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return Views{socket}
}

// TestIntegrationViews: another process reads what the loop knows, wants and has, as
// values.
func TestIntegrationViews(t *testing.T) {
	machine := machinetest.All(t)[0]
	machine.Start(t)
	d := newDoors()
	l := start(t, machine.Socket, d)
	l.mustApply(t, d.change(pod(netnstest.New(t), 5), true))
	v := serveViews(t, l)
	node, err := v.Node(t.Context())
	if err != nil || node != "n" {
		t.Errorf("node %q, %v", node, err)
	}
	facts, err := v.Facts(t.Context())
	if err != nil || len(facts.Attachments) != 1 {
		t.Errorf("facts: %v\n%s", err, facts)
	}
	want, err := v.Want(t.Context())
	if err != nil || want.Len() == 0 {
		t.Errorf("want: %v\n%s", err, want)
	}
	have, err := v.Have(t.Context())
	if err != nil || !have.Equal(want) {
		t.Errorf("have: %v\n%s\ndiffers from what is wanted\n%s", err, have, want)
	}
	if problems, err := v.Problems(t.Context()); err != nil || len(problems) != 0 {
		t.Errorf("problems: %q, %v", problems, err)
	}
	if _, err := v.Text(t.Context(), "coffee"); err == nil || !strings.Contains(err.Error(), "404") {
		t.Errorf("coffee: %v", err)
	}
}

// TestViewProblems prints each policy that fails closed in one line.
func TestViewProblems(t *testing.T) {
	v := View{Problems: []policy.Problem{
		{Object: policy.Object{Kind: policy.KindNetworkPolicy, Namespace: "a", Name: "b"}, Reason: policy.PolicyRejected, Err: errors.Join(errors.New("x"), errors.New("y"))},
		{Object: policy.Object{Kind: policy.KindClusterNetworkPolicy, Name: "c"}, Reason: policy.PolicyTooLarge, Err: errors.New("z")},
	}}
	want := "NetworkPolicy a/b: PolicyRejected: x; y\nClusterNetworkPolicy c: PolicyTooLarge: z\n"
	if got := v.problems(); got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

// TestViewsDown: without a dataplane there is no loop that answers, and the error says why.
func TestViewsDown(t *testing.T) {
	l := start(t, filepath.Join(t.TempDir(), "nobody.sock"), newDoors())
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := l.View(ctx); err == nil || !strings.Contains(err.Error(), ErrNotReady.Error()) {
		t.Errorf("view: %v", err)
	}
	nobody := Views{filepath.Join(t.TempDir(), "agent.sock")}
	if _, err := nobody.Want(t.Context()); err == nil || !strings.Contains(err.Error(), "agent.sock") {
		t.Errorf("an agent that is not there: %v", err)
	}
}
