package supervise

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"
)

// process is one running child, as the loop sees it.
type process interface {
	PID() int
	Done() <-chan struct{}    // closed when it has ended and is reaped
	Exit() Exit               // after Done
	Stop(grace time.Duration) // SIGTERM, grace, SIGKILL; returns after Done
}

// end is how one child's life went.
type end struct {
	reason   string // "was killed by signal 9 (killed)", "did not answer for 10s and was killed"
	output   []string
	readyFor time.Duration // 0: never ready
	ready    bool
}

// keep starts children one after the other until ctx ends.
func (s *Supervisor) keep(ctx context.Context) error {
	everReady, failures, starts := false, 0, 0
	for {
		starts++
		e := s.life(ctx)
		if ctx.Err() != nil {
			s.enter(Stopped, 0)
			return nil
		}
		s.mu.Lock()
		s.status.Last = e.reason
		s.mu.Unlock()
		everReady = everReady || e.ready
		if e.ready && e.readyFor >= s.opt.Timing.Healthy {
			failures = 0
		}
		failures++
		if !everReady && starts >= s.opt.Timing.Tries {
			s.enter(Stopped, 0)
			return &CrashError{Name: s.spec.Name, Starts: starts, Reason: e.reason, Output: e.output}
		}
		delay := backoff(s.opt.Timing, failures, s.jitter())
		s.opt.Log.Error("dataplane ended", "dataplane", s.spec.Name, "how", e.reason,
			"readyFor", e.readyFor.Round(time.Millisecond), "restartIn", delay.Round(time.Millisecond), "lastLine", lastLine(e.output))
		s.enter(Waiting, 0)
		select {
		case <-ctx.Done():
			s.enter(Stopped, 0)
			return nil
		case <-time.After(delay):
		}
		s.mu.Lock()
		s.status.Restarts++
		s.mu.Unlock()
	}
}

// lastLine is for the log; the whole output has been passed on as it came.
func lastLine(output []string) string {
	if len(output) == 0 {
		return ""
	}
	return output[len(output)-1]
}

// backoff doubles the pause with each failure in a row, and moves it by up to a quarter
// either way, so that many nodes hit by one cause do not restart in step.
func backoff(t Timing, failures int, jitter float64) time.Duration {
	d := t.BackoffMax
	if shift := failures - 1; shift < 20 && t.BackoffMin<<shift < d {
		d = t.BackoffMin << shift
	}
	return time.Duration(float64(d) * (0.75 + jitter/2))
}

func randomJitter() float64 { return rand.Float64() }

// life is one child from start to end.
func (s *Supervisor) life(ctx context.Context) end {
	s.enter(Starting, 0)
	begun := time.Now()
	p, err := s.start()
	if err != nil {
		return end{reason: "could not be run: " + err.Error()}
	}
	s.enter(Starting, p.PID())
	conn, err := s.awaitAPI(ctx, p)
	if err != nil {
		// VPP ignores SIGTERM until its main loop runs: do not wait long for it.
		return s.finish(ctx, p, err, min(s.opt.Timing.Stop, time.Second))
	}
	s.opt.Log.Info("dataplane ready", "dataplane", s.spec.Name, "pid", p.PID(), "after", time.Since(begun).Round(time.Millisecond))
	s.enter(Ready, p.PID())
	readyAt := time.Now()
	err = s.watch(ctx, p, conn)
	e := s.finish(ctx, p, err, s.opt.Timing.Stop)
	e.ready, e.readyFor = true, time.Since(readyAt)
	return e
}

// errEnded is the reason to stop watching a child that has ended by itself.
var errEnded = errors.New("ended")

// awaitAPI connects and pings until the child answers.
func (s *Supervisor) awaitAPI(ctx context.Context, p process) (Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, s.opt.Timing.Start)
	defer cancel()
	slow := time.NewTimer(s.opt.Timing.Patience)
	defer slow.Stop()
	const shortest, longest = 2 * time.Millisecond, 50 * time.Millisecond
	for pause := shortest; ; pause = min(2*pause, longest) {
		conn, err := s.connect(ctx, p)
		if err == nil {
			return conn, nil
		}
		if ended(p) {
			return nil, errEnded
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("did not answer on %s within %v (%v)", s.spec.APISocket, s.opt.Timing.Start, err)
		case <-p.Done():
			return nil, errEnded
		case <-slow.C:
			s.opt.Log.Info("still waiting for the API", "dataplane", s.spec.Name, "socket", s.spec.APISocket, "error", err)
		case <-time.After(pause):
		}
	}
}

// connect makes one attempt of bounded length, cut short when the child ends.
func (s *Supervisor) connect(ctx context.Context, p process) (Conn, error) {
	ctx, cancel := s.attempt(ctx, p)
	defer cancel()
	conn, err := s.opt.Dial(ctx, s.spec.APISocket)
	if err != nil {
		return nil, err
	}
	if err := conn.Ping(ctx); err != nil {
		conn.Close()
		return nil, err
	}
	return conn, nil
}

// attempt bounds one call to the child by the hang time and by the child's life.
func (s *Supervisor) attempt(ctx context.Context, p process) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithTimeout(ctx, s.opt.Timing.Hang)
	done := make(chan struct{})
	go func() {
		defer close(done)
		select {
		case <-p.Done():
			cancel()
		case <-ctx.Done():
		}
	}()
	return ctx, func() { cancel(); <-done }
}

// watch pings until the child ends, hangs, or ctx ends. A connection that breaks is made
// anew; only silence for the whole hang time counts.
func (s *Supervisor) watch(ctx context.Context, p process, conn Conn) error {
	defer func() {
		if conn != nil {
			conn.Close()
		}
	}()
	answered := time.Now()
	var lastErr error
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-p.Done():
			return errEnded
		case <-time.After(s.opt.Timing.Ping):
		}
		if conn, lastErr = s.ping(ctx, p, conn); lastErr == nil {
			answered = time.Now()
			continue
		}
		if silent := time.Since(answered); silent >= s.opt.Timing.Hang && ctx.Err() == nil && !ended(p) {
			return fmt.Errorf("did not answer for %v (%v)", silent.Round(time.Millisecond), lastErr)
		}
	}
}

// ping uses conn, or a new connection when conn is nil, and returns the one to use next.
func (s *Supervisor) ping(ctx context.Context, p process, conn Conn) (Conn, error) {
	if conn == nil {
		return s.connect(ctx, p)
	}
	ctx, cancel := s.attempt(ctx, p)
	defer cancel()
	if err := conn.Ping(ctx); err != nil {
		conn.Close()
		return nil, err
	}
	return conn, nil
}

// finish ends a child that still runs and tells how it went. grace is for a child that is
// stopped because ctx ended; one that hangs gets none, asking it again is no use.
func (s *Supervisor) finish(ctx context.Context, p process, why error, grace time.Duration) end {
	hung := ctx.Err() == nil && !ended(p)
	if !ended(p) {
		s.enter(Stopping, p.PID())
		if hung {
			grace = 0
		}
		p.Stop(grace)
	}
	<-p.Done()
	exit := p.Exit()
	if ctx.Err() != nil {
		s.opt.Log.Info("dataplane stopped", "dataplane", s.spec.Name, "how", exit.String())
	}
	if hung {
		return end{reason: why.Error() + " and was killed", output: exit.Output}
	}
	return end{reason: exit.String(), output: exit.Output}
}

func ended(p process) bool {
	select {
	case <-p.Done():
		return true
	default:
		return false
	}
}
