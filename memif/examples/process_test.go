package examples_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// programs is the directory of the built examples.
var programs string

func TestMain(m *testing.M) {
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "memif-examples-")
		if err == nil {
			defer os.RemoveAll(dir)
			err = os.Chmod(dir, 0o755) // for the test of another user
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		if out, err := exec.Command("go", "build", "-o", dir, "./...").CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "build the examples: %v\n%s", err, out)
			return 1
		}
		programs = dir
		return m.Run()
	}())
}

// process is an example that runs.
type process struct {
	cmd    *exec.Cmd
	exited chan struct{}
	err    error // once exited is closed

	mu     sync.Mutex // guards stderr
	stderr strings.Builder
}

func (p *process) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.stderr.Write(b)
}

func (p *process) said() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.stderr.String()
}

// start runs an example until it ends, the test at the latest.
func start(t *testing.T, name string, args ...string) *process {
	t.Helper()
	return startCommand(t, exec.Command(filepath.Join(programs, name), args...))
}

// startCommand starts a process that ends with the test, also when the test is killed: the
// thread whose end the kernel takes for that lives as long as the process.
func startCommand(t *testing.T, cmd *exec.Cmd) *process {
	t.Helper()
	p := &process{cmd: cmd, exited: make(chan struct{})}
	cmd.Stderr = p
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
	started := make(chan error)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			p.err = cmd.Wait()
		}
		close(p.exited)
	}()
	if err := <-started; err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // it may have ended by itself
		<-p.exited
		if t.Failed() {
			t.Logf("%s said:\n%s", cmd, p.said())
		}
	})
	return p
}

// waitFor waits until the process has said all of texts, in order.
func (p *process) waitFor(t *testing.T, texts ...string) {
	t.Helper()
	err := eventually(func() error {
		rest, ok := p.said(), true
		for _, text := range texts {
			if _, rest, ok = strings.Cut(rest, text); !ok {
				return fmt.Errorf("the process did not say %q", texts)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// end sends a signal and wants the process to end well.
func (p *process) end(t *testing.T, s os.Signal) {
	t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		t.Fatal(err)
	}
	if err := p.wait(t); err != nil {
		t.Errorf("%s after %v: %v", p.cmd, s, err)
	}
}

// wait waits for the end of the process.
func (p *process) wait(t *testing.T) error {
	t.Helper()
	select {
	case <-p.exited:
		return p.err
	case <-time.After(20 * time.Second):
		t.Fatal("the process did not end")
		return nil
	}
}
