package memif_test

import (
	"fmt"
	"maps"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"
)

// holdings are what a test may leak: descriptors, mapped memory files and goroutines.
type holdings struct {
	files      map[string]int // what descriptors show, and how many show it
	memory     int
	goroutines int
}

func holdingsNow(t testing.TB) holdings {
	t.Helper()
	h := holdings{files: map[string]int{}, goroutines: runtime.NumGoroutine()}
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if what, err := os.Readlink("/proc/self/fd/" + e.Name()); err == nil {
			kind, _, _ := strings.Cut(what, ":[") // sockets and pipes by kind, not by number
			h.files[kind]++
		}
	}
	text, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		t.Fatal(err)
	}
	h.memory = strings.Count(string(text), "memfd:")
	return h
}

// leaksNothing fails the test if it holds more at its end, after all cleanups that were
// registered later, than now. It does not suit tests that run in parallel with others.
func leaksNothing(t testing.TB) {
	t.Helper()
	warm(t)
	before := holdingsNow(t)
	t.Cleanup(func() {
		var excess string
		for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(2 * time.Millisecond) {
			if excess = before.exceededBy(holdingsNow(t)); excess == "" {
				return
			}
			runtime.GC() // files that only a finalizer closes are not ours
		}
		t.Errorf("left behind: %s", excess)
	})
}

// warm has the runtime open what it keeps for ever: its epoll set.
func warm(t testing.TB) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	r.Close()
	w.Close()
}

func (h holdings) exceededBy(now holdings) string {
	var b strings.Builder
	for what, n := range maps.All(now.files) {
		if n > h.files[what] {
			fmt.Fprintf(&b, "%d %s (%d before); ", n, what, h.files[what])
		}
	}
	if now.memory > h.memory {
		fmt.Fprintf(&b, "%d mapped memory files (%d before); ", now.memory, h.memory)
	}
	if now.goroutines > h.goroutines {
		stacks := make([]byte, 1<<16)
		fmt.Fprintf(&b, "%d goroutines (%d before):\n%s", now.goroutines, h.goroutines, stacks[:runtime.Stack(stacks, true)])
	}
	return b.String()
}
