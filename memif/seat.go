package memif

import "sync/atomic"

// seat is how a queue follows the links of its Interface: the connection's goroutine says
// which link is there, and the queue takes its place on it with its next call.
type seat struct {
	next   atomic.Pointer[link] // nil: there is no link
	closed atomic.Bool

	// The queue's user alone touches these.
	cur    *link
	broken bool // cur has failed: nothing more is done with it
}

// current is the link to work on; nil when there is none now. The error is ErrClosed.
func (s *seat) current() (*link, bool, error) {
	l := s.next.Load()
	if l == s.cur && l != nil && !s.broken {
		return l, false, nil
	}
	return s.change(l)
}

// change leaves the old link and takes its place on l. It says whether that is a new one.
func (s *seat) change(l *link) (*link, bool, error) {
	if l == s.cur {
		if l == nil && s.closed.Load() {
			return nil, false, ErrClosed
		}
		return nil, false, nil
	}
	err := s.leave()
	if l != nil && l.adopt() {
		s.cur = l
	} else if s.closed.Load() && err == nil {
		err = ErrClosed
	}
	return s.cur, s.cur != nil, err
}

// leave gives up the place on the current link.
func (s *seat) leave() error {
	l := s.cur
	s.cur, s.broken = nil, false
	if l == nil {
		return nil
	}
	return l.leave()
}

// fail ends the link because of what this queue found in its memory.
func (s *seat) fail(l *link, err error) {
	s.broken = true
	l.end(err)
}
