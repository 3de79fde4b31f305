package supervise

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// giveUp plays actors for a day and returns the error of the end, and when it came.
func giveUp(t *testing.T, st *stage) (*CrashError, time.Duration) {
	t.Helper()
	begun := time.Now()
	err := st.play(t, 24*time.Hour)
	crash, _ := errors.AsType[*CrashError](err)
	for _, r := range st.played {
		if err != nil && !ended(r) {
			t.Errorf("process %d was left running", r.pid)
		}
	}
	return crash, time.Since(begun)
}

// TestCrashLoopGivesUp: a child that becomes ready and dies young again and again is given
// up, so that what it holds of the host can go back; one healthy life starts the count anew.
func TestCrashLoopGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		young, old := actor{dies: time.Second}, actor{dies: time.Minute}
		st := newStage(0.5, young, young, young, young, young, young, young, old, young)
		crash, _ := giveUp(t, st)
		if crash == nil || crash.Why != "10 in a row ended before they were ready for 30s" {
			t.Fatalf("error %v", crash)
		}
		// The end of the healthy life counts, too: it is the first of the next ten.
		if got := len(st.played); got != 17 {
			t.Errorf("%d starts", got)
		}
	})
}

// TestOutageGivesUp: once it was ready, a child that does not come back gets time, not a
// number of starts: its program may just be in the middle of an upgrade.
func TestOutageGivesUp(t *testing.T) {
	for name, tt := range map[string]struct {
		broken  time.Duration // for so long no start works
		givesUp bool
	}{"upgrade": {time.Minute, false}, "broken": {time.Hour, true}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				st := newStage(0.5, actor{dies: time.Hour}, actor{})
				begun, play := time.Now(), st.start
				st.start = func() (process, error) {
					if at := time.Since(begun) - time.Hour; at >= 0 && at < tt.broken {
						return nil, errors.New("text file busy")
					}
					return play()
				}
				crash, after := giveUp(t, st)
				if (crash != nil) != tt.givesUp {
					t.Fatalf("error %v", crash)
				}
				if crash == nil {
					return
				}
				if out := after - time.Hour; out < st.opt.Timing.Outage || out > st.opt.Timing.Outage+st.opt.Timing.BackoffMax*2 {
					t.Errorf("gave up %v after the end", out)
				}
				for _, want := range []string{"did not become ready in 1m", "could not be run: text file busy"} {
					if !strings.Contains(crash.Error(), want) {
						t.Errorf("%v does not say %q", crash, want)
					}
				}
			})
		})
	}
}

func TestWireBeforeReady(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := newStage(0.5, actor{dies: time.Hour}, actor{})
		var phases []Phase
		st.opt.Wire = func(ctx context.Context, c Conn) error {
			phases = append(phases, st.Status().Phase)
			time.Sleep(20 * time.Second)
			return c.Ping(ctx)
		}
		beats := 0
		st.opt.Alive = func() { beats++ }
		if err := st.play(t, 2*time.Hour); err != nil {
			t.Fatal(err)
		}
		if len(phases) != 2 || phases[0] != Wiring || phases[1] != Wiring {
			t.Errorf("wired in phases %v", phases)
		}
		if beats < 7200 {
			t.Errorf("%d signs of life in 7200 s", beats)
		}
		var order []string
		for _, s := range st.statuses {
			order = append(order, string(s.Phase))
		}
		if got := strings.Join(order[:4], " "); got != "starting starting wiring ready" {
			t.Errorf("phases: %s", got)
		}
	})
}

func TestWireFails(t *testing.T) {
	refused := errors.New("no such device")
	for name, tt := range map[string]struct {
		wire   func(context.Context, Conn) error
		starts int
		want   string
	}{
		"refused":  {func(context.Context, Conn) error { return refused }, 3, "none became ready; the last one answered, but could not be set up: no such device"},
		"hopeless": {func(context.Context, Conn) error { return errors.Join(refused, ErrHopeless) }, 1, "another one would not help"},
		"hangs":    {func(ctx context.Context, _ Conn) error { <-ctx.Done(); return ctx.Err() }, 2, "context deadline exceeded"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				st := newStage(0.5, actor{})
				st.opt.Wire = tt.wire
				crash, _ := giveUp(t, st)
				if crash == nil || crash.Starts != tt.starts || !strings.Contains(crash.Error(), tt.want) {
					t.Fatalf("error %v after %d starts", crash, len(st.played))
				}
				if name != "hangs" && !errors.Is(crash, refused) {
					t.Errorf("%v does not wrap why", crash)
				}
				if got := st.played[0].stopped; len(got) != 1 || got[0] != st.opt.Timing.Stop {
					t.Errorf("a child that answers was stopped with grace %v", got)
				}
			})
		})
	}
}

// TestDiesWhileWired: the end of the child is what is told, not the call that broke by it.
func TestDiesWhileWired(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := newStage(0.5, actor{dies: time.Second}, actor{})
		st.opt.Wire = func(ctx context.Context, c Conn) error {
			if len(st.played) > 1 {
				return nil
			}
			<-ctx.Done()
			return errors.New("connection reset")
		}
		if err := st.play(t, time.Hour); err != nil {
			t.Fatal(err)
		}
		if got := st.Status(); got.Last != "exited with code 1" || got.Restarts != 1 || got.Crash == nil || got.Crash.PID != 100 {
			t.Errorf("status %+v", got)
		}
	})
}

func TestStopWhileWired(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := newStage(0.5, actor{})
		st.opt.Wire = func(ctx context.Context, _ Conn) error { <-ctx.Done(); return ctx.Err() }
		if err := st.play(t, time.Second); err != nil {
			t.Fatal(err)
		}
		if got := st.Status(); got.Phase != Stopped || !ended(st.played[0]) {
			t.Errorf("status %+v", got)
		}
	})
}
