package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/millrace/millrace/benchmarks/rig"
	"github.com/millrace/millrace/benchmarks/scenario"
)

// nodesFlags are the flags of `bench nodes`.
type nodesFlags struct {
	comparisonFlags
	subjects, ways, wires []string
}

// nodesSubjects are what can be compared.
func nodesSubjects() []string { return []string{"engine", "engine-share", "vpp", "kernel"} }

func (n *nodesFlags) bind(fs *flag.FlagSet) {
	fs.StringVar(&n.vppBin, "vpp-bin", os.Getenv("VPP_BIN"), "FD.io VPP's `program` (default $VPP_BIN); empty leaves VPP out")
	fs.StringVar(&n.plugin, "plugin", "bin/millrace-cni", "the CNI plugin's `binary`")
	fs.StringVar(&n.reference, "reference-plugins", "bin/reference", "`directory` of the CNI reference plugins bridge and host-local; empty leaves the kernel out")
	fs.StringVar(&n.out, "out", "dist/bench-nodes", "`directory` for result.json and report.html")
	fs.IntVar(&n.repetitions, "repetitions", 5, "repetitions of each stream")
	fs.IntVar(&n.seconds, "seconds", 2, "seconds of each stream")
	fs.Func("subjects", "some of "+strings.Join(nodesSubjects(), ",")+" (default all that there are)", words(&n.subjects, nodesSubjects()))
	fs.Func("ways", "from node to node, some of "+strings.Join(scenario.NodesWays(), ",")+" (default all)", words(&n.ways, scenario.NodesWays()))
	fs.Func("wires", "between the nodes, some of "+strings.Join(rig.Wires(), ",")+" (default all)", words(&n.wires, rig.Wires()))
}

// kinds builds what is compared: ratios are the first's to the others.
func (n *nodesFlags) kinds() ([]rig.NodesKind, error) {
	n.dataplane, n.pods = "engine", 1
	all := append([]string{}, n.subjects...)
	if len(all) == 0 {
		all = []string{"engine", "engine-share"}
		if n.vppBin != "" {
			all = append(all, "vpp")
		}
		if n.reference != "" {
			all = append(all, "kernel")
		}
	}
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find own binary: %w", err)
	}
	plugins, err := n.pluginDir()
	if err != nil {
		return nil, err
	}
	own := rig.Millrace{Binary: self, PluginDir: plugins, Dataplane: "engine"}
	var kinds []rig.NodesKind
	for _, name := range all {
		switch name {
		case "engine":
			kinds = append(kinds, rig.MillraceNodes(name, own, "own"))
		case "engine-share":
			kinds = append(kinds, rig.MillraceNodes(name, own, "share"))
		case "vpp":
			vpp := own
			vpp.Dataplane = name
			if vpp.VPPBin, err = exec.LookPath(n.vppBin); err != nil {
				return nil, fmt.Errorf("flag --vpp-bin: find FD.io VPP 25.10: %w", err)
			}
			kinds = append(kinds, rig.MillraceNodes(name, vpp, "own"))
		case "kernel":
			dir, err := filepath.Abs(n.reference)
			if err != nil {
				return nil, fmt.Errorf("find reference plugins: %w", err)
			}
			if err := (&rig.Kernel{PluginDir: dir}).Check(); err != nil {
				return nil, fmt.Errorf("flag --reference-plugins (empty leaves the kernel out): %w", err)
			}
			kinds = append(kinds, rig.KernelNodes(dir))
		}
	}
	return kinds, nil
}

// runBenchNodes compares what gets from a pod of one node to a pod of another.
func runBenchNodes(ctx context.Context, args []string) error {
	n := nodesFlags{ways: scenario.NodesWays(), wires: rig.Wires()}
	fs := flag.NewFlagSet("bench nodes", flag.ContinueOnError)
	n.bind(fs)
	if err := parse(fs, args); err != nil {
		return err
	}
	if n.repetitions < 1 || n.seconds < 1 {
		return fmt.Errorf("flags --repetitions and --seconds: %d and %d: want at least 1", n.repetitions, n.seconds)
	}
	kinds, err := n.kinds()
	if err != nil {
		return err
	}
	if err := canMakeTraffic("ip", "sysctl", "ethtool", "ping", "iperf3"); err != nil {
		return err
	}
	bar := &progressLine{out: os.Stderr}
	result, err := scenario.Nodes{
		Title: "Millrace benchmark: from a pod of one node to a pod of another", Kinds: kinds, Ways: n.ways, Wires: n.wires,
		Repetitions: n.repetitions, Seconds: n.seconds, Progress: bar.show,
	}.Run(ctx)
	bar.clear()
	if result == nil {
		return err
	}
	return errors.Join(err, publish(result, n.out))
}

// canMakeTraffic says what is missing to make namespaces and the traffic between them.
func canMakeTraffic(tools ...string) error {
	if os.Geteuid() != 0 {
		return errors.New("namespaces and interfaces need root: run it with sudo")
	}
	for _, tool := range tools {
		if _, err := exec.LookPath(tool); err != nil {
			return fmt.Errorf("find what makes the traffic (`make setup` installs it): %w", err)
		}
	}
	return nil
}
