package main

import (
	"context"
	"encoding"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/millrace/millrace/internal/nodeconfig"
)

// readNodeConfig reads the file that the flag named "config" of set holds; in a pod (the
// environment has NODE_NAME) the file beside it that is named after the node, such as
// worker-1.yaml, stands in for it. The default file may be missing, one that was asked for
// may not. The caller lays its flags over the result, then calls settle.
func readNodeConfig(set *flag.FlagSet) (nodeconfig.Config, error) {
	file := set.Lookup("config").Value.String()
	if node := os.Getenv("NODE_NAME"); node != "" && node == filepath.Base(node) {
		own := filepath.Join(filepath.Dir(file), node+".yaml")
		if _, err := os.Stat(own); err == nil {
			file = own
		} else if !errors.Is(err, fs.ErrNotExist) {
			return nodeconfig.Config{}, fmt.Errorf("read NodeConfig of this node: %w", err)
		}
	}
	data, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) && !given(set)["config"] {
		return nodeconfig.Default(), nil
	}
	if err != nil {
		return nodeconfig.Config{}, fmt.Errorf("read NodeConfig: %w", err)
	}
	c, err := nodeconfig.Decode(data)
	if err != nil {
		return nodeconfig.Config{}, fmt.Errorf("%s: %w", file, err)
	}
	return c, nil
}

// settle completes and checks a configuration.
func settle(c *nodeconfig.Config) error {
	hostname, err := os.Hostname()
	if err != nil {
		return fmt.Errorf("read host name: %w", err)
	}
	c.Complete(hostname)
	return c.Validate()
}

// parse reads a verb's flags; a verb takes nothing else.
func parse(set *flag.FlagSet, args []string) error {
	if err := set.Parse(args); err != nil {
		return err
	}
	if set.NArg() > 0 {
		return fmt.Errorf("argument %q: want flags only", set.Arg(0))
	}
	return nil
}

// overlay hands the value of each flag that stood on the command line to its reader.
func overlay(set *flag.FlagSet, readers map[string]func(string) error) error {
	names := given(set)
	for name, read := range readers {
		if !names[name] {
			continue
		}
		if err := read(set.Lookup(name).Value.String()); err != nil {
			return fmt.Errorf("flag --%s: %w", name, err)
		}
	}
	return nil
}

// path reads a flag that names a file, relative to the working directory.
func path(into *string) func(string) error {
	return func(value string) (err error) {
		if value == "" {
			return errors.New("is empty: want a path")
		}
		*into, err = filepath.Abs(value)
		return err
	}
}

// word reads a flag that is one of a few words.
func word(into encoding.TextUnmarshaler) func(string) error {
	return func(value string) error { return into.UnmarshalText([]byte(value)) }
}

// given returns the flags that stood on the command line.
func given(set *flag.FlagSet) map[string]bool {
	names := map[string]bool{}
	set.Visit(func(f *flag.Flag) { names[f.Name] = true })
	return names
}

// newLogger logs to the standard error.
func newLogger(level nodeconfig.LogLevel) (*slog.Logger, error) {
	var l slog.Level
	if err := l.UnmarshalText([]byte(level)); err != nil {
		return nil, fmt.Errorf("choose log level: %w", err)
	}
	return slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: l})), nil
}

func runConfig(_ context.Context, args []string) error {
	const verbs = "want show (print everything, defaults included) or check"
	if len(args) == 0 {
		return errors.New(verbs)
	}
	set := flag.NewFlagSet("config "+args[0], flag.ContinueOnError)
	set.String("config", nodeconfig.Path, "the NodeConfig `file`")
	if err := set.Parse(args[1:]); err != nil {
		return err
	}
	if args[0] != "show" && args[0] != "check" || set.NArg() > 0 {
		return fmt.Errorf("%q: %s", args, verbs)
	}
	c, err := readNodeConfig(set)
	if err != nil {
		return err
	}
	if err := settle(&c); err != nil {
		return err
	}
	if args[0] == "check" {
		return nil
	}
	text, err := c.Encode()
	if err != nil {
		return err
	}
	_, err = os.Stdout.WriteString(text)
	return err
}
