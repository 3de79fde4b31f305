package memif

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// sockaddr is the address in the kernel's form. The kernel takes a leading @ of x/sys for
// the zero byte of an abstract name, without a zero at its end, as all peers do.
func sockaddr(address string) unix.Sockaddr { return &unix.SockaddrUnix{Name: address} }

// inNetns runs f on a thread that has entered the network namespace at path.
func inNetns(path string, f func() error) error {
	if path == "" {
		return f()
	}
	result := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		// A thread that cannot return to its namespace ends with its goroutine.
		home, err := os.Open("/proc/thread-self/ns/net")
		if err != nil {
			runtime.UnlockOSThread()
			result <- fmt.Errorf("open own network namespace: %w", err)
			return
		}
		defer home.Close()
		away, err := os.Open(path)
		if err == nil {
			err = unix.Setns(int(away.Fd()), unix.CLONE_NEWNET)
			away.Close()
		}
		if err != nil {
			runtime.UnlockOSThread()
			result <- fmt.Errorf("enter network namespace %s: %w", path, err)
			return
		}
		err = f()
		if unix.Setns(int(home.Fd()), unix.CLONE_NEWNET) == nil {
			runtime.UnlockOSThread()
		}
		result <- err
	}()
	return <-result
}

// newSeqpacket makes a socket in the namespace and lets use give it its address.
func newSeqpacket(netns string, use func(fd int) error) (*os.File, error) {
	var f *os.File
	err := inNetns(netns, func() error {
		fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
		if err != nil {
			return os.NewSyscallError("socket", err)
		}
		if err := use(fd); err != nil {
			return errors.Join(err, os.NewSyscallError("close", unix.Close(fd)))
		}
		f = os.NewFile(uintptr(fd), "memif")
		return nil
	})
	return f, err
}

// listen binds the address. A socket file that nobody listens on is replaced; one with a
// listener, and a file that is no socket, are not touched.
func listen(c SocketConfig) (*net.UnixListener, error) {
	f, err := newSeqpacket(c.Netns, func(fd int) error {
		err := unix.Bind(fd, sockaddr(c.Address))
		if errors.Is(err, unix.EADDRINUSE) && c.Address[0] != '@' && removeStale(c.Address) {
			err = unix.Bind(fd, sockaddr(c.Address))
		}
		if err != nil {
			return os.NewSyscallError("bind", err)
		}
		return os.NewSyscallError("listen", unix.Listen(fd, maxPending))
	})
	if err != nil {
		return nil, fail(System, "listen on %s: %w%s", c.Address, err, listenHint(err))
	}
	defer f.Close()
	l, err := net.FileListener(f)
	if err != nil {
		return nil, fail(System, "listen on %s: %w", c.Address, err)
	}
	listener := l.(*net.UnixListener)
	listener.SetUnlinkOnClose(false) // a file listener does not know its path: Close does it
	return listener, nil
}

func listenHint(err error) string {
	switch {
	case errors.Is(err, unix.EADDRINUSE):
		return " (another process listens there, or the file is no socket)"
	case errors.Is(err, fs.ErrNotExist):
		return " (make the directory first)"
	}
	return ""
}

// removeStale removes a socket file whose listener is gone and says whether it did.
func removeStale(path string) bool {
	info, err := os.Lstat(path)
	if err != nil || info.Mode().Type() != fs.ModeSocket {
		return false
	}
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	if err := unix.Connect(fd, sockaddr(path)); !errors.Is(err, unix.ECONNREFUSED) {
		return false
	}
	return os.Remove(path) == nil
}

// dial connects to a server.
func dial(c SocketConfig) (*net.UnixConn, error) {
	f, err := newSeqpacket(c.Netns, func(fd int) error {
		return os.NewSyscallError("connect", unix.Connect(fd, sockaddr(c.Address)))
	})
	if err != nil {
		return nil, fail(System, "connect to %s: %w", c.Address, err)
	}
	defer f.Close()
	conn, err := net.FileConn(f)
	if err != nil {
		return nil, fail(System, "connect to %s: %w", c.Address, err)
	}
	return conn.(*net.UnixConn), nil
}
