package worker

import (
	"encoding/binary"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// poller waits for readable descriptors and for wake-ups from other threads.
type poller struct {
	epoll  int
	event  int
	events [64]unix.EpollEvent
}

func newPoller() (*poller, error) {
	ep, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("create epoll: %w", err)
	}
	ev, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("create eventfd: %w", err), unix.Close(ep))
	}
	p := &poller{epoll: ep, event: ev}
	if err := p.add(ev, wakeTag); err != nil {
		return nil, errors.Join(err, p.close())
	}
	return p, nil
}

// wakeTag marks the eventfd among the tags of receive queues.
const wakeTag int32 = -1

func (p *poller) add(fd int, tag int32) error {
	e := unix.EpollEvent{Events: unix.EPOLLIN, Fd: tag}
	if err := unix.EpollCtl(p.epoll, unix.EPOLL_CTL_ADD, fd, &e); err != nil {
		return fmt.Errorf("watch descriptor %d: %w", fd, err)
	}
	return nil
}

func (p *poller) remove(fd int) error {
	if err := unix.EpollCtl(p.epoll, unix.EPOLL_CTL_DEL, fd, nil); err != nil {
		return fmt.Errorf("unwatch descriptor %d: %w", fd, err)
	}
	return nil
}

// wait blocks for up to timeout milliseconds (-1: without limit) and returns how many
// events there are. Other goroutines go on meanwhile.
func (p *poller) wait(timeout int) (int, error) {
	n, err := unix.EpollWait(p.epoll, p.events[:], timeout)
	if err != nil && !errors.Is(err, unix.EINTR) {
		return 0, fmt.Errorf("wait for packets: %w", err)
	}
	return max(n, 0), nil
}

// tag returns that of event i, the wake-up's consumed.
func (p *poller) tag(i int) (int32, error) {
	t := p.events[i].Fd
	if t != wakeTag {
		return t, nil
	}
	var b [8]byte
	if _, err := unix.Read(p.event, b[:]); err != nil && !errors.Is(err, unix.EAGAIN) && !errors.Is(err, unix.EINTR) {
		return t, fmt.Errorf("read wake-up: %w", err)
	}
	return t, nil
}

// wake makes a waiting thread return. Any thread may call it.
func (p *poller) wake() error {
	var b [8]byte
	binary.NativeEndian.PutUint64(b[:], 1)
	// EAGAIN: the counter is full, so a wake-up is pending already.
	if _, err := unix.Write(p.event, b[:]); err != nil && !errors.Is(err, unix.EAGAIN) {
		return fmt.Errorf("wake worker: %w", err)
	}
	return nil
}

func (p *poller) close() error {
	return errors.Join(unix.Close(p.event), unix.Close(p.epoll))
}
