package rig

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"sync"
	"syscall"
	"time"
)

// Process is a long-lived process of a subject, with the last of what it printed.
type Process struct {
	name string
	cmd  *exec.Cmd
	out  *tail
	done chan struct{}
	err  error // valid once done is closed
	told bool  // Await has reported the end, so that Stop need not
}

// StartProcess starts a long-lived process in a namespace.
func (l *Launcher) StartProcess(n *Namespace, name string, cmd *exec.Cmd) (*Process, error) {
	return l.startWith(n, name, cmd, nil)
}

// startWith starts a long-lived process whose standard output goes to a writer, nil: to
// what it last printed.
func (l *Launcher) startWith(n *Namespace, name string, cmd *exec.Cmd, stdout io.Writer) (*Process, error) {
	p := &Process{name: name, cmd: cmd, out: &tail{limit: 64 << 10}, done: make(chan struct{})}
	cmd.Stdout, cmd.Stderr = stdout, p.out
	if stdout == nil {
		cmd.Stdout = p.out
	}
	if err := l.Start(n, cmd); err != nil {
		return nil, err
	}
	go func() {
		p.err = cmd.Wait()
		close(p.done)
	}()
	return p, nil
}

// PID is the process's id.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Output is the last 64 KiB the process printed.
func (p *Process) Output() string { return string(p.out.bytes()) }

// Done is closed when the process has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Kill ends the process as a crash would, and waits.
func (p *Process) Kill() {
	_ = p.cmd.Process.Signal(syscall.SIGKILL) // gone already is fine
	<-p.done
}

// Stop asks the process to end, and ends its group when it does not within patience. How
// it ended is an error unless Await has said so.
func (p *Process) Stop(patience time.Duration) error {
	_ = p.cmd.Process.Signal(syscall.SIGTERM) // gone already is seen below
	select {
	case <-p.done:
	case <-time.After(patience):
		killGroup(p.cmd)
		<-p.done
		return fmt.Errorf("stop %s: still running %s after SIGTERM; last output:\n%s", p.name, patience, p.Output())
	}
	if p.told {
		return nil
	}
	var exit *exec.ExitError
	if errors.As(p.err, &exit) {
		return fmt.Errorf("stop %s: %w; last output:\n%s", p.name, p.err, p.Output())
	}
	return p.err
}

// Await polls ready until it is nil, the process ends, or ctx does.
func (p *Process) Await(ctx context.Context, ready func(context.Context) error) error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		err := ready(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-p.done:
			p.told = true
			return fmt.Errorf("wait for %s: it ended (%v); last output:\n%s", p.name, p.err, p.Output())
		case <-ctx.Done():
			return fmt.Errorf("wait for %s: %w: %w; last output:\n%s", p.name, ctx.Err(), err, p.Output())
		case <-tick.C:
		}
	}
}

// tail keeps the last limit bytes written to it.
type tail struct {
	limit int

	mu  sync.Mutex // guards buf
	buf []byte
}

func (t *tail) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.buf = append(t.buf, b...)
	if over := len(t.buf) - t.limit; over > 0 {
		t.buf = append(t.buf[:0], t.buf[over:]...)
	}
	return len(b), nil
}

func (t *tail) bytes() []byte {
	t.mu.Lock()
	defer t.mu.Unlock()
	return append([]byte(nil), t.buf...)
}
