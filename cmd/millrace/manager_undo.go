package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/millrace/millrace/internal/nodeconfig"
	"github.com/millrace/millrace/vppmanager/change"
)

// runManagerUndo gives the host back what a manager that was killed still has of it.
func runManagerUndo(ctx context.Context, args []string) error {
	set := flag.NewFlagSet("manager undo", flag.ContinueOnError)
	set.String("config", nodeconfig.Path, "the NodeConfig `file`, which names the state directory")
	if err := parse(set, args); err != nil {
		return err
	}
	cfg, err := readNodeConfig(set)
	if err != nil {
		return err
	}
	if err := settle(&cfg); err != nil {
		return err
	}
	return undoChanges(ctx, cfg.StateDir, os.Stdout)
}

func undoChanges(ctx context.Context, stateDir string, out io.Writer) (err error) {
	if _, err := os.Stat(stateDir); errors.Is(err, fs.ErrNotExist) {
		_, err = fmt.Fprintf(out, "nothing to undo: there is no %s\n", stateDir)
		return err
	}
	journal, err := change.Open(stateDir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, journal.Close()) }()
	if len(journal.Pending()) == 0 {
		fmt.Fprintln(out, "nothing to undo")
	}
	host := change.Host{Root: "/", Tell: func(line string) { fmt.Fprintln(out, line) }}
	return host.Undo(ctx, journal)
}
