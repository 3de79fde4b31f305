// Package supervise owns one child process for as long as it runs: start, readiness by
// its API, liveness, crash report, restart with backoff, signals, and what it leaves in
// the file system.
//
// It never decides what to run and knows nothing of VPP but that it answers a ping.
//
// The child dies with its supervisor: the kernel kills it (PR_SET_PDEATHSIG) when the
// supervisor is killed, so that no dataplane is left that nobody watches. SIGKILL, not
// SIGTERM, because VPP ignores a SIGTERM until its main loop runs and nobody would be
// there to follow it up. A child that escapes this (a wrapper script that forks) is found
// by a mark in its environment and ended by the next supervisor of the same directory.
package supervise

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"time"
)

// Spec says what to run. All paths are absolute.
type Spec struct {
	Name       string   // for messages: vpp, engine
	Command    []string // program and arguments
	RuntimeDir string   // made when missing; one supervisor at a time
	APISocket  string   // answers when the child is ready
	Sockets    []string // all unix sockets the child makes, APISocket among them
	Files      []File   // written before each start
	Strays     []string // what a killed child leaves besides
}

// File is written with mode 0644.
type File struct{ Path, Text string }

// Conn is one API connection to the child.
type Conn interface {
	Ping(context.Context) error
	Close()
}

// Options are what a supervisor needs from outside.
type Options struct {
	Dial   func(ctx context.Context, socket string) (Conn, error)
	Output io.Writer // gets the child's standard output and error
	Log    *slog.Logger
	Notify func(Status) // called at each change, in order, from one goroutine; nil: nobody
	Timing Timing
}

// Timing are the supervisor's clocks.
type Timing struct {
	Start      time.Duration // until the API has to answer
	Patience   time.Duration // until a slow start is mentioned
	Ping       time.Duration // between two pings
	Hang       time.Duration // without an answer until the child is killed
	Stop       time.Duration // between SIGTERM and SIGKILL
	Healthy    time.Duration // ready for so long resets the backoff
	BackoffMin time.Duration // before the first restart
	BackoffMax time.Duration
	Tries      int // starts that may fail before any was ready
}

// DefaultTiming fits VPP and the engine: the first restart comes at once, and VPP may
// hold its main thread for seconds while it builds large ACLs.
func DefaultTiming() Timing {
	return Timing{
		Start: 60 * time.Second, Patience: 3 * time.Second,
		Ping: time.Second, Hang: 10 * time.Second, Stop: 5 * time.Second,
		Healthy: 30 * time.Second, BackoffMin: 20 * time.Millisecond, BackoffMax: 15 * time.Second, Tries: 3,
	}
}

// Phase is where the child's life stands.
type Phase string

// The phases.
const (
	Starting Phase = "starting"
	Ready    Phase = "ready"
	Waiting  Phase = "waiting to restart"
	Stopping Phase = "stopping"
	Stopped  Phase = "stopped"
)

// Status is the supervisor's state at one moment.
type Status struct {
	Phase    Phase
	PID      int // 0: no child
	Restarts int
	Since    time.Time // of the phase
	Last     string    // how the last child ended; "" when none did
}

// CrashError says that no start ever became ready.
type CrashError struct {
	Name   string
	Starts int
	Reason string   // how the last one ended
	Output []string // its last lines
}

func (e *CrashError) Error() string {
	msg := fmt.Sprintf("start %s: %d starts, none became ready; the last one %s", e.Name, e.Starts, e.Reason)
	if len(e.Output) == 0 {
		return msg + " and printed nothing"
	}
	for _, line := range e.Output[max(0, len(e.Output)-10):] {
		msg += "\n  | " + line
	}
	return msg
}

// Supervisor runs one Spec.
type Supervisor struct {
	spec Spec
	opt  Options

	start  func() (process, error) // the real one, but in tests
	jitter func() float64          // in [0,1)

	mu     sync.Mutex
	status Status
}

// New returns a supervisor that has done nothing yet.
func New(spec Spec, opt Options) *Supervisor {
	s := &Supervisor{spec: spec, opt: opt, jitter: randomJitter}
	s.start = s.startChild
	return s
}

// Status returns the state at this moment.
func (s *Supervisor) Status() Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.status
}

// Run keeps the child running until ctx ends, then stops it and clears the room. It
// returns nil after such a stop, an error when the room could not be taken or cleared,
// and a *CrashError when no start became ready.
func (s *Supervisor) Run(ctx context.Context) (err error) {
	room, err := enterRoom(ctx, s.spec, s.opt.Log)
	if err != nil {
		return fmt.Errorf("prepare %s: %w", s.spec.RuntimeDir, err)
	}
	defer func() {
		if leaveErr := room.leave(s.spec); err == nil && leaveErr != nil {
			err = fmt.Errorf("clear %s: %w", s.spec.RuntimeDir, leaveErr)
		}
	}()
	return s.keep(ctx)
}

func (s *Supervisor) enter(phase Phase, pid int) {
	s.mu.Lock()
	s.status.Phase, s.status.PID, s.status.Since = phase, pid, time.Now()
	now := s.status
	s.mu.Unlock()
	if s.opt.Notify != nil {
		s.opt.Notify(now)
	}
}
