package agent

import (
	"errors"
	"log/slog"
	"strings"
	"testing"

	"github.com/millrace/millrace/cluster"
	"github.com/millrace/millrace/policy"
)

// heard are the events that an agent wrote.
type heard []string

func (h *heard) Warn(about cluster.Ref, reason, message string) {
	*h = append(*h, about.String()+" "+about.UID+" "+reason+" "+message)
}

// TestTell: the author is told each round, by who drops what was told already; the log has
// a problem once, and its end.
func TestTell(t *testing.T) {
	var log strings.Builder
	var events heard
	a, err := New(Config{Node: "n", Cluster: ranges(), Attachments: newDoors(), Events: &events, Log: slog.New(slog.NewTextHandler(&log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	bad := policy.Problem{
		Object: policy.Object{Kind: policy.KindNetworkPolicy, Namespace: "shop", Name: "db", UID: "u1"}, Reason: policy.PolicyRejected,
		Err: errors.New("spec.ingress[0].ports[0].port: 0: want 1 to 65535"),
	}
	admin := policy.Problem{Object: policy.Object{Kind: policy.KindClusterNetworkPolicy, Name: "deny", UID: "u2"}, Reason: policy.PolicyTooLarge, Err: errors.New("too large")}
	a.tell([]policy.Problem{bad})
	a.tell([]policy.Problem{bad, admin})
	a.tell([]policy.Problem{admin})
	a.tell(nil)
	if len(events) != 4 || !strings.HasPrefix(events[0], "NetworkPolicy shop/db u1 PolicyRejected spec.ingress[0].ports[0].port: 0") ||
		!strings.HasPrefix(events[3], "ClusterNetworkPolicy deny u2 PolicyTooLarge too large") {
		t.Errorf("events are %q", events)
	}
	for text, want := range map[string]int{"level=WARN": 2, "level=INFO": 2, `object="NetworkPolicy shop/db"`: 2, `object="ClusterNetworkPolicy deny"`: 2} {
		if got := strings.Count(log.String(), text); got != want {
			t.Errorf("%q stands %d times in the log, want %d:\n%s", text, got, want, &log)
		}
	}
	bad.Err = errors.New("another")
	a.tell([]policy.Problem{bad})
	if !strings.Contains(log.String(), "err=another") {
		t.Errorf("another problem of one policy is not logged:\n%s", &log)
	}
}
