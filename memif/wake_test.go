package memif_test

import (
	"context"
	"testing"
	"time"

	"github.com/millrace/millrace/memif"
)

// TestNoSignalIsLost bounces one frame at a time between two queues that sleep in between.
// A signal that is lost costs a queue's longest sleep, one second: the count of sleeps that
// ended so is what this test looks at.
func TestNoSignalIsLost(t *testing.T) {
	for _, mode := range []memif.RxMode{memif.Interrupt, memif.Adaptive} {
		p := join(t, memif.Config{RxMode: mode, Spin: 5 * time.Microsecond}, memif.Config{RxMode: mode, Spin: 5 * time.Microsecond})
		ctx, cancel := context.WithCancel(t.Context())
		echoed := make(chan error, 1)
		go func() { echoed <- echo(ctx, p.server.RxQueue(0), p.server.TxQueue(0)) }()
		rx, tx := p.client.RxQueue(0), p.client.TxQueue(0)
		bufs, late := buffers(1, 64), 0
		const rounds = 5000
		for range rounds {
			if err := sendAll(tx, bufs[:1]); err != nil {
				t.Fatal(err)
			}
			begin := time.Now()
			for n := 0; n == 0; {
				if err := rx.Wait(ctx); err != nil {
					t.Fatal(err)
				}
				var err error
				if n, err = rx.Receive(bufs); err != nil {
					t.Fatal(err)
				}
			}
			if time.Since(begin) > 900*time.Millisecond {
				late++
			}
		}
		cancel()
		if err := <-echoed; err != context.Canceled {
			t.Error(err)
		}
		if late > rounds/1000 { // a machine may stand still on its own account
			t.Errorf("mode %d: %d of %d round trips took a whole sleep", mode, late, rounds)
		}
	}
}

// echo sends back what it receives until ctx ends.
func echo(ctx context.Context, rx *memif.RxQueue, tx *memif.TxQueue) error {
	bufs := buffers(32, 2048)
	for {
		if err := rx.Wait(ctx); err != nil {
			return err
		}
		n, err := rx.Receive(bufs)
		if err == nil {
			err = sendAll(tx, bufs[:n])
		}
		if err != nil {
			return err
		}
	}
}
