package memif

import (
	"context"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// kicks guards the writing of eventfds. The peer shares each eventfd and can make it full
// and blocking, so that a write to it never returns. A watch empties it then.
type kicks struct {
	// count is odd while a write is under way. Only the queue writes it.
	count atomic.Uint64
	fd    atomic.Int64
	watch *watch
}

// kick writes the eventfd of the link that s is on. After the link's end it does not: then
// there is no watch any more that could help a write.
func (k *kicks) kick(s *seat, fd int) {
	k.fd.Store(int64(fd))
	k.count.Store(k.count.Load() + 1)
	if s.next.Load() == s.cur {
		if k.watch.idle.Load() {
			k.watch.start()
		}
		writeEvent(fd)
	}
	k.count.Store(k.count.Load() + 1)
}

func writeEvent(fd int) {
	// A counter that is full wakes the reader as well; a descriptor that is no eventfd any
	// more cannot be, for it is ours.
	_, _ = unix.Write(fd, []byte{1, 0, 0, 0, 0, 0, 0, 0})
}

// watch looks after the writes of all queues of one Interface while there are any.
type watch struct {
	queues []*kicks
	idle   atomic.Bool
	begin  chan struct{} // holds one
}

func newWatch() *watch { return &watch{begin: make(chan struct{}, 1)} }

func (w *watch) start() {
	if w.idle.CompareAndSwap(true, false) {
		select {
		case w.begin <- struct{}{}:
		default:
		}
	}
}

const (
	watchPeriod = 100 * time.Millisecond
	freeing     = 10 * time.Millisecond // spent on one stuck write at a time
)

// run watches until ctx ends and no write is under way; the queues must begin no further
// one by then. stuck is called for a write that the peer does not let through.
func (w *watch) run(ctx context.Context, stuck func(error)) {
	last := make([]uint64, len(w.queues))
	tick := time.NewTicker(watchPeriod)
	defer tick.Stop()
	for {
		moved, under := false, false
		for i, k := range w.queues {
			now := k.count.Load()
			// A write may also take that long because its thread does not run.
			if now&1 != 0 && now == last[i] && full(int(k.fd.Load())) {
				stuck(fail(Corrupt, "the peer lets no signal through: its eventfd is full"))
				k.free(now)
			}
			moved, under = moved || now != last[i], under || now&1 != 0
			last[i] = now
		}
		switch {
		case under:
			<-tick.C // whatever ctx says: nobody else can help that write
		case ctx.Err() != nil:
			return
		case moved:
			w.idle.Store(false)
			select {
			case <-ctx.Done():
			case <-tick.C:
			}
		case w.idle.Swap(true): // nothing moved since idle was set, so that none is missed
			select {
			case <-ctx.Done():
			case <-w.begin:
			}
		}
	}
}

// full says whether a write to the eventfd would block.
func full(fd int) bool {
	p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}
	n, err := unix.Poll(p, 0)
	return err == nil && n == 0
}

// free empties the eventfd until the write of that count is through, or for a while: the
// peer may fill it again all the time, and faster than the write wakes up.
func (k *kicks) free(count uint64) {
	for end := time.Now().Add(freeing); k.count.Load() == count && time.Now().Before(end); {
		var buf [8]byte
		// Nothing to read now is as good as having read it.
		_, _ = unix.Preadv2(int(k.fd.Load()), [][]byte{buf[:]}, -1, unix.RWF_NOWAIT)
	}
}
