package memif_test

import (
	"context"
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/millrace/millrace/memif"
)

func TestAttach(t *testing.T) {
	address := filepath.Join(t.TempDir(), "memif.sock")
	at := memif.SocketConfig{Role: memif.Server, Address: address}
	broken := errors.New("broken")
	for _, tt := range []struct {
		name   string
		config memif.Config
		work   memif.Work
		want   error
	}{
		{"the context ends", memif.Config{}, func(ctx context.Context, rx *memif.RxQueue, _ *memif.TxQueue) error {
			return rx.Wait(ctx)
		}, nil},
		{"work is done", memif.Config{}, func(context.Context, *memif.RxQueue, *memif.TxQueue) error { return nil }, nil},
		{"work fails, and the other queue with it", memif.Config{RxQueues: 2}, func(ctx context.Context, rx *memif.RxQueue, tx *memif.TxQueue) error {
			if tx == nil {
				return broken
			}
			return rx.Wait(ctx)
		}, broken},
	} {
		t.Run(tt.name, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			var started sync.WaitGroup
			started.Add(max(1, tt.config.RxQueues))
			go func() {
				started.Wait()
				if tt.want == nil {
					cancel()
				}
			}()
			err := memif.Attach(ctx, at, tt.config, func(ctx context.Context, rx *memif.RxQueue, tx *memif.TxQueue) error {
				started.Done()
				return tt.work(ctx, rx, tx)
			})
			cancel()
			if !errors.Is(err, tt.want) || (err == nil) != (tt.want == nil) {
				t.Errorf("attach: %v, want %v", err, tt.want)
			}
			if left, err := filepath.Glob(address); len(left) > 0 || err != nil {
				t.Errorf("left behind: %v (%v)", left, err)
			}
		})
	}
}

// TestAttachQueues: work runs for each queue, with nil for those that are missing, and what
// one sends the peer's queue of the same number receives.
func TestAttachQueues(t *testing.T) {
	address := filepath.Join(t.TempDir(), "memif.sock")
	peer := newSocket(t, memif.Server, address)
	p := add(t, peer, memif.Config{RxQueues: 2, TxQueues: 3})
	run(t, peer)
	seen := make(chan string, 3)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- memif.Attach(ctx, memif.SocketConfig{Role: memif.Client, Address: address}, memif.Config{RxQueues: 3, TxQueues: 2},
			func(ctx context.Context, rx *memif.RxQueue, tx *memif.TxQueue) error {
				if err := rx.Wait(ctx); err != nil {
					return err
				}
				bufs := buffers(1, 100)
				if _, err := rx.Receive(bufs); err != nil {
					return err
				}
				seen <- string(bufs[0])
				if tx != nil {
					if err := sendAll(tx, bufs); err != nil {
						return err
					}
				}
				<-ctx.Done() // what is not taken when the link ends is lost
				return ctx.Err()
			})
	}()
	waitUp(t, p)
	for n, text := range []string{"zero", "one", "two"} {
		if err := sendAll(p.TxQueue(n), [][]byte{[]byte(text)}); err != nil {
			t.Fatal(err)
		}
	}
	for n, want := range []string{"zero", "one"} {
		if got := receive(t, p.RxQueue(n), 1); string(got[0]) != want {
			t.Errorf("queue %d: %q came back, want %q", n, got[0], want)
		}
	}
	all := []string{<-seen, <-seen, <-seen}
	if slices.Sort(all); strings.Join(all, " ") != "one two zero" {
		t.Errorf("received %q", all)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
