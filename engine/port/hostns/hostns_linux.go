// Package hostns runs a step inside another network namespace of the host.
//
// It owns the thread that visits the namespace and never lets it come back to the
// scheduler in a foreign one. It makes and deletes no namespace.
package hostns

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// named is where "ip netns" keeps its namespaces.
const named = "/run/netns"

// Path returns the file of the namespace that name means, in VPP's way: "pid:N" is that
// of a process, "/path" a file, another name one of "ip netns", "" our own.
func Path(name string) (string, error) {
	switch {
	case name == "":
		return "/proc/thread-self/ns/net", nil
	case strings.HasPrefix(name, "pid:"):
		pid, err := strconv.ParseUint(name[len("pid:"):], 10, 31)
		if err != nil || pid == 0 {
			return "", fmt.Errorf("namespace %q: want pid:N with a process number: %w", name, unix.EINVAL)
		}
		return fmt.Sprintf("/proc/%d/ns/net", pid), nil
	case filepath.IsAbs(name):
		return name, nil
	case strings.ContainsRune(name, '/') || name == "." || name == "..":
		return "", fmt.Errorf("namespace %q: want an absolute path, pid:N, or a plain name: %w", name, unix.EINVAL)
	}
	return filepath.Join(named, name), nil
}

// Do runs f on a thread inside the namespace that name means, and f alone: goroutines
// that f starts are outside. With "" it calls f directly.
func Do(name string, f func() error) error {
	if name == "" {
		return f()
	}
	path, err := Path(name)
	if err != nil {
		return err
	}
	done := make(chan error, 1)
	go func() { done <- visit(path, f) }()
	return <-done
}

// visit is the body of a goroutine of its own. When the thread cannot return home it
// stays locked, and so ends with the goroutine.
func visit(path string, f func() error) error {
	runtime.LockOSThread()
	home, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("open own namespace: %w", err)
	}
	defer home.Close()
	there, err := os.Open(path)
	if err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("open namespace (it must exist and be readable): %w", err)
	}
	defer there.Close()
	if err := unix.Setns(int(there.Fd()), unix.CLONE_NEWNET); err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("enter namespace %s (needs CAP_SYS_ADMIN and a network namespace): %w", path, err)
	}
	err = f()
	if unix.Setns(int(home.Fd()), unix.CLONE_NEWNET) == nil {
		runtime.UnlockOSThread()
	}
	return err
}
