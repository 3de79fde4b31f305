package main

import (
	"context"
	"flag"

	"github.com/millrace/millrace/agent/explain"
	"github.com/millrace/millrace/agent/program"
	"github.com/millrace/millrace/internal/nodeconfig"
	"github.com/millrace/millrace/vpp"
)

// nodeFlags are those of verbs that ask this node's agent and dataplane.
func nodeFlags(set *flag.FlagSet) {
	set.String("config", nodeconfig.Path, "the NodeConfig `file`; the flags below override it")
	set.String("agent-socket", "", "the agent's `socket`")
	set.String("api-socket", "", "VPP binary API `socket`")
	set.String("stats-socket", "", "`socket` of the statistics segment")
}

// nodeOf reads what nodeFlags say.
func nodeOf(set *flag.FlagSet) (nodeconfig.Config, error) {
	cfg, err := readNodeConfig(set)
	if err != nil {
		return cfg, err
	}
	if err := overlay(set, map[string]func(string) error{
		"agent-socket": path(&cfg.Sockets.Agent), "api-socket": path(&cfg.Sockets.API), "stats-socket": path(&cfg.Sockets.Stats),
	}); err != nil {
		return cfg, err
	}
	return cfg, settle(&cfg)
}

// lookAt reads the ACLs that a dataplane has, and what they counted.
func lookAt(ctx context.Context, cfg nodeconfig.Config, node string) (m explain.Machine, err error) {
	conn, err := vpp.Dial(ctx, vpp.Config{Socket: cfg.Sockets.API})
	if err != nil {
		return m, err
	}
	defer conn.Close()
	sight, err := program.Look(ctx, conn, node)
	if err != nil {
		return m, err
	}
	stats, err := vpp.DialStats(ctx, cfg.Sockets.Stats)
	if err != nil {
		return m, err
	}
	defer stats.Close()
	counts, err := stats.ACLMatches(ctx)
	if err != nil {
		return m, err
	}
	m = explain.Machine{Node: node, State: sight.State, Indexes: sight.ACLs, Matches: map[string][]uint64{}}
	for name, index := range sight.ACLs {
		first := 0
		for _, span := range sight.Spans[name] {
			sum := uint64(0)
			for _, c := range counts[index][min(first, len(counts[index])):min(first+span, len(counts[index]))] {
				sum += c.Packets
			}
			m.Matches[name] = append(m.Matches[name], sum)
			first += span
		}
	}
	return m, nil
}
