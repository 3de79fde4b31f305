// Package supervise owns one child process for as long as it runs: start, readiness by
// its API, liveness, crash report with the core file, restart in place with backoff, the
// decision to give up, signals, and what it leaves in the file system.
//
// It never decides what to run, knows nothing of VPP but that it answers a ping, and never
// touches the host: that is done between Enter and Leave by whoever runs it.
//
// The child dies with its supervisor: the kernel kills it (PR_SET_PDEATHSIG) when the
// supervisor is killed, so that no dataplane is left that nobody watches. SIGKILL, not
// SIGTERM, because VPP ignores a SIGTERM until its main loop runs and nobody would be
// there to follow it up. A child that escapes this (a wrapper script that forks) is found
// by a mark in its environment and ended by the next supervisor of the same directory.
package supervise

import (
	"context"
	"errors"
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
	RuntimeDir string   // the room's
	APISocket  string   // answers when the child is ready
	Sockets    []string // all unix sockets the child makes, APISocket among them
	Files      []File   // written before each start
	Strays     []string // what a killed child leaves besides
	CrashDir   string   // keeps reports of crashes, and is the child's working directory; "" = none are kept
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
	Wire   func(ctx context.Context, c Conn) error // sets up a child that answers; only then it is ready; nil: nothing to do
	Output io.Writer                               // gets the child's standard output and error
	Log    *slog.Logger
	Notify func(Status)  // called at each change, in order, from one goroutine; nil: nobody
	Alive  func()        // called again and again, at least each Hang, while the supervisor does its work; nil: nobody
	About  func() string // what the child said it is, for the report of a crash; nil: nothing
	Timing Timing
	Keep   Keep // zero: DefaultKeep
}

// ErrHopeless in an error of Wire says that another start would not help.
var ErrHopeless = errors.New("another start would not help")

// Timing are the supervisor's clocks, and when it gives up.
type Timing struct {
	Start      time.Duration // until the API has to answer, and again until Wire has to be through
	Patience   time.Duration // until a slow start is mentioned
	Ping       time.Duration // between two pings
	Hang       time.Duration // without an answer until the child is killed
	Stop       time.Duration // between SIGTERM and SIGKILL
	Healthy    time.Duration // ready for so long resets the backoff and the count of Crashes
	BackoffMin time.Duration // before the first restart
	BackoffMax time.Duration
	Tries      int           // starts that may fail before any was ready
	Outage     time.Duration // without being ready, from the beginning or the last end on
	Crashes    int           // ends in a row that no healthy life interrupts; 0 = any number
}

// DefaultTiming fits VPP and the engine: the first restart comes at once, and VPP may
// hold its main thread for seconds while it builds large ACLs. A child that dies of what
// it is sent is given up after some 20 s, so that its NICs go back to the kernel.
func DefaultTiming() Timing {
	return Timing{
		Start: 60 * time.Second, Patience: 3 * time.Second,
		Ping: time.Second, Hang: 10 * time.Second, Stop: 5 * time.Second,
		Healthy: 30 * time.Second, BackoffMin: 20 * time.Millisecond, BackoffMax: 15 * time.Second,
		Tries: 3, Outage: 90 * time.Second, Crashes: 10,
	}
}

// Phase is where the child's life stands.
type Phase string

// The phases.
const (
	Starting Phase = "starting"
	Wiring   Phase = "wiring" // it answers and is set up
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
	Crash    *Crash    // the last one; nil: none
}

// Supervisor runs one Spec.
type Supervisor struct {
	spec Spec
	opt  Options

	start  func() (process, error) // the real one, but in tests
	jitter func() float64          // in [0,1)

	keeping sync.WaitGroup // core files that are being copied

	mu     sync.Mutex
	status Status
}

// New returns a supervisor that has done nothing yet.
func New(spec Spec, opt Options) *Supervisor {
	if opt.Keep == (Keep{}) {
		opt.Keep = DefaultKeep()
	}
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

// Run keeps the child running in a room until ctx ends, then stops it. It returns nil after
// such a stop, an error when the room cannot be furnished, and a *CrashError when it gave up.
func (s *Supervisor) Run(ctx context.Context, room *Room) error {
	if err := room.furnish(s.spec); err != nil {
		return fmt.Errorf("prepare %s: %w", s.spec.RuntimeDir, err)
	}
	defer s.keeping.Wait()
	return s.keep(ctx)
}

func (s *Supervisor) enter(phase Phase, pid int) {
	s.mu.Lock()
	s.status.Phase, s.status.PID, s.status.Since = phase, pid, time.Now()
	now := s.status
	s.mu.Unlock()
	s.alive()
	if s.opt.Notify != nil {
		s.opt.Notify(now)
	}
}

func (s *Supervisor) alive() {
	if s.opt.Alive != nil {
		s.opt.Alive()
	}
}
