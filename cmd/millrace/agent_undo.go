package main

import (
	"flag"

	"github.com/millrace/millrace/agent"
	"github.com/millrace/millrace/internal/nodeconfig"
)

// runAgentUndo takes off the host what a stopped agent left there for its pods.
func runAgentUndo(args []string) error {
	set := flag.NewFlagSet("agent undo", flag.ContinueOnError)
	set.String("config", nodeconfig.Path, "the NodeConfig `file`, which names the state directory")
	set.String("state-dir", "", "`directory` of the journal of pod attachments")
	set.String("node-name", "", "this node's `name` in Kubernetes")
	if err := parse(set, args); err != nil {
		return err
	}
	cfg, err := readNodeConfig(set)
	if err != nil {
		return err
	}
	if err := overlay(set, map[string]func(string) error{
		"state-dir": path(&cfg.StateDir),
		"node-name": func(name string) error { cfg.NodeName = name; return nil },
	}); err != nil {
		return err
	}
	if err := settle(&cfg); err != nil {
		return err
	}
	return agent.Leave(cfg.StateDir, cfg.NodeName)
}
