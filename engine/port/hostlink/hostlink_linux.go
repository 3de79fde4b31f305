// Package hostlink follows an interface of the host that a port stands on.
//
// It owns its subscription. It never changes the interface.
package hostlink

import (
	"context"
	"errors"
	"fmt"
	"net"

	"github.com/millrace/millrace/engine/port/hostns"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// State is what the host's interface is at one moment.
type State struct {
	IfName       string
	IfIndex      int
	HardwareAddr net.HardwareAddr
	MTU          int
	Up           bool // admin up and carrier
	Deleted      bool
}

// Of is the state that a link tells of.
func Of(link netlink.Link) State {
	a := link.Attrs()
	up := a.Flags&net.FlagUp != 0 && a.RawFlags&unix.IFF_LOWER_UP != 0
	return State{IfName: a.Name, IfIndex: a.Index, HardwareAddr: a.HardwareAddr, MTU: a.MTU, Up: up}
}

// watch is an interface, by what it was at first, and the namespace that it lies in.
type watch struct {
	namespace string
	first     State
}

// Watch calls changed with the state of an interface, by its index, now and at every change,
// on this goroutine, until ctx is done or the interface is deleted, which is the last
// call. It returns nil then.
func Watch(ctx context.Context, namespace string, first State, changed func(State)) error {
	w := watch{namespace, first}
	for {
		again, err := w.once(ctx, changed)
		if err != nil || !again {
			return err
		}
	}
}

// once subscribes, tells the state and then what follows. It asks to be called
// again when the kernel ended the subscription: too many messages at once, some lost.
func (w watch) once(ctx context.Context, changed func(State)) (again bool, err error) {
	updates := make(chan netlink.LinkUpdate, 16)
	done := make(chan struct{})
	var now State
	err = hostns.Do(w.namespace, func() error {
		if err := netlink.LinkSubscribe(updates, done); err != nil {
			close(updates)
			return fmt.Errorf("subscribe to links: %w", err)
		}
		var err error
		now, err = w.read()
		return err
	})
	defer func() {
		close(done)
		for range updates { // until the subscription's goroutine has left
		}
	}()
	if err != nil {
		return false, fmt.Errorf("watch %s: %w", w.first.IfName, err)
	}
	changed(now)
	if now.Deleted {
		return false, nil
	}
	for {
		select {
		case <-ctx.Done():
			return false, nil
		case u, ok := <-updates:
			if !ok {
				return true, nil
			}
			if int(u.Index) != w.first.IfIndex {
				continue
			}
			next := Of(u.Link)
			next.Deleted = u.Header.Type == unix.RTM_DELLINK
			if next.Deleted {
				next.Up = false
			}
			changed(next)
			if next.Deleted {
				return false, nil
			}
		}
	}
}

// read reads the interface's state, by index: the name may change.
func (w watch) read() (State, error) {
	h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return State{}, fmt.Errorf("open netlink: %w", err)
	}
	defer h.Close()
	link, err := h.LinkByIndex(w.first.IfIndex)
	if _, missing := errors.AsType[netlink.LinkNotFoundError](err); missing {
		gone := w.first
		gone.Up, gone.Deleted = false, true
		return gone, nil
	}
	if err != nil {
		return State{}, fmt.Errorf("read link: %w", err)
	}
	return Of(link), nil
}
