package interop

import (
	"fmt"
	"os"
	"regexp"
	"testing"

	"github.com/millrace/millrace/memif"
)

// TestTestpmd sends frames to testpmd and gets them back, in both roles, over one queue and
// four, in frames of one buffer and of several.
func TestTestpmd(t *testing.T) {
	for _, ours := range []memif.Role{memif.Server, memif.Client} {
		for _, queues := range []int{1, 4} {
			for _, size := range []int{64, 9000} {
				t.Run(fmt.Sprintf("%s-%d-queues-%d-bytes", ours, queues, size), func(t *testing.T) {
					at := address(t)
					c := testpmdConfig{role: 1 - ours, address: at, queues: queues}
					var p *testpmd
					if ours == memif.Client {
						p = startTestpmd(t, c)
					}
					e := startEnd(t, ours, at, memif.Config{RxQueues: queues, TxQueues: queues})
					if ours == memif.Server {
						p = startTestpmd(t, c)
					}
					e.up(t)
					for q := range queues {
						if err := e.echo(t.Context(), q, 1000, size); err != nil {
							t.Fatal(err)
						}
					}
					if n := p.received(t); n != 1000*queues {
						t.Errorf("testpmd counted %d frames, want %d", n, 1000*queues)
					}
				})
			}
		}
	}
}

// TestTestpmdKilled kills testpmd: our end finds the next one by itself.
func TestTestpmdKilled(t *testing.T) {
	for _, ours := range []memif.Role{memif.Server, memif.Client} {
		t.Run(ours.String(), func(t *testing.T) {
			at := address(t)
			e := startEnd(t, ours, at, memif.Config{})
			for round := range 3 {
				p := startTestpmd(t, testpmdConfig{role: 1 - ours, address: at, queues: 1})
				e.up(t)
				if err := e.echo(t.Context(), 0, 200, 64); err != nil {
					t.Fatalf("round %d: %v", round, err)
				}
				p.kill()
				e.down(t)
				if ours == memif.Client {
					// DPDK's server does not replace the file of one that was killed.
					if err := os.Remove(at); err != nil {
						t.Fatal(err)
					}
				}
			}
		})
	}
}

// TestOursKilled kills our end, a process of its own.
func TestOursKilled(t *testing.T) {
	t.Run("client", func(t *testing.T) {
		at := address(t)
		p := startTestpmd(t, testpmdConfig{role: memif.Server, address: at, queues: 1})
		for range 3 {
			ours := startEndProcess(t, memif.Client, at)
			ours.until(t, regexp.MustCompile("^echoed$"))
			p.rest(t)
			ours.kill()
			p.forward(t)
		}
		p.received(t) // it lives
	})
	t.Run("server", func(t *testing.T) {
		at := address(t)
		for range 3 { // our server replaces the file of the one that was killed
			ours := startEndProcess(t, memif.Server, at)
			ours.until(t, regexp.MustCompile("^listening$"))
			p := startTestpmd(t, testpmdConfig{role: memif.Client, address: at, queues: 1})
			ours.until(t, regexp.MustCompile("^echoed$"))
			p.rest(t)
			ours.kill()
			p.received(t) // it lives, but never tries again
			p.kill()
		}
	})
}

// TestTestpmdOptions: what a link may also be made with.
func TestTestpmdOptions(t *testing.T) {
	for _, ours := range []memif.Role{memif.Server, memif.Client} {
		for _, c := range []struct {
			name, options string
			config        memif.Config
		}{
			{"secret", ",secret=open-sesame", memif.Config{Secret: "open-sesame"}},
			{"id", ",id=4711", memif.Config{ID: 4711}},
			{"rings", ",rsize=4", memif.Config{RingSize: 64}},
			{"long-rings", ",rsize=14", memif.Config{RingSize: 1 << 15}}, // DPDK has at most 2^14
			{"long-buffers", ",bsize=4096", memif.Config{BufferSize: 16384}},
			{"zero-copy", ",zero-copy=yes", memif.Config{}}, // a client's buffers are its own memory, which it cannot seal
		} {
			if c.name == "zero-copy" && ours == memif.Client {
				continue // a server copies
			}
			t.Run(ours.String()+"-"+c.name, func(t *testing.T) {
				at := address(t)
				if c.name == "secret" {
					at = fmt.Sprintf("@millrace-interop-%d-%s", os.Getpid(), ours) // DPDK's default is an abstract socket
				}
				e := startEnd(t, ours, at, c.config)
				startTestpmd(t, testpmdConfig{role: 1 - ours, address: at, queues: 1, options: c.options})
				e.up(t)
				if n := e.Status().Regions; c.name == "zero-copy" && n < 2 {
					t.Errorf("%d regions: testpmd did not lend its buffers", n)
				}
				for _, size := range []int{60, 1514, 5000} {
					if err := e.echo(t.Context(), 0, 200, size); err != nil {
						t.Fatal(err)
					}
				}
			})
		}
	}
}
