package scenario

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/millrace/millrace/benchmarks/rig"
	"github.com/millrace/millrace/internal/netnstest"
)

// kernel builds the reference plugins and returns the kernel as a subject.
func kernel(t *testing.T) *rig.Kernel {
	t.Helper()
	netnstest.NeedRoot(t)
	if _, err := exec.LookPath("iperf3"); err != nil {
		t.Skip("needs iperf3")
	}
	dir := t.TempDir()
	cmd := exec.Command("go", "build", "-o", dir+"/",
		"github.com/containernetworking/plugins/plugins/main/bridge", "github.com/containernetworking/plugins/plugins/ipam/host-local")
	cmd.Dir = filepath.Join("..", "reference")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build reference plugins: %v: %s", err, out)
	}
	return &rig.Kernel{PluginDir: dir}
}

// TestIntegrationKernelComparison runs the whole experiment on the kernel's path, which
// is known to work: every figure has its samples and every check passes.
func TestIntegrationKernelComparison(t *testing.T) {
	steps := 0
	c := Comparison{Title: "test", Subjects: []rig.Subject{kernel(t)}, Repetitions: 1, Seconds: 1, Pods: 3,
		Progress: func(p Progress) {
			steps++
			if p.Done > p.Total {
				t.Errorf("step %q: %d of %d done", p.Step, p.Done, p.Total)
			}
		}}
	r, err := c.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]int{"tcp": 1, "tcp-reverse": 1, "tcp6": 1, "udp-64": 1, "cni-add": 3, "cni-del": 3, "ping": 4, "plugin-start": 20, "plugin-size": 1} {
		if m, ok := r.Find(name, "kernel"); !ok || len(m.Samples) != want {
			t.Errorf("%s has %d samples, want %d", name, len(m.Samples), want)
		}
	}
	if failed := r.Failed(); len(failed) > 0 || len(r.Checks) != 4 || !r.Complete {
		t.Errorf("checks %+v, complete %t", r.Checks, r.Complete)
	}
	if steps < 8 {
		t.Errorf("progress was told %d times", steps)
	}
}

// TestIntegrationInterrupted: a run that is cut short returns what it has and says so.
func TestIntegrationInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	c := Comparison{Title: "test", Subjects: []rig.Subject{kernel(t)}, Repetitions: 1, Seconds: 30, Pods: 3,
		Progress: func(p Progress) {
			if p.Done > 6 {
				cancel()
			}
		}}
	r, err := c.Run(ctx)
	if !errors.Is(err, context.Canceled) {
		t.Fatalf("Run = %v, want context.Canceled", err)
	}
	if r.Complete || r.Problem == "" || len(r.Checks) == 0 {
		t.Errorf("partial result: complete %t, problem %q, %d checks", r.Complete, r.Problem, len(r.Checks))
	}
}
