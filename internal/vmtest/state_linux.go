package vmtest

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/millrace/millrace/internal/hoststate"
)

// State is what the guest's host is like (command hoststate).
type State = hoststate.State

// HostState reads the state of the guest's host namespace.
func (g *Guest) HostState(t testing.TB) State {
	t.Helper()
	p := g.Start(t, Tools+"/hoststate")
	p.told = true // nobody wants to read all of it in the log
	r := p.Wait()
	var s State
	if err := json.Unmarshal([]byte(r.Output), &s); err != nil || !r.OK() {
		t.Fatalf("guest: read the host's state: %v: %v", err, r)
	}
	return s
}

// Settled is the host's state once two looks at it agree: carriers and link-local addresses
// take their time.
func (g *Guest) Settled(t testing.TB) State {
	t.Helper()
	before := g.HostState(t)
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(time.Second) {
		now := g.HostState(t)
		if hoststate.Difference(before, now) == "" && !strings.Contains(strings.Join(now["links"], ""), "tentative") {
			return now
		}
		before = now
	}
	t.Fatalf("guest: the host does not settle:\n%s", hoststate.Difference(before, g.HostState(t)))
	return nil
}

// Reaches waits until an address has answered twice. A ping by itself ends with the first
// error that the network tells, such as that of a link whose carrier is not there yet. in is
// what goes before the command.
func (g *Guest) Reaches(t testing.TB, addr string, in ...string) {
	t.Helper()
	ping := append(slices.Clone(in), "ping", "-q", "-i", "0.2", "-c", "2", "-w", "30", addr)
	var r Result
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(time.Second) {
		if r = g.Try(t, ping...); r.OK() {
			return
		}
	}
	t.Fatalf("guest: %s does not answer: %v", addr, r)
}

// Returns waits until the host's state is want again. If it does not become that, the
// test has an error that says what differs.
func (g *Guest) Returns(t testing.TB, want State) {
	t.Helper()
	diff := ""
	for end := time.Now().Add(2 * time.Minute); time.Now().Before(end); time.Sleep(time.Second) {
		if diff = hoststate.Difference(want, g.HostState(t)); diff == "" {
			return
		}
	}
	t.Errorf("the host is not as it was (- was, + is):\n%s", diff)
}
