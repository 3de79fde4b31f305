package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"

	"github.com/millrace/millrace/agent"
	"github.com/millrace/millrace/agent/explain"
	"github.com/millrace/millrace/agent/watch"
	"github.com/millrace/millrace/internal/nodeconfig"
)

// policyExplain says why a connection is allowed or not, in three readings. Its error is
// errDisagree where they differ.
func policyExplain(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	set := flag.NewFlagSet("policy explain", flag.ContinueOnError)
	set.SetOutput(stderr)
	from := set.String("from", "", "who connects: `namespace/pod` or an IP address")
	to := set.String("to", "", "to whom: `namespace/pod` or an IP address")
	port := set.String("port", "", "for what: `80/tcp`, /udp or /sctp; or icmp")
	facts := set.String("facts", "", "`directory` or file of Kubernetes objects, instead of the agent on this node; then the dataplane is not asked")
	output := set.String("output", "text", "text or `json`")
	nodeFlags(set)
	if err := parse(set, args); err != nil {
		return err
	}
	var ends [2]explain.Endpoint
	for i, end := range [...]struct{ flag, value string }{{"from", *from}, {"to", *to}} {
		var err error
		if ends[i], err = explain.ParseEndpoint(end.value); err != nil {
			return fmt.Errorf("flag --%s: %w", end.flag, err)
		}
	}
	service, err := explain.ParseService(*port)
	if err != nil {
		return fmt.Errorf("flag --port: %w", err)
	}
	if *output != "text" && *output != "json" {
		return fmt.Errorf("flag --output: %q: want text or json", *output)
	}
	cfg, err := nodeOf(set)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, ctlPatience)
	defer cancel()
	judge, machine, err := readings(ctx, cfg, *facts)
	if err != nil {
		return err
	}
	flows, err := judge.Flows(ends[0], ends[1], service)
	if err != nil {
		return fmt.Errorf("flag --%w", err)
	}
	found, err := judge.Explain(flows, machine)
	if err != nil {
		return err
	}
	return printExplanations(stdout, *output, found)
}

var errDisagree = errors.New("the readings disagree")

func printExplanations(w io.Writer, output string, list []explain.Explanation) error {
	if output == "json" {
		e := json.NewEncoder(w)
		e.SetIndent("", "  ")
		if err := e.Encode(list); err != nil {
			return err
		}
	}
	var disagree error
	for _, e := range list {
		if output != "json" {
			if err := e.Print(w); err != nil {
				return err
			}
		}
		if len(e.Disagreements) > 0 {
			disagree = errDisagree
		}
	}
	return disagree
}

// readings fetches what the three readings read: from the agent and the dataplane of this
// node, or from a directory alone.
func readings(ctx context.Context, cfg nodeconfig.Config, facts string) (*explain.Cluster, *explain.Machine, error) {
	if facts != "" {
		s, _, err := watch.Manifests(facts)
		if err != nil {
			return nil, nil, fmt.Errorf("flag --facts: %w", err)
		}
		return explain.NewCluster(s, ""), nil, nil
	}
	views := agent.Views{Socket: cfg.Sockets.Agent}
	node, err := views.Node(ctx)
	if err != nil {
		return nil, nil, fmt.Errorf("%w (--facts works without an agent)", err)
	}
	s, err := views.Facts(ctx)
	if err != nil {
		return nil, nil, err
	}
	want, err := views.Want(ctx)
	if err != nil {
		return nil, nil, err
	}
	closed, err := views.Problems(ctx)
	if err != nil {
		return nil, nil, err
	}
	machine, err := lookAt(ctx, cfg, node)
	if err != nil {
		return nil, nil, err
	}
	judge := explain.NewCluster(s, node)
	judge.Use(node, want, closed)
	return judge, &machine, nil
}
