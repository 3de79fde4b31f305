package stats

import (
	"context"
	"fmt"
	"net"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// handover bounds how long a reader may take to accept the descriptor.
const handover = 5 * time.Second

// Serve gives the memory's descriptor to everyone who connects, until ctx ends. It
// closes l, which removes the socket file.
func (s *Segment) Serve(ctx context.Context, l *net.UnixListener) error {
	defer l.Close()
	defer context.AfterFunc(ctx, func() { l.Close() })()
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
			return fmt.Errorf("accept stats reader: %w", err)
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
