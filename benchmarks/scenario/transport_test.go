package scenario

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/millrace/millrace/benchmarks"
	"github.com/millrace/millrace/benchmarks/cores"
	"github.com/millrace/millrace/benchmarks/rig"
)

// library is the product's own pair, built for the test.
func library(t *testing.T) Pair {
	t.Helper()
	if err := cores.Check(0, 1); err != nil {
		t.Skipf("needs two cores: %v", err)
	}
	binary := filepath.Join(t.TempDir(), "millrace")
	if out, err := exec.Command("go", "build", "-o", binary, "github.com/millrace/millrace/cmd/millrace").CombinedOutput(); err != nil {
		t.Fatalf("build millrace: %v: %s", err, out)
	}
	pairs, err := Tools{Millrace: binary, Version: "test"}.Pairs(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range pairs[1:] {
		if p.Ends != nil || p.About.Version != "not measured" {
			t.Errorf("without its tool: %+v", p.About)
		}
	}
	return pairs[0]
}

// broken is an end that fails to start some times, then is as it should.
type broken struct {
	rig.End
	left *int
}

func (b broken) Start(ctx context.Context, l *rig.Launcher, c rig.EndConfig) ([]int, error) {
	if *b.left > 0 {
		*b.left--
		return nil, errors.New("broken for now")
	}
	return b.End.Start(ctx, l, c)
}

func (b broken) Stop() error {
	if lib, ok := b.End.(*rig.LibraryEnd); ok {
		return lib.Stop()
	}
	return nil
}

func transportOf(pairs ...Pair) Transport {
	return Transport{Title: "test", Pairs: pairs, Sizes: []int{64, 1500}, Queues: []int{1, 2}, Repetitions: 1, Cores: [2]int{1, 0}, Progress: func(Progress) {},
		Timing: rig.Timing{Settle: 20 * time.Millisecond, Warm: 20 * time.Millisecond, Window: 60 * time.Millisecond}}
}

// TestTransport runs the whole comparison shortly: each kind is measured or says why not,
// an end that fails is tried again, and what cannot do more queues is left out there.
func TestTransport(t *testing.T) {
	p := library(t)
	left := 2
	flaky := Pair{About: benchmarks.Subject{Name: "flaky"}, OneQueue: true, Command: p.Command, Ends: func() (rig.End, rig.End) {
		sender, receiver := p.Ends()
		return sender, broken{receiver, &left}
	}}
	r, err := transportOf(p, flaky, Pair{About: benchmarks.Subject{Name: "absent", Version: "not measured"}}).Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if !r.Complete || len(r.Subjects) != 3 {
		t.Errorf("complete %t, subjects %+v", r.Complete, r.Subjects)
	}
	failed := 0
	for _, d := range r.Discarded {
		if strings.Contains(d.Why, "broken for now") {
			failed++
		}
	}
	if failed != 2 || left != 0 {
		t.Errorf("%d failures were kept, %d are left; want 2 and 0", failed, left)
	}
	for _, m := range r.Measurements {
		switch {
		case m.Subject == "absent", m.Subject == "flaky" && strings.Contains(m.Name, "2q"):
			t.Errorf("%s of %s was measured", m.Name, m.Subject)
		case m.Samples[0] <= 0, strings.HasPrefix(m.Name, "rate") && len(m.Conditions) != len(m.Samples):
			t.Errorf("%s of %s: %v under %v", m.Name, m.Subject, m.Samples, m.Conditions)
		}
	}
	if n := len(r.Checks); n != 5 { // four kinds, and allocations
		t.Errorf("%d checks: %+v", n, r.Checks)
	}
}

// TestTransportGivesUp: an end that always fails ends the run with its reason.
func TestTransportGivesUp(t *testing.T) {
	p := library(t)
	left := 1000
	p.Ends = func(ends func() (rig.End, rig.End)) func() (rig.End, rig.End) {
		return func() (rig.End, rig.End) {
			sender, receiver := ends()
			return sender, broken{receiver, &left}
		}
	}(p.Ends)
	r, err := transportOf(p).Run(t.Context())
	if err == nil || !strings.Contains(err.Error(), "millrace: 64 B: broken for now") {
		t.Errorf("error %v", err)
	}
	if r == nil || r.Complete || !strings.Contains(r.Problem, "broken for now") {
		t.Errorf("result %+v", r)
	}
}

// TestTransportInterrupted: what was measured is there, and no process is left.
func TestTransportInterrupted(t *testing.T) {
	p := library(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	c := transportOf(p)
	steps := 0
	c.Progress = func(Progress) {
		if steps++; steps == 3 {
			cancel()
		}
	}
	r, err := c.Run(ctx)
	if !errors.Is(err, context.Canceled) || r == nil || r.Complete || len(r.Measurements)+len(r.Discarded) == 0 {
		t.Fatalf("Run = %+v, %v", r, err)
	}
	exes, err := filepath.Glob("/proc/[0-9]*/exe")
	if err != nil {
		t.Fatal(err)
	}
	for _, exe := range exes {
		if path, err := os.Readlink(exe); err == nil && strings.HasPrefix(path, filepath.Dir(t.TempDir())) {
			t.Errorf("%s still runs %s", exe, path)
		}
	}
}
