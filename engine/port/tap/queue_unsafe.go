package tap

import (
	"fmt"
	"unsafe"

	"github.com/millrace/millrace/engine/packet"
	"golang.org/x/sys/unix"
)

// headerLen is the virtio-net header that we agree on with the driver.
const headerLen = packet.VirtioMergeableLen

// rxQueue is one receive queue. What is read:
//
//	slot: | ........ headroom ........ | packet ...
//	                  | 12 byte header |
//	                  ^ read here
type rxQueue struct {
	fd int
}

// txQueue is one transmit queue. header and iov serve packets without headroom for the
// header, which are views that another port lent.
type txQueue struct {
	fd     int
	header [headerLen]byte
	iov    [2]unix.Iovec
}

// The calls below are raw: they never block, and telling the Go scheduler of each would
// cost as much as the shortest of them.

func (q *rxQueue) receive(bufs []*packet.Buffer) (int, error) {
	for i, b := range bufs {
		b.Reset(packet.Headroom - headerLen)
		space := b.Space()
		n, _, errno := unix.RawSyscall(unix.SYS_READ, uintptr(q.fd),
			uintptr(unsafe.Pointer(unsafe.SliceData(space))), uintptr(len(space)))
		if errno != 0 {
			if errno == unix.EAGAIN || errno == unix.EINTR {
				return i, nil
			}
			return i, gone("read", errno)
		}
		if n < headerLen {
			return i, gone("read", unix.EBADMSG)
		}
		b.SetLen(int(n))
		b.Pull(headerLen)
		b.Offload = packet.OffloadFromVirtio(b.Front(headerLen))
	}
	return len(bufs), nil
}

func (q *txQueue) transmit(bufs []*packet.Buffer) (int, error) {
	taken := 0
	for _, b := range bufs {
		switch errno := q.write(b); errno {
		case 0:
			taken++
		case unix.EAGAIN, unix.EINTR, unix.EIO: // EIO: the host's interface is down
			return taken, nil
		case unix.EBADFD, unix.EBADF, unix.ENODEV:
			return taken, gone("write", errno)
		}
	}
	return taken, nil
}

func (q *txQueue) write(b *packet.Buffer) unix.Errno {
	if whole := b.FrontAndBytes(headerLen); whole != nil {
		b.Offload.PutVirtio(whole[:headerLen])
		_, _, errno := unix.RawSyscall(unix.SYS_WRITE, uintptr(q.fd),
			uintptr(unsafe.Pointer(unsafe.SliceData(whole))), uintptr(len(whole)))
		return errno
	}
	b.Offload.PutVirtio(q.header[:])
	p := b.Bytes()
	q.iov[0].Base = &q.header[0]
	q.iov[0].SetLen(headerLen)
	q.iov[1].Base = unsafe.SliceData(p)
	q.iov[1].SetLen(len(p))
	_, _, errno := unix.RawSyscall(unix.SYS_WRITEV, uintptr(q.fd), uintptr(unsafe.Pointer(&q.iov[0])), 2)
	q.iov[1].Base = nil
	return errno
}

// gone is the final error of a queue.
func gone(verb string, errno unix.Errno) error {
	return fmt.Errorf("%s tap: the host's interface is gone: %w", verb, errno)
}
