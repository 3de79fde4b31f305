package vmtest

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"
)

// State is what the guest's host is like, as lines by aspect: links, routes, drivers,
// features, sysctls and more (command hoststate).
type State map[string][]string

func (s State) String() string {
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(s)) {
		fmt.Fprintf(&b, "== %s\n%s\n", name, strings.Join(s[name], "\n"))
	}
	return b.String()
}

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

// Difference says what is other in have than in want, line by line; "" = nothing.
func Difference(want, have State) string {
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(want)) {
		var lines []string
		for _, l := range want[name] {
			if !slices.Contains(have[name], l) {
				lines = append(lines, "  - "+l+"\n")
			}
		}
		for _, l := range have[name] {
			if !slices.Contains(want[name], l) {
				lines = append(lines, "  + "+l+"\n")
			}
		}
		if len(lines) == 0 && len(want[name]) != len(have[name]) {
			lines = append(lines, fmt.Sprintf("  %d lines instead of %d, some are there twice\n", len(have[name]), len(want[name])))
		}
		if len(lines) > 0 {
			b.WriteString(name + ":\n" + strings.Join(lines, ""))
		}
	}
	return b.String()
}

// Settled is the host's state once two looks at it agree: carriers and link-local addresses
// take their time.
func (g *Guest) Settled(t testing.TB) State {
	t.Helper()
	before := g.HostState(t)
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(time.Second) {
		now := g.HostState(t)
		if Difference(before, now) == "" && !strings.Contains(strings.Join(now["links"], ""), "tentative") {
			return now
		}
		before = now
	}
	t.Fatalf("guest: the host does not settle:\n%s", Difference(before, g.HostState(t)))
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
		if diff = Difference(want, g.HostState(t)); diff == "" {
			return
		}
	}
	t.Errorf("the host is not as it was (- was, + is):\n%s", diff)
}
