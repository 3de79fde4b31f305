package memif

import (
	"slices"
	"sync"
)

// lobby holds the connections that have not said who they are, so many at a time. It turns
// nobody away: who has been silent longest leaves for the next. A flood of silent peers thus
// cannot keep out one that answers HELLO at once.
type lobby struct {
	places chan struct{} // holds one for each connection inside

	mu      sync.Mutex // guards waiting
	waiting []*control // the longest waiting first
}

func newLobby(places int) *lobby { return &lobby{places: make(chan struct{}, places)} }

func (l *lobby) enter(c *control) {
	select {
	case l.places <- struct{}{}:
	default:
		l.evict()
		l.places <- struct{}{} // soon: a connection leaves with the first it hears
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.waiting = append(l.waiting, c)
}

// evict ends the oldest connection that has nothing to read. Where all have, some are about
// to leave.
func (l *lobby) evict() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if i := slices.IndexFunc(l.waiting, (*control).silent); i >= 0 {
		l.waiting[i].interrupt(fail(Silent, "the peer did not say who it is, and others wait"))
		l.waiting = slices.Delete(l.waiting, i, i+1)
	}
}

func (l *lobby) leave(c *control) {
	l.mu.Lock()
	if i := slices.Index(l.waiting, c); i >= 0 {
		l.waiting = slices.Delete(l.waiting, i, i+1)
	}
	l.mu.Unlock()
	<-l.places
}
