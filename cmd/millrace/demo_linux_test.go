package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/millrace/millrace/benchmarks"
	"github.com/millrace/millrace/internal/netnstest"
)

// demo is one run of the built binary. All it makes in scratch space, and all that any
// process of it is told, lies in a directory that no other run shares.
type demo struct {
	cmd     *exec.Cmd
	out     string // where results go
	scratch string // TMPDIR
	output  watched
	ended   chan struct{}
}

// watched is what a process printed, with a signal for each addition.
type watched struct {
	mu   sync.Mutex // guards text
	text bytes.Buffer
	more chan struct{} // holds one token after each addition
}

func (w *watched) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	select {
	case w.more <- struct{}{}:
	default:
	}
	return w.text.Write(b)
}

func (w *watched) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.text.String()
}

// buildProduct compiles both binaries, once for all runs of a test.
func buildProduct(t *testing.T) string {
	t.Helper()
	netnstest.NeedTun(t)
	for _, need := range []string{"go", "iperf3", "ping", "ip"} {
		if _, err := exec.LookPath(need); err != nil {
			t.Skipf("needs %s: %v", need, err)
		}
	}
	dir := t.TempDir()
	cmd := exec.Command("go", "build", "-o", dir+"/", ".", "../millrace-cni")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build the product: %v\n%s", err, out)
	}
	return dir
}

// startDemo starts a tiny demo with seconds for each stream.
func startDemo(t *testing.T, binaries, scratch string, seconds int) *demo {
	t.Helper()
	d := &demo{out: t.TempDir(), scratch: scratch, output: watched{more: make(chan struct{}, 1)}, ended: make(chan struct{})}
	d.cmd = exec.Command(filepath.Join(binaries, "millrace"), "demo", "--plugin", filepath.Join(binaries, "millrace-cni"), "--reference-plugins", "",
		"--repetitions", "1", "--seconds", fmt.Sprint(seconds), "--pods", "2", "--out", d.out)
	d.cmd.Env = append(os.Environ(), "TMPDIR="+scratch)
	d.cmd.Stdout, d.cmd.Stderr = &d.output, &d.output
	d.cmd.WaitDelay = 10 * time.Second // children that outlive the demo may hold its output open
	if err := d.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(d.ended)
		d.cmd.Wait() // its verdict stands in ProcessState
	}()
	t.Cleanup(func() {
		d.cmd.Process.Kill() // an error means that it has ended
		<-d.ended
		if t.Failed() {
			t.Logf("the demo printed:\n%s", d.output.String())
		}
	})
	return d
}

// awaitText waits until the demo has printed a text.
func (d *demo) awaitText(t *testing.T, text string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for !strings.Contains(d.output.String(), text) {
		select {
		case <-d.output.more:
		case <-d.ended:
			t.Fatalf("the demo ended before it printed %q", text)
		case <-ctx.Done():
			t.Fatalf("the demo never printed %q", text)
		}
	}
}

// awaitEnd waits for the demo and returns its exit code.
func (d *demo) awaitEnd(t *testing.T) int {
	t.Helper()
	select {
	case <-d.ended:
		return d.cmd.ProcessState.ExitCode()
	case <-time.After(2 * time.Minute):
		t.Fatal("the demo does not end")
		return 0
	}
}

// result reads what the demo stored.
func (d *demo) result(t *testing.T) benchmarks.Result {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(d.out, "result.json"))
	if err != nil {
		t.Fatal(err)
	}
	var r benchmarks.Result
	if err := json.Unmarshal(data, &r); err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile(filepath.Join(d.out, "report.html"))
	if err != nil || !bytes.Contains(page, []byte("</html>")) {
		t.Errorf("report.html has %d bytes and no end (%v)", len(page), err)
	}
	return r
}

// processes lists who runs with the demo's scratch directory in its environment, by their
// command lines: all its children inherit that, those of children included.
func (d *demo) processes(t *testing.T) map[string]string {
	t.Helper()
	dirs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]string{}
	for _, dir := range dirs {
		// Processes end while they are listed, and one that has ended has no environment.
		env, err := os.ReadFile(filepath.Join(dir, "environ"))
		if err != nil || !slices.Contains(strings.Split(string(env), "\x00"), "TMPDIR="+d.scratch) {
			continue
		}
		if line, err := os.ReadFile(filepath.Join(dir, "cmdline")); err == nil {
			found[filepath.Base(dir)] = strings.ReplaceAll(string(line), "\x00", " ")
		}
	}
	return found
}

// awaitNoProcess waits until no process of the demo runs.
func (d *demo) awaitNoProcess(t *testing.T) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(20 * time.Second)
	for {
		left := d.processes(t)
		if len(left) == 0 {
			return
		}
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("processes are left: %v", left)
		}
	}
}

// awaitProcess waits until a process of the demo with a text in its command line runs.
func (d *demo) awaitProcess(t *testing.T, text string) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(20 * time.Second)
	for {
		left := d.processes(t)
		for _, line := range left {
			if strings.Contains(line, text) {
				return
			}
		}
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("no process with %q in its command line among %v", text, left)
		}
	}
}

// names lists a directory; a missing one is empty.
func names(t *testing.T, dir string) (list []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	for _, e := range entries {
		list = append(list, e.Name())
	}
	return list
}

// namespaces lists the network namespaces that the demo's processes are in, other than
// this test's, as the kernel names them.
func (d *demo) namespaces(t *testing.T) (list []string) {
	t.Helper()
	own, err := os.Readlink("/proc/thread-self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	for pid := range d.processes(t) {
		if ns, err := os.Readlink("/proc/" + pid + "/ns/net"); err == nil && ns != own {
			list = append(list, ns)
		}
	}
	if len(list) == 0 {
		t.Fatal("no process of the demo is in a namespace of its own")
	}
	return list
}

// checkNothingLeft wants no process, no scratch directory, and no name that would keep
// one of the namespaces.
func (d *demo) checkNothingLeft(t *testing.T, namespaces ...string) {
	t.Helper()
	d.awaitNoProcess(t)
	if left := names(t, d.scratch); len(left) > 0 {
		t.Errorf("scratch space is left with %v", left)
	}
	for _, name := range names(t, "/run/netns") {
		if strings.HasPrefix(name, "mrtest-") {
			continue // another test's: the kernel gives the number of a namespace again
		}
		info, err := os.Stat(filepath.Join("/run/netns", name))
		if err != nil {
			continue // another test's, just deleted
		}
		if id := fmt.Sprintf("net:[%d]", info.Sys().(*syscall.Stat_t).Ino); slices.Contains(namespaces, id) {
			t.Errorf("namespace %s is left as %s", id, name)
		}
	}
}

// midway is the step at which the tests strike: all the demo's processes run then.
const midway = "engine: TCP pod to pod (1 of 1)"

// TestIntegrationDemo runs the built demo to its end, interrupts one, and kills one.
func TestIntegrationDemo(t *testing.T) {
	binaries := buildProduct(t)
	t.Run("whole", func(t *testing.T) {
		d := startDemo(t, binaries, t.TempDir(), 1)
		if code := d.awaitEnd(t); code != 0 {
			t.Errorf("exit code %d, want 0", code)
		}
		if r := d.result(t); !r.Complete || r.Problem != "" || len(r.Measurements) == 0 || len(r.Checks) == 0 {
			t.Errorf("complete %t, problem %q, %d measurements, %d checks; want a whole result",
				r.Complete, r.Problem, len(r.Measurements), len(r.Checks))
		}
		d.checkNothingLeft(t)
	})
	t.Run("interrupted", func(t *testing.T) {
		d := startDemo(t, binaries, t.TempDir(), 60)
		d.awaitText(t, midway)
		d.awaitProcess(t, "iperf3 -c")
		namespaces := d.namespaces(t)
		if err := d.cmd.Process.Signal(syscall.SIGINT); err != nil {
			t.Fatal(err)
		}
		if code := d.awaitEnd(t); code != 1 {
			t.Errorf("exit code %d, want 1", code)
		}
		if r := d.result(t); r.Complete || !strings.Contains(r.Problem, context.Canceled.Error()) || len(r.Measurements) == 0 {
			t.Errorf("complete %t, problem %q, %d measurements; want a partial result that says so", r.Complete, r.Problem, len(r.Measurements))
		}
		d.checkNothingLeft(t, namespaces...)
	})
	t.Run("killed", func(t *testing.T) {
		scratch := t.TempDir()
		d := startDemo(t, binaries, scratch, 60)
		d.awaitText(t, midway)
		for _, child := range []string{"millrace manager", "millrace engine", "millrace agent", "iperf3 -s", "iperf3 -c"} {
			d.awaitProcess(t, child)
		}
		if err := d.cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		d.awaitEnd(t)
		d.awaitNoProcess(t)
		// iperf3 makes a temporary file and unlinks it at once; killed between, it leaves it.
		own, err := filepath.Glob(filepath.Join(scratch, "iperf3.*"))
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range own {
			if err := os.Remove(file); err != nil {
				t.Fatal(err)
			}
		}
		stale := names(t, scratch)
		if len(stale) == 0 {
			t.Error("a killed demo left no scratch directory: this test proves nothing about sweeping")
		}
		next := startDemo(t, binaries, scratch, 1)
		next.awaitText(t, midway)
		for _, name := range names(t, scratch) {
			if slices.Contains(stale, name) {
				t.Errorf("the next demo did not sweep %s", name)
			}
		}
		if code := next.awaitEnd(t); code != 0 {
			t.Errorf("the next demo's exit code is %d, want 0", code)
		}
		next.checkNothingLeft(t)
	})
}
