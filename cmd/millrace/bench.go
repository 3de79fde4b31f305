package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"

	"github.com/millrace/millrace/benchmarks/peer"
	"github.com/millrace/millrace/benchmarks/report"
)

// runBench measures like the demo with more repetitions; `bench readme` renders stored
// results into the README instead.
func runBench(ctx context.Context, args []string) error {
	if len(args) > 0 {
		switch args[0] {
		case "readme":
			return renderReadme(args[1:])
		case "memif":
			return runBenchMemif(ctx, args[1:])
		case "policy":
			return runBenchPolicy(ctx, args[1:])
		case "nodes":
			return runBenchNodes(ctx, args[1:])
		case "restart":
			return runBenchRestart(ctx, args[1:])
		case "memif-peer": // a process that `bench memif` starts; see package peer
			return peer.Run(ctx, os.Stdin, os.Stdout)
		}
	}
	c := comparisonFlags{repetitions: 5, seconds: 3, out: "dist/bench"}
	fs := flag.NewFlagSet("bench", flag.ContinueOnError)
	c.bind(fs)
	if err := parse(fs, args); err != nil {
		return err
	}
	return c.compare(ctx, "Millrace benchmark: pod to pod on one node")
}

func renderReadme(args []string) error {
	fs := flag.NewFlagSet("bench readme", flag.ContinueOnError)
	results := fs.String("results", "benchmarks/results", "directory of stored results")
	readme := fs.String("readme", "README.md", "file whose marked blocks are rendered")
	if err := parse(fs, args); err != nil {
		return err
	}
	changed, err := report.RenderReadme(*readme, *results)
	if err == nil && changed {
		fmt.Printf("%s: figures rendered from %s\n", *readme, *results)
	}
	return err
}

// benchScenario is one thing that a verb of bench measures.
type benchScenario struct {
	name string
	run  func(context.Context) error
}

// runScenarios runs those of a name, or all, in order, until ctx ends.
func runScenarios(ctx context.Context, chosen string, list []benchScenario) error {
	var errs []error
	for _, s := range list {
		if (chosen == s.name || chosen == "all") && ctx.Err() == nil {
			errs = append(errs, s.run(ctx))
		}
	}
	return errors.Join(errs...)
}
