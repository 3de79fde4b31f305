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

func (k *kicks) kick(fd int) {
	k.fd.Store(int64(fd))
	k.count.Store(k.count.Load() + 1)
	if k.watch.idle.Load() {
		k.watch.start()
	}
	writeEvent(fd)
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

const watchPeriod = 100 * time.Millisecond

// run watches until ctx ends and no write is stuck; stuck is called for a write that does
// not return.
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
				empty(int(k.fd.Load()))
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

// empty reads an eventfd, if that does not block.
func empty(fd int) {
	var buf [8]byte
	// Not being able to read it leaves the write where it is; the next tick tries again.
	_, _ = unix.Preadv2(fd, [][]byte{buf[:]}, -1, unix.RWF_NOWAIT)
}
