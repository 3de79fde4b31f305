package memif_test

import (
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/millrace/millrace/memif"
	"golang.org/x/sys/unix"
)

// TestHostileFlood has a thousand clients connect and say nothing, and others come and go
// without end: a good client gets in all the same, and the server does not keep them.
func TestHostileFlood(t *testing.T) {
	leaksNothing(t)
	h := newHost(t, memif.Server, 0, memif.Config{})
	before := holdingsNow(t).files["socket"]
	const many = 1000
	for range many {
		w, err := dialRaw(h.path)
		if err != nil {
			t.Fatal(err)
		}
		closeLater(t, w.fd)
	}
	h.welcomes(t)
	const kept = 64 // of the server, and some that are just being closed
	until(t, "end of most silent connections", func() bool {
		return holdingsNow(t).files["socket"] < before+many+kept+16
	})
	var stop atomic.Bool
	var flood sync.WaitGroup
	for range 3 {
		flood.Go(func() {
			for !stop.Load() {
				w, err := dialRaw(h.path)
				if err == nil {
					err = w.close()
				}
				if err != nil && !errors.Is(err, unix.EINTR) {
					t.Error(err)
					return
				}
			}
		})
	}
	h.welcomes(t)
	stop.Store(true)
	flood.Wait()
}

// TestHostileDeaf has a client ask without ever reading the answers, until the server cannot
// send any more. Another client of the same socket does not notice.
func TestHostileDeaf(t *testing.T) {
	leaksNothing(t)
	h := newHost(t, memif.Server, 0, memif.Config{})
	other := host{add(t, h.socket, memif.Config{ID: 1}), h.socket, h.path}
	g := newGuest(t, seals)
	g.dial(t, h.path)
	asks := []step{g.steps[stepInit]}
	for i := range uint16(256) {
		asks = append(asks, step{rawAddRegion(i, guestBytes), []int{g.file}})
	}
	for i := range uint16(512) {
		asks = append(asks, step{rawAddRing(i%2 == 0, i/2, 0, 0, guestLog2), []int{g.upEvent}})
	}
	for _, ask := range asks {
		if err := g.send(ask.msg, ask.fds...); err != nil { // the server reads on, or has ended
			if errors.Is(err, unix.EPIPE) || errors.Is(err, unix.ECONNRESET) {
				break
			}
			t.Fatal(err)
		}
	}
	t.Run("another client", func(t *testing.T) {
		g := newGuest(t, seals)
		g.steps[stepInit].msg = rawInit(1, 0, "")
		if a := g.enter(t, h.path); a.kind != rawTypeConnected {
			t.Errorf("the server answers %+v", a)
		}
	})
	until(t, "link of the other client", func() bool { return other.Status().Links == 1 })
	h.endedBy(t, memif.Silent)
	if err := h.Status().Err; !strings.Contains(err.Error(), "does not read") {
		t.Errorf("the link ended by: %v", err)
	}
	h.welcomes(t)
}
