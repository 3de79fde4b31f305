package memif

import (
	"context"
	"errors"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestWakeAfterClose: a context that ends while a sleeper is closed must not write into
// whatever file has got the descriptor's number by then.
func TestWakeAfterClose(t *testing.T) {
	for range 3000 {
		s, err := newSleeper()
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		s.follow(ctx)
		cancel() // starts a goroutine that wakes the sleeper
		s.close()
		var others [2]int
		for i := range others {
			if others[i], err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(time.Microsecond)
		for _, fd := range others {
			var buf [8]byte
			if _, err := unix.Read(fd, buf[:]); !errors.Is(err, unix.EAGAIN) {
				t.Fatal("an eventfd that has nothing to do with the sleeper was written")
			}
			closeFD(fd)
		}
	}
}

// TestWatchAccusesNoOne: a signal that takes long because its thread does not run is not the
// peer's fault; one that its full eventfd holds up is, and is let through.
func TestWatchAccusesNoOne(t *testing.T) {
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		t.Fatal(err)
	}
	defer closeFD(fd)
	w := newWatch()
	k := &kicks{watch: w}
	w.queues = append(w.queues, k)
	accused := make(chan error, 100)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { defer close(ended); w.run(ctx, func(err error) { accused <- err }) }()
	k.fd.Store(int64(fd))
	k.count.Store(1) // under way
	time.Sleep(5 * watchPeriod)
	select {
	case err := <-accused:
		t.Errorf("accused without reason: %v", err)
	default:
	}
	if _, err := unix.Write(fd, []byte{0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}); err != nil {
		t.Fatal(err)
	}
	<-accused
	for full(fd) {
		time.Sleep(time.Millisecond)
	}
	k.count.Store(2)
	cancel()
	<-ended
}
