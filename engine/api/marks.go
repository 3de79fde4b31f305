package api

import (
	"net/netip"
	"sync"
)

// neighborKey names a neighbour.
type neighborKey struct {
	iface uint32
	addr  netip.Addr
}

// marks are the neighbours that a replace under way has not yet seen again.
type marks struct {
	mu    sync.Mutex // guards stale
	stale map[neighborKey]bool
}

func (m *marks) set(keys []neighborKey) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.stale = map[neighborKey]bool{}
	for _, k := range keys {
		m.stale[k] = true
	}
}

func (m *marks) keep(k neighborKey) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.stale, k)
}

// take ends the replace and returns what is still marked.
func (m *marks) take() map[neighborKey]bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	stale := m.stale
	m.stale = nil
	return stale
}
