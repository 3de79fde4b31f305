package memif_test

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/millrace/millrace/memif"
	"golang.org/x/sys/unix"
)

func borrow(t *testing.T, q *memif.RxQueue, most, want int) []memif.View {
	t.Helper()
	views := make([]memif.View, most)
	n, err := q.Borrow(views)
	if n != want || err != nil {
		t.Fatalf("borrowed %d views, %v; want %d", n, err, want)
	}
	return views[:n]
}

// TestHostileViewsBack: the peer takes its index back to before what is borrowed already.
func TestHostileViewsBack(t *testing.T) {
	leaksNothing(t)
	h := newHost(t, memif.Server, 0, memif.Config{})
	for back := range uint16(4) {
		g := h.admitted(t, seals)
		for i := range guestRing { // an endless chain, for whoever reads on
			g.up.setDesc(i, rawDesc{flags: 1, offset: first, length: 10})
		}
		for i := range 5 {
			g.up.setDesc(i, rawDesc{offset: first, length: 10})
		}
		g.up.setHead(5)
		borrow(t, h.RxQueue(0), 4, 4)
		g.up.setHead(back)
		borrow(t, h.RxQueue(0), 4, 0)
		h.endedBy(t, memif.Corrupt)
		h.RxQueue(0).Release(4)
	}
	h.welcomes(t)
}

// TestHostileViewsTwice: what is dropped while views are out is neither shown nor counted
// again, and its pieces do not become frames.
func TestHostileViewsTwice(t *testing.T) {
	leaksNothing(t)
	h := newHost(t, memif.Server, 0, memif.Config{MaxFrame: 64})
	q := h.RxQueue(0)
	g := h.admitted(t, seals)
	for i, d := range []rawDesc{
		{length: 10}, {flags: 1, length: 60}, {length: 10}, // good, too long
		{flags: 1, length: 20}, {length: 21}, {}, // good, good, nothing
		{flags: 1, length: 60}, // too long, when its end is there
	} {
		d.offset = first
		g.up.setDesc(i, d)
	}
	g.up.setHead(7)
	if v := borrow(t, q, 2, 1); len(v[0].Bytes) != 10 || v[0].More {
		t.Errorf("first view: %d bytes, more %t", len(v[0].Bytes), v[0].More)
	}
	if v := borrow(t, q, 2, 2); len(v[0].Bytes) != 20 || !v[0].More || len(v[1].Bytes) != 21 || v[1].More {
		t.Errorf("second frame: %d and %d bytes", len(v[0].Bytes), len(v[1].Bytes))
	}
	borrow(t, q, 2, 0)
	g.up.setDesc(7, rawDesc{offset: first, length: 10})
	g.up.setHead(8)
	borrow(t, q, 4, 0)
	borrow(t, q, 4, 0)
	if s := q.Stats(); s.Frames != 2 || s.TooLong != 2 || s.Invalid != 1 {
		t.Errorf("%+v; want 2 frames, 2 too long and 1 invalid", s)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := q.Wait(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("wait with nothing new: %v", err)
	}
	if tail := g.up.tail(); tail != 0 {
		t.Errorf("tail %d with all views out", tail)
	}
	q.Release(2)
	if tail := g.up.tail(); tail != 4 { // in the middle of a frame: as the caller wishes
		t.Errorf("tail %d after 2 views; want 4", tail)
	}
	q.Release(9)
	if tail := g.up.tail(); tail != 8 {
		t.Errorf("tail %d at the end; want 8", tail)
	}
	for i := range guestRing {
		if d := g.up.desc(i); d.flags != 0 {
			t.Errorf("descriptor %d comes back with flags %#x", i, d.flags)
		}
	}
}

// TestHostileViewsOfOld: views stay readable when the link ends and another one comes, over
// every call that would go on to it.
func TestHostileViewsOfOld(t *testing.T) {
	leaksNothing(t)
	h := newHost(t, memif.Server, 0, memif.Config{})
	q := h.RxQueue(0)
	g := h.admitted(t, seals)
	if err := g.put([]byte("of the old link")); err != nil {
		t.Fatal(err)
	}
	views := borrow(t, q, 4, 1)
	if err := unix.Shutdown(g.fd, unix.SHUT_RDWR); err != nil {
		t.Fatal(err)
	}
	until(t, "link down", func() bool { return !h.Status().Up })
	for range 2 {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		if err := q.Wait(ctx); err != nil {
			t.Errorf("wait: %v", err)
		}
		cancel()
		if err := q.Arm(); err != nil {
			t.Errorf("arm: %v", err)
		}
		if e, ok := errors.AsType[*memif.Error](receiveError(q)); ok && e.Kind != memif.BadConfig {
			t.Errorf("receive: %v; want an error of kind %v", e, memif.BadConfig)
		}
		q.SetRxMode(memif.Polling)
		q.SetRxMode(memif.Interrupt)
		borrow(t, q, 4, 0)
		if got := views[0].Bytes; !bytes.Equal(got, []byte("of the old link")) {
			t.Errorf("the view shows %q", got)
		}
		if h.Status().Links == 1 {
			g = h.admitted(t, seals)
			if err := g.put([]byte("of the new")); err != nil {
				t.Fatal(err)
			}
		}
	}
	q.Release(1)
	if views = borrow(t, q, 4, 1); !bytes.Equal(views[0].Bytes, []byte("of the new")) {
		t.Errorf("the next link's view shows %q", views[0].Bytes)
	}
	if err := receiveError(q); err == nil {
		t.Error("receive with a view out is no error")
	}
	q.Release(1)
	if tail := g.up.tail(); tail != 1 {
		t.Errorf("tail %d; want 1", tail)
	}
}

func receiveError(q *memif.RxQueue) error {
	_, err := q.Receive(buffers(1, 100))
	return err
}

// TestHostileViewsBeside: when one ring of a queue ends the link, the others lend nothing.
func TestHostileViewsBeside(t *testing.T) {
	leaksNothing(t)
	h := newHost(t, memif.Server, 0, memif.Config{})
	g := newGuest(t, seals)
	beside := rawRing{g.mem[2*guestDownAt:], guestRing}
	beside.setCookie(rawCookie)
	g.steps = slices.Insert(g.steps, stepDown, step{rawAddRing(true, 1, 0, 2*guestDownAt, guestLog2), []int{g.upEvent}})
	if a := g.enter(t, h.path); a.kind != rawTypeConnected {
		t.Fatalf("a client with two rings was answered %+v", a)
	}
	until(t, "link up", func() bool { return h.Status().Up })
	g.up.setHead(guestRing + 1)
	for i := range guestRing {
		beside.setDesc(i, rawDesc{offset: first, length: 10})
	}
	beside.setHead(guestRing)
	borrow(t, h.RxQueue(0), 4, 0)
	h.endedBy(t, memif.Corrupt)
	if s := h.RxQueue(0).Stats(); s.Frames != 0 {
		t.Errorf("%d frames are counted; want 0", s.Frames)
	}
	h.welcomes(t)
}

// TestHostileViewsOfMany: frames that found no room among the copies of others are waited
// for no longer than until those are released.
func TestHostileViewsOfMany(t *testing.T) {
	leaksNothing(t)
	h := newHost(t, memif.Server, 0, memif.Config{MaxFrame: end})
	q := h.RxQueue(0)
	g := h.admitted(t, 0)
	for i := range guestRing {
		g.up.setDesc(i, rawDesc{length: end})
	}
	g.up.setHead(guestRing)
	const fit = 256 << 10 / end
	borrow(t, q, guestRing, fit)
	borrow(t, q, guestRing, 0)
	q.Release(fit)
	ended, end := context.WithCancel(t.Context())
	end()
	if err := q.Wait(ended); err != nil {
		t.Errorf("wait with a frame to borrow: %v", err)
	}
	borrow(t, q, guestRing, guestRing-fit)
	q.Release(guestRing)
}
