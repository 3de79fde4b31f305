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
	"strings"
	"time"

	"github.com/millrace/millrace/benchmarks/cores"
	"github.com/millrace/millrace/benchmarks/rig"
	"github.com/millrace/millrace/benchmarks/scenario"
	"github.com/millrace/millrace/memif"
)

// policyFlags are the flags of `bench policy`.
type policyFlags struct {
	scenario, out string
	vppBin        string
	rules, loads  []string
	routes        int
	cores         []int
	repetitions   int
	batch         int
	window        time.Duration
}

func (p *policyFlags) bind(fs *flag.FlagSet) {
	fs.StringVar(&p.scenario, "scenario", "all", "what to measure: acl (forwarding through access lists), compile (policies to ACLs, and these into the dataplane), or all")
	fs.Func("rules", "lists of the acl scenario, some of "+strings.Join(scenario.ACLRules(), ",")+" (default all)", words(&p.rules, scenario.ACLRules()))
	fs.Func("loads", "traffic of the acl scenario, some of "+strings.Join(scenario.ACLLoads(), ",")+" (default all)", words(&p.loads, scenario.ACLLoads()))
	fs.Func("cores", "cores of generator and worker (default 1,0)", numbers(&p.cores, 0, 1<<16))
	fs.IntVar(&p.repetitions, "repetitions", 5, "repetitions of each window")
	fs.IntVar(&p.batch, "batch", 256, "frames per call of the library")
	fs.DurationVar(&p.window, "window", 300*time.Millisecond, "length of a window")
	fs.StringVar(&p.vppBin, "vpp-bin", os.Getenv("VPP_BIN"), "FD.io VPP's binary (default $VPP_BIN), to compare with; empty leaves it out")
	fs.IntVar(&p.routes, "routes", 10_000, "routes that frames are looked up among")
	fs.StringVar(&p.out, "out", "dist/bench-policy", "directory for result.json and report.html")
}

// words reads a list of names, each one of those that there are.
func words(to *[]string, known []string) func(string) error {
	return func(text string) error {
		*to = strings.Split(text, ",")
		for _, name := range *to {
			if !slices.Contains(known, name) {
				return fmt.Errorf("%q is none of %s", name, strings.Join(known, ", "))
			}
		}
		return nil
	}
}

// complete checks the flags before anything is started.
func (p *policyFlags) complete() error {
	switch {
	case !slices.Contains([]string{"acl", "compile", "all"}, p.scenario):
		return fmt.Errorf("flag --scenario: %q is none of acl, compile, all", p.scenario)
	case p.repetitions < 1:
		return fmt.Errorf("flag --repetitions: %d is too few: want at least 1", p.repetitions)
	case p.batch < 1 || p.batch > memif.MaxRingSize:
		return fmt.Errorf("flag --batch: %d is not between 1 and %d", p.batch, memif.MaxRingSize)
	case p.window < 10*time.Millisecond || p.window > 800*time.Millisecond:
		return fmt.Errorf("flag --window: %s is not between 10ms and 800ms: Linux stops threads of high priority that do not pause", p.window)
	case p.routes < 1 || p.routes > 200_000:
		return fmt.Errorf("flag --routes: %d is not between 1 and 200000", p.routes)
	case len(p.cores) != 2 || p.cores[0] == p.cores[1]:
		return fmt.Errorf("flag --cores: %v: want two different ones", p.cores)
	}
	if p.vppBin != "" {
		if _, err := exec.LookPath(p.vppBin); err != nil {
			return fmt.Errorf("flag --vpp-bin: find FD.io VPP 25.10: %w", err)
		}
	}
	if err := cores.Check(p.cores...); err != nil {
		return fmt.Errorf("flag --cores: %w", err)
	}
	return nil
}

func runBenchPolicy(ctx context.Context, args []string) error {
	p := policyFlags{cores: []int{1, 0}}
	fs := flag.NewFlagSet("bench policy", flag.ContinueOnError)
	p.bind(fs)
	if err := parse(fs, args); err != nil {
		return err
	}
	if err := p.complete(); err != nil {
		return err
	}
	return runScenarios(ctx, p.scenario, []benchScenario{{"compile", p.compile}, {"compile", p.apply}, {"acl", p.acl}})
}

// The cluster of the compile scenario: 1000 namespaces of ten pods, 250 pods on the node.
const (
	compileNamespaces = 1000
	compileLocal      = 250
)

// compile measures the policy compiler.
func (p *policyFlags) compile(ctx context.Context) error {
	bar := &progressLine{out: os.Stderr}
	result, err := scenario.Compile{
		Title: "Millrace benchmark: Kubernetes policies to ACLs for one node", Version: version, Namespaces: compileNamespaces, Local: compileLocal,
		Repetitions: p.repetitions, Changes: 50, Sizes: []int{100, 1000, 5000}, Progress: bar.show,
	}.Run(ctx)
	bar.clear()
	if result != nil {
		err = errors.Join(err, publish(result, filepath.Join(p.out, "compile")))
	}
	return err
}

// apply measures how the dataplanes take what was compiled.
func (p *policyFlags) apply(ctx context.Context) error {
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find own binary: %w", err)
	}
	bar := &progressLine{out: os.Stderr}
	result, err := scenario.Apply{
		Title: "Millrace benchmark: the ACLs of a node into its dataplane", Routers: func() []*rig.Router {
			list := p.routers(self)
			list[0].Core = -1 // its main thread has a core of its own, as VPP's has
			return list
		},
		Namespaces: compileNamespaces, Local: compileLocal, Repetitions: min(p.repetitions, 3), Progress: bar.show,
	}.Run(ctx)
	bar.clear()
	if result != nil {
		err = errors.Join(err, publish(result, filepath.Join(p.out, "apply")))
	}
	return err
}

// routers are the engine, and VPP where it is, with the plugins that the agent works with.
func (p *policyFlags) routers(self string) []*rig.Router {
	list := []*rig.Router{rig.EngineRouter(self, version, p.cores[1])}
	if p.vppBin != "" {
		list = append(list, rig.VPPRouter(p.vppBin, p.cores[1], p.cores[0], "acl", "urpf"))
	}
	for _, r := range list {
		r.Arms = 2
	}
	return list
}

// acl measures what access lists cost the engine, and VPP where it is.
func (p *policyFlags) acl(ctx context.Context) error {
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find own binary: %w", err)
	}
	timing := rig.DefaultTiming()
	timing.Window = p.window
	bar := &progressLine{out: os.Stderr}
	result, err := scenario.ACL{
		Title: "Millrace benchmark: IPv4 forwarding through access lists from memif to memif on one core", Routers: p.routers(self), Rules: p.rules, Loads: p.loads, Routes: p.routes,
		Size: 64, Batch: p.batch, Repetitions: p.repetitions, Timing: timing, Cores: [2]int{p.cores[0], p.cores[1]}, Progress: bar.show,
	}.Run(ctx)
	bar.clear()
	if result != nil {
		err = errors.Join(err, publish(result, filepath.Join(p.out, "acl")))
	}
	return err
}
