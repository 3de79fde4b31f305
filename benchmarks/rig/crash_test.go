package rig

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"syscall"
	"testing"
	"time"
)

// steadyPing sends an echo request every 10 ms while fn runs and for a while after, and
// returns which of those before the last answered one got no answer. What was under way
// when it stopped is not judged.
func steadyPing(t *testing.T, l *Launcher, from, to *Pod, fn func()) (answered int, lost []int) {
	t.Helper()
	addr, err := to.Addr(false)
	if err != nil {
		t.Fatal(err)
	}
	out := &tail{limit: 1 << 20}
	cmd := Command("ping", "-n", "-i", "0.01", "-W", "1", addr.String())
	cmd.Stdout = out
	if err := l.Start(from.Namespace, cmd); err != nil {
		t.Fatal(err)
	}
	fn()
	enough := len(answers(out)) + 50
	deadline := time.Now().Add(2 * time.Minute)
	for len(answers(out)) < enough && time.Now().Before(deadline) {
		if err := pingOnce(t.Context(), l, from, to); err != nil {
			t.Error(err)
		}
	}
	if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Logf("ping ended: %v", err)
	}
	seen := answers(out)
	if len(seen) < enough {
		t.Fatalf("%d pings answered, want %d; ping said:\n%s", len(seen), enough, out.bytes())
	}
	for seq := 1; seq < slices.Max(seen); seq++ {
		if !slices.Contains(seen, seq) {
			lost = append(lost, seq)
		}
	}
	return len(seen), lost
}

// answers lists the sequence numbers that ping has printed an answer for.
func answers(out *tail) []int {
	var seen []int
	for _, m := range regexp.MustCompile(`icmp_seq=(\d+) ttl`).FindAllSubmatch(out.bytes(), -1) {
		if seq, err := strconv.Atoi(string(m[1])); err == nil {
			seen = append(seen, seq)
		}
	}
	return seen
}

// TestIntegrationAgentKilled: the dataplane forwards without an agent, and the agent
// that follows takes over what its predecessor made.
func TestIntegrationAgentKilled(t *testing.T) {
	eachMachine(t, func(t *testing.T, l *Launcher, bed *Bed, m *Millrace) {
		a, b := add(t, bed, "a"), add(t, bed, "b")
		pingUntil(t, l, a, b)
		answered, lost := steadyPing(t, l, a, b, func() {
			m.Agent().Kill()
			if err := m.StartAgent(t.Context()); err != nil {
				t.Fatal(err)
			}
			c := add(t, bed, "c")
			if err := pingOnce(t.Context(), l, a, c); err != nil {
				t.Errorf("a pod added after the agent was killed does not answer: %v", err)
			}
		})
		if len(lost) > 0 {
			t.Errorf("pings %v lost while the agent was killed and restarted, %d answered", lost, answered)
		}
		t.Logf("%d pings answered, %d lost, while the agent was killed and restarted", answered, len(lost))
	})
}

// TestIntegrationDataplaneKilled: the manager restarts the machine, the agent replays
// the state, and pods talk again.
func TestIntegrationDataplaneKilled(t *testing.T) {
	eachMachine(t, func(t *testing.T, l *Launcher, bed *Bed, m *Millrace) {
		a, b := add(t, bed, "a"), add(t, bed, "b")
		pingUntil(t, l, a, b)
		before, err := m.DataplanePID()
		if err != nil {
			t.Fatal(err)
		}
		if err := syscall.Kill(before, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		// The next ping may still find the old answer in nobody's hands: wait until the
		// manager has another child, then until a ping comes through.
		start := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
		defer cancel()
		if err := m.Manager().Await(ctx, func(context.Context) error {
			now, err := m.DataplanePID()
			if err == nil && now == before {
				err = fmt.Errorf("process %d is still the dataplane", before)
			}
			return err
		}); err != nil {
			t.Fatal(err)
		}
		pingUntil(t, l, a, b)
		t.Logf("pods talk again %s after kill -9 of the dataplane", time.Since(start).Round(time.Millisecond))
		c := add(t, bed, "c")
		if err := pingOnce(t.Context(), l, c, b); err != nil {
			t.Errorf("a pod added after the restart does not answer: %v", err)
		}
	})
}

// TestIntegrationKilledDuringAdd kills the agent, then the dataplane, ever later in an
// ADD, and asks that the retried ADD works and that DEL leaves nothing.
func TestIntegrationKilledDuringAdd(t *testing.T) {
	eachMachine(t, func(t *testing.T, l *Launcher, bed *Bed, m *Millrace) {
		before := leftovers(t, m)
		peer := add(t, bed, "peer")
		for i := range 12 {
			delay := time.Duration(i) * 3 * time.Millisecond
			pod, err := bed.NewPod(fmt.Sprintf("victim-%d", i))
			if err != nil {
				t.Fatal(err)
			}
			crashAdd(t, bed, m, pod, delay, i%2 == 0)
			retryAdd(t, l, bed, peer, pod, i%3 != 2)
			if err := bed.Subject.Wiring().Del(t.Context(), pod); err != nil {
				t.Errorf("DEL after a crash %s into ADD: %v", delay, err)
			}
			if err := pod.Namespace.Close(); err != nil {
				t.Error(err)
			}
		}
		if _, err := bed.Delete(t.Context(), peer); err != nil {
			t.Fatal(err)
		}
		if after := leftovers(t, m); len(after) != len(before) {
			t.Errorf("left over after crashes: %q, before there was %q", after, before)
		}
	})
}

// crashAdd starts an ADD and kills the agent or the dataplane delay later. Whether that
// ADD succeeds does not matter; the node must be ready again when crashAdd returns.
func crashAdd(t *testing.T, bed *Bed, m *Millrace, pod *Pod, delay time.Duration, agent bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- bed.Subject.Wiring().Add(ctx, pod) }()
	select {
	case err := <-ended:
		ended <- err // this ADD was faster than the crash: crash all the same
	case <-time.After(delay):
	}
	if agent {
		m.Agent().Kill()
		if err := m.StartAgent(ctx); err != nil {
			t.Fatal(err)
		}
	} else if pid, err := m.DataplanePID(); err != nil {
		t.Fatal(err)
	} else if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err != nil {
		t.Logf("ADD with a crash %s in: %v", delay, err)
	}
	if err := m.Agent().Await(ctx, bed.Subject.Wiring().Status); err != nil {
		t.Fatal(err)
	}
}

// retryAdd does what a runtime does after a failed ADD: sometimes ADD again at once,
// sometimes DEL first.
func retryAdd(t *testing.T, l *Launcher, bed *Bed, peer, pod *Pod, again bool) {
	t.Helper()
	if !again {
		return
	}
	if err := bed.Subject.Wiring().Add(t.Context(), pod); err != nil {
		t.Errorf("retried ADD: %v", err)
		return
	}
	pingUntil(t, l, pod, peer)
}
