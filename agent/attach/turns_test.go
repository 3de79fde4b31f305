package attach_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/millrace/millrace/cni/cnipb"
)

// TestGCLeavesVerbsAtWorkAlone: a runtime's list may be older than an ADD in flight.
func TestGCLeavesVerbsAtWorkAlone(t *testing.T) {
	n := start(t, "10.1.0.0/24")
	n.add(t, "c0")
	n.loop.Hold()
	n.pods.Make("/run/netns/c1")
	answer := make(chan error, 1)
	go func() { _, err := n.Add(context.WithoutCancel(t.Context()), addRequest("c1")); answer <- err }()
	if err := n.loop.AwaitWaiters(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	reply, err := n.GC(t.Context(), &cnipb.GCRequest{Network: "pods", Valid: []*cnipb.AttachmentID{addRequest("c0").Id}})
	if err != nil || len(reply.Deleted) > 0 {
		t.Errorf("GC deleted %v, %v", reply.GetDeleted(), err)
	}
	n.loop.Release()
	if err := <-answer; err != nil {
		t.Error(err)
	}
}

func TestAddsSideBySide(t *testing.T) {
	n := start(t, "10.1.0.0/24", "fd00::/112")
	const pods = 50
	got := make([]*cnipb.AddReply, pods)
	errs := make(chan error, pods)
	for i := range pods {
		container := fmt.Sprintf("c%d", i)
		n.pods.Make("/run/netns/" + container)
		go func() {
			var err error
			got[i], err = n.Add(t.Context(), addRequest(container))
			errs <- err
		}()
	}
	for range pods {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	owner := map[string]int{}
	for i, reply := range got {
		for _, a := range addressesOf(reply) {
			if other, taken := owner[a]; taken {
				t.Errorf("pods %d and %d both got %s", other, i, a)
			}
			owner[a] = i
		}
	}
	if len(owner) != 2*pods {
		t.Errorf("%d addresses for %d pods of two families", len(owner), pods)
	}
	families, err := n.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() != "millrace_cni_request_seconds" {
			continue
		}
		if len(f.Metric) != 1 || f.Metric[0].GetHistogram().GetSampleCount() != pods {
			t.Errorf("latency series %v, want one of %d successful ADDs", f.Metric, pods)
		}
		return
	}
	t.Error("no latency is measured")
}

func TestVerbsTakeTurns(t *testing.T) {
	n := start(t, "10.1.0.0/24")
	n.add(t, "c0")
	n.loop.Hold()
	n.pods.Make("/run/netns/c1")
	added, deleted := make(chan error, 1), make(chan error, 1)
	ctx := context.WithoutCancel(t.Context())
	go func() { _, err := n.Add(ctx, addRequest("c1")); added <- err }()
	if err := n.loop.AwaitWaiters(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	go func() { _, err := n.Del(ctx, delRequest("c1")); deleted <- err }()
	impatient, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := n.Del(impatient, delRequest("c1")); err == nil {
		t.Error("a DEL that nobody waits for succeeded while an ADD was at work")
	}
	n.loop.Release()
	if err := errors.Join(<-added, <-deleted); err != nil {
		t.Error(err)
	}
	if diff := cmp.Diff([]string{"c0/eth0"}, n.facts()); diff != "" {
		t.Error(diff)
	}
}

// BenchmarkAddDel is what the agent's side of one ADD and one DEL costs without the
// dataplane: socket, journal with its syncs, allocation on a node of 100 pods.
func BenchmarkAddDel(b *testing.B) {
	n := start(b, "10.1.0.0/24", "fd00:1::/64")
	for i := range 100 {
		container := fmt.Sprintf("c%d", i)
		n.pods.Make("/run/netns/" + container)
		if _, err := n.Add(b.Context(), addRequest(container)); err != nil {
			b.Fatal(err)
		}
	}
	n.pods.Make("/run/netns/x")
	for b.Loop() {
		if _, err := n.Add(b.Context(), addRequest("x")); err != nil {
			b.Fatal(err)
		}
		if _, err := n.Del(b.Context(), delRequest("x")); err != nil {
			b.Fatal(err)
		}
	}
}
