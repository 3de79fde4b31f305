package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"

	"github.com/millrace/millrace/benchmarks/rig"
	"github.com/millrace/millrace/benchmarks/scenario"
)

// runBenchRestart measures how long pods are cut off when the dataplane is killed.
func runBenchRestart(ctx context.Context, args []string) error {
	c := comparisonFlags{repetitions: 1, seconds: 1, pods: 1, out: "dist/bench-restart"}
	fs := flag.NewFlagSet("bench restart", flag.ContinueOnError)
	fs.StringVar(&c.dataplane, "dataplane", "engine", "engine, vpp or both")
	fs.StringVar(&c.vppBin, "vpp-bin", os.Getenv("VPP_BIN"), "FD.io VPP's `program` (default $VPP_BIN)")
	fs.StringVar(&c.plugin, "plugin", "bin/millrace-cni", "the CNI plugin's `binary`")
	fs.StringVar(&c.out, "out", c.out, "`directory` for result.json and report.html")
	kills := fs.Int("kills", 10, "kills of each dataplane, each on a new node")
	pods := fs.Int("pods", 10, "pods on the node beside the two that talk")
	if err := parse(fs, args); err != nil {
		return err
	}
	if *kills < 1 || *pods < 0 || *pods > 200 {
		return fmt.Errorf("flags --kills and --pods: %d and %d: want at least 1, and 0 to 200", *kills, *pods)
	}
	if _, err := c.subjects(); err != nil {
		return err
	}
	if os.Geteuid() != 0 {
		return errors.New("namespaces and interfaces need root: run it with sudo")
	}
	bar := &progressLine{out: os.Stderr}
	result, err := scenario.Restart{
		Title: "Millrace benchmark: the dataplane is killed under traffic", Kills: *kills, Pods: *pods, Progress: bar.show,
		Subjects: func() []*rig.Millrace { return c.nodes() },
	}.Run(ctx)
	bar.clear()
	if result == nil {
		return err
	}
	return errors.Join(err, publish(result, c.out))
}

// nodes are new subjects that run our own dataplanes; the flags have been checked.
func (c *comparisonFlags) nodes() []*rig.Millrace {
	subjects, err := c.subjects()
	if err != nil {
		return nil
	}
	var nodes []*rig.Millrace
	for _, s := range subjects {
		if m, ok := s.(*rig.Millrace); ok {
			nodes = append(nodes, m)
		}
	}
	return nodes
}
