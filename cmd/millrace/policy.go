package main

import (
	"context"
	"errors"
	"os"
)

// runPolicy is the verbs about policies.
func runPolicy(ctx context.Context, args []string) error {
	const verbs = "want explain (why a connection is allowed or not) or test (judge connections by manifests, offline); -h behind it prints its flags"
	if len(args) == 0 {
		return errors.New(verbs)
	}
	switch args[0] {
	case "explain":
		return policyExplain(ctx, args[1:], os.Stdout, os.Stderr)
	case "test":
		return policyTest(args[1:], os.Stdout, os.Stderr)
	}
	return errors.New(verbs)
}
