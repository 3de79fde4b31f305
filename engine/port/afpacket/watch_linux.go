package afpacket

import (
	"context"
	"errors"
	"fmt"

	"github.com/millrace/millrace/engine/port/hostns"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Watch calls changed with the state of the host's interface now and at every change,
// on this goroutine, until ctx is done or the interface is deleted, which is the last
// call. It returns nil then. It may run beside everything else the port does.
func (p *Port) Watch(ctx context.Context, changed func(Host)) error {
	for {
		again, err := p.watchOnce(ctx, changed)
		if err != nil || !again {
			return err
		}
	}
}

// watchOnce subscribes, tells the state and then what follows. It asks to be called
// again when the kernel ended the subscription: too many messages at once, some lost.
func (p *Port) watchOnce(ctx context.Context, changed func(Host)) (again bool, err error) {
	updates := make(chan netlink.LinkUpdate, 16)
	done := make(chan struct{})
	var now Host
	err = hostns.Do(p.namespace, func() error {
		if err := netlink.LinkSubscribe(updates, done); err != nil {
			close(updates)
			return fmt.Errorf("subscribe to links: %w", err)
		}
		var err error
		now, err = p.readHost()
		return err
	})
	defer func() {
		close(done)
		for range updates { // until the subscription's goroutine has left
		}
	}()
	if err != nil {
		return false, fmt.Errorf("watch %s: %w", p.host.IfName, err)
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
			if int(u.Index) != p.host.IfIndex {
				continue
			}
			next := hostOf(u.Link)
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

// readHost reads the interface's state, by index: the name may change.
func (p *Port) readHost() (Host, error) {
	h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return Host{}, fmt.Errorf("open netlink: %w", err)
	}
	defer h.Close()
	link, err := h.LinkByIndex(p.host.IfIndex)
	if _, missing := errors.AsType[netlink.LinkNotFoundError](err); missing {
		gone := p.host
		gone.Up, gone.Deleted = false, true
		return gone, nil
	}
	if err != nil {
		return Host{}, fmt.Errorf("read link: %w", err)
	}
	return hostOf(link), nil
}
