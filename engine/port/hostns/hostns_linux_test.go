package hostns

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"testing"

	"github.com/millrace/millrace/internal/netnstest"
)

func TestPath(t *testing.T) {
	for _, c := range []struct{ name, want string }{
		{"", "/proc/thread-self/ns/net"},
		{"pid:42", "/proc/42/ns/net"},
		{"/var/run/netns/x", "/var/run/netns/x"},
		{"pod", "/run/netns/pod"},
	} {
		if got, err := Path(c.name); got != c.want || err != nil {
			t.Errorf("Path(%q) = %q, %v; want %q", c.name, got, err, c.want)
		}
	}
	for _, bad := range []string{"pid:", "pid:0", "pid:-1", "pid:1/../2", "pid:99999999999", "a/b", "..", "."} {
		if got, err := Path(bad); err == nil || !strings.Contains(err.Error(), bad) {
			t.Errorf("Path(%q) = %q, %v; want an error that names it", bad, got, err)
		}
	}
}

func here(t testing.TB) string {
	t.Helper()
	s, err := os.Readlink("/proc/thread-self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestIntegrationDoVisitsAndComesHome(t *testing.T) {
	netnstest.CheckLeaks(t)
	n := netnstest.New(t)
	home := here(t)
	seen := map[string]bool{}
	for i, name := range []string{n.Path, n.Name} {
		failure := fmt.Errorf("failure %d", i)
		err := Do(name, func() error {
			seen[here(t)] = true
			return failure
		})
		if !errors.Is(err, failure) {
			t.Errorf("Do returns %v", err)
		}
	}
	if len(seen) != 1 || seen[home] {
		t.Errorf("visited %v, home is %s", seen, home)
	}
	// Threads that came back serve other goroutines: none may be abroad.
	results := make(chan string, 64)
	for range cap(results) {
		go func() {
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			results <- here(t)
		}()
	}
	for range cap(results) {
		if got := <-results; got != home {
			t.Fatalf("a thread is in %s, home is %s", got, home)
		}
	}
}

func TestIntegrationDoFailures(t *testing.T) {
	netnstest.NeedRoot(t)
	netnstest.CheckLeaks(t)
	for _, name := range []string{"/run/netns/no-such", "no-such", "pid:4000000", "/dev/null", "a/b"} {
		err := Do(name, func() error {
			t.Errorf("%s: the step ran", name)
			return nil
		})
		if err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestOwnNamespaceIsACall(t *testing.T) {
	ran := false
	if err := Do("", func() error { ran = true; return nil }); err != nil || !ran {
		t.Errorf("ran %v, %v", ran, err)
	}
}
