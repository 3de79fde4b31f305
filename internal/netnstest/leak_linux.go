package netnstest

import (
	"os"
	"runtime"
	"testing"
)

// CheckLeaks fails the test when, at its end and after its other cleanups registered
// later, the process holds more file descriptors than now. Call it first. It does not
// suit tests that run in parallel with others.
func CheckLeaks(t testing.TB) {
	t.Helper()
	before := descriptors(t)
	t.Cleanup(func() {
		runtime.GC() // sockets that only a finalizer closes are no leak of ours
		after := descriptors(t)
		for fd, what := range after {
			if _, had := before[fd]; !had && !kept(what) {
				t.Errorf("descriptor %s left open: %s", fd, what)
			}
		}
	})
}

// kept are descriptors that the Go runtime opens once and keeps.
func kept(what string) bool {
	return what == "anon_inode:[eventpoll]" || what == "anon_inode:[eventfd]"
}

func descriptors(t testing.TB) map[string]string {
	t.Helper()
	const dir = "/proc/self/fd"
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatalf("list descriptors: %v", err)
	}
	fds := make(map[string]string, len(entries))
	for _, e := range entries {
		what, err := os.Readlink(dir + "/" + e.Name())
		if err != nil {
			continue // the descriptor that ReadDir itself used
		}
		fds[e.Name()] = what
	}
	return fds
}
