package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/millrace/millrace/internal/nodeconfig"
	"github.com/millrace/millrace/vppmanager"
)

func runManager(ctx context.Context, args []string) error {
	if len(args) > 0 && args[0] == "undo" {
		return runManagerUndo(ctx, args[1:])
	}
	set := flag.NewFlagSet("manager", flag.ContinueOnError)
	set.String("config", nodeconfig.Path, "the NodeConfig `file`; the flags below override it")
	set.String("dataplane", "", "auto, vpp or engine")
	set.String("vpp-bin", "", "VPP's `program` (also VPP_BIN)")
	set.String("runtime-dir", "", "`directory` for sockets and start files")
	set.String("api-socket", "", "VPP binary API `socket`")
	set.String("stats-socket", "", "stats segment `socket`")
	set.String("log-level", "", "debug, info, warn or error")
	health := set.String("health", "", "serve GET /readyz on this `address`, for example 127.0.0.1:9091")
	dryRun := set.Bool("dry-run", false, "print the plan and change nothing")
	if err := parse(set, args); err != nil {
		return err
	}
	cfg, err := managerConfig(set)
	if err != nil {
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

// managerConfig is the file, then the environment, then the flags.
func managerConfig(set *flag.FlagSet) (nodeconfig.Config, error) {
	cfg, err := readNodeConfig(set)
	if err != nil {
		return cfg, err
	}
	if bin := os.Getenv("VPP_BIN"); bin != "" {
		cfg.VPP.Binary = bin
	}
	if err := overlay(set, map[string]func(string) error{
		"dataplane":    word(&cfg.Dataplane),
		"log-level":    word(&cfg.LogLevel),
		"vpp-bin":      path(&cfg.VPP.Binary),
		"runtime-dir":  path(&cfg.RuntimeDir),
		"api-socket":   path(&cfg.Sockets.API),
		"stats-socket": path(&cfg.Sockets.Stats),
	}); err != nil {
		return cfg, err
	}
	return cfg, settle(&cfg)
}
