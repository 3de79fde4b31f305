package memif_test

import (
	"testing"

	"github.com/millrace/millrace/memif"
)

// TestNoAllocation: nothing is allocated per frame or per call, copied or lent, in any role.
func TestNoAllocation(t *testing.T) {
	p := join(t, memif.Config{}, memif.Config{})
	for _, way := range []struct {
		name string
		tx   *memif.TxQueue
		rx   *memif.RxQueue
	}{{"client-server", p.client.TxQueue(0), p.server.RxQueue(0)}, {"server-client", p.server.TxQueue(0), p.client.RxQueue(0)}} {
		frames, bufs := append(buffers(31, 64), make([]byte, 9000)), buffers(32, 9000)
		views := make([]memif.View, 64)
		if n := testing.AllocsPerRun(100, func() {
			if n, err := way.tx.Send(frames); n != len(frames) || err != nil {
				t.Fatalf("%s: sent %d, %v", way.name, n, err)
			}
			if err := way.rx.Wait(t.Context()); err != nil {
				t.Fatal(err)
			}
			if n, err := way.rx.Receive(bufs); n != len(frames) || err != nil {
				t.Fatalf("%s: received %d, %v", way.name, n, err)
			}
		}); n != 0 {
			t.Errorf("%s: %v allocations per batch of copies", way.name, n)
		}
		if n := testing.AllocsPerRun(100, func() {
			n, err := way.tx.Reserve(views)
			if n != len(views) || err != nil {
				t.Fatalf("%s: reserved %d, %v", way.name, n, err)
			}
			if n, err = way.tx.Commit(views); n != len(views) || err != nil {
				t.Fatalf("%s: committed %d, %v", way.name, n, err)
			}
			if n, err = way.rx.Borrow(views); n != len(views) || err != nil {
				t.Fatalf("%s: borrowed %d, %v", way.name, n, err)
			}
			way.rx.Release(n)
		}); n != 0 {
			t.Errorf("%s: %v allocations per batch of views", way.name, n)
		}
	}
}
