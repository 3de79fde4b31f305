package main

import (
	"context"
	"errors"
	"flag"
	"fmt"

	"github.com/millrace/millrace/cni"
	"github.com/millrace/millrace/cni/cnipb"
	"github.com/millrace/millrace/install"
	"github.com/millrace/millrace/internal/nodeconfig"
)

func runInstall(ctx context.Context, args []string) error {
	const verbs = "want cni (install the CNI plugin on this node and keep it there) or check (see whether it is there)"
	if len(args) == 0 || args[0] != "cni" && args[0] != "check" {
		return errors.New(verbs)
	}
	set := flag.NewFlagSet("install "+args[0], flag.ContinueOnError)
	files := pluginFlags(set)
	set.StringVar(&files.Program, "plugin", "/usr/libexec/millrace/millrace-cni", "the plugin's `program`, to copy")
	daemonSet := ""
	if args[0] == "cni" {
		set.StringVar(&daemonSet, "daemonset", "", "`namespace/name` of the DaemonSet that this is a pod of: when it is deleted, the plugin is removed again; empty: never")
	}
	if err := parse(set, args[1:]); err != nil {
		return err
	}
	cfg, err := pluginConfig(set)
	if err != nil {
		return err
	}
	files.Socket = cfg.Sockets.CNI
	if args[0] == "check" {
		return errors.Join(files.Validate(), files.Check())
	}
	log, err := newLogger(cfg.LogLevel)
	if err != nil {
		return err
	}
	keeper := install.Keeper{CNI: *files, Log: log, Ready: func(ctx context.Context) error { return agentReady(ctx, files.Socket) }}
	if daemonSet != "" {
		owner, err := install.NewDaemonSet(daemonSet)
		if err != nil {
			return fmt.Errorf("flag --daemonset: %w", err)
		}
		keeper.Going = owner.Going
	}
	return keeper.Run(ctx)
}

// pluginFlags are those that say where the CNI plugin is.
func pluginFlags(set *flag.FlagSet) *install.CNI {
	c := &install.CNI{}
	set.String("config", nodeconfig.Path, "the NodeConfig `file`, which names the agent's socket")
	set.String("cni-socket", "", "`socket` where the CNI plugin finds the agent")
	set.StringVar(&c.BinDir, "bin-dir", "/opt/cni/bin", "`directory` of the container runtime's CNI plugins")
	set.StringVar(&c.ConfDir, "conf-dir", "/etc/cni/net.d", "`directory` of the container runtime's network configurations")
	set.StringVar(&c.ConfName, "conf-name", "10-millrace.conflist", "`name` of the network configuration's file")
	return c
}

func pluginConfig(set *flag.FlagSet) (nodeconfig.Config, error) {
	cfg, err := readNodeConfig(set)
	if err != nil {
		return cfg, err
	}
	if err := overlay(set, map[string]func(string) error{"cni-socket": path(&cfg.Sockets.CNI)}); err != nil {
		return cfg, err
	}
	return cfg, settle(&cfg)
}

// agentReady asks as a container runtime would, by CNI's STATUS.
func agentReady(ctx context.Context, socket string) error {
	client, err := cni.NewClient(socket)
	if err != nil {
		return err
	}
	defer client.Close()
	_, err = client.Status(ctx, &cnipb.StatusRequest{Network: install.Network})
	return err
}
