package memif

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// control is a connection on the control socket.
type control struct {
	sock *net.UnixConn

	mu  sync.Mutex // guards why
	why error
}

func newControl(sock *net.UnixConn) *control {
	return &control{sock: sock}
}

// interrupt ends the reading of the connection with err, from any goroutine. The first
// error counts.
func (c *control) interrupt(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.why != nil {
		return
	}
	c.why = err
	// An error here means that the socket is closed already, which ends the reading too.
	_ = c.sock.SetReadDeadline(time.Unix(1, 0))
}

func (c *control) interrupted() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.why
}

// silent says that there is nothing to read: no message and no end.
func (c *control) silent() bool {
	raw, err := c.sock.SyscallConn()
	if err != nil {
		return false
	}
	n := -1
	err = raw.Control(func(fd uintptr) { n, _ = unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0) })
	return err == nil && n == 0
}

// deadline bounds the handshake; the zero time ends that.
func (c *control) deadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.why != nil {
		return c.why
	}
	if err := c.sock.SetReadDeadline(t); err != nil {
		return fail(System, "set deadline: %w", err)
	}
	return nil
}

// send writes one message, with a descriptor unless fd is negative.
func (c *control) send(m *message, fd int) error {
	var oob []byte
	if fd >= 0 {
		oob = unix.UnixRights(fd)
	}
	if err := c.sock.SetWriteDeadline(time.Now().Add(time.Second)); err != nil {
		return fail(System, "set deadline: %w", err)
	}
	n, _, err := c.sock.WriteMsgUnix(m[:], oob, nil)
	switch {
	case errors.Is(err, unix.EPIPE), errors.Is(err, unix.ECONNRESET), errors.Is(err, net.ErrClosed):
		return fail(Ended, "send %s: %w", m.kind(), err)
	case errors.Is(err, os.ErrDeadlineExceeded):
		return fail(Silent, "send %s: the peer does not read", m.kind())
	case err != nil:
		return fail(System, "send %s: %w", m.kind(), err)
	case n != len(m):
		return fail(System, "send %s: %d of %d bytes", m.kind(), n, len(m))
	}
	return nil
}

// receive reads one message that brings no descriptor; the kernel closes those that the
// peer attached all the same.
func (c *control) receive() (*message, error) {
	m, _, _, err := c.read(nil)
	return m, err
}

// receiveFD reads one message and the descriptor that came with it, -1 when there was none.
// The descriptor is the caller's to close, also when there is an error.
func (c *control) receiveFD() (*message, int, error) {
	oob := make([]byte, unix.CmsgLen(4)) // of more descriptors the kernel closes all but one
	m, n, flags, err := c.read(oob)
	fd := passed(oob[:n])
	if err == nil && flags&unix.MSG_CTRUNC != 0 {
		err = fail(Protocol, "a message with more than one descriptor")
	}
	return m, fd, err
}

func (c *control) read(oob []byte) (m *message, oobn, flags int, err error) {
	m = new(message)
	n, oobn, flags, _, err := c.sock.ReadMsgUnix(m[:], oob)
	switch {
	case c.interrupted() != nil:
		err = c.interrupted()
	case errors.Is(err, os.ErrDeadlineExceeded):
		err = fail(Silent, "the peer did not answer in time")
	case errors.Is(err, io.EOF), errors.Is(err, unix.ECONNRESET), err == nil && n == 0:
		err = fail(Ended, "the peer closed the connection")
	case err != nil:
		err = fail(System, "read control message: %w", err)
	case flags&unix.MSG_TRUNC != 0:
		err = fail(Protocol, "a message of more than %d bytes", messageBytes)
	case n != messageBytes:
		err = fail(Protocol, "a message of %d bytes: want %d", n, messageBytes)
	}
	return m, oobn, flags, err
}

// passed is the descriptor of control data that has room for one, or -1.
func passed(oob []byte) int {
	list, err := unix.ParseSocketControlMessage(oob)
	if err != nil || len(list) == 0 {
		return -1
	}
	fds, err := unix.ParseUnixRights(&list[0])
	if err != nil || len(fds) == 0 {
		return -1
	}
	return fds[0]
}

// closeFD closes a descriptor, if there is one. Its error could only say that it is closed.
func closeFD(fd int) {
	if fd >= 0 {
		_ = unix.Close(fd)
	}
}
