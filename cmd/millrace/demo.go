package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/millrace/millrace/benchmarks"
	"github.com/millrace/millrace/benchmarks/report"
	"github.com/millrace/millrace/benchmarks/rig"
	"github.com/millrace/millrace/benchmarks/scenario"
)

// comparisonFlags are the flags that demo and bench share.
type comparisonFlags struct {
	dataplane, vppBin, plugin, reference, out string
	repetitions, seconds, pods                int
}

func (c *comparisonFlags) bind(fs *flag.FlagSet) {
	fs.StringVar(&c.dataplane, "dataplane", "engine", "dataplane under test: engine, vpp, or both (vpp and both need --vpp-bin)")
	fs.StringVar(&c.vppBin, "vpp-bin", os.Getenv("VPP_BIN"), "FD.io VPP's binary (default $VPP_BIN)")
	fs.StringVar(&c.plugin, "plugin", "bin/millrace-cni", "the millrace-cni binary")
	fs.StringVar(&c.reference, "reference-plugins", "bin/reference", "directory of the CNI reference plugins bridge and host-local; empty leaves the kernel out")
	fs.IntVar(&c.repetitions, "repetitions", c.repetitions, "repetitions of each stream")
	fs.IntVar(&c.seconds, "seconds", c.seconds, "seconds of each stream")
	fs.IntVar(&c.pods, "pods", 50, "pods of the CNI latency step")
	fs.StringVar(&c.out, "out", c.out, "directory for result.json and report.html")
}

// subjects builds what is compared. The product comes first: ratios are its to others.
func (c *comparisonFlags) subjects() ([]rig.Subject, error) {
	for name, n := range map[string]int{"repetitions": c.repetitions, "seconds": c.seconds, "pods": c.pods} {
		if n < 1 {
			return nil, fmt.Errorf("flag --%s: %d is too few: want at least 1", name, n)
		}
	}
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find own binary: %w", err)
	}
	plugins, err := c.pluginDir()
	if err != nil {
		return nil, err
	}
	names := []string{c.dataplane}
	switch c.dataplane {
	case "engine", "vpp":
	case "both":
		names = []string{"engine", "vpp"}
	default:
		return nil, fmt.Errorf("flag --dataplane: %q is none of engine, vpp, both", c.dataplane)
	}
	var subjects []rig.Subject
	for _, name := range names {
		m := &rig.Millrace{Binary: self, PluginDir: plugins, Dataplane: name}
		if name == "vpp" {
			if c.vppBin == "" {
				return nil, errors.New("flag --dataplane: vpp needs FD.io VPP's binary: give --vpp-bin or set VPP_BIN")
			}
			if m.VPPBin, err = exec.LookPath(c.vppBin); err != nil {
				return nil, fmt.Errorf("flag --vpp-bin: find FD.io VPP 25.10: %w", err)
			}
		}
		subjects = append(subjects, m)
	}
	if c.reference != "" {
		dir, err := filepath.Abs(c.reference)
		if err != nil {
			return nil, fmt.Errorf("find reference plugins: %w", err)
		}
		kernel := &rig.Kernel{PluginDir: dir}
		if err := kernel.Check(); err != nil {
			return nil, fmt.Errorf("flag --reference-plugins (empty leaves the kernel out): %w", err)
		}
		subjects = append(subjects, kernel)
	}
	return subjects, nil
}

// pluginDir is where runtimes are told to look for the plugin, which they find by name.
func (c *comparisonFlags) pluginDir() (string, error) {
	const name = "millrace-cni"
	if filepath.Base(c.plugin) != name {
		return "", fmt.Errorf("flag --plugin: %q: want a file named %s", c.plugin, name)
	}
	path, err := filepath.Abs(c.plugin)
	if err == nil {
		_, err = exec.LookPath(path)
	}
	if err != nil {
		return "", fmt.Errorf("flag --plugin (`make build` builds it): %w", err)
	}
	return filepath.Dir(path), nil
}

// compare runs the comparison, stores and prints it. A failed check is an error, after
// everything was stored.
func (c *comparisonFlags) compare(ctx context.Context, title string) error {
	subjects, err := c.subjects()
	if err != nil {
		return err
	}
	if err := canMakeTraffic("ip", "ping", "iperf3"); err != nil {
		return err
	}
	bar := &progressLine{out: os.Stderr}
	result, err := scenario.Comparison{
		Title: title, Subjects: subjects, Repetitions: c.repetitions, Seconds: c.seconds, Pods: c.pods, Progress: bar.show,
	}.Run(ctx)
	bar.clear()
	if result == nil {
		return err
	}
	err = errors.Join(err, publish(result, c.out))
	if failed := len(result.Failed()); err == nil && failed > 0 {
		err = fmt.Errorf("%d of %d checks failed", failed, len(result.Checks))
	}
	return err
}

// publish stores the result and prints its table.
func publish(result *benchmarks.Result, dir string) error {
	if err := store(result, dir); err != nil {
		return err
	}
	if err := report.Table(os.Stdout, result); err != nil {
		return err
	}
	fmt.Printf("\n%s  %s\n", filepath.Join(dir, "report.html"), filepath.Join(dir, "result.json"))
	return nil
}

// store writes the result as data and as a page.
func store(result *benchmarks.Result, dir string) error {
	if err := result.Save(filepath.Join(dir, "result.json")); err != nil {
		return err
	}
	f, err := os.Create(filepath.Join(dir, "report.html"))
	if err != nil {
		return fmt.Errorf("store report: %w", err)
	}
	return errors.Join(report.HTML(f, result), f.Close())
}

func runDemo(ctx context.Context, args []string) error {
	c := comparisonFlags{repetitions: 3, seconds: 2, out: "demo-report"}
	fs := flag.NewFlagSet("demo", flag.ContinueOnError)
	c.bind(fs)
	if err := parse(fs, args); err != nil {
		return err
	}
	return c.compare(ctx, "Millrace demo: two pods talk through the dataplane")
}
