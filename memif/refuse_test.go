package memif_test

import (
	"context"
	"errors"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/millrace/millrace/memif"
)

// TestRefusals: a client that does not fit is turned away with a reason that both sides
// can read, once, and one that fits comes in afterwards.
func TestRefusals(t *testing.T) {
	for _, tt := range []struct {
		name     string
		client   memif.Config
		reason   string
		toServer bool // the server can tell which of its interfaces was meant
	}{
		{"mode", memif.Config{Mode: memif.IP, Secret: "psst"}, "Mode mismatch: this interface is ethernet", true},
		{"no secret", memif.Config{}, "Secret required", true},
		{"wrong secret", memif.Config{Secret: "pssst"}, "Incorrect secret", true},
		{"id", memif.Config{ID: 7, Secret: "psst"}, "ID 7 not found", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			address := filepath.Join(t.TempDir(), "memif.sock")
			server, client := newSocket(t, memif.Server, address), newSocket(t, memif.Client, address)
			seen := &reasons{}
			s := add(t, server, memif.Config{Secret: "psst", OnChange: seen.note})
			c := add(t, client, tt.client)
			run(t, server)
			run(t, client)

			ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond) // some 15 attempts
			defer cancel()
			err := c.WaitUp(ctx)
			refused, _ := errors.AsType[*memif.Error](err)
			if refused == nil || refused.Kind != memif.Refused || !strings.Contains(err.Error(), tt.reason) {
				t.Errorf("client: %v; want it refused with %q", err, tt.reason)
			}
			want := ""
			if tt.toServer {
				want = "memif: " + tt.reason
			}
			if got := seen.text(); got != want {
				t.Errorf("the server reported %q, want %q", got, want)
			}
			if err := c.Close(); err != nil {
				t.Fatal(err)
			}
			waitUp(t, s, add(t, client, memif.Config{Secret: "psst"}))
		})
	}
}

// reasons are the reasons why there was no link, as reported.
type reasons struct {
	mu   sync.Mutex
	list []string
}

func (r *reasons) note(s memif.Status) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !s.Up {
		r.list = append(r.list, s.Err.Error())
	}
}

func (r *reasons) text() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return strings.Join(r.list, "; ")
}
