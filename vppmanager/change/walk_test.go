package change

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/millrace/millrace/internal/netnstest"
	"github.com/millrace/millrace/vppmanager/startup"
)

// walk kills the applying after every single point, and the undoing after every single
// point; a new process then undoes. Each time the host has to be what it was.
type walk struct {
	state   string
	root    string
	changes []startup.Change
	settle  []string
	command func(name string, args ...string) *exec.Cmd
	look    func(t *testing.T) map[string]string
	part    int // of parts walks, which share the points; each has a host of its own
	parts   int // 0: all of them
}

// mine says whether a point is this part's.
func (w walk) mine(n int) bool { return w.parts == 0 || n%w.parts == w.part }

func (w walk) run(t *testing.T) {
	before := w.look(t)
	same := func(what string, n int) {
		t.Helper()
		if diff := cmp.Diff(before, w.look(t)); diff != "" {
			t.Fatalf("%s %d: the host is another one:\n%s", what, n, diff)
		}
		if _, err := os.Stat(filepath.Join(w.state, JournalFile)); err == nil {
			t.Fatalf("%s %d: the journal is still there", what, n)
		}
	}
	apply := order{Root: w.root, State: w.state, Apply: w.changes, Settle: w.settle}
	undo := order{Root: w.root, State: w.state}
	must := func(o order) int {
		t.Helper()
		end := o.start(t, w.command)
		if end.killed || end.failed {
			t.Fatalf("%+v: %+v", o, end)
		}
		return end.points
	}
	applyPoints := must(apply)
	if diff := cmp.Diff(before, w.look(t)); diff == "" {
		t.Fatal("the changes change nothing: the walk would show nothing")
	}
	undoPoints := must(undo)
	same("undone after", 0)
	t.Logf("%d points of applying, %d of undoing", applyPoints, undoPoints)
	if applyPoints < 2*len(w.changes) || undoPoints < len(w.changes) {
		t.Fatalf("that is too few for %d changes", len(w.changes))
	}
	w.kills(t, applyPoints, func(n int) (end outcome) {
		apply.KillAt = n
		end = apply.start(t, w.command)
		w.look(t) // lets the machine end what it began
		must(undo)
		same("applying killed at point", n)
		return end
	})
	apply.KillAt = 0
	w.kills(t, undoPoints, func(n int) (end outcome) {
		must(apply)
		killed := undo
		killed.KillAt = n
		end = killed.start(t, w.command)
		w.look(t)
		must(undo)
		same("undoing killed at point", n)
		return end
	})
}

// kills kills at each point. How many there are depends on how fast the kernel is with what
// it does by itself; so it goes on until one run has ended before it was killed.
func (w walk) kills(t *testing.T, points int, kill func(n int) outcome) {
	t.Helper()
	for n := 1; ; n++ {
		if !w.mine(n) {
			continue
		}
		end := kill(n)
		if end.failed || !end.killed && end.points >= n {
			t.Fatalf("not killed at point %d of about %d: %+v", n, points, end)
		}
		if !end.killed && n > points {
			return
		}
	}
}

func TestWalkSysfs(t *testing.T) {
	m := newMachine(t)
	walk{
		state: t.TempDir(), root: m.root, changes: bindChanges(), look: m.snapshot,
		command: func(name string, args ...string) *exec.Cmd { return exec.CommandContext(t.Context(), name, args...) },
	}.run(t)
}

// TestIntegrationDisk: a disk that is full or read-only shows before the first change.
func TestIntegrationDisk(t *testing.T) {
	netnstest.NeedRoot(t)
	m := newMachine(t)
	before := m.snapshot(t)
	for options, want := range map[string]string{
		"size=4k": "nothing was changed: keep room in",
		"ro":      "read-only file system",
	} {
		o := order{Root: m.root, State: t.TempDir(), Apply: bindChanges(), Tmpfs: options}
		end := o.start(t, func(name string, args ...string) *exec.Cmd {
			cmd := exec.CommandContext(t.Context(), name, args...)
			cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS}
			return cmd
		})
		if !end.failed || !strings.Contains(end.stderr, want) {
			t.Errorf("tmpfs %s: %+v, want an error with %q", options, end, want)
		}
		if diff := cmp.Diff(before, m.snapshot(t)); diff != "" {
			t.Errorf("tmpfs %s: %s", options, diff)
		}
	}
}
