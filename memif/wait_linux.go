package memif

import (
	"context"
	"errors"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// sleeper is what a receive queue sleeps on: an epoll set with the eventfds of the present
// link's rings and one of our own. All are edge triggered and never read: each write is an
// event, and no count of the peer's can make a read block. The set's descriptor stays the
// same over all links.
type sleeper struct {
	epoll  int
	events [8]unix.EpollEvent
	done   <-chan struct{} // of the context that wakes us
	stop   func() bool

	mu    sync.Mutex // guards event: a context can end while we are closed
	event int        // -1 once closed
}

func newSleeper() (*sleeper, error) {
	epoll, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fail(System, "make epoll set: %w", err)
	}
	event, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		closeFD(epoll)
		return nil, fail(System, "make eventfd: %w", err)
	}
	s := &sleeper{epoll: epoll, event: event, stop: func() bool { return false }}
	if err := s.add(event); err != nil {
		closeFD(epoll)
		closeFD(event)
		return nil, err
	}
	return s, nil
}

func (s *sleeper) add(fd int) error {
	e := unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLET, Fd: int32(fd)}
	if err := unix.EpollCtl(s.epoll, unix.EPOLL_CTL_ADD, fd, &e); err != nil {
		return fail(System, "watch eventfd: %w", err)
	}
	return nil
}

// remove takes an eventfd off before it is closed. The peer holds it too, so that the set
// would keep it otherwise.
func (s *sleeper) remove(fd int) {
	_ = unix.EpollCtl(s.epoll, unix.EPOLL_CTL_DEL, fd, nil) // it is in the set or was never added
}

func (s *sleeper) wake() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.event >= 0 {
		writeEvent(s.event)
	}
}

// sleep returns when an event came or the time is over.
func (s *sleeper) sleep(d time.Duration) error {
	_, err := unix.EpollWait(s.epoll, s.events[:], int(d/time.Millisecond))
	if err != nil && !errors.Is(err, unix.EINTR) {
		return fail(System, "wait for the peer: %w", os.NewSyscallError("epoll_wait", err))
	}
	return nil
}

// follow has the end of ctx wake the sleeper. It allocates only for another context than
// last time.
func (s *sleeper) follow(ctx context.Context) {
	if done := ctx.Done(); done != s.done {
		s.stop()
		s.done, s.stop = done, func() bool { return false }
		if done != nil {
			s.stop = context.AfterFunc(ctx, s.wake)
		}
	}
}

func (s *sleeper) close() {
	s.stop()
	s.mu.Lock()
	defer s.mu.Unlock()
	closeFD(s.epoll)
	closeFD(s.event)
	s.epoll, s.event = -1, -1
}

const (
	// longestSleep bounds what a signal that a peer loses can cost.
	longestSleep = time.Second
	// settleTime is for peers that publish and look at our flags without a fence between:
	// what they wrote before they looked is visible by then.
	settleTime = time.Microsecond
)

// Wait returns nil when there may be frames to receive, and ctx's error when ctx ends, or
// ErrClosed. In Interrupt mode it sleeps at once, in Adaptive mode after Config.Spin, in
// Polling mode only while there is no link. It allocates only when it is called with
// another context than before. It returns at once when the link of borrowed views has ended:
// the queue gets to the next one when they are released.
func (q *RxQueue) Wait(ctx context.Context) error {
	var spun time.Time
	for {
		l, err := q.link()
		if err != nil {
			return err
		}
		if l != nil && q.pending(l) || l == nil && len(q.lent) > 0 {
			return nil
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		if l != nil && q.mode == Polling {
			return nil
		}
		if l != nil && q.mode == Adaptive {
			now := time.Now()
			if spun.IsZero() {
				spun = now
			}
			if now.Sub(spun) < q.spin {
				continue
			}
		}
		if l != nil && q.unmask(l) {
			return nil
		}
		q.sleeper.follow(ctx)
		if err := q.sleeper.sleep(longestSleep); err != nil {
			return err
		}
		add(&q.signals, 1)
		spun = time.Time{}
	}
}

// unmask asks the peer for signals again and says whether there are frames already.
func (q *RxQueue) unmask(l *link) bool {
	if !q.masked {
		return q.pending(l)
	}
	q.mask(l, false)
	for until := time.Now().Add(settleTime); ; {
		if q.pending(l) {
			return true
		}
		if time.Now().After(until) {
			return false
		}
	}
}

// FD is a descriptor that becomes readable when there may be frames, or when the link
// changes, for callers with an event loop of their own (poll, epoll). It is the same for
// the life of the Interface. Call Arm each time before sleeping on it.
func (q *RxQueue) FD() int { return q.sleeper.epoll }

// Arm makes FD unreadable, unless there are frames to receive, and asks the peer to signal.
// Receive first, until it returns less than was asked for. A Polling queue's FD is not
// armed.
func (q *RxQueue) Arm() error {
	if q.mode == Polling {
		return nil
	}
	if err := q.sleeper.sleep(0); err != nil {
		return err
	}
	l, err := q.link()
	if l != nil && q.unmask(l) || l == nil && len(q.lent) > 0 {
		q.sleeper.wake()
	}
	return err
}
