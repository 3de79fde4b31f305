// Command millrace is the whole product in one binary: the dataplane manager, the
// agent, the embedded engine, the demo and the benchmarks, one verb each.
//
// It owns flags, configuration and exit codes. It never holds logic: each verb builds
// values and runs one of the packages.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"text/tabwriter"
)

// version is set by the linker.
var version = "dev"

// verb is one subcommand: its name, one line of help and what runs it. args are what
// stands behind the verb; run parses its own flags from them.
type verb struct {
	name string
	help string
	run  func(ctx context.Context, args []string) error
}

// verbs stands in the order that help prints.
func verbs() []verb {
	return []verb{
		{"manager", "boot the dataplane (VPP or the engine), watch it, restart it; `manager undo` gives the host back after a crash", runManager},
		{"node", "`node inspect` prints what this node has: NICs, CPUs, huge pages, and which drivers work", runNode},
		{"agent", "program the dataplane for this node's pods and serve the CNI plugin; `agent undo` takes off the host what a stopped one left there", runAgent},
		{"engine", "run the embedded packet engine, which speaks VPP's binary API", runEngine},
		{"install", "`install cni` puts the CNI plugin on this node and keeps it there, `install check` sees whether it is", runInstall},
		{"ctl", "have the dataplane run one of its debug commands: `ctl show interface`", runCtl},
		{"policy", "`policy explain` says why a connection is allowed or not, `policy test` judges manifests offline", runPolicy},
		{"show", "what the agent knows, wants and has (`show facts|state|plan|problems`), and the dataplane's ACLs (`show acl`)", runShow},
		{"config", "`config show` prints the NodeConfig with all defaults, `config check` tests one", runConfig},
		{"demo", "boot the dataplane, wire two pods, measure them beside the kernel's path", runDemo},
		{"bench", "measure with more repetitions; `bench readme` renders stored results", runBench},
	}
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(dispatch(ctx, os.Args[1:], os.Stderr))
}

// dispatch runs one verb and returns the process's exit code: 0 done, 1 failed, 2 misused,
// 3 the readings of policy explain disagree.
func dispatch(ctx context.Context, args []string, stderr io.Writer) int {
	if len(args) == 0 {
		usage(stderr)
		return 2
	}
	for _, v := range verbs() {
		if v.name != args[0] {
			continue
		}
		err := v.run(ctx, args[1:])
		switch {
		case err == nil, errors.Is(err, flag.ErrHelp):
			return 0
		default:
			fmt.Fprintf(stderr, "millrace %s: %v\n", v.name, err)
			if errors.Is(err, errDisagree) {
				return 3
			}
			return 1
		}
	}
	if args[0] == "help" || args[0] == "-h" || args[0] == "--help" {
		usage(stderr)
		return 0
	}
	fmt.Fprintf(stderr, "millrace: no verb %q\n\n", args[0])
	usage(stderr)
	return 2
}

func usage(w io.Writer) {
	fmt.Fprint(w, "millrace VERB [flags]   (millrace VERB -h prints the flags of a verb)\n\n")
	t := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	for _, v := range verbs() {
		fmt.Fprintf(t, "  %s\t%s\n", v.name, v.help)
	}
	t.Flush()
}
