package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/millrace/millrace/benchmarks/cores"
	"github.com/millrace/millrace/benchmarks/generator"
	"github.com/millrace/millrace/benchmarks/rig"
	"github.com/millrace/millrace/benchmarks/scenario"
)

// memifFlags are the flags of `bench memif`.
type memifFlags struct {
	scenario, testpmd, out string
	vppBin, gomemif        string
	routes                 int
	sizes, queues, cores   []int
	repetitions, batch     int
	window                 time.Duration

	rateSizes []int // of the rate search, which takes longer: fewer unless they were asked for
	searches  int
}

func (m *memifFlags) bind(fs *flag.FlagSet) {
	fs.StringVar(&m.scenario, "scenario", "transport", "what to measure: transport, forward, rate (without loss, and latency), or all")
	fs.Func("sizes", "bytes of a frame, a list (default 64,1500; for rate 64)", numbers(&m.sizes, generator.MinFrame, generator.MaxFrame))
	fs.Func("queues", "queues of a link, a list (default 1)", numbers(&m.queues, 1, 16))
	fs.Func("cores", "cores of sender and receiver (default 1,0)", numbers(&m.cores, 0, 1<<16))
	fs.IntVar(&m.repetitions, "repetitions", 5, "repetitions of each window; for rate the default is 3 searches")
	fs.IntVar(&m.batch, "batch", generator.DefaultBatch, "frames per call of the library")
	fs.DurationVar(&m.window, "window", rig.DefaultTiming().Window, "length of a window")
	fs.StringVar(&m.testpmd, "testpmd", "auto", "DPDK's dpdk-testpmd; auto = when it is in PATH, empty = without")
	fs.StringVar(&m.vppBin, "vpp-bin", os.Getenv("VPP_BIN"), "FD.io VPP's binary (default $VPP_BIN), to compare forwarding with; empty leaves it out")
	fs.StringVar(&m.gomemif, "gomemif", "", "a `program` that plays an end of a link with gomemif, speaking as package benchmarks/peer does; empty leaves it out")
	fs.IntVar(&m.routes, "routes", 100_000, "routes of the forwarding comparison")
	fs.StringVar(&m.out, "out", "dist/bench-memif", "directory for result.json and report.html")
}

// numbers reads a list like 64,1500.
func numbers(to *[]int, low, high int) func(string) error {
	return func(text string) error {
		var list []int
		for word := range strings.SplitSeq(text, ",") {
			n, err := strconv.Atoi(strings.TrimSpace(word))
			if err != nil {
				return fmt.Errorf("%q is no list of numbers", text)
			}
			if n < low || n > high {
				return fmt.Errorf("%d is not between %d and %d", n, low, high)
			}
			list = append(list, n)
		}
		*to = list
		return nil
	}
}

// defaults fills in what was not given.
func (m *memifFlags) defaults(fs *flag.FlagSet) {
	m.rateSizes, m.searches = m.sizes, 3
	if m.sizes == nil {
		m.sizes, m.rateSizes = []int{64, 1500}, []int{64}
	}
	fs.Visit(func(f *flag.Flag) {
		if f.Name == "repetitions" {
			m.searches = m.repetitions
		}
	})
}

// complete checks the flags and finds the tools, before anything is started.
func (m *memifFlags) complete() error {
	if m.repetitions < 1 {
		return fmt.Errorf("flag --repetitions: %d is too few: want at least 1", m.repetitions)
	}
	if m.window < 10*time.Millisecond || m.window > 800*time.Millisecond {
		return fmt.Errorf("flag --window: %s is not between 10ms and 800ms: Linux stops threads of high priority that do not pause", m.window)
	}
	if !slices.Contains([]string{"transport", "forward", "rate", "all"}, m.scenario) {
		return fmt.Errorf("flag --scenario: %q is none of transport, forward, rate, all", m.scenario)
	}
	if m.routes < 1 || m.routes > 200_000 {
		return fmt.Errorf("flag --routes: %d is not between 1 and 200000", m.routes)
	}
	if m.gomemif != "" {
		if _, err := exec.LookPath(m.gomemif); err != nil {
			return fmt.Errorf("flag --gomemif: %w", err)
		}
	}
	if m.vppBin != "" {
		if _, err := exec.LookPath(m.vppBin); err != nil {
			return fmt.Errorf("flag --vpp-bin: find FD.io VPP 25.10: %w", err)
		}
	}
	if len(m.cores) != 2 || m.cores[0] == m.cores[1] {
		return fmt.Errorf("flag --cores: %v: want two different ones", m.cores)
	}
	if err := cores.Check(m.cores...); err != nil {
		return fmt.Errorf("flag --cores: %w", err)
	}
	if m.testpmd == "auto" {
		m.testpmd, _ = exec.LookPath("dpdk-testpmd") // without it there is one subject less, which the table shows
	} else if m.testpmd != "" {
		if _, err := exec.LookPath(m.testpmd); err != nil {
			return fmt.Errorf("flag --testpmd (Debian's package dpdk-dev has it; empty leaves it out): %w", err)
		}
	}
	return nil
}

func runBenchMemif(ctx context.Context, args []string) error {
	m := memifFlags{queues: []int{1}, cores: []int{1, 0}}
	fs := flag.NewFlagSet("bench memif", flag.ContinueOnError)
	m.bind(fs)
	if err := parse(fs, args); err != nil {
		return err
	}
	m.defaults(fs)
	if err := m.complete(); err != nil {
		return err
	}
	return runScenarios(ctx, m.scenario, []benchScenario{{"transport", m.transport}, {"forward", m.forward}, {"rate", m.rate}})
}

// routers are the engine, and VPP where it is.
func (m *memifFlags) routers() ([]*rig.Router, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find own binary: %w", err)
	}
	list := []*rig.Router{rig.EngineRouter(self, version, m.cores[1])}
	if m.vppBin != "" {
		list = append(list, rig.VPPRouter(m.vppBin, m.cores[1], m.cores[0]))
	}
	return list, nil
}

// rate searches what routers carry without loss.
func (m *memifFlags) rate(ctx context.Context) error {
	routers, err := m.routers()
	if err != nil {
		return err
	}
	timing := rig.DefaultTiming()
	timing.Window = m.window
	bar := &progressLine{out: os.Stderr}
	result, err := scenario.Rate{
		Title: "Millrace benchmark: IPv4 forwarding from memif to memif without loss, and its latency", Routers: routers, Routes: m.routes,
		Sizes: m.rateSizes, Batch: m.batch, Repetitions: m.searches, Timing: timing, Cores: [2]int{m.cores[0], m.cores[1]}, Progress: bar.show,
	}.Run(ctx)
	bar.clear()
	if result != nil {
		err = errors.Join(err, publish(result, filepath.Join(m.out, "rate")))
	}
	return err
}

// forward compares routers.
func (m *memifFlags) forward(ctx context.Context) error {
	routers, err := m.routers()
	if err != nil {
		return err
	}
	timing := rig.DefaultTiming()
	timing.Window = m.window
	bar := &progressLine{out: os.Stderr}
	var errs []error
	for _, size := range m.sizes[:1] {
		result, err := scenario.Forward{
			Title: "Millrace benchmark: IPv4 forwarding from memif to memif on one core", Routers: routers, Routes: m.routes, Hot: 1024,
			Size: size, Batch: m.batch, Repetitions: m.repetitions, Timing: timing, Cores: [2]int{m.cores[0], m.cores[1]}, Progress: bar.show,
		}.Run(ctx)
		bar.clear()
		if result != nil {
			err = errors.Join(err, publish(result, filepath.Join(m.out, "forward")))
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

func (m *memifFlags) transport(ctx context.Context) error {
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find own binary: %w", err)
	}
	pairs, err := scenario.Tools{Millrace: self, Version: version, Testpmd: m.testpmd, Gomemif: m.gomemif, Batch: m.batch}.Pairs(ctx)
	if err != nil {
		return err
	}
	timing := rig.DefaultTiming()
	timing.Window = m.window
	bar := &progressLine{out: os.Stderr}
	result, err := scenario.Transport{
		Title: "Millrace benchmark: frames from one process to another over memif", Pairs: pairs, Sizes: m.sizes, Queues: m.queues,
		Repetitions: m.repetitions, Timing: timing,
		Cores: [2]int{m.cores[0], m.cores[1]}, Progress: bar.show,
	}.Run(ctx)
	bar.clear()
	if result == nil {
		return err
	}
	return errors.Join(err, publish(result, filepath.Join(m.out, "transport")))
}
