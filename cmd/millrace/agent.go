package main

import (
	"context"
	"errors"
	"flag"
	"log/slog"
	"net/netip"
	"os"
	"runtime/debug"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"golang.org/x/sync/errgroup"

	"github.com/millrace/millrace/agent"
	"github.com/millrace/millrace/agent/attach"
	"github.com/millrace/millrace/agent/compile"
	"github.com/millrace/millrace/agent/hostnet"
	"github.com/millrace/millrace/agent/nexthop"
	"github.com/millrace/millrace/cluster"
	"github.com/millrace/millrace/internal/memifspec"
	"github.com/millrace/millrace/internal/nodeconfig"
	"github.com/millrace/millrace/vpp"
)

func runAgent(ctx context.Context, args []string) error {
	if len(args) > 0 && args[0] == "undo" {
		return runAgentUndo(args[1:])
	}
	set := flag.NewFlagSet("agent", flag.ContinueOnError)
	set.String("config", nodeconfig.Path, "the NodeConfig `file`; the flags below override it")
	set.String("api-socket", "", "VPP binary API `socket`")
	set.String("stats-socket", "", "VPP stats segment `socket`, whose counters /metrics shows")
	set.String("cni-socket", "", "`socket` where the CNI plugin finds the agent")
	set.String("agent-socket", "", "`socket` where millrace show and explain find the agent")
	set.String("state-dir", "", "`directory` of the journal of pod attachments")
	set.String("node-name", "", "this node's `name` in Kubernetes")
	set.String("log-level", "", "debug, info, warn or error")
	mtu := set.Int("mtu", 0, "of pod interfaces, in `bytes`")
	facts := set.String("facts", "", "`directory` of YAML files with Kubernetes objects, instead of an API server")
	kubeconfig := set.String("kubeconfig", "", "`file` that says how to reach the API server; in a pod, its service account does")
	address := set.String("metrics", "", "serve GET /metrics and /readyz on this `address`, for example 127.0.0.1:9090")
	sysctls := set.Bool("writable-sysctls", false, "in a container: make its /proc/sys writable first")
	if err := parse(set, args); err != nil {
		return err
	}
	if *sysctls {
		if err := writableSysctls(); err != nil {
			return err
		}
	}
	cfg, err := readNodeConfig(set)
	if err != nil {
		return err
	}
	if err := overlay(set, map[string]func(string) error{
		"api-socket": path(&cfg.Sockets.API), "stats-socket": path(&cfg.Sockets.Stats), "cni-socket": path(&cfg.Sockets.CNI), "agent-socket": path(&cfg.Sockets.Agent), "state-dir": path(&cfg.StateDir),
		"node-name": func(name string) error { cfg.NodeName = name; return nil },
		"mtu":       func(string) error { cfg.MTU = *mtu; return nil },
		"log-level": word(&cfg.LogLevel),
	}); err != nil {
		return err
	}
	if err := settle(&cfg); err != nil {
		return err
	}
	log, err := newLogger(cfg.LogLevel)
	if err != nil {
		return err
	}
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(50) // the agent is idle most of the time; its memory is the pods'
	}
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	from, err := openFacts(*facts, *kubeconfig, cfg.NodeName, log, registry)
	if err != nil {
		return err
	}
	return serveAgent(ctx, cfg, from, *address, log, registry)
}

// serveAgent wires the agent's rooms and runs them until one fails or ctx ends.
func serveAgent(ctx context.Context, cfg nodeconfig.Config, facts factsDoor, address string, log *slog.Logger, registry *prometheus.Registry) error {
	objects := facts.objects
	journal, err := attach.Open(cfg.StateDir)
	if err != nil {
		return err
	}
	defer journal.Close()
	for _, damage := range journal.Damaged() {
		log.Warn("an attachment's record is damaged", "err", damage)
	}
	options := compile.Defaults()
	options.MTU, options.PodCIDRs, options.MemifDMA = uint32(cfg.MTU), cfg.PodCIDRs, cfg.Memif.UseDMA
	options.Encapsulation = encapsulation(cfg.NodeToNode.Encapsulation)
	options.Host.Masquerade, options.Host.NonMasquerade = cfg.Masquerade.Enabled, cfg.Masquerade.NonMasqueradeCIDRs
	options.NoServices = !cfg.Services.Enabled
	kernel, err := hostnet.Open(cfg.StateDir)
	if err != nil {
		return err
	}
	registry.MustRegister(hostnet.NewCounters())
	hops := nexthop.New(log)
	loop, err := agent.New(agent.Config{
		Node: cfg.NodeName, VPP: vpp.Config{Socket: cfg.Sockets.API, Name: "millrace-agent"}, Options: options,
		Cluster: objects, Attachments: journal, Events: facts.events, NextHops: hops, Host: kernel, Log: log, Metrics: registry,
		StatsSocket: cfg.Sockets.Stats,
	})
	if err != nil {
		return err
	}
	server, err := attach.New(attach.Config{
		Journal: journal, Loop: loop, Metrics: registry, HostName: compile.PodInterface, MemifHost: memifHost,
		Ranges:  func() []netip.Prefix { return compile.PodCIDRs(objects.Snapshot(), cfg.NodeName, options) },
		Objects: objects, MTU: options.MTU,
	})
	if err != nil {
		return err
	}
	listener, err := attach.Listen(cfg.Sockets.CNI)
	if err != nil {
		return err
	}
	views, err := attach.Listen(cfg.Sockets.Agent)
	if err != nil {
		return errors.Join(err, listener.Close())
	}
	log.Info("starting the agent", "node", cfg.NodeName, "apiSocket", cfg.Sockets.API, "cniSocket", cfg.Sockets.CNI, "facts", facts.name)
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return loop.Run(ctx) })
	group.Go(func() error { return server.Serve(ctx, listener) })
	group.Go(func() error { return loop.ServeViews(ctx, views) })
	group.Go(func() error { return facts.run(ctx) })
	group.Go(func() error { return hops.Run(ctx) })
	group.Go(func() error { return loop.ServeHTTP(ctx, address, registry) })
	return group.Wait()
}

func encapsulation(e nodeconfig.Encapsulation) compile.Encapsulation {
	switch e {
	case nodeconfig.EncapsulationAlways:
		return compile.EncapsulateAlways
	case nodeconfig.EncapsulationNever:
		return compile.EncapsulateNever
	}
	return compile.EncapsulateCrossSubnet
}

// memifHost names the dataplane's end of a memif, with its MAC where it has one.
func memifHost(a cluster.Attachment, m cluster.Memif) (name, mac string) {
	if m.Mode == memifspec.Ethernet {
		mac = compile.MemifMAC(a, m).String()
	}
	return compile.PodMemif(a, m), mac
}
