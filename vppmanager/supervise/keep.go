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
	pid      int    // 0: could not be run
	reason   string // "was killed by signal 9 (killed)", "did not answer for 10s and was killed"
	err      error  // of Wire, when that was the reason
	output   []string
	core     bool // the kernel wrote one
	began    time.Time
	readyFor time.Duration
	ready    bool // ever
}

// keep starts children one after the other until ctx ends or it gives up.
func (s *Supervisor) keep(ctx context.Context) error {
	h := history{since: time.Now()}
	for {
		left := max(s.opt.Timing.Outage-time.Since(h.since), time.Second)
		e := s.life(ctx, min(s.opt.Timing.Start, left))
		if ctx.Err() != nil {
			s.enter(Stopped, 0)
			return nil
		}
		crash := s.capture(e)
		s.mu.Lock()
		s.status.Last, s.status.Crash = e.reason, crash
		s.mu.Unlock()
		h.add(e, s.opt.Timing)
		if why := h.verdict(e, s.opt.Timing); why != "" {
			s.enter(Stopped, 0)
			return &CrashError{Name: s.spec.Name, Starts: h.starts, Why: why, Crash: *crash, Err: e.err}
		}
		delay := backoff(s.opt.Timing, h.failed, s.jitter())
		s.opt.Log.Error("dataplane ended", "dataplane", s.spec.Name, "how", e.reason, "report", crash.Report, "core", crash.Core,
			"readyFor", e.readyFor.Round(time.Millisecond), "restartIn", delay.Round(time.Millisecond), "lastLine", lastLine(e.output))
		s.enter(Waiting, 0)
		if !s.pause(ctx, delay) {
			s.enter(Stopped, 0)
			return nil
		}
		s.mu.Lock()
		s.status.Restarts++
		s.mu.Unlock()
	}
}

// history is what the lives so far say about the next one.
type history struct {
	starts int
	failed int       // ends in a row without a healthy life
	unused int       // of them, the latest starts that did not become ready
	young  int       // of them, those that were ready
	ready  bool      // ever
	since  time.Time // of the end of the last readiness, or of the beginning
}

func (h *history) add(e end, t Timing) {
	h.starts++
	if e.ready && e.readyFor >= t.Healthy {
		h.failed, h.young = 0, 0
	}
	h.failed++
	if !e.ready {
		h.unused++
		return
	}
	h.ready, h.unused, h.since = true, 0, time.Now()
	h.young++
}

// verdict says why there is to be no other start; "" = there is. Before any child was ready
// the reason is most likely a mistake, which does not pass; afterwards time is given.
func (h *history) verdict(e end, t Timing) string {
	out := time.Since(h.since)
	switch {
	case errors.Is(e.err, ErrHopeless):
		return "another one would not help"
	case !h.ready && (h.starts >= t.Tries || out >= t.Outage):
		return "none became ready"
	case h.unused > 0 && out >= t.Outage:
		return fmt.Sprintf("the last %d did not become ready in %v", h.unused, out.Round(time.Second))
	case t.Crashes > 0 && h.young >= t.Crashes:
		return fmt.Sprintf("%d in a row ended before they were ready for %v", h.young, t.Healthy)
	}
	return ""
}

// pause waits, and says from time to time that it does.
func (s *Supervisor) pause(ctx context.Context, d time.Duration) bool {
	over := time.NewTimer(d)
	defer over.Stop()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return false
		case <-over.C:
			return true
		case <-tick.C:
			s.alive()
		}
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

// life is one child from start to end; limit is how long it may take to answer.
func (s *Supervisor) life(ctx context.Context, limit time.Duration) end {
	s.enter(Starting, 0)
	begun := time.Now()
	p, err := s.start()
	if err != nil {
		return end{reason: "could not be run: " + err.Error(), began: begun}
	}
	s.enter(Starting, p.PID())
	conn, err := s.awaitAPI(ctx, p, limit)
	answered := err == nil
	if answered {
		err = s.wire(ctx, p, conn)
	}
	if err != nil {
		grace := s.opt.Timing.Stop
		if !answered { // VPP ignores SIGTERM until its main loop runs: do not wait long for it
			grace = min(grace, time.Second)
		}
		return s.finish(ctx, p, begun, err, grace)
	}
	s.opt.Log.Info("dataplane ready", "dataplane", s.spec.Name, "pid", p.PID(), "after", time.Since(begun).Round(time.Millisecond))
	s.enter(Ready, p.PID())
	readyAt := time.Now()
	err = s.watch(ctx, p, conn)
	readyFor := time.Since(readyAt)
	e := s.finish(ctx, p, begun, err, s.opt.Timing.Stop)
	e.ready, e.readyFor = true, readyFor
	return e
}

// errEnded is the reason to stop watching a child that has ended by itself.
var errEnded = errors.New("ended")

// wireError is why a child that answers cannot be used.
type wireError struct{ err error }

func (e *wireError) Error() string { return "answered, but could not be set up: " + e.err.Error() }
func (e *wireError) Unwrap() error { return e.err }

// wire sets up a child that answers. On an error conn is closed.
func (s *Supervisor) wire(ctx context.Context, p process, conn Conn) error {
	if s.opt.Wire == nil {
		return nil
	}
	s.enter(Wiring, p.PID())
	limited, cancel := s.attempt(ctx, p, s.opt.Timing.Start)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- s.opt.Wire(limited, conn) }()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			s.alive()
		case err := <-done:
			if err == nil {
				return nil
			}
			return s.unwired(ctx, p, conn, err)
		}
	}
}

// unwired tells a child that cannot be set up from one whose end is first seen as a
// connection that broke. It closes conn.
func (s *Supervisor) unwired(ctx context.Context, p process, conn Conn, why error) error {
	conn, err := s.ping(ctx, p, conn)
	if err == nil {
		conn.Close()
		return &wireError{why}
	}
	select {
	case <-p.Done():
		return errEnded
	case <-time.After(time.Second):
		return &wireError{why}
	}
}

// awaitAPI connects and pings until the child answers.
func (s *Supervisor) awaitAPI(ctx context.Context, p process, limit time.Duration) (Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	slow := time.NewTimer(s.opt.Timing.Patience)
	defer slow.Stop()
	// Never later than a sixteenth of what the start took anyway.
	const shortest, longest, share = 2 * time.Millisecond, 50 * time.Millisecond, 16
	for begun := time.Now(); ; {
		s.alive()
		conn, err := s.connect(ctx, p)
		if err == nil {
			return conn, nil
		}
		if ended(p) {
			return nil, errEnded
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("did not answer on %s within %v (%v)", s.spec.APISocket, limit.Round(time.Second), err)
		case <-p.Done():
			return nil, errEnded
		case <-slow.C:
			s.opt.Log.Info("still waiting for the API", "dataplane", s.spec.Name, "socket", s.spec.APISocket, "error", err)
		case <-time.After(min(max(shortest, time.Since(begun)/share), longest)):
		}
	}
}

// connect makes one attempt of bounded length, cut short when the child ends.
func (s *Supervisor) connect(ctx context.Context, p process) (Conn, error) {
	ctx, cancel := s.attempt(ctx, p, s.opt.Timing.Hang)
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

// attempt bounds what is asked of the child by a time and by the child's life.
func (s *Supervisor) attempt(ctx context.Context, p process, limit time.Duration) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithTimeout(ctx, limit)
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
		s.alive()
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
	ctx, cancel := s.attempt(ctx, p, s.opt.Timing.Hang)
	defer cancel()
	if err := conn.Ping(ctx); err != nil {
		conn.Close()
		return nil, err
	}
	return conn, nil
}

// finish ends a child that still runs and tells how it went. grace is for a child that is
// stopped although it answers; one that hangs gets none, asking it again is no use.
func (s *Supervisor) finish(ctx context.Context, p process, begun time.Time, why error, grace time.Duration) end {
	unasked := ctx.Err() == nil && !ended(p) // not by the end of ctx, and not by itself
	unusable, answered := errors.AsType[*wireError](why)
	if !ended(p) {
		s.enter(Stopping, p.PID())
		if unasked && !answered {
			grace = 0
		}
		p.Stop(grace)
	}
	<-p.Done()
	exit := p.Exit()
	if ctx.Err() != nil {
		s.opt.Log.Info("dataplane stopped", "dataplane", s.spec.Name, "how", exit.String())
	}
	e := end{pid: p.PID(), reason: exit.String(), output: exit.Output, core: exit.Core, began: begun}
	switch {
	case unasked && answered:
		e.reason, e.err = why.Error(), unusable.err
	case unasked:
		e.reason = why.Error() + " and was killed"
	}
	return e
}

func ended(p process) bool {
	select {
	case <-p.Done():
		return true
	default:
		return false
	}
}
