package main

import (
	"context"
	"flag"
	"os"
	"runtime/debug"

	"github.com/millrace/millrace/engine"
	"github.com/millrace/millrace/internal/nodeconfig"
)

func runEngine(ctx context.Context, args []string) error {
	set := flag.NewFlagSet("engine", flag.ContinueOnError)
	c := engine.Config{Version: version, NotifySocket: os.Getenv("NOTIFY_SOCKET")}
	set.StringVar(&c.APISocket, "api-socket", "/run/vpp/api.sock", "binary API `socket`")
	set.StringVar(&c.StatsSocket, "stats-socket", "/run/vpp/stats.sock", "stats segment `socket`")
	set.StringVar(&c.RuntimeDir, "runtime-dir", "", "`directory` of memif sockets with relative names (default that of the api socket)")
	set.IntVar(&c.Workers, "workers", engine.DefaultWorkers, "`threads` that move packets")
	set.IntVar(&c.MaxInterfaces, "max-interfaces", engine.DefaultMaxInterfaces, "`number` of interfaces at most")
	set.IntVar(&c.MaxRoutes, "max-routes", engine.DefaultMaxRoutes, "`number` of routes at most")
	set.String("log-level", "info", "debug, info, warn or error")
	if err := parse(set, args); err != nil {
		return err
	}
	level := nodeconfig.Info
	if err := overlay(set, map[string]func(string) error{
		"api-socket": path(&c.APISocket), "stats-socket": path(&c.StatsSocket), "runtime-dir": path(&c.RuntimeDir), "log-level": word(&level),
	}); err != nil {
		return err
	}
	log, err := newLogger(level)
	if err != nil {
		return err
	}
	c.Logger = log
	// Packets lie outside the Go heap, so that collecting early costs little and keeps
	// the resident memory near what is in use.
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(50)
	}
	e, err := engine.New(c)
	if err != nil {
		return err
	}
	return e.Run(ctx, func() {
		log.Info("engine is ready", "apiSocket", c.APISocket, "statsSocket", c.StatsSocket, "workers", c.Workers)
	})
}
