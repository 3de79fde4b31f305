package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"

	"github.com/millrace/millrace/internal/nodeconfig"
	"github.com/millrace/millrace/vppmanager"
	"github.com/millrace/millrace/vppmanager/startup"
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
	set.String("state-dir", "", "`directory` that survives a reboot: journals, and reports of crashes")
	set.String("api-socket", "", "VPP binary API `socket`")
	set.String("stats-socket", "", "stats segment `socket`")
	set.String("log-level", "", "debug, info, warn or error")
	health := set.String("health", "", "serve GET /readyz, /livez and /status on this `address`, for example 127.0.0.1:9091")
	dryRun := set.Bool("dry-run", false, "print the plan and change nothing")
	sysctls := set.Bool("writable-sysctls", false, "in a container: make its /proc/sys writable first")
	output := set.String("output", "text", "of --dry-run: text (for people) or json (for programs)")
	if err := parse(set, args); err != nil {
		return err
	}
	if *output != "text" && *output != "json" {
		return fmt.Errorf("--output %q: want text or json", *output)
	}
	cfg, err := managerConfig(set)
	if err != nil {
		return err
	}
	if *dryRun {
		plan, err := vppmanager.Preview(cfg)
		if err != nil {
			return err
		}
		return printPlan(os.Stdout, plan, *output)
	}
	if *sysctls {
		if err := writableSysctls(); err != nil {
			return err
		}
	}
	log, err := newLogger(cfg.LogLevel)
	if err != nil {
		return err
	}
	watchdog, err := watchdogInterval(os.Getenv("WATCHDOG_USEC"), os.Getenv("WATCHDOG_PID"), os.Getpid())
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGHUP)
	defer stop()
	return vppmanager.Run(ctx, cfg, vppmanager.Options{
		Log: log, Output: os.Stderr, Health: *health, NotifySocket: os.Getenv("NOTIFY_SOCKET"), Watchdog: watchdog,
	})
}

// watchdogInterval reads what systemd says about its watchdog (sd_watchdog_enabled(3)); 0
// is none, or one of another process.
func watchdogInterval(usec, pid string, self int) (time.Duration, error) {
	if usec == "" || pid != "" && pid != strconv.Itoa(self) {
		return 0, nil
	}
	n, err := strconv.ParseInt(usec, 10, 64)
	if err != nil || n <= 0 || n > int64(24*time.Hour/time.Microsecond) {
		return 0, fmt.Errorf("WATCHDOG_USEC: %q is not a number of microseconds up to a day: set WatchdogSec= in the unit", usec)
	}
	return time.Duration(n) * time.Microsecond, nil
}

// printPlan prints what a start would do.
func printPlan(w io.Writer, plan startup.Plan, output string) error {
	text := []byte(plan.String())
	if output == "json" {
		var err error
		if text, err = plan.JSON(); err != nil {
			return err
		}
	}
	_, err := w.Write(text)
	return err
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
		"state-dir":    path(&cfg.StateDir),
		"api-socket":   path(&cfg.Sockets.API),
		"stats-socket": path(&cfg.Sockets.Stats),
	}); err != nil {
		return cfg, err
	}
	return cfg, settle(&cfg)
}
