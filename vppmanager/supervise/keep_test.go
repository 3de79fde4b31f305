package supervise

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// actor is a process that follows a script: it answers from answers on, stops answering
// at silent, ends at dies (0: never), counted from its start.
type actor struct {
	answers, silent, dies time.Duration
	deaf                  bool // ignores SIGTERM
}

// running is an actor on stage.
type running struct {
	actor
	pid     int
	born    time.Time
	done    chan struct{}
	once    sync.Once
	exit    Exit
	stopped []time.Duration // graces of Stop calls
}

func (r *running) PID() int              { return r.pid }
func (r *running) Done() <-chan struct{} { return r.done }
func (r *running) Exit() Exit            { return r.exit }

func (r *running) end(e Exit) {
	r.once.Do(func() {
		r.exit = e
		close(r.done)
	})
}

func (r *running) Stop(grace time.Duration) {
	r.stopped = append(r.stopped, grace)
	if grace > 0 && !r.deaf {
		r.end(Exit{Signal: syscall.SIGTERM})
		return
	}
	time.Sleep(grace)
	r.end(Exit{Signal: syscall.SIGKILL})
}

// Ping answers at once, or never.
func (r *running) Ping(ctx context.Context) error {
	age := time.Since(r.born)
	if ended(r) {
		return errors.New("connection reset")
	}
	if age >= r.answers && (r.silent == 0 || age < r.silent) {
		return nil
	}
	<-ctx.Done()
	return ctx.Err()
}

func (r *running) Close() {}

// stage runs a supervisor on a fake clock with one actor per start; the last one stays.
type stage struct {
	*Supervisor
	played   []*running
	statuses []Status
	log      strings.Builder
}

func newStage(jitter float64, actors ...actor) *stage {
	st := &stage{}
	st.Supervisor = New(Spec{Name: "engine", APISocket: "/run/x.sock"}, Options{
		Log: slog.New(slog.NewTextHandler(&st.log, nil)), Output: io.Discard, Timing: DefaultTiming(),
		Notify: func(s Status) { st.statuses = append(st.statuses, s) },
		Dial: func(ctx context.Context, _ string) (Conn, error) {
			r := st.played[len(st.played)-1]
			if time.Since(r.born) < r.answers {
				return nil, errors.New("connection refused")
			}
			return r, nil
		},
	})
	st.jitter = func() float64 { return jitter }
	st.start = func() (process, error) {
		n := len(st.played)
		r := &running{actor: actors[min(n, len(actors)-1)], pid: 100 + n, born: time.Now(), done: make(chan struct{})}
		if r.dies > 0 {
			time.AfterFunc(r.dies, func() { r.end(Exit{Code: 1, Output: []string{"last words"}}) })
		}
		st.played = append(st.played, r)
		return r, nil
	}
	return st
}

// play runs the supervisor for a while and then stops it.
func (st *stage) play(t *testing.T, d time.Duration) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	defer cancel()
	return st.keep(ctx)
}

func (st *stage) births() []time.Duration {
	var out []time.Duration
	for _, r := range st.played {
		out = append(out, r.born.Sub(st.played[0].born))
	}
	return out
}

func TestKeepStopsInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := newStage(0.5, actor{answers: 300 * time.Millisecond})
		if err := st.play(t, time.Hour); err != nil {
			t.Fatal(err)
		}
		var phases []string
		for _, s := range st.statuses {
			phases = append(phases, string(s.Phase))
		}
		if got := strings.Join(phases, " "); got != "starting starting ready stopping stopped" {
			t.Errorf("phases: %s", got)
		}
		if got := st.played[0].stopped; len(got) != 1 || got[0] != st.opt.Timing.Stop {
			t.Errorf("stopped with grace %v", got)
		}
		if len(st.played) != 1 || st.Status().Restarts != 0 {
			t.Errorf("%d starts, status %+v", len(st.played), st.Status())
		}
	})
}

// TestBackoffGrowsAndResets lets a child die young again and again, then live long, then
// die once more: the pauses double up to the limit, and the last one is short again.
func TestBackoffGrowsAndResets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		young := actor{dies: time.Second}
		actors := make([]actor, 0, 16)
		for range 14 {
			actors = append(actors, young)
		}
		actors = append(actors, actor{dies: time.Minute}, actor{})
		st := newStage(0.5, actors...)
		st.opt.Timing.Crashes = 0
		if err := st.play(t, 24*time.Hour); err != nil {
			t.Fatal(err)
		}
		births := st.births()
		if len(births) != 16 {
			t.Fatalf("%d starts, want 16: %v", len(births), births)
		}
		want := st.opt.Timing.BackoffMin
		for i := 1; i <= 14; i++ {
			pause := births[i] - births[i-1] - time.Second
			if pause != want {
				t.Errorf("pause %d is %v, want %v", i, pause, want)
			}
			want = min(2*want, st.opt.Timing.BackoffMax)
		}
		if pause := births[15] - births[14] - time.Minute; pause != st.opt.Timing.BackoffMin {
			t.Errorf("pause after a healthy minute is %v", pause)
		}
		if got := st.Status(); got.Restarts != 15 || got.Last != "exited with code 1" {
			t.Errorf("status %+v", got)
		}
	})
}

func TestBackoffJitter(t *testing.T) {
	timing := DefaultTiming()
	for failures := 1; failures < 100; failures++ {
		low, mid, high := backoff(timing, failures, 0), backoff(timing, failures, 0.5), backoff(timing, failures, 0.999)
		if !(0 < low && low < mid && mid < high && mid <= timing.BackoffMax && high < mid*5/4) {
			t.Errorf("failure %d: %v %v %v", failures, low, mid, high)
		}
	}
}

func TestHangIsKilledAndRestarted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := newStage(0.5, actor{silent: time.Minute}, actor{})
		if err := st.play(t, time.Hour); err != nil {
			t.Fatal(err)
		}
		if len(st.played) != 2 || len(st.played[0].stopped) != 1 || st.played[0].stopped[0] != 0 {
			t.Fatalf("%d starts, first stopped %v", len(st.played), st.played[0].stopped)
		}
		pause := st.births()[1] - time.Minute
		if pause < st.opt.Timing.Hang || pause > st.opt.Timing.Hang+2*st.opt.Timing.Ping {
			t.Errorf("restarted %v after the last answer", pause)
		}
		if got := st.Status().Last; !strings.Contains(got, "did not answer for") || !strings.Contains(got, "was killed") {
			t.Errorf("last end: %s", got)
		}
	})
}

// TestShortSilenceIsForgiven: a child busy for less than the hang time is left alone.
func TestShortSilenceIsForgiven(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := newStage(0.5, actor{})
		var busy atomic.Bool
		dial := st.opt.Dial
		st.opt.Dial = func(ctx context.Context, socket string) (Conn, error) {
			conn, err := dial(ctx, socket)
			return pauser{conn, &busy}, err
		}
		go func() {
			for _, d := range []time.Duration{5 * time.Second, 8 * time.Second} {
				time.Sleep(time.Minute)
				busy.Store(true)
				time.Sleep(d)
				busy.Store(false)
			}
		}()
		if err := st.play(t, time.Hour); err != nil {
			t.Fatal(err)
		}
		if len(st.played) != 1 {
			t.Errorf("%d starts: %v\n%s", len(st.played), st.births(), st.log.String())
		}
	})
}

type pauser struct {
	Conn
	busy *atomic.Bool
}

func (p pauser) Ping(ctx context.Context) error {
	if p.busy.Load() {
		return errors.New("no answer")
	}
	return p.Conn.Ping(ctx)
}

func TestSlowStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := newStage(0.5, actor{answers: 40 * time.Second})
		if err := st.play(t, time.Hour); err != nil {
			t.Fatal(err)
		}
		if len(st.played) != 1 {
			t.Errorf("%d starts", len(st.played))
		}
		if n := strings.Count(st.log.String(), "still waiting"); n != 1 {
			t.Errorf("progress was logged %d times:\n%s", n, st.log.String())
		}
	})
}

func TestNeverReadyGivesUp(t *testing.T) {
	for name, tt := range map[string]struct {
		actor  actor
		starts int
		want   []string
	}{
		"exits at once": {actor{answers: time.Hour, dies: time.Millisecond}, 3, []string{"run engine: 3 starts, none became ready", "exited with code 1", "| last words"}},
		"hangs":         {actor{answers: time.Hour}, 2, []string{"2 starts, none became ready", "did not answer on /run/x.sock within 30s", "was killed"}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				st := newStage(0.5, tt.actor)
				err := st.play(t, time.Hour)
				crash, ok := errors.AsType[*CrashError](err)
				if !ok || crash.Starts != tt.starts {
					t.Fatalf("error %v", err)
				}
				for _, w := range tt.want {
					if !strings.Contains(err.Error(), w) {
						t.Errorf("error does not say %q:\n%v", w, err)
					}
				}
				for _, r := range st.played {
					if !ended(r) {
						t.Errorf("process %d was left running", r.pid)
					}
				}
			})
		})
	}
}

// TestStopWhileStarting and while waiting: the stop is quick and nothing is left.
func TestStopEarly(t *testing.T) {
	for name, tt := range map[string]struct {
		actor actor
		stop  time.Duration
	}{
		"starting, deaf": {actor{answers: time.Hour, deaf: true}, 10 * time.Second},
		"waiting":        {actor{dies: time.Second}, 20 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				begun := time.Now()
				st := newStage(0.5, tt.actor)
				if err := st.play(t, tt.stop); err != nil {
					t.Fatal(err)
				}
				if took := time.Since(begun) - tt.stop; took > time.Second {
					t.Errorf("the stop took %v", took)
				}
				for _, r := range st.played {
					if !ended(r) {
						t.Errorf("process %d was left running", r.pid)
					}
				}
				if got := st.Status(); got.Phase != Stopped || got.PID != 0 {
					t.Errorf("status %+v", got)
				}
			})
		})
	}
}

func TestStartErrorCountsAsFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := newStage(0.5, actor{})
		st.start = func() (process, error) { return nil, errors.New("permission denied") }
		if err := st.play(t, time.Hour); err == nil || !strings.Contains(err.Error(), "could not be run: permission denied") {
			t.Errorf("error %v", err)
		}
	})
}
