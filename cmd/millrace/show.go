package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"

	"github.com/millrace/millrace/agent"
	"github.com/millrace/millrace/dataplane"
	"github.com/millrace/millrace/internal/nodeconfig"
)

func runShow(ctx context.Context, args []string) error { return show(ctx, args, os.Stdout) }

// show prints what the agent of this node believes, or the ACLs that its dataplane has.
func show(ctx context.Context, args []string, stdout io.Writer) error {
	const whats = "want facts (what the agent knows), state (what its dataplane has, with --want what it should have), " +
		"plan (the difference), problems (policies that fail closed here) or acl (the ACLs in the dataplane, with counters)"
	if len(args) == 0 {
		return errors.New(whats)
	}
	set := flag.NewFlagSet("show "+args[0], flag.ContinueOnError)
	want := set.Bool("want", false, "of state: what the dataplane should have")
	nodeFlags(set)
	if err := parse(set, args[1:]); err != nil {
		return err
	}
	cfg, err := nodeOf(set)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, ctlPatience)
	defer cancel()
	text, err := shown(ctx, cfg, args[0], *want)
	if errors.Is(err, errNothingShown) {
		return errors.New(whats)
	}
	if err != nil {
		return err
	}
	_, err = fmt.Fprint(stdout, text)
	return err
}

var errNothingShown = errors.New("nothing is called that")

func shown(ctx context.Context, cfg nodeconfig.Config, what string, want bool) (string, error) {
	views := agent.Views{Socket: cfg.Sockets.Agent}
	switch what {
	case "facts", "problems":
		return views.Text(ctx, what)
	case "state":
		return views.Text(ctx, map[bool]string{false: "have", true: "want"}[want])
	case "plan":
		wanted, err := views.Want(ctx)
		if err != nil {
			return "", err
		}
		have, err := views.Have(ctx)
		return dataplane.Diff(have, wanted).String(), err
	case "acl":
		machine, err := lookAt(ctx, cfg, cfg.NodeName)
		return machine.ACLs(), err
	}
	return "", errNothingShown
}
