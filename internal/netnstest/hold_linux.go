package netnstest

import (
	"errors"
	"testing"

	"golang.org/x/sys/unix"
)

// Hold keeps a process by pidfd, so that its number cannot come to mean another; the
// returned function waits for its end.
func Hold(t testing.TB, pid int) (wait func()) {
	t.Helper()
	fd, err := unix.PidfdOpen(pid, 0)
	if errors.Is(err, unix.ESRCH) {
		return func() {}
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	return func() {
		t.Helper()
		n, err := 0, error(unix.EINTR)
		for errors.Is(err, unix.EINTR) {
			n, err = unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 30_000)
		}
		if err != nil || n == 0 {
			t.Fatalf("pid %d is still there (%v)", pid, err)
		}
	}
}
