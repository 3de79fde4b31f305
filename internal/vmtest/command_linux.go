package vmtest

import (
	"bytes"
	"fmt"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/millrace/millrace/internal/vmtest/protocol"
)

// Process is a command in the guest.
type Process struct {
	PID int // in the guest

	t     testing.TB
	boot  *boot
	id    int
	label string

	mu      sync.Mutex
	changed chan struct{} // closed and replaced when something was heard
	output  bytes.Buffer
	errors  bytes.Buffer
	exit    *protocol.Exit
	failed  string
	pid     int
	told    bool // its end was logged
}

// Result is how a command ended.
type Result struct {
	Output string // standard output
	Errors string // standard error
	Code   int    // exit status; -1 when a signal ended it
	Signal syscall.Signal
}

// OK says whether it ended as a command does that has done its work.
func (r Result) OK() bool { return r.Code == 0 && r.Signal == 0 }

func (r Result) String() string {
	end := fmt.Sprintf("exit status %d", r.Code)
	if r.Signal != 0 {
		end = "ended by " + r.Signal.String()
	}
	return fmt.Sprintf("%s\n%s%s", end, r.Output, r.Errors)
}

// Start starts a command of the guest and returns when it runs.
func (g *Guest) Start(t testing.TB, argv ...string) *Process {
	t.Helper()
	return g.start(t, protocol.Command{Argv: argv})
}

// Run runs a command to its end, which has to be good, and returns its standard output.
func (g *Guest) Run(t testing.TB, argv ...string) string {
	t.Helper()
	r := g.Try(t, argv...)
	if !r.OK() {
		t.Fatalf("guest: %s: %v", strings.Join(argv, " "), r)
	}
	return r.Output
}

// Try runs a command to its end, whatever that is.
func (g *Guest) Try(t testing.TB, argv ...string) Result {
	t.Helper()
	return g.Start(t, argv...).Wait()
}

// Shell runs a script, which has to end well, and returns its standard output.
func (g *Guest) Shell(t testing.TB, script string) string {
	t.Helper()
	p := g.start(t, protocol.Command{Argv: []string{"/bin/sh", "-s"}, Stdin: []byte(script)})
	r := p.Wait()
	if !r.OK() {
		t.Fatalf("guest: script: %v\n%s", r, script)
	}
	return r.Output
}

// Write writes a file of the guest, and syncs it.
func (g *Guest) Write(t testing.TB, path, content string) {
	t.Helper()
	r := g.start(t, protocol.Command{Argv: []string{"dd", "of=" + path, "conv=fsync", "status=none"}, Stdin: []byte(content)}).Wait()
	if !r.OK() {
		t.Fatalf("guest: write %s: %v", path, r)
	}
}

// Test runs tests of a package that Machine.Tests names, as subtests of none: they have to
// pass. pattern is for -test.run.
func (g *Guest) Test(t testing.TB, pkg, pattern string) string {
	t.Helper()
	return g.Run(t, Tools+"/"+pkg[strings.LastIndex(pkg, "/")+1:]+".test", "-test.v", "-test.run", pattern)
}

func (g *Guest) start(t testing.TB, c protocol.Command) *Process {
	t.Helper()
	b := g.boot
	b.mu.Lock()
	p := &Process{t: t, boot: b, id: len(b.commands) + 1, label: label(c), changed: make(chan struct{})}
	b.commands = append(b.commands, p)
	b.mu.Unlock()
	b.request(t, protocol.Request{ID: p.id, Run: &c})
	p.await("start "+p.label, func() bool { return p.pid != 0 })
	p.PID = p.pid
	return p
}

// label names the command in messages: its words, or the script that a shell is given.
func label(c protocol.Command) string {
	text := strings.Join(c.Argv, " ")
	if c.Argv[len(c.Argv)-1] == "-s" {
		text = "script: " + strings.TrimSpace(string(c.Stdin))
	}
	return text[:min(len(text), 500)]
}

func (b *boot) request(t testing.TB, r protocol.Request) {
	t.Helper()
	b.send.Lock()
	defer b.send.Unlock()
	if err := b.out.Encode(r); err != nil {
		t.Fatalf("send to guest: %v\n%s", err, b.qemu.tail())
	}
}

// hear takes in what happened to the command.
func (p *Process) hear(r protocol.Reply) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.output.Write(r.Output)
	p.errors.Write(r.Errors)
	if r.PID != 0 {
		p.pid = r.PID
	}
	if r.Exit != nil {
		p.exit = r.Exit
	}
	if r.Failed != "" {
		p.failed = r.Failed
	}
	close(p.changed)
	p.changed = make(chan struct{})
}

// await waits until met says so; it is called under the lock.
func (p *Process) await(what string, met func() bool) {
	p.t.Helper()
	limit := time.NewTimer(patience)
	defer limit.Stop()
	for {
		p.mu.Lock()
		done, failed, changed := met(), p.failed, p.changed
		p.mu.Unlock()
		if done {
			return
		}
		if failed != "" {
			p.t.Fatalf("guest: %s: %s", what, failed)
		}
		select {
		case <-changed:
		case <-p.boot.over:
			p.t.Fatalf("guest: %s: %v", what, p.boot.err)
		case <-limit.C:
			p.t.Fatalf("guest: %s: not within %v\n%s\n%s", what, patience, p.Output(), p.boot.qemu.tail())
		}
	}
}

// Wait waits for its end.
func (p *Process) Wait() Result {
	p.t.Helper()
	p.await("wait for "+p.label, func() bool { return p.exit != nil })
	p.mu.Lock()
	defer p.mu.Unlock()
	r := Result{Output: p.output.String(), Errors: p.errors.String(), Code: p.exit.Code, Signal: syscall.Signal(p.exit.Signal)}
	if !p.told {
		p.told = true
		p.t.Logf("guest: %s: %v", p.label, r)
	}
	return r
}

// WaitUntil waits until what it has printed meets a condition; its end before is a failure.
func (p *Process) WaitUntil(what string, met func(output string) bool) {
	p.t.Helper()
	ended := false
	p.await(fmt.Sprintf("wait for %s of %s", what, p.label), func() bool {
		found := met(p.output.String() + p.errors.String())
		ended = p.exit != nil && !found
		return found || ended
	})
	if ended {
		p.t.Fatalf("guest: %s ended before %s: %v", p.label, what, p.Wait())
	}
}

// Output is what it has printed so far, standard output first.
func (p *Process) Output() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.output.String() + p.errors.String()
}

// Signal sends it a signal.
func (p *Process) Signal(s syscall.Signal) {
	p.t.Helper()
	p.boot.request(p.t, protocol.Request{ID: p.id, Signal: int(s)})
}

// Kill ends it by SIGKILL and waits for that.
func (p *Process) Kill() Result {
	p.t.Helper()
	p.Signal(syscall.SIGKILL)
	return p.Wait()
}
