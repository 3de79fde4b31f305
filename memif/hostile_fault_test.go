package memif_test

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/millrace/millrace/memif"
	"golang.org/x/sys/unix"
)

// TestHostileShrink: the peer takes its memory away between two calls, whole or from the
// buffers on. Each call that looks at it ends the link, and the process lives.
func TestHostileShrink(t *testing.T) {
	leaksNothing(t)
	h := newHost(t, memif.Server, 0, memif.Config{})
	rx, tx := h.RxQueue(0), h.TxQueue(0)
	frames, views := [][]byte{frame(1, 100), frame(2, 5000)}, make([]memif.View, 8)
	calls := map[string]func() (int, error){
		"Receive": func() (int, error) { return rx.Receive(buffers(8, 2048)) },
		"Borrow":  func() (int, error) { return rx.Borrow(views) },
		"Send":    func() (int, error) { return tx.Send(frames) },
		"Send of a chain": func() (int, error) {
			return tx.Send(frames[1:])
		},
		"Commit": func() (int, error) {
			n, err := tx.Reserve(views)
			if n == 0 || err != nil {
				t.Errorf("reserve: %d, %v", n, err)
				return n, err
			}
			_, err = tx.Commit(views[:1])
			return 0, err
		},
	}
	for name, call := range calls {
		for _, left := range []int64{0, 4096} { // 4096: the rings stay
			for _, warm := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s with %d bytes left, warm %t", name, left, warm), func(t *testing.T) {
					g := h.admitted(t, 0)
					g.offer()
					for i := range guestRing {
						g.up.setDesc(i, rawDesc{offset: first, length: 100, flags: uint16(i & 1)})
					}
					g.up.setHead(guestRing)
					if warm { // the queues have seen this link
						if _, err := rx.Receive(buffers(1, 2048)); err != nil {
							t.Error(err)
						}
						if n, err := tx.Send(frames[:1]); n != 1 || err != nil {
							t.Errorf("sent %d, %v", n, err)
						}
					}
					if err := unix.Ftruncate(g.file, left); err != nil {
						t.Fatal(err)
					}
					if n, err := call(); n != 0 || err != nil {
						t.Errorf("it did %d, %v", n, err)
					}
					h.endedBy(t, memif.Fault)
				})
			}
		}
	}
	h.welcomes(t)
}

// TestHostileShrinkAsleep is the same for the calls that only look at the rings.
func TestHostileShrinkAsleep(t *testing.T) {
	leaksNothing(t)
	h := newHost(t, memif.Server, 0, memif.Config{})
	q := h.RxQueue(0)
	wait := func() error {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		defer cancel()
		if err := q.Wait(ctx); err != nil && ctx.Err() == nil {
			return err
		}
		return nil
	}
	for name, call := range map[string]func() error{
		"Wait": wait,
		"Arm":  q.Arm,
		"SetRxMode": func() error {
			q.SetRxMode(memif.Polling)
			q.SetRxMode(memif.Interrupt)
			return nil
		},
		"Release": func() error { q.Release(1); return nil },
	} {
		for _, warm := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, warm %t", name, warm), func(t *testing.T) {
				g := h.admitted(t, 0)
				if warm || name == "Release" || name == "SetRxMode" { // these do not go to a new link
					g.up.setDesc(0, rawDesc{offset: first, length: 100})
					g.up.setHead(1)
					borrow(t, q, 1, 1)
				}
				if name != "Release" {
					q.Release(1)
				}
				if err := unix.Ftruncate(g.file, 0); err != nil {
					t.Fatal(err)
				}
				if err := call(); err != nil {
					t.Error(err)
				}
				h.endedBy(t, memif.Fault)
			})
		}
	}
	h.welcomes(t)
}

// TestHostileShrinkViews: after a fault under Borrow nothing is lent, and the queue goes on
// with the next link.
func TestHostileShrinkViews(t *testing.T) {
	leaksNothing(t)
	h := newHost(t, memif.Server, 0, memif.Config{})
	q := h.RxQueue(0)
	g := h.admitted(t, 0)
	g.up.setDesc(0, rawDesc{offset: first, length: 5})
	g.up.setDesc(1, rawDesc{offset: first, length: 100})
	copy(g.mem[first:], "first")
	g.up.setHead(1)
	views := borrow(t, q, 1, 1)
	g.up.setHead(2)
	if err := unix.Ftruncate(g.file, 4096); err != nil {
		t.Fatal(err)
	}
	borrow(t, q, 1, 0)
	h.endedBy(t, memif.Fault)
	if got := string(views[0].Bytes); got != "first" {
		t.Errorf("the view shows %q", got)
	}
	q.Release(1)
	g = h.admitted(t, 0)
	g.up.setHead(1)
	borrow(t, q, 1, 0) // nothing but an invalid one
	if err := g.put([]byte("second")); err != nil {
		t.Fatal(err)
	}
	if v := borrow(t, q, 1, 1); string(v[0].Bytes) != "second" {
		t.Errorf("the next link's view shows %q", v[0].Bytes)
	}
	q.Release(1)
}

// traffic uses all calls of both queues, until stop. It sends 0x5a only, and checks, where
// it is asked to, that nothing else comes.
func (h host) traffic(t *testing.T, stop *atomic.Bool, only5A bool) {
	rx, tx := h.RxQueue(0), h.TxQueue(0)
	bufs, views := buffers(8, 4096), make([]memif.View, 8)
	frames := [][]byte{bytes5A(100), bytes5A(2048), bytes5A(5000)}
	pure := bytes5A(guestBytes)
	look := func(got []byte) {
		if only5A && !bytes.Equal(got, pure[:len(got)]) {
			t.Errorf("%d bytes that are not of the buffers: %.40x …", len(got), got)
		}
	}
	check := func(what string, n int, err error) int {
		if err != nil {
			t.Errorf("%s: %v", what, err)
		}
		return n
	}
	for i := 0; !stop.Load(); i++ {
		n, err := rx.Receive(bufs)
		for _, b := range bufs[:check("receive", n, err)] {
			look(b)
		}
		n, err = rx.Borrow(views)
		for _, v := range views[:check("borrow", n, err)] {
			look(v.Bytes)
		}
		rx.Release(n)
		if i%16 == 0 {
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			_ = rx.Wait(ctx)
			check("arm", 0, rx.Arm())
			rx.SetRxMode(memif.RxMode(i / 16 % 3))
		}
		n, err = tx.Send(frames)
		check("send", n, err)
		n, err = tx.Reserve(views)
		if n = check("reserve", n, err); n > 0 {
			views[0].Bytes, views[0].More = views[0].Bytes[:copy(views[0].Bytes, pure[:64])], false
			n, err = tx.Commit(views[:1])
			check("commit", n, err)
		}
	}
	rx.Release(len(views))
}

func bytes5A(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = 0x5a
	}
	return b
}

// drive is the other side of traffic: it keeps both rings going, until its memory is gone.
func (g *guest) drive(stop *atomic.Bool) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() { _ = recover() }() // its own fault
	for !stop.Load() {
		for g.up.head()-g.up.tail() < guestRing {
			head := g.up.head()
			g.up.setDesc(int(head), rawDesc{offset: first, length: 1500, flags: head & 1})
			g.up.setHead(head + 1)
		}
		tail := g.down.tail()
		for i := range guestRing {
			g.down.setDesc(int(tail)+i, rawDesc{offset: next, length: guestRoom})
		}
		g.down.setHead(tail + guestRing)
	}
}

// TestHostileShrinkUnderWay: the peer takes its memory away while all calls run.
func TestHostileShrinkUnderWay(t *testing.T) {
	leaksNothing(t)
	h := newHost(t, memif.Server, 0, memif.Config{})
	var stop atomic.Bool
	var work sync.WaitGroup
	work.Go(func() { h.traffic(t, &stop, false) })
	for i := range 60 {
		g := h.admitted(t, 0)
		var gone atomic.Bool
		done := make(chan struct{})
		go func() { defer close(done); g.drive(&gone) }()
		time.Sleep(time.Duration(rand.IntN(2000)) * time.Microsecond)
		if err := unix.Ftruncate(g.file, int64(i%2)*4096); err != nil {
			t.Error(err)
		}
		h.endedBy(t, memif.Fault)
		gone.Store(true)
		<-done
		_ = unix.Shutdown(g.fd, unix.SHUT_RDWR) // it may be closed by now
	}
	stop.Store(true)
	work.Wait()
	h.welcomes(t)
}

// TestHostileHoles: the peer punches holes into sealed memory: it reads as zeros then.
func TestHostileHoles(t *testing.T) {
	leaksNothing(t)
	h := newHost(t, memif.Server, 0, memif.Config{})
	var stop atomic.Bool
	var work sync.WaitGroup
	work.Go(func() { h.traffic(t, &stop, false) })
	for range 20 {
		g := h.admitted(t, seals)
		var gone atomic.Bool
		done := make(chan struct{})
		go func() { defer close(done); g.drive(&gone) }()
		for i := range 50 {
			at := int64(i%3) * 4096
			if err := unix.Fallocate(g.file, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, at, guestBytes-at); err != nil {
				t.Fatal(err)
			}
		}
		gone.Store(true)
		<-done
		_ = unix.Shutdown(g.fd, unix.SHUT_RDWR) // the link may have ended by a bad index
		until(t, "link down", func() bool { return !h.Status().Up })
	}
	stop.Store(true)
	work.Wait()
	h.welcomes(t)
}
