package interop

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/millrace/millrace/internal/machinetest"
	"github.com/millrace/millrace/memif"
)

// patience bounds what a broken peer costs.
const patience = 30 * time.Second

// endVariable makes this test binary an end of a memif: its role and address.
const endVariable = "MEMIF_INTEROP_END"

func TestMain(m *testing.M) {
	if what := os.Getenv(endVariable); what != "" {
		if err := runEnd(what); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	machinetest.Main(m)
}

// runEnd echoes once over the first link and then waits to be killed.
func runEnd(what string) error {
	role, at, _ := strings.Cut(what, " ")
	r := memif.Server
	if role == memif.Client.String() {
		r = memif.Client
	}
	e, err := newEnd(r, at, memif.Config{})
	if err != nil {
		return err
	}
	fmt.Println("listening")
	ctx, cancel := context.WithTimeout(context.Background(), patience/2)
	defer cancel()
	if err := e.WaitUp(ctx); err != nil {
		return fmt.Errorf("wait for link: %w; link %v", err, e.Status())
	}
	fmt.Println("connected")
	if err := e.echo(context.Background(), 0, 200, 64); err != nil {
		return err
	}
	fmt.Println("echoed")
	select {}
}

func startEndProcess(t testing.TB, role memif.Role, address string) *process {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), endVariable+"="+role.String()+" "+address)
	return startProcess(t, "our end", cmd)
}

// process is a peer, or our end, that can be killed.
type process struct {
	name  string
	lines chan string // what it says; closed at its end
	kill  func()      // as kill -9 does, and waits; a second call does nothing
}

// startProcess starts a process that dies with this one, at the latest with the test: the
// kernel binds it to the thread that starts it, which is kept until its end.
func startProcess(t testing.TB, name string, cmd *exec.Cmd) *process {
	t.Helper()
	cmd.Dir = t.TempDir()
	output, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = cmd.Stdout
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	p := &process{name: name, lines: make(chan string, 1024)}
	started, ended := make(chan error, 1), make(chan struct{})
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		defer close(ended)
		err := cmd.Start()
		started <- err
		if err == nil {
			p.read(output)
			_ = cmd.Wait() // it was killed, or what it said tells why it ended
		}
	}()
	if err := <-started; err != nil {
		t.Fatalf("start %s: %v", name, err)
	}
	p.kill = sync.OnceFunc(func() {
		_ = cmd.Process.Kill() // it may have ended
		<-ended
	})
	t.Cleanup(p.kill)
	return p
}

func (p *process) read(output io.Reader) {
	defer close(p.lines)
	for s := bufio.NewScanner(output); s.Scan(); {
		select {
		case p.lines <- s.Text():
		default: // nobody asks
		}
	}
}

// until reads lines until one matches.
func (p *process) until(t testing.TB, want *regexp.Regexp) []string {
	t.Helper()
	var all []string
	timeout := time.After(patience)
	for {
		select {
		case line, ok := <-p.lines:
			all = append(all, line)
			if m := want.FindStringSubmatch(line); m != nil {
				return m
			}
			if ok {
				continue
			}
			t.Fatalf("%s ended before it said %q:\n%s", p.name, want, strings.Join(all, "\n"))
		case <-timeout:
			t.Fatalf("%s does not say %q:\n%s", p.name, want, strings.Join(all, "\n"))
		}
	}
}
