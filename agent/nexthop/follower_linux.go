// Package nexthop follows neighbours in the kernel's table: on a network card that is shared
// with the kernel, ARP and neighbour discovery are the kernel's, and the dataplane is told
// what they found.
//
// It has the kernel resolve what it is asked to follow, and look again from time to time, so
// that a neighbour whose MAC address changes is noticed though the kernel itself sends it
// nothing: at once if it says so (a gratuitous ARP), else within the minute that the kernel
// takes to doubt what it knows. It never writes a neighbour's address.
package nexthop

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"sync"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/millrace/millrace/dataplane"
)

// refresh is how often the kernel is asked to confirm each neighbour: more often than it
// forgets them (60 s), and than a person notices.
const refresh = 10 * time.Second

// Follower follows neighbours. Follow, Known and Changed may be called from any goroutine.
type Follower struct {
	log     *slog.Logger
	every   time.Duration // refresh, but in tests
	changed chan struct{}
	asked   chan struct{}

	mu     sync.Mutex
	wanted map[dataplane.NextHop]bool
	known  map[dataplane.NextHop]dataplane.MAC
	failed string // the last failure that the log has
}

// New returns a Follower of nothing.
func New(log *slog.Logger) *Follower {
	return &Follower{
		log: log, every: refresh, changed: make(chan struct{}, 1), asked: make(chan struct{}, 1),
		wanted: map[dataplane.NextHop]bool{}, known: map[dataplane.NextHop]dataplane.MAC{},
	}
}

// Follow says which neighbours are of interest from now on. What is known of others is
// forgotten.
func (f *Follower) Follow(hops []dataplane.NextHop) {
	f.mu.Lock()
	defer f.mu.Unlock()
	wanted := map[dataplane.NextHop]bool{}
	for _, h := range hops {
		wanted[h] = true
	}
	if maps.Equal(wanted, f.wanted) {
		return
	}
	f.wanted = wanted
	maps.DeleteFunc(f.known, func(h dataplane.NextHop, _ dataplane.MAC) bool { return !wanted[h] })
	signal(f.asked)
}

// Known are the neighbours whose address the kernel has, or had: one that does not answer
// keeps its last.
func (f *Follower) Known() map[dataplane.NextHop]dataplane.MAC {
	f.mu.Lock()
	defer f.mu.Unlock()
	return maps.Clone(f.known)
}

// Changed receives a value after Known changed; several changes may be one value.
func (f *Follower) Changed() <-chan struct{} { return f.changed }

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// Run follows until ctx ends, then it returns nil. It works in the network namespace of the
// process.
func (f *Follower) Run(ctx context.Context) error {
	for ctx.Err() == nil {
		if err := f.follow(ctx); err != nil {
			f.report(err)
			select {
			case <-ctx.Done():
			case <-time.After(time.Second):
			}
		}
	}
	return nil
}

// report tells the log of a failure, once.
func (f *Follower) report(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.failed != err.Error() {
		f.failed = err.Error()
		f.log.Warn("neighbours of shared uplinks are not followed", "err", err)
	}
}

// follow works on one subscription. It returns nil when the kernel ended that, or ctx did.
func (f *Follower) follow(ctx context.Context) error {
	updates := make(chan netlink.NeighUpdate, 64)
	done := make(chan struct{})
	if err := netlink.NeighSubscribe(updates, done); err != nil {
		return fmt.Errorf("subscribe to neighbours: %w", err)
	}
	defer func() {
		close(done)
		for range updates { // until the subscription's goroutine has left
		}
	}()
	tick := time.NewTicker(f.every)
	defer tick.Stop()
	if err := f.look(true); err != nil {
		return err
	}
	for {
		var err error
		select {
		case <-ctx.Done():
			return nil
		case <-f.asked:
			err = f.look(true)
		case <-tick.C:
			err = f.look(true)
		case u, ok := <-updates:
			if !ok {
				return nil
			}
			if a, valid := netip.AddrFromSlice(u.IP); valid && f.wants(a.Unmap()) {
				err = f.look(false)
			}
		}
		if err != nil {
			return err
		}
	}
}

func (f *Follower) wants(a netip.Addr) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	for h := range f.wanted {
		if h.Addr == a {
			return true
		}
	}
	return false
}

// look reads the kernel's table and takes over what is new. If it is to ask, it has the kernel
// resolve or confirm each neighbour.
func (f *Follower) look(ask bool) error {
	f.mu.Lock()
	wanted := maps.Clone(f.wanted)
	f.mu.Unlock()
	byLink := map[string][]dataplane.NextHop{}
	for h := range wanted {
		byLink[h.Link] = append(byLink[h.Link], h)
	}
	var errs []error
	for name, hops := range byLink {
		link, err := netlink.LinkByName(name)
		if err != nil {
			errs = append(errs, fmt.Errorf("find %s: %w", name, err))
			continue
		}
		index := link.Attrs().Index
		list, err := netlink.NeighList(index, netlink.FAMILY_ALL)
		if err != nil {
			errs = append(errs, fmt.Errorf("list neighbours on %s: %w", name, err))
			continue
		}
		f.learn(hops, list)
		for _, h := range hops {
			if ask {
				errs = append(errs, use(index, h.Addr))
			}
		}
	}
	return errors.Join(errs...)
}

// learn takes the addresses of neighbours that the kernel believes in.
func (f *Follower) learn(hops []dataplane.NextHop, list []netlink.Neigh) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, n := range list {
		a, valid := netip.AddrFromSlice(n.IP)
		if !valid || len(n.HardwareAddr) != 6 || n.State&(netlink.NUD_INCOMPLETE|netlink.NUD_FAILED) != 0 {
			continue
		}
		mac := dataplane.MAC(n.HardwareAddr)
		for _, h := range hops {
			if h.Addr == a.Unmap() && f.wanted[h] && f.known[h] != mac {
				f.known[h] = mac
				f.log.Info("neighbour of a shared uplink", "link", h.Link, "address", h.Addr, "mac", mac)
				signal(f.changed)
			}
		}
	}
}

// use makes the kernel behave as if it had a packet for the neighbour.
func use(index int, a netip.Addr) error {
	family := unix.AF_INET6
	if a.Is4() {
		family = unix.AF_INET
	}
	err := netlink.NeighSet(&netlink.Neigh{LinkIndex: index, Family: family, Flags: netlink.NTF_USE, State: netlink.NUD_NONE, IP: a.AsSlice()})
	if err != nil {
		return fmt.Errorf("have the kernel resolve %s: %w", a, err)
	}
	return nil
}
