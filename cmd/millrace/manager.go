package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/millrace/millrace/internal/nodeconfig"
	"github.com/millrace/millrace/vppmanager"
)

func runManager(ctx context.Context, args []string) error {
	set := flag.NewFlagSet("manager", flag.ContinueOnError)
	set.String("config", nodeconfig.Path, "the NodeConfig `file`; the flags below override it")
	dataplane := set.String("dataplane", "", "auto, vpp or engine")
	vppBin := set.String("vpp-bin", "", "VPP's program (also VPP_BIN)")
	runtimeDir := set.String("runtime-dir", "", "`directory` for sockets and start files")
	api := set.String("api-socket", "", "VPP binary API `socket`")
	stats := set.String("stats-socket", "", "stats segment `socket`")
	level := set.String("log-level", "", "debug, info, warn or error")
	health := set.String("health", "", "serve GET /readyz on this `address`, for example 127.0.0.1:9091")
	dryRun := set.Bool("dry-run", false, "print the plan and change nothing")
	if err := set.Parse(args); err != nil {
		return err
	}
	if set.NArg() > 0 {
		return fmt.Errorf("argument %q: want flags only", set.Arg(0))
	}
	cfg, err := readNodeConfig(set)
	if err != nil {
		return err
	}
	if err := override(&cfg, *dataplane, *level); err != nil {
		return err
	}
	for _, o := range []struct {
		field *string
		value string
	}{
		{&cfg.VPP.Binary, os.Getenv("VPP_BIN")}, {&cfg.VPP.Binary, *vppBin}, {&cfg.RuntimeDir, *runtimeDir},
		{&cfg.Sockets.API, *api}, {&cfg.Sockets.Stats, *stats},
	} {
		if o.value == "" {
			continue
		}
		if *o.field, err = filepath.Abs(o.value); err != nil {
			return fmt.Errorf("resolve %s: %w", o.value, err)
		}
	}
	if err := settle(&cfg); err != nil {
		return err
	}
	plan, err := vppmanager.Plan(cfg)
	if err != nil {
		return err
	}
	if *dryRun {
		_, err := fmt.Print(plan)
		return err
	}
	log, err := newLogger(cfg.LogLevel)
	if err != nil {
		return err
	}
	log.Info("starting the dataplane", "dataplane", plan.Dataplane, "reason", plan.Reason, "runtimeDir", plan.RuntimeDir)
	for _, note := range plan.Notes {
		log.Info("note", "text", note)
	}
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGHUP)
	defer stop()
	return vppmanager.Run(ctx, plan, vppmanager.Options{
		Log: log, Output: os.Stderr, Health: *health, NotifySocket: os.Getenv("NOTIFY_SOCKET"),
	})
}

// override lays the flags that have names as values over the configuration.
func override(cfg *nodeconfig.Config, dataplane, level string) error {
	if dataplane != "" {
		if err := cfg.Dataplane.UnmarshalText([]byte(dataplane)); err != nil {
			return fmt.Errorf("flag --dataplane: %w", err)
		}
	}
	if level != "" {
		if err := cfg.LogLevel.UnmarshalText([]byte(level)); err != nil {
			return fmt.Errorf("flag --log-level: %w", err)
		}
	}
	return nil
}
