// Package attachtest owns the other ends of the attach server for tests: an agent's loop
// and containers' network namespaces, both without a kernel.
//
// It wires nothing and never touches the machine.
package attachtest

import (
	"context"
	"fmt"
	"net/netip"
	"sync"

	"github.com/millrace/millrace/agent/attach"
)

// Loop applies every fact at once, until told otherwise. The zero value is ready.
type Loop struct {
	mu      sync.Mutex
	held    bool
	refuse  error
	stuck   map[uint64]error
	away    error
	applied uint64
	waiting int
	changed chan struct{} // closed and replaced with every change
}

// Hold keeps everything that is not applied yet from being applied; Release ends that.
func (l *Loop) Hold() { l.change(func() { l.held = true }) }

// Release applies what was held.
func (l *Loop) Release() { l.change(func() { l.held = false }) }

// Refuse makes waiting fail with err; nil ends that.
func (l *Loop) Refuse(err error) { l.change(func() { l.refuse = err }) }

// Stick makes waiting for one revision fail with err, those before and after go on; nil
// ends that.
func (l *Loop) Stick(revision uint64, err error) {
	l.change(func() {
		if l.stuck == nil {
			l.stuck = map[uint64]error{}
		}
		l.stuck[revision] = err
	})
}

// Away is what Ready answers; nil: ready.
func (l *Loop) Away(err error) { l.change(func() { l.away = err }) }

// AwaitWaiters returns when n calls are waiting for a revision.
func (l *Loop) AwaitWaiters(ctx context.Context, n int) error {
	return l.await(ctx, func() (bool, error) { return l.waiting >= n, nil })
}

// WaitApplied is attach.Loop's.
func (l *Loop) WaitApplied(ctx context.Context, revision uint64) error {
	l.change(func() { l.waiting++ })
	defer l.change(func() { l.waiting-- })
	return l.await(ctx, func() (bool, error) {
		if err := l.stuck[revision]; err != nil {
			return false, err
		}
		if revision <= l.applied {
			return true, nil
		}
		if l.refuse != nil || l.held {
			return false, l.refuse
		}
		l.applied = revision
		return true, nil
	})
}

// Ready is attach.Loop's.
func (l *Loop) Ready() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.away
}

func (l *Loop) change(f func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	f()
	if l.changed != nil {
		close(l.changed)
		l.changed = nil
	}
}

// await asks done, under the lock, after every change.
func (l *Loop) await(ctx context.Context, done func() (bool, error)) error {
	for {
		l.mu.Lock()
		ok, err := done()
		if l.changed == nil {
			l.changed = make(chan struct{})
		}
		changed := l.changed
		l.mu.Unlock()
		if ok || err != nil {
			return err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Pods are containers' network namespaces by path. Each holds what the journal's facts
// say of it, unless a test spoils it. /proc/thread-self/ns/net is the agent's own.
type Pods struct {
	Journal *attach.Journal
	Boot    string // boot id of the namespaces; the journal hides facts of another boot

	mu    sync.Mutex
	paths map[string]uint64
	next  uint64
	spoil func(*attach.Link)
	deaf  map[string]bool
}

// Make puts a new network namespace at a path, in place of one that was there.
func (p *Pods) Make(path string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.paths == nil {
		p.paths = map[string]uint64{}
	}
	p.next++
	p.paths[path] = p.next
}

// Remove takes a namespace away.
func (p *Pods) Remove(path string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.paths, path)
}

// Spoil changes what Link reads from now on; nil ends that.
func (p *Pods) Spoil(f func(*attach.Link)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.spoil = f
}

// Deafen makes nobody listen on a socket from now on, in any namespace.
func (p *Pods) Deafen(socket string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.deaf == nil {
		p.deaf = map[string]bool{}
	}
	p.deaf[socket] = true
}

// Listens is attach.PodSide's.
func (p *Pods) Listens(path, socket string) (bool, error) {
	p.mu.Lock()
	deaf := p.deaf[socket]
	p.mu.Unlock()
	_, facts := p.Journal.Facts()
	for _, a := range facts {
		for _, m := range a.Memifs {
			if a.Netns == path && m.Socket() == socket {
				return !deaf, nil
			}
		}
	}
	return false, nil
}

// Namespace is attach.PodSide's.
func (p *Pods) Namespace(path string) (attach.NamespaceID, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if path == "/proc/thread-self/ns/net" {
		return attach.NamespaceID{Boot: p.Boot}, nil
	}
	n, ok := p.paths[path]
	if !ok {
		return attach.NamespaceID{}, fmt.Errorf("open %s: %w", path, attach.ErrNoNamespace)
	}
	return attach.NamespaceID{Boot: p.Boot, Cookie: n}, nil
}

// Link is attach.PodSide's.
func (p *Pods) Link(path, ifName string) (attach.Link, error) {
	_, facts := p.Journal.Facts()
	for _, a := range facts {
		if a.Netns == path && a.ID.IfName == ifName {
			return p.link(a.MTU, a.Addresses), nil
		}
	}
	return attach.Link{}, fmt.Errorf("find interface %s in %s: none", ifName, path)
}

func (p *Pods) link(mtu uint32, addresses []netip.Addr) attach.Link {
	if mtu == 0 {
		mtu = 1500
	}
	l := attach.Link{MTU: mtu, Up: true}
	for _, a := range addresses {
		l.Addresses = append(l.Addresses, netip.PrefixFrom(a, a.BitLen()))
		gateway, everywhere := netip.MustParseAddr("169.254.1.1"), netip.MustParsePrefix("0.0.0.0/0")
		if a.Is6() {
			gateway, everywhere = netip.MustParseAddr("fe80::1"), netip.MustParsePrefix("::/0")
		}
		l.Routes = append(l.Routes,
			attach.LinkRoute{Destination: netip.PrefixFrom(gateway, gateway.BitLen())},
			attach.LinkRoute{Destination: everywhere, Gateway: gateway})
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.spoil != nil {
		p.spoil(&l)
	}
	return l
}
