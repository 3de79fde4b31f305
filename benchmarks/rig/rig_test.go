package rig

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/millrace/millrace/internal/netnstest"
)

// binaries holds what TestMain built, or why it could not.
type binaries struct {
	dir string
	err error
}

var built binaries // set once by TestMain, before any test

// TestMain builds the product's two binaries once for all tests of the package.
func TestMain(m *testing.M) {
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "millrace-rig-build-")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer os.RemoveAll(dir)
		built = build(dir)
		return m.Run()
	}())
}

func build(dir string) binaries {
	cmd := exec.Command("go", "build", "-o", dir+"/", "../../cmd/millrace", "../../cmd/millrace-cni")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	out, err := cmd.CombinedOutput()
	if err != nil {
		err = fmt.Errorf("build the product: %w: %s", err, out)
	}
	return binaries{dir: dir, err: err}
}

// machines lists the dataplanes to test on: the engine, and VPP when VPP_BIN is set.
func machines(t *testing.T) map[string]string {
	t.Helper()
	m := map[string]string{"engine": ""}
	if vpp := os.Getenv("VPP_BIN"); vpp != "" {
		m["vpp"] = vpp
	}
	return m
}

// start boots a whole node for one test and tears it down afterwards.
func start(t *testing.T, dataplane, vppBin string) (*Launcher, *Bed, *Millrace) {
	t.Helper()
	netnstest.NeedRoot(t)
	if dataplane == "engine" {
		netnstest.NeedTun(t)
	}
	if built.err != nil {
		t.Fatal(built.err)
	}
	l := NewLauncher()
	t.Cleanup(l.Close)
	m := &Millrace{Binary: filepath.Join(built.dir, "millrace"), PluginDir: built.dir, Dataplane: dataplane, VPPBin: vppBin}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	bed, err := NewBed(ctx, l, m)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := bed.Close(context.Background()); err != nil {
			t.Errorf("tear down: %v", err)
		}
		if t.Failed() {
			t.Logf("manager:\n%s\nagent:\n%s", m.manager.Output(), m.agent.Output())
		}
	})
	return l, bed, m
}

// eachMachine runs a test on every dataplane there is.
func eachMachine(t *testing.T, fn func(t *testing.T, l *Launcher, bed *Bed, m *Millrace)) {
	for name, vppBin := range machines(t) {
		t.Run(name, func(t *testing.T) {
			l, bed, m := start(t, name, vppBin)
			fn(t, l, bed, m)
		})
	}
}

func add(t *testing.T, bed *Bed, name string) *Pod {
	t.Helper()
	pod, _, err := bed.Add(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	return pod
}

// pingOnce sends one echo request and waits at most a second for its answer.
func pingOnce(ctx context.Context, l *Launcher, from *Pod, to *Pod) error {
	addr, err := to.Addr(false)
	if err != nil {
		return err
	}
	_, err = l.Run(ctx, from.Namespace, Command("ping", "-n", "-c", "1", "-W", "1", addr.String()))
	return err
}

// pingUntil pings until an answer comes and returns how long that took.
func pingUntil(t *testing.T, l *Launcher, from, to *Pod) time.Duration {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	start := time.Now()
	addr, err := to.Addr(false)
	if err != nil {
		t.Fatal(err)
	}
	for {
		_, err := l.Run(ctx, from.Namespace, Command("ping", "-n", "-c", "1", "-W", "0.1", addr.String()))
		if err == nil {
			return time.Since(start)
		}
		if ctx.Err() != nil {
			t.Fatalf("no ping from %s to %s came through again: %v", from.Name, to.Name, err)
		}
	}
}

// leftovers says what remains of pods that were deleted: files of the agent's state and
// interfaces of the dataplane that carry a pod's tag.
func leftovers(t *testing.T, m *Millrace) []string {
	t.Helper()
	var left []string
	err := filepath.WalkDir(m.path("state"), func(path string, d os.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && d.Name() == "crashes": // reports, which are meant to stay
			return filepath.SkipDir
		case !d.IsDir():
			left = append(left, path)
		}
		return nil
	})
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	shown, err := m.CLI(t.Context(), "show interface")
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range strings.Split(shown, "\n") {
		name, _, _ := strings.Cut(line, " ")
		if strings.HasPrefix(name, "host-") || strings.HasPrefix(name, "tap") {
			left = append(left, name)
		}
	}
	return left
}

func TestIntegrationPodsTalk(t *testing.T) {
	eachMachine(t, func(t *testing.T, l *Launcher, bed *Bed, m *Millrace) {
		before := leftovers(t, m)
		a, b := add(t, bed, "a"), add(t, bed, "b")
		for _, v6 := range []bool{false, true} {
			to, err := b.Addr(v6)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := l.Run(t.Context(), a.Namespace, Command("ping", "-n", "-c", "3", "-i", "0.1", "-W", "1", to.String())); err != nil {
				t.Error(err)
			}
		}
		for _, pod := range []*Pod{a, b} {
			if err := bed.Subject.Wiring().Check(t.Context(), pod); err != nil {
				t.Errorf("CHECK of %s: %v", pod.Name, err)
			}
			if _, err := bed.Delete(t.Context(), pod); err != nil {
				t.Error(err)
			}
		}
		if after := leftovers(t, m); len(after) != len(before) {
			t.Errorf("left over after DEL: %q, before ADD there was %q", after, before)
		}
	})
}

// TestIntegrationLauncherRunsInNamespace also shows that a namespace sees only itself.
func TestIntegrationLauncherRunsInNamespace(t *testing.T) {
	netnstest.NeedRoot(t)
	l := NewLauncher()
	defer l.Close()
	ns, err := l.NewNamespace()
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	out, err := l.Run(t.Context(), ns, Command("ip", "-o", "link"))
	if err != nil {
		t.Fatal(err)
	}
	if lines := strings.Split(strings.TrimSpace(string(out)), "\n"); len(lines) != 1 || !strings.Contains(lines[0], "LOOPBACK,UP") {
		t.Errorf("a new namespace has %q, want its loopback alone, up", out)
	}
}

func TestSweepSparesTheLiving(t *testing.T) {
	tmp := t.TempDir()
	dead := exec.Command("true")
	if err := dead.Run(); err != nil {
		t.Fatal(err)
	}
	stale := filepath.Join(tmp, fmt.Sprintf("%s%d-x", scratchPrefix, dead.Process.Pid))
	ours := filepath.Join(tmp, fmt.Sprintf("%s%d-x", scratchPrefix, os.Getpid()))
	other := filepath.Join(tmp, "millrace-rig-build-1")
	for _, dir := range []string{stale, ours, other} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := sweep(tmp); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(stale); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the scratch directory of a dead rig is still there: %v", err)
	}
	for _, dir := range []string{ours, other} {
		if _, err := os.Stat(dir); err != nil {
			t.Errorf("swept too much: %v", err)
		}
	}
}
