package supervise

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// clearSockets removes sockets that nobody serves. One that is served, and a file that is
// no socket, belong to somebody else: errors.
func clearSockets(paths []string) error {
	for _, path := range paths {
		info, err := os.Lstat(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		if info.Mode().Type() != fs.ModeSocket {
			return fmt.Errorf("%s is in the way and is not a socket: move it, or choose another path", path)
		}
		served, err := servedBy(path)
		if err != nil {
			return err
		}
		if served != "" {
			return fmt.Errorf("%s is served by %s: stop it (systemctl stop vpp), or choose another path", path, served)
		}
		if err := removeIfThere(path); err != nil {
			return err
		}
	}
	return nil
}

// servedBy connects to find who listens on a socket; "" is nobody.
func servedBy(path string) (string, error) {
	for _, network := range []string{"unix", "unixpacket", "unixgram"} {
		conn, err := net.Dial(network, path)
		switch {
		case errors.Is(err, unix.EPROTOTYPE):
			continue // served with another type of socket
		case errors.Is(err, unix.ECONNREFUSED), errors.Is(err, fs.ErrNotExist):
			return "", nil
		case errors.Is(err, unix.EAGAIN):
			return "another process that accepts nobody", nil // its queue is full
		case err != nil:
			return "", err
		}
		peer := peerOf(conn)
		return peer, conn.Close()
	}
	return "another process", nil
}

func peerOf(conn net.Conn) string {
	sc, ok := conn.(syscall.Conn)
	if !ok {
		return "another process"
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return "another process"
	}
	var cred *unix.Ucred
	var credErr error
	if err := raw.Control(func(fd uintptr) {
		cred, credErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); err != nil || credErr != nil || cred.Pid == 0 {
		return "another process"
	}
	comm, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", cred.Pid))
	if err != nil {
		return fmt.Sprintf("pid %d", cred.Pid)
	}
	return fmt.Sprintf("pid %d (%s)", cred.Pid, strings.TrimSpace(string(comm)))
}

// sweepSockets removes every dead socket directly in dir: a killed VPP leaves those of
// its memif interfaces there.
func sweepSockets(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	}
	var errs []error
	for _, e := range entries {
		if e.Type() != fs.ModeSocket {
			continue
		}
		path := filepath.Join(dir, e.Name())
		if served, err := servedBy(path); err != nil || served != "" {
			errs = append(errs, err)
			continue
		}
		errs = append(errs, removeIfThere(path))
	}
	return errors.Join(errs...)
}
