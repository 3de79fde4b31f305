package supervise

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/millrace/millrace/internal/netnstest"
)

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
	gone := netnstest.Hold(t, s.PID)
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
	gone := netnstest.Hold(t, r.await(t, Ready).PID)
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
	out := crash.Crash.Output
	if len(out) != tailLines || out[tailLines-1] != "cannot open the configuration" || out[tailLines-2] != "line 199" {
		t.Errorf("%d lines kept, the end is %q", len(out), out[max(0, len(out)-2):])
	}
	if crash.Crash.How != "exited with code 3" || crash.Starts != 3 {
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
	gone := netnstest.Hold(t, childOf(t, s.PID))
	if err := unix.Kill(s.PID, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	gone() // the rest of the group ends with its leader
	s = r.await(t, Ready)
	gone = netnstest.Hold(t, childOf(t, s.PID))
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
			childGone, servingGone := netnstest.Hold(t, pid), netnstest.Hold(t, serving)
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
