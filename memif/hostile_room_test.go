package memif_test

import (
	"bytes"
	"errors"
	"fmt"
	"testing"

	"github.com/millrace/millrace/memif"
)

// TestSendForgetsReserved: Send takes the slots that are reserved, and a Commit afterwards
// must not send what lies in them once more, nor at lengths and places of other slots.
func TestSendForgetsReserved(t *testing.T) {
	leaksNothing(t)
	for _, sealed := range []int{seals, 0} { // 0: views are copies
		t.Run(fmt.Sprintf("server, seals %#x", sealed), func(t *testing.T) {
			h := newHost(t, memif.Server, 0, memif.Config{})
			g := h.admitted(t, sealed)
			g.offer()
			forgets(t, h.TxQueue(0))
			if tail := g.down.tail(); tail != 1 {
				t.Errorf("%d frames came; want 1", tail)
			}
			d := g.down.desc(0)
			if got := g.mem[d.offset:][:d.length]; !bytes.Equal(got, frame(1, 64)) {
				t.Errorf("the frame came as %d bytes, %x …", len(got), got[:4])
			}
		})
	}
	t.Run("client", func(t *testing.T) {
		h, k := newGoer(t, 0, clientConfig())
		s := h.joined(t, k)
		forgets(t, h.TxQueue(0))
		if head := s.up[0].head(); head != 1 {
			t.Errorf("%d frames came; want 1", head)
		}
	})
}

// forgets reserves, sends one frame, and tries to commit.
func forgets(t *testing.T, q *memif.TxQueue) {
	t.Helper()
	views := make([]memif.View, 3)
	n, err := q.Reserve(views)
	if n != len(views) || err != nil {
		t.Fatalf("reserved %d, %v", n, err)
	}
	for i := range views {
		views[i].Bytes = views[i].Bytes[:copy(views[i].Bytes, "reserved")]
	}
	if err := sendAll(q, [][]byte{frame(1, 64)}); err != nil {
		t.Fatal(err)
	}
	n, err = q.Commit(views)
	if e, ok := errors.AsType[*memif.Error](err); n != 0 || !ok || e.Kind != memif.BadConfig {
		t.Errorf("commit after a send: %d, %v; want an error of kind %v", n, err, memif.BadConfig)
	}
}
