package worker

import (
	"time"

	"github.com/millrace/millrace/engine/acl"
	"github.com/millrace/millrace/engine/session"
)

// Guard is what the access lists of an interface and direction come to. It is immutable.
type Guard struct {
	Chain *acl.Chain
	// Rows are the rules' counters: by place in the Chain, by thread (0 is the control
	// thread), by rule.
	Rows [][][]Combined
	// Policy numbers the changes after which sessions are to be judged again.
	Policy uint32
	// TCPFlags says that some rule looks at them, so that what rules say about a TCP
	// packet does not hold for the rest of its flow.
	TCPFlags bool
}

// Stateful are settings of all access lists together. It is immutable.
type Stateful struct {
	Sessions   *session.Table // nil until an interface has a list
	Reclassify bool           // sessions are judged again when Guard.Policy changed
	CountRules bool
}

// SetStateful replaces the settings; they are not to be changed afterwards.
func (s *State) SetStateful(f *Stateful) { s.stateful.Store(f) }

// Clock is the coarse time by which sessions age: seconds since the State was made.
func (s *State) Clock() uint32 { return s.clock.Load() }

// stampWrap is after how many seconds the clock's time stamps in flow caches begin anew.
const stampWrap = 1 << 16

// Advance sets the clock. An entry in a flow cache that was not used for so long that its
// time stamp could be mistaken for a new one is made stale before.
func (s *State) Advance(now time.Time) {
	t := uint32(now.Sub(s.epoch).Seconds()) + 1
	if old := s.clock.Load(); t/(stampWrap/2) != old/(stampWrap/2) {
		s.Bump()
	}
	s.clock.Store(t)
}
