package memif_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/millrace/millrace/memif"
	"golang.org/x/sys/unix"
)

// blocking makes the writes of all who share the eventfd wait.
func blocking(t *testing.T, fd int) {
	t.Helper()
	flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0)
	if err == nil {
		_, err = unix.FcntlInt(uintptr(fd), unix.F_SETFL, flags&^unix.O_NONBLOCK)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// fill makes an eventfd's counter as large as it gets, waiting for it to become smaller if
// it blocks.
func fill(fd int) {
	_, _ = unix.Write(fd, []byte{0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}) // full is full
}

// TestHostileFullSignal: the peer makes its eventfd full and blocking, once or again and
// again. The signal of a sender must not wait for ever, and the link ends.
func TestHostileFullSignal(t *testing.T) {
	leaksNothing(t)
	h := newHost(t, memif.Server, 0, memif.Config{TxQueues: 2})
	for _, fillers := range []int{0, 1, 3} {
		g := h.admitted(t, seals)
		g.offer()
		fill(g.downEvt)
		blocking(t, g.downEvt)
		var stop atomic.Bool
		var work sync.WaitGroup
		for range fillers {
			work.Go(func() {
				for !stop.Load() {
					fill(g.downEvt)
				}
			})
		}
		var senders sync.WaitGroup
		for n := range 2 { // of one ring
			senders.Go(func() {
				for !h.down() {
					if _, err := h.TxQueue(n).Send([][]byte{frame(1, 10)}); err != nil {
						t.Error(err)
					}
				}
			})
		}
		senders.Wait()
		h.endedBy(t, memif.Corrupt)
		stop.Store(true)
		drained := make(chan struct{})
		go func() { work.Wait(); close(drained) }()
		until(t, "end of the fillers", func() bool {
			var buf [8]byte
			_, _ = unix.Preadv2(g.downEvt, [][]byte{buf[:]}, -1, unix.RWF_NOWAIT) // it may be empty
			select {
			case <-drained:
				return true
			default:
				return false
			}
		})
	}
	h.welcomes(t)
}

func (h host) down() bool { return !h.Status().Up }

// TestHostileFullSignalAtEnd: the peer leaves at the same moment. A signal then finds
// nobody who would help it.
func TestHostileFullSignalAtEnd(t *testing.T) {
	leaksNothing(t)
	h := newHost(t, memif.Server, 0, memif.Config{})
	var stop atomic.Bool
	var work sync.WaitGroup
	work.Go(func() {
		for !stop.Load() {
			if _, err := h.TxQueue(0).Send([][]byte{frame(1, 10)}); err != nil {
				t.Error(err)
			}
		}
	})
	for range 3 {
		g := h.admitted(t, seals)
		fill(g.downEvt)
		blocking(t, g.downEvt)
		g.offer()
		until(t, "frame", func() bool { return g.down.tail() != 0 || !h.Status().Up })
		if err := unix.Shutdown(g.fd, unix.SHUT_RDWR); err != nil && !errors.Is(err, unix.ENOTCONN) {
			t.Error(err)
		}
		until(t, "link down", h.down)
	}
	stop.Store(true)
	work.Wait()
	h.welcomes(t)
}

// TestHostileStorm: the peer signals without pause and reads every signal of ours away, and
// toggles all flags. Frames come through.
func TestHostileStorm(t *testing.T) {
	leaksNothing(t)
	for _, mode := range []memif.RxMode{memif.Interrupt, memif.Polling, memif.Adaptive} {
		h := newHost(t, memif.Server, 0, memif.Config{RxMode: mode})
		g := h.admitted(t, seals)
		var stop atomic.Bool
		var storm sync.WaitGroup
		storm.Go(func() {
			for v := uint16(0); !stop.Load(); v++ {
				var buf [8]byte
				_, _ = unix.Read(g.downEvt, buf[:]) // mostly empty
				_, err := unix.Write(g.upEvent, []byte{byte(v % 3), 0, 0, 0, 0, 0, 0, 0})
				if err != nil && !errors.Is(err, unix.EAGAIN) {
					t.Error(err)
				}
				g.up.setFlags(v)
				g.down.setFlags(v)
			}
		})
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		bufs := buffers(4, 100)
		for got := uint64(0); got < 300; {
			g.offer()
			if g.up.head()-g.up.tail() < guestRing {
				if err := g.put(frame(got, 50)); err != nil {
					t.Fatal(err)
				}
			}
			if err := h.RxQueue(0).Wait(ctx); err != nil {
				t.Fatalf("%v after %d frames: %v", mode, got, err)
			}
			n, err := h.RxQueue(0).Receive(bufs)
			if err != nil {
				t.Fatal(err)
			}
			got += uint64(n)
			if _, err := h.TxQueue(0).Send(bufs[:n]); err != nil {
				t.Fatal(err)
			}
		}
		cancel()
		stop.Store(true)
		storm.Wait()
		if st := h.Status(); !st.Up {
			t.Errorf("%v: %+v", mode, st)
		}
	}
}
