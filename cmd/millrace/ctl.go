package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/millrace/millrace/internal/nodeconfig"
	"github.com/millrace/millrace/vpp"
)

// ctlPatience is how long a command may take, the connection included.
const ctlPatience = 30 * time.Second

func runCtl(ctx context.Context, args []string) error { return ctl(ctx, args, os.Stdout) }

// ctl has the dataplane, whichever it is, run one of its own debug commands.
func ctl(ctx context.Context, args []string, stdout io.Writer) error {
	set := flag.NewFlagSet("ctl", flag.ContinueOnError)
	set.Usage = func() {
		fmt.Fprint(set.Output(), "Usage: millrace ctl [flags] COMMAND, for example: millrace ctl show interface\n")
		set.PrintDefaults()
	}
	set.String("config", nodeconfig.Path, "the NodeConfig `file`; the flag below overrides it")
	set.String("api-socket", "", "VPP binary API `socket`")
	if err := set.Parse(args); err != nil {
		return err
	}
	if set.NArg() == 0 {
		return errors.New("want a command of the dataplane, for example: millrace ctl show interface")
	}
	cfg, err := readNodeConfig(set)
	if err != nil {
		return err
	}
	if err := overlay(set, map[string]func(string) error{"api-socket": path(&cfg.Sockets.API)}); err != nil {
		return err
	}
	if err := settle(&cfg); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, ctlPatience)
	defer cancel()
	conn, err := vpp.Dial(ctx, vpp.Config{Socket: cfg.Sockets.API})
	if err != nil {
		return err
	}
	defer conn.Close()
	text, err := conn.CLI(ctx, strings.Join(set.Args(), " "))
	if _, printed := fmt.Fprint(stdout, text); err == nil {
		err = printed
	}
	return err
}
