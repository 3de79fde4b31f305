package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/millrace/millrace/agent/explain"
	"github.com/millrace/millrace/agent/watch"
)

// policyTest judges connections by the ACLs compiled from manifests, without a cluster.
func policyTest(args []string, stdout, stderr io.Writer) error {
	set := flag.NewFlagSet("policy test", flag.ContinueOnError)
	set.SetOutput(stderr)
	manifests := set.String("f", "", "`directory` or file of Kubernetes manifests: nodes, namespaces, policies, and pods with status.podIPs")
	file := set.String("flows", "", "`file` with a list of {from: ns/pod or IP, to: ns/pod or IP, port: 80, protocol: TCP, expect: allow|deny}")
	if err := parse(set, args); err != nil {
		return err
	}
	if *manifests == "" || *file == "" {
		return errors.New("want both flags: -f dir/ --flows flows.yaml")
	}
	facts, skipped, err := watch.Manifests(*manifests, *file)
	if err != nil {
		return err
	}
	for _, what := range skipped {
		fmt.Fprintf(stderr, "passed over: %s\n", what)
	}
	data, err := os.ReadFile(*file)
	if err != nil {
		return fmt.Errorf("read flows: %w", err)
	}
	flows, err := explain.ReadFlows(*file, data)
	if err != nil {
		return err
	}
	judge := explain.NewCluster(facts, "")
	mismatches, err := judge.Check(*file, flows)
	if err != nil {
		return err
	}
	broken := judge.Broken()
	for _, err := range broken {
		fmt.Fprintf(stdout, "broken: %s\n", strings.ReplaceAll(err.Error(), "\n", "; "))
	}
	for _, m := range mismatches {
		fmt.Fprintf(stdout, "%s%s\n", *file, m)
	}
	if len(mismatches)+len(broken) > 0 {
		return fmt.Errorf("%d of %d flows are not as expected, %d policies are broken", explain.Entries(mismatches), len(flows), len(broken))
	}
	_, err = fmt.Fprintf(stdout, "%d flows are as expected\n", len(flows))
	return err
}
