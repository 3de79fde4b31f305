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

// oobBytes holds one descriptor and the credentials that a C server asks the kernel for. A
// flood of descriptors is cut off by the kernel, which closes those that do not fit.
var oobBytes = unix.CmsgSpace(4) + unix.CmsgSpace(unix.SizeofUcred)

// control is a connection on the control socket.
type control struct {
	sock *net.UnixConn
	oob  []byte

	mu  sync.Mutex // guards why
	why error
}

func newControl(sock *net.UnixConn) *control {
	return &control{sock: sock, oob: make([]byte, oobBytes)}
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

// receive reads one message. The descriptor that came with it is -1 when there was none;
// it is the caller's to close.
func (c *control) receive() (*message, int, error) {
	m := new(message)
	n, oobn, flags, _, err := c.sock.ReadMsgUnix(m[:], c.oob)
	fd, extra := descriptors(c.oob[:oobn])
	switch {
	case c.interrupted() != nil:
		err = c.interrupted()
	case errors.Is(err, os.ErrDeadlineExceeded):
		err = fail(Silent, "the peer did not answer in time")
	case errors.Is(err, io.EOF), errors.Is(err, unix.ECONNRESET), err == nil && n == 0:
		err = fail(Ended, "the peer closed the connection")
	case err != nil:
		err = fail(System, "read control message: %w", err)
	case flags&(unix.MSG_TRUNC|unix.MSG_CTRUNC) != 0 || extra:
		err = fail(Protocol, "a message that is longer than %d bytes or carries more than one descriptor", messageBytes)
	case n != messageBytes:
		err = fail(Protocol, "a message of %d bytes: want %d", n, messageBytes)
	}
	if err != nil {
		closeFD(fd)
		return nil, -1, err
	}
	return m, fd, nil
}

// descriptors returns the one descriptor of control data, or -1, closes all others and
// says whether there were any.
func descriptors(oob []byte) (fd int, extra bool) {
	fd = -1
	list, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return fd, len(oob) > 0
	}
	for i := range list {
		fds, err := unix.ParseUnixRights(&list[i])
		if err != nil {
			continue // credentials
		}
		for _, f := range fds {
			if fd < 0 {
				fd = f
				continue
			}
			extra = true
			closeFD(f)
		}
	}
	return fd, extra
}

// closeFD closes a descriptor, if there is one. Its error could only say that it is closed.
func closeFD(fd int) {
	if fd >= 0 {
		_ = unix.Close(fd)
	}
}
