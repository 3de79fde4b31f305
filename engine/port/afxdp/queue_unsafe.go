package afxdp

import (
	"fmt"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/millrace/millrace/engine/packet"
)

// idleChecks is after how many empty calls in a row a queue asks for its socket's state: a
// pending error makes the descriptor readable for ever.
const idleChecks = 16

// kicks is how often one Transmit asks the kernel to go on. Each time it sends some 32
// packets, where it copies them.
const kicks = 2 * packet.BatchSize / 32

// ready is how many descriptors the kernel has put into the ring, at most n.
func (r *ring[T]) ready(n int) int { return min(n, int(atomic.LoadUint32(r.producer)-r.at)) }

// room is how many descriptors there is place for, at most n.
func (r *ring[T]) room(n int) int {
	return min(n, len(r.desc)-int(r.at-atomic.LoadUint32(r.consumer)))
}

// next is our next descriptor.
func (r *ring[T]) next() *T {
	d := &r.desc[r.at&uint32(len(r.desc)-1)]
	r.at++
	return d
}

// wants says whether the kernel asks to be woken for this ring.
func (r *ring[T]) wants() bool { return atomic.LoadUint32(r.flags)&unix.XDP_RING_NEED_WAKEUP != 0 }

// giveBack returns what was lent to the kernel. There is room for all chunks that exist.
func (q *queue) giveBack() {
	for _, at := range q.lent {
		*q.fill.next() = at
	}
	q.lent = q.lent[:0]
	atomic.StoreUint32(q.fill.producer, q.fill.at)
}

func (q *queue) receive(bufs []*packet.Buffer) (int, error) {
	if len(q.lent) > 0 {
		q.giveBack()
	}
	n := 0
	for range q.rx.ready(len(bufs)) {
		d := *q.rx.next()
		at := d.Addr &^ (chunk - 1)
		from, to := int(d.Addr-at), int(d.Addr-at)+int(d.Len)
		if at >= uint64(len(q.mem)) {
			q.invalid.Add(1)
			continue
		}
		q.lent = append(q.lent, at)
		if to > chunk || d.Options != 0 {
			q.invalid.Add(1)
			continue
		}
		bufs[n].SetView(q.mem[at:at+chunk], from, to)
		n++
	}
	atomic.StoreUint32(q.rx.consumer, q.rx.at)
	if q.fill.wants() {
		if err := q.wake(unix.SYS_RECVFROM); err != nil {
			return n, err
		}
	}
	if n > 0 {
		q.empty = 0
		return n, nil
	}
	if q.empty++; q.empty < idleChecks {
		return 0, nil
	}
	q.empty = 0
	return 0, q.check()
}

// check asks for a pending error, which the kernel leaves when the interface is deleted.
func (q *queue) check() error {
	errno, err := unix.GetsockoptInt(q.fd, unix.SOL_SOCKET, unix.SO_ERROR)
	if err == nil && errno != 0 {
		err = unix.Errno(errno)
	}
	if err != nil {
		return fmt.Errorf("receive from af_xdp: the host's interface is gone: %w", err)
	}
	return nil
}

func (q *queue) transmit(bufs []*packet.Buffer) (int, error) {
	taken := 0
	q.reclaim()
	for _, b := range bufs {
		p := b.Bytes()
		if len(p) > MaxPacket {
			q.tooLong.Add(1)
			taken++
			continue
		}
		if len(q.free) == 0 || q.tx.room(1) == 0 {
			if err := q.kick(); err != nil {
				return taken, err
			}
			q.reclaim()
			if len(q.free) == 0 || q.tx.room(1) == 0 {
				break
			}
		}
		at := q.free[len(q.free)-1]
		q.free = q.free[:len(q.free)-1]
		copy(q.mem[at:at+chunk], p)
		*q.tx.next() = unix.XDPDesc{Addr: at, Len: uint32(len(p))}
		taken++
	}
	return taken, q.kick()
}

// reclaim takes back the chunks that are sent.
func (q *queue) reclaim() {
	n := q.done.ready(len(q.done.desc))
	if n == 0 {
		return
	}
	for range n {
		q.free = append(q.free, *q.done.next())
	}
	atomic.StoreUint32(q.done.consumer, q.done.at)
}

// kick publishes what is in the ring and has the kernel send it. What it has no room for
// now goes out with the next packets.
func (q *queue) kick() error {
	atomic.StoreUint32(q.tx.producer, q.tx.at)
	for range kicks {
		before := atomic.LoadUint32(q.tx.consumer)
		if before == q.tx.at || !q.tx.wants() {
			return nil
		}
		if err := q.wake(unix.SYS_SENDTO); err != nil {
			return err
		}
		if atomic.LoadUint32(q.tx.consumer) == before {
			return nil
		}
	}
	return nil
}

// wake makes the kernel look at the rings. What it cannot do now it does later; a link that
// is down is no error, since it may come up.
func (q *queue) wake(call uintptr) error {
	_, _, errno := unix.RawSyscall6(call, uintptr(q.fd), uintptr(unsafe.Pointer(nil)), 0, unix.MSG_DONTWAIT, 0, 0)
	switch errno {
	case unix.ENXIO, unix.ENODEV, unix.EBADF:
		return fmt.Errorf("wake af_xdp: the host's interface is gone: %w", errno)
	}
	return nil
}
