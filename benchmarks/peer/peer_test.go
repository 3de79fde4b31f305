package peer

import (
	"encoding/json"
	"io"
	"path/filepath"
	"testing"
	"time"

	"github.com/millrace/millrace/benchmarks/cores"
)

// caller speaks to a peer that runs in this process.
type caller struct {
	t   *testing.T
	in  *json.Encoder
	out *json.Decoder
}

func call(t *testing.T, c Config) *caller {
	t.Helper()
	inR, inW := io.Pipe()
	outR, outW := io.Pipe()
	done := make(chan error, 1)
	go func() {
		err := Run(t.Context(), inR, outW)
		outW.CloseWithError(err)
		done <- err
	}()
	t.Cleanup(func() {
		inW.Close()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	p := &caller{t, json.NewEncoder(inW), json.NewDecoder(outR)}
	var ready Ready
	p.ask(c, &ready)
	if ready.Thread <= 0 {
		t.Errorf("thread is %d", ready.Thread)
	}
	return p
}

func (p *caller) ask(question, answer any) {
	p.t.Helper()
	if err := p.in.Encode(question); err != nil {
		p.t.Fatal(err)
	}
	if err := p.out.Decode(answer); err != nil {
		p.t.Fatal(err)
	}
}

// TestPeersCount: what one end sends the other receives, each way, and both say so.
func TestPeersCount(t *testing.T) {
	for _, serverSends := range []bool{false, true} {
		socket := filepath.Join(t.TempDir(), "m.sock")
		server := call(t, Config{Server: true, Socket: socket, Send: serverSends, Size: 64, Queues: 2, Core: -1})
		client := call(t, Config{Socket: socket, Send: !serverSends, Size: 64, Queues: 2, Core: -1})
		clock, err := cores.NewClock()
		if err != nil {
			t.Fatal(err)
		}
		var sent, received uint64
		for deadline := time.Now().Add(20 * time.Second); (sent == 0 || received == 0) && time.Now().Before(deadline); {
			now := clock.Now()
			w := Window{now + 1e6, now + 50e6}
			done := make(chan Answer, 1)
			go func() {
				var a Answer
				server.ask(w, &a)
				done <- a
			}()
			var a Answer
			client.ask(w, &a)
			b := <-done
			if a.Error != "" || b.Error != "" {
				t.Fatalf("window: %q, %q", a.Error, b.Error)
			}
			sent, received = sent+a.Sent+b.Sent, received+a.Received+b.Received
		}
		if sent == 0 || received == 0 {
			t.Errorf("server sends %t: sent %d, received %d", serverSends, sent, received)
		}
	}
}

func TestPeerRefuses(t *testing.T) {
	for name, text := range map[string]string{
		"nothing":       "",
		"unknown field": `{"sokcet":"x"}`,
		"no socket":     `{"size":64}`,
		"size":          `{"socket":"@x","size":10}`,
		"queues":        `{"socket":"@x","size":64,"queues":100000}`,
	} {
		r, w := io.Pipe()
		go func() { io.WriteString(w, text); w.Close() }()
		if err := Run(t.Context(), r, io.Discard); err == nil {
			t.Errorf("%s is no error", name)
		}
	}
}
