package supervise

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestMain turns this binary into the child of the tests when it is asked to.
func TestMain(m *testing.M) {
	if len(os.Args) > 2 && os.Args[1] == "as" {
		os.Exit(act(os.Args[2], os.Args[3:]))
	}
	os.Exit(m.Run())
}

// act plays one part; args[0] is the API socket or the runtime directory.
func act(part string, args []string) int {
	switch part {
	case "server": // answers bytes with bytes; dies of SIGTERM and leaves its socket
		return serve(args[0])
	case "deaf": // a server that ignores SIGTERM
		signal.Ignore(syscall.SIGTERM)
		return serve(args[0])
	case "polite": // a server that says goodbye and clears up
		term := make(chan os.Signal, 1)
		signal.Notify(term, syscall.SIGTERM)
		go func() {
			<-term
			fmt.Println("goodbye")
			os.Remove(args[0])
			os.Exit(0)
		}()
		return serve(args[0])
	case "late": // a server that first waits for the other end of a pipe
		if _, err := os.ReadFile(args[1]); err != nil {
			return fail(err)
		}
		return serve(args[0])
	case "broken": // prints and exits
		for i := range 200 {
			fmt.Println("line", i)
		}
		fmt.Fprintln(os.Stderr, "cannot open the configuration")
		return 3
	case "wrapper": // starts a server in its place, and does not exec
		cmd := exec.Command("/proc/self/exe", "as", "server", args[0])
		cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
		if err := cmd.Run(); err != nil {
			return fail(err)
		}
	case "aborts": // a server that dies as a broken program does, once a pipe's other end is there
		go serve(args[0])
		if _, err := os.ReadFile(args[1]); err != nil {
			return fail(err)
		}
		// The Go runtime catches SIGABRT; a shell does not.
		return fail(syscall.Exec("/bin/sh", []string{"sh", "-c", "echo received signal SIGABRT; kill -ABRT $$"}, os.Environ()))
	case "supervisor": // supervises the part args[1] in args[0] and reports on stdout
		return superviseUntilTerm(args[0], args[1])
	}
	return 0
}

func fail(err error) int {
	fmt.Fprintln(os.Stderr, err)
	return 1
}

func serve(socket string) int {
	l, err := net.Listen("unix", socket)
	if err != nil {
		return fail(err)
	}
	for {
		conn, err := l.Accept()
		if err != nil {
			return fail(err)
		}
		go func() {
			defer conn.Close()
			io.Copy(conn, conn)
		}()
	}
}

func superviseUntilTerm(dir, part string) int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	out := json.NewEncoder(os.Stdout)
	s := New(specOf(dir, part), Options{
		Dial: dial, Output: os.Stderr, Log: slog.New(slog.NewTextHandler(os.Stderr, nil)), Timing: DefaultTiming(),
		Notify: func(st Status) { out.Encode(st) },
	})
	if err := runInRoom(ctx, s); err != nil {
		return fail(err)
	}
	return 0
}

// runInRoom is what a manager does, but for the host.
func runInRoom(ctx context.Context, s *Supervisor) error {
	room, err := Enter(ctx, s.spec.RuntimeDir, s.opt.Log)
	if err != nil {
		return err
	}
	err = s.Run(ctx, room)
	return errors.Join(err, room.Leave())
}

func specOf(dir, part string, args ...string) Spec {
	socket := filepath.Join(dir, "api.sock")
	return Spec{
		Name: part, RuntimeDir: dir, APISocket: socket, Sockets: []string{socket},
		Command: append([]string{"/proc/self/exe", "as", part, socket}, args...),
		Files:   []File{{Path: filepath.Join(dir, "child.conf"), Text: "hello\n"}},
	}
}

// wire is a connection to a server: one byte there, one back.
type wire struct{ net.Conn }

func dial(ctx context.Context, socket string) (Conn, error) {
	var d net.Dialer
	c, err := d.DialContext(ctx, "unix", socket)
	return wire{c}, err
}

func (w wire) Ping(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { w.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	if _, err := w.Write([]byte{'p'}); err != nil {
		return err
	}
	_, err := io.ReadFull(w, make([]byte, 1))
	return err
}

func (w wire) Close() { w.Conn.Close() }

// rig is one supervisor under test.
type rig struct {
	*Supervisor
	dir    string
	states chan Status
	log    *strings.Builder // read after stop
	err    error
	done   chan struct{}
	cancel context.CancelFunc
}

// newRig starts a supervisor whose spec and timing edit may change. The runtime directory
// does not exist yet.
func newRig(t *testing.T, part string, edit func(*Spec, *Timing), args ...string) *rig {
	t.Helper()
	return runRig(t, filepath.Join(shortDir(t), "run", "dp"), part, edit, args...)
}

func runRig(t *testing.T, dir, part string, edit func(*Spec, *Timing), args ...string) *rig {
	t.Helper()
	r := &rig{dir: dir, states: make(chan Status, 1000), log: &strings.Builder{}, done: make(chan struct{})}
	spec, timing := specOf(dir, part, args...), DefaultTiming()
	if edit != nil {
		edit(&spec, &timing)
	}
	r.Supervisor = New(spec, Options{
		Dial: dial, Output: t.Output(), Log: slog.New(slog.NewTextHandler(r.log, nil)), Timing: timing,
		Notify: func(s Status) { r.states <- s },
	})
	ctx, cancel := context.WithCancel(t.Context())
	r.cancel = cancel
	go func() {
		defer close(r.done)
		r.err = runInRoom(ctx, r.Supervisor)
	}()
	t.Cleanup(func() { cancel(); <-r.done })
	return r
}

// await returns the next state of a phase.
func (r *rig) await(t *testing.T, phase Phase) Status {
	t.Helper()
	limit := time.After(2 * time.Minute)
	for {
		select {
		case s := <-r.states:
			if s.Phase == phase {
				return s
			}
		case <-r.done:
			t.Fatalf("the supervisor ended before it was %s: %v\n%s", phase, r.err, r.log)
		case <-limit:
			t.Fatalf("not %s after 2 minutes", phase)
		}
	}
}

// stop ends the supervisor and checks that nothing is left.
func (r *rig) stop(t *testing.T) {
	t.Helper()
	r.cancel()
	<-r.done
	if r.err != nil {
		t.Errorf("run: %v", r.err)
	}
	if _, err := os.Stat(filepath.Dir(r.dir)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the directories are still there: %v", listing(r.dir))
	}
}

func listing(dir string) []string {
	var names []string
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}
