package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/millrace/millrace/agent"
	"github.com/millrace/millrace/agent/attach"
	"github.com/millrace/millrace/agent/watch"
	"github.com/millrace/millrace/cluster"
)

// factsDoor is where the facts of Kubernetes objects come from.
type factsDoor struct {
	objects interface {
		agent.Cluster
		attach.Objects
		Snapshot() cluster.Snapshot
	}
	events agent.Events // nil where nobody could be told
	name   string
	run    func(ctx context.Context) error
}

// openFacts chooses the door: a directory, an API server, or, with neither and outside a
// pod, one without facts.
func openFacts(directory, kubeconfig, node string, log *slog.Logger, metrics prometheus.Registerer) (factsDoor, error) {
	switch {
	case directory != "" && kubeconfig != "":
		return factsDoor{}, errors.New("flags --facts and --kubeconfig: want one of them")
	case directory == "" && (kubeconfig != "" || os.Getenv("KUBERNETES_SERVICE_HOST") != ""):
		api, err := watch.NewAPI(watch.APIConfig{Kubeconfig: kubeconfig, UserAgent: "millrace-agent/" + version, Node: node, Log: log, Metrics: metrics})
		if err != nil {
			return factsDoor{}, fmt.Errorf("flag --kubeconfig: %w", err)
		}
		return factsDoor{objects: api, events: api, name: "API server", run: api.Run}, nil
	}
	d, err := watch.Open(directory)
	if err != nil {
		return factsDoor{}, fmt.Errorf("flag --facts: %w", err)
	}
	return factsDoor{objects: d, name: directory, run: func(ctx context.Context) error { return d.Run(ctx, log) }}, nil
}
