package stats

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// handover bounds how long a reader may take to accept the descriptor.
const handover = 5 * time.Second

// Listen makes the socket at path, mode 0660. A socket file that nobody listens on any
// more is replaced; another file, or a live socket, is an error.
func Listen(path string) (*net.UnixListener, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, fmt.Errorf("make directory of stats socket: %w", err)
	}
	if err := removeStale(path); err != nil {
		return nil, err
	}
	l, err := net.ListenUnix("unixpacket", &net.UnixAddr{Name: path, Net: "unixpacket"})
	if err != nil {
		return nil, fmt.Errorf("listen on stats socket: %w", err)
	}
	if err := os.Chmod(path, 0o660); err != nil {
		return nil, errors.Join(fmt.Errorf("set mode of stats socket: %w", err), l.Close())
	}
	return l, nil
}

func removeStale(path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("look at stats socket: %w", err)
	}
	if info.Mode().Type() != os.ModeSocket {
		return fmt.Errorf("listen on stats socket %s: a file that is no socket is in the way; move it", path)
	}
	conn, err := net.Dial("unixpacket", path)
	if err == nil {
		return errors.Join(fmt.Errorf("listen on stats socket %s: another process serves it", path), conn.Close())
	}
	if err := os.Remove(path); err != nil {
		return fmt.Errorf("remove stale stats socket: %w", err)
	}
	return nil
}

// Serve gives the memory's descriptor to everyone who connects, until ctx ends. It
// closes l, which removes the socket file.
func (s *Segment) Serve(ctx context.Context, l *net.UnixListener) error {
	stop := context.AfterFunc(ctx, func() { l.Close() })
	defer stop()
	var readers sync.WaitGroup
	defer readers.Wait()
	for {
		conn, err := l.AcceptUnix()
		if ctx.Err() != nil {
			if err == nil {
				conn.Close()
			}
			return nil
		}
		if err != nil {
			return errors.Join(fmt.Errorf("accept stats reader: %w", err), l.Close())
		}
		readers.Go(func() { s.give(conn) })
	}
}

// give sends one datagram with the descriptor. A reader that is gone is its own loss.
func (s *Segment) give(conn *net.UnixConn) {
	defer conn.Close()
	if conn.SetDeadline(time.Now().Add(handover)) != nil {
		return
	}
	// A datagram needs a byte of its own beside the rights.
	_, _, _ = conn.WriteMsgUnix([]byte{0}, unix.UnixRights(int(s.s.file.Fd())), nil)
}
