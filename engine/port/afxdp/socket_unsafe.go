package afxdp

import (
	"errors"
	"fmt"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// chunk is what a packet has in a socket's memory, in bytes: the most that the kernel grants,
// a page. What the kernel leaves free before a received packet is the headroom for headers
// that are pushed later.
const chunk = 4096

// MaxPacket is the longest packet, in bytes, Ethernet header included, that can be sent.
const MaxPacket = chunk

// ring is one of a socket's four, shared with the kernel. Only one side writes each index:
//
//	       consumer          producer
//	... ----- | ### descriptors ### | ------ ...
type ring[T any] struct {
	producer, consumer, flags *uint32
	desc                      []T
	mem                       []byte
	at                        uint32 // our own index, not yet published perhaps
}

// queue is a socket with its memory. What begins with rx and fill is the receiver's, what
// begins with tx and done the transmitter's; both may be at work at once.
type queue struct {
	fd       int
	mem      []byte
	zeroCopy bool

	rx    ring[unix.XDPDesc]
	fill  ring[uint64]
	lent  []uint64 // chunks of the last Receive
	empty int      // calls in a row that found nothing

	tx   ring[unix.XDPDesc]
	done ring[uint64]
	free []uint64 // chunks to send from

	invalid, tooLong atomic.Uint64
}

// openQueue makes the socket of one queue. Of its memory twice the receive ring is for
// receiving, since as much as waits in the ring may be on its way, and the rest for sending.
func openQueue(c *Config, ifIndex, number int, generic bool) (q *queue, err error) {
	q = &queue{fd: -1}
	defer func() {
		if err != nil {
			err = errors.Join(err, q.close())
		}
	}()
	if q.fd, err = unix.Socket(unix.AF_XDP, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0); err != nil {
		return q, fmt.Errorf("open AF_XDP socket: %w", err)
	}
	chunks := 2*c.RxRing + c.TxRing
	if err = q.register(chunks); err != nil {
		return q, err
	}
	for _, o := range []struct {
		name       string
		opt, value int
	}{
		{"fill ring", unix.XDP_UMEM_FILL_RING, 2 * c.RxRing}, {"completion ring", unix.XDP_UMEM_COMPLETION_RING, c.TxRing},
		{"receive ring", unix.XDP_RX_RING, c.RxRing}, {"transmit ring", unix.XDP_TX_RING, c.TxRing},
	} {
		if err = unix.SetsockoptInt(q.fd, unix.SOL_XDP, o.opt, o.value); err != nil {
			return q, fmt.Errorf("make %s of %d: %w", o.name, o.value, err)
		}
	}
	if err = q.mapRings(c); err != nil {
		return q, err
	}
	q.lent = make([]uint64, 0, 2*c.RxRing)
	for i := range 2 * c.RxRing {
		q.lent = append(q.lent, uint64(i)*chunk)
	}
	q.giveBack()
	for i := 2 * c.RxRing; i < chunks; i++ {
		q.free = append(q.free, uint64(i)*chunk)
	}
	return q, q.bind(c, ifIndex, number, generic)
}

// register maps the memory and tells the kernel of it.
func (q *queue) register(chunks int) (err error) {
	q.mem, err = unix.Mmap(-1, 0, chunks*chunk, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return fmt.Errorf("map %d bytes: %w", chunks*chunk, err)
	}
	reg := unix.XDPUmemReg{Addr: uint64(uintptr(unsafe.Pointer(&q.mem[0]))), Len: uint64(len(q.mem)), Size: chunk}
	// The last field is of Linux 6.8; a shorter structure is that of every kernel.
	if errno := setsockopt(q.fd, unix.XDP_UMEM_REG, unsafe.Pointer(&reg), unsafe.Offsetof(reg.Tx_metadata_len)); errno != 0 {
		return fmt.Errorf("register %d bytes: %w", len(q.mem), errno)
	}
	return nil
}

func (q *queue) mapRings(c *Config) error {
	var off unix.XDPMmapOffsets
	size := uint32(unsafe.Sizeof(off))
	if _, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(q.fd), unix.SOL_XDP, unix.XDP_MMAP_OFFSETS,
		uintptr(unsafe.Pointer(&off)), uintptr(unsafe.Pointer(&size)), 0); errno != 0 {
		return fmt.Errorf("ask for the rings' layout: %w", errno)
	}
	if size != uint32(unsafe.Sizeof(off)) {
		return fmt.Errorf("the rings have no flags: Linux 5.4 and later has them")
	}
	return errors.Join(
		q.rx.open(q.fd, unix.XDP_PGOFF_RX_RING, c.RxRing, off.Rx),
		q.tx.open(q.fd, unix.XDP_PGOFF_TX_RING, c.TxRing, off.Tx),
		q.fill.open(q.fd, unix.XDP_UMEM_PGOFF_FILL_RING, 2*c.RxRing, off.Fr),
		q.done.open(q.fd, unix.XDP_UMEM_PGOFF_COMPLETION_RING, c.TxRing, off.Cr),
	)
}

func (r *ring[T]) open(fd int, at int64, n int, off unix.XDPRingOffset) (err error) {
	var d T
	r.mem, err = unix.Mmap(fd, at, int(off.Desc)+n*int(unsafe.Sizeof(d)), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_POPULATE)
	if err != nil {
		return fmt.Errorf("map a ring of %d: %w", n, err)
	}
	word := func(at uint64) *uint32 { return (*uint32)(unsafe.Pointer(&r.mem[at])) }
	r.producer, r.consumer, r.flags = word(off.Producer), word(off.Consumer), word(off.Flags)
	r.desc = unsafe.Slice((*T)(unsafe.Pointer(&r.mem[off.Desc])), n)
	return nil
}

// bind joins the socket to its queue. A kernel program sees packets that only copies reach.
func (q *queue) bind(c *Config, ifIndex, number int, generic bool) error {
	flags := uint16(unix.XDP_USE_NEED_WAKEUP)
	switch {
	case c.Mode == ZeroCopy:
		flags |= unix.XDP_ZEROCOPY
	case c.Mode == Copy || generic:
		flags |= unix.XDP_COPY
	}
	if err := unix.SetsockoptInt(q.fd, unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, sendBuffer); err != nil {
		return fmt.Errorf("set send buffer: %w", err)
	}
	if err := bindFreed(q.fd, &unix.SockaddrXDP{Flags: flags, Ifindex: uint32(ifIndex), QueueID: uint32(number)}); err != nil {
		return fmt.Errorf("bind: %w", err)
	}
	options, err := unix.GetsockoptInt(q.fd, unix.SOL_XDP, unix.XDP_OPTIONS)
	if err != nil {
		return fmt.Errorf("read the socket's options: %w", err)
	}
	q.zeroCopy = options&unix.XDP_OPTIONS_ZEROCOPY != 0
	return nil
}

// bindFreed waits for a queue whose last socket has just ended: the kernel lets go of it some
// time later, on a thread of its own.
func bindFreed(fd int, at *unix.SockaddrXDP) error {
	for end := time.Now().Add(freedWithin); ; time.Sleep(10 * time.Millisecond) {
		err := unix.Bind(fd, at)
		if !errors.Is(err, unix.EBUSY) || time.Now().After(end) {
			return err
		}
	}
}

// freedWithin is far more than the kernel takes.
const freedWithin = 3 * time.Second

// sendBuffer is how much a queue may have on its way through the kernel, in bytes, where it
// sends copies.
const sendBuffer = 8 << 20

func setsockopt(fd, opt int, value unsafe.Pointer, size uintptr) unix.Errno {
	_, _, errno := unix.Syscall6(unix.SYS_SETSOCKOPT, uintptr(fd), unix.SOL_XDP, uintptr(opt), uintptr(value), size, 0)
	return errno
}

// close gives the socket back, then its memory.
func (q *queue) close() error {
	var errs []error
	for _, m := range []*[]byte{&q.rx.mem, &q.tx.mem, &q.fill.mem, &q.done.mem} {
		if *m != nil {
			errs = append(errs, unix.Munmap(*m))
			*m = nil
		}
	}
	if q.fd >= 0 {
		errs = append(errs, unix.Close(q.fd))
		q.fd = -1
	}
	if q.mem != nil {
		errs = append(errs, unix.Munmap(q.mem))
		q.mem = nil
	}
	return errors.Join(errs...)
}
