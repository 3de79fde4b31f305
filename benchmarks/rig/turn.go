package rig

import (
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

const (
	turnName     = "millrace-window"
	turnPatience = time.Minute
)

// TakeTurn waits until no other process on the machine measures. pass gives the turn up.
func TakeTurn() (pass func() error, err error) { return takeTurn(turnName, turnPatience) }

// takeTurn waits until no other process on the machine has its turn: raised threads of two
// measurements would take the cores from each other. An abstract socket of a name belongs
// to one process at a time, leaves nothing behind, and ends with the process. pass gives
// the turn up.
func takeTurn(name string, patience time.Duration) (pass func() error, err error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("take turn with other measurements: %w", err)
	}
	for deadline := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		err := unix.Bind(fd, &unix.SockaddrUnix{Name: "@" + name})
		if err == nil {
			return func() error { return unix.Close(fd) }, nil
		}
		if !errors.Is(err, unix.EADDRINUSE) || time.Now().After(deadline) {
			return nil, errors.Join(fmt.Errorf("take turn with other measurements, by the abstract socket @%s: %w", name, err), unix.Close(fd))
		}
	}
}
