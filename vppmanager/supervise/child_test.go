package supervise

import (
	"bufio"
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
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
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
	if err := s.Run(ctx); err != nil {
		return fail(err)
	}
	return 0
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
		r.err = r.Run(ctx)
	}()
	t.Cleanup(func() { cancel(); <-r.done })
	return r
}

// await returns the next state of a phase.
func (r *rig) await(t *testing.T, phase Phase) Status {
	t.Helper()
	limit := time.After(30 * time.Second)
	for {
		select {
		case s := <-r.states:
			if s.Phase == phase {
				return s
			}
		case <-r.done:
			t.Fatalf("the supervisor ended before it was %s: %v\n%s", phase, r.err, r.log)
		case <-limit:
			t.Fatalf("not %s after 30 s", phase)
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

// hold keeps a process by pidfd; the returned function waits for its end.
func hold(t *testing.T, pid int) (wait func()) {
	t.Helper()
	fd, err := unix.PidfdOpen(pid, 0)
	if errors.Is(err, unix.ESRCH) {
		return func() {}
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	return func() {
		t.Helper()
		n, err := 0, error(unix.EINTR)
		for errors.Is(err, unix.EINTR) {
			n, err = unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 30_000)
		}
		if err != nil || n == 0 {
			t.Fatalf("pid %d is still there (%v)", pid, err)
		}
	}
}

func TestChildEnviron(t *testing.T) {
	got := childEnviron([]string{"PATH=/bin", "NOTIFY_SOCKET=/run/systemd/notify", markName + "=1:2", "LISTEN_FDS=1", "LD_LIBRARY_PATH=/opt"})
	if want := []string{"PATH=/bin", "LD_LIBRARY_PATH=/opt"}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestChildLife(t *testing.T) {
	r := newRig(t, "polite", nil)
	s := r.await(t, Ready)
	want := []string{"api.sock", "child.conf", lockName}
	if got := listing(r.dir); !slices.Equal(got, want) {
		t.Errorf("while it runs the directory holds %v, want %v", got, want)
	}
	gone := hold(t, s.PID)
	if pgid, err := unix.Getpgid(s.PID); err != nil || pgid != s.PID {
		t.Errorf("process group %d (%v), want one of its own", pgid, err)
	}
	r.stop(t)
	gone()
	if !strings.Contains(r.log.String(), "exited with code 0") {
		t.Errorf("log:\n%s", r.log)
	}
}

func TestChildKilledComesBack(t *testing.T) {
	r := newRig(t, "server", nil)
	first := r.await(t, Ready)
	for range 3 {
		if err := unix.Kill(first.PID, unix.SIGKILL); err != nil {
			t.Fatal(err)
		}
		down := r.await(t, Waiting)
		if !strings.Contains(down.Last, "killed by signal 9") {
			t.Errorf("last end: %s", down.Last)
		}
		next := r.await(t, Ready)
		if next.PID == first.PID || next.PID == 0 {
			t.Errorf("pid %d after %d", next.PID, first.PID)
		}
		t.Logf("back %v after the death was seen", next.Since.Sub(down.Since))
		first = next
	}
	if got := r.Status().Restarts; got != 3 {
		t.Errorf("%d restarts", got)
	}
	r.stop(t)
}

func TestChildHangs(t *testing.T) {
	r := newRig(t, "server", func(_ *Spec, tm *Timing) { tm.Ping, tm.Hang = 10*time.Millisecond, 200*time.Millisecond })
	first := r.await(t, Ready)
	if err := unix.Kill(first.PID, unix.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	if down := r.await(t, Waiting); !strings.Contains(down.Last, "did not answer for") {
		t.Errorf("last end: %s", down.Last)
	}
	r.await(t, Ready)
	r.stop(t)
}

func TestChildStartsLate(t *testing.T) {
	pipe := filepath.Join(t.TempDir(), "go")
	if err := unix.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	r := newRig(t, "late", func(_ *Spec, tm *Timing) { tm.Patience = time.Millisecond }, pipe)
	r.await(t, Starting)
	if err := os.WriteFile(pipe, nil, 0); err != nil { // blocks until the child reads
		t.Fatal(err)
	}
	r.await(t, Ready)
	r.stop(t)
	if r.Status().Restarts != 0 {
		t.Errorf("%d restarts", r.Status().Restarts)
	}
}

func TestChildIgnoresTerm(t *testing.T) {
	r := newRig(t, "deaf", func(_ *Spec, tm *Timing) { tm.Stop = 100 * time.Millisecond })
	gone := hold(t, r.await(t, Ready).PID)
	r.stop(t)
	gone()
	if !strings.Contains(r.log.String(), "killed by signal 9") {
		t.Errorf("log:\n%s", r.log)
	}
}

func TestChildExitsAtOnce(t *testing.T) {
	r := newRig(t, "broken", nil)
	<-r.done
	crash, ok := errors.AsType[*CrashError](r.err)
	if !ok {
		t.Fatalf("error %v", r.err)
	}
	if len(crash.Output) != tailLines || crash.Output[tailLines-1] != "cannot open the configuration" || crash.Output[tailLines-2] != "line 199" {
		t.Errorf("%d lines kept, the end is %q", len(crash.Output), crash.Output[max(0, len(crash.Output)-2):])
	}
	if crash.Reason != "exited with code 3" || crash.Starts != 3 {
		t.Errorf("%+v", crash)
	}
	if _, err := os.Stat(filepath.Dir(r.dir)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("left behind: %v", listing(r.dir))
	}
}

func TestChildCannotBeRun(t *testing.T) {
	r := newRig(t, "server", func(s *Spec, _ *Timing) { s.Command = []string{"/none/vpp"} })
	<-r.done
	if r.err == nil || !strings.Contains(r.err.Error(), "/none/vpp: no such file") {
		t.Errorf("error %v", r.err)
	}
}

// TestWrapperThatForks: the signal has to reach what the wrapper started.
func TestWrapperThatForks(t *testing.T) {
	r := newRig(t, "wrapper", nil)
	s := r.await(t, Ready)
	gone := hold(t, childOf(t, s.PID))
	if err := unix.Kill(s.PID, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	gone() // the rest of the group ends with its leader
	s = r.await(t, Ready)
	gone = hold(t, childOf(t, s.PID))
	r.stop(t)
	gone()
}

func childOf(t *testing.T, pid int) int {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	if err == nil && len(strings.Fields(string(text))) > 0 {
		child, err := strconv.Atoi(strings.Fields(string(text))[0])
		if err != nil {
			t.Fatal(err)
		}
		return child
	}
	// The forking thread may not be the main one.
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	if err != nil {
		t.Fatal(err)
	}
	for _, task := range tasks {
		if text, err := os.ReadFile(task); err == nil && len(text) > 0 {
			child, err := strconv.Atoi(strings.Fields(string(text))[0])
			if err != nil {
				t.Fatal(err)
			}
			return child
		}
	}
	t.Skip("the kernel does not list children of a process (CONFIG_PROC_CHILDREN)")
	return 0
}

// TestSupervisorKilled kills the supervisor itself: its child has to end with it, or, when
// it escaped through a wrapper, at the next start; and the next stop leaves nothing.
func TestSupervisorKilled(t *testing.T) {
	for _, part := range []string{"deaf", "wrapper"} {
		t.Run(part, func(t *testing.T) {
			dir := filepath.Join(shortDir(t), "run", "dp")
			cmd := exec.Command("/proc/self/exe", "as", "supervisor", dir, part)
			cmd.Stderr = t.Output()
			out, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			defer cmd.Process.Kill()
			pid := awaitReady(t, out)
			serving := pid
			if part == "wrapper" {
				serving = childOf(t, pid)
			}
			childGone, servingGone := hold(t, pid), hold(t, serving)
			if err := cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
			cmd.Wait() // says that it was killed
			childGone()

			r := runRig(t, dir, "server", nil)
			r.await(t, Ready)
			servingGone()
			r.stop(t)
		})
	}
}

// TestSupervisorKilledAnywhere kills supervisors after each of their first steps, one in
// the leavings of the other; the last one clears everything.
func TestSupervisorKilledAnywhere(t *testing.T) {
	base := shortDir(t)
	dir := filepath.Join(base, "run", "dp")
	for i := range 12 {
		cmd := exec.Command("/proc/self/exe", "as", "supervisor", dir, []string{"wrapper", "server", "deaf"}[i%3])
		cmd.Stderr = t.Output()
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		for lines, step := bufio.NewScanner(out), 0; step < i/3 && lines.Scan(); step++ {
		}
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		cmd.Wait() // says that it was killed
	}
	r := runRig(t, dir, "server", nil)
	r.await(t, Ready)
	mark, err := markOf(dir)
	if err != nil {
		t.Fatal(err)
	}
	r.stop(t)
	if left, err := endMarked(t.Context(), mark); err != nil || len(left) > 0 {
		t.Errorf("processes left: %v (%v)", left, err)
	}
}

func awaitReady(t *testing.T, out io.Reader) (pid int) {
	t.Helper()
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		var s Status
		if err := json.Unmarshal(lines.Bytes(), &s); err != nil {
			t.Fatal(err)
		}
		if s.Phase == Ready {
			return s.PID
		}
	}
	t.Fatal("the supervisor ended before it was ready")
	return 0
}
