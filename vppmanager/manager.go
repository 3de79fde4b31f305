// Package vppmanager boots the dataplane of a node and keeps it running: it reads the
// node (host), plans the start (startup), carries the plan out and watches the process
// (supervise), and tells systemd and Kubernetes how it goes.
//
// It owns the dataplane's process and its runtime directory. It never programs the
// dataplane: interfaces, routes and policies are the agent's.
package vppmanager

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"

	"golang.org/x/sync/errgroup"

	"github.com/millrace/millrace/internal/nodeconfig"
	"github.com/millrace/millrace/vpp"
	"github.com/millrace/millrace/vppmanager/host"
	"github.com/millrace/millrace/vppmanager/inventory"
	"github.com/millrace/millrace/vppmanager/startup"
	"github.com/millrace/millrace/vppmanager/supervise"
)

// Plan reads this node and plans the start for a completed configuration. It changes
// nothing; a configuration the node cannot serve is an error that says what to do.
func Plan(cfg nodeconfig.Config) (startup.Plan, error) {
	inv, err := Inspect(cfg)
	if err != nil {
		return startup.Plan{}, err
	}
	return startup.Make(inv, cfg)
}

// Inspect reads this node, as far as a start with a completed configuration depends on it.
func Inspect(cfg nodeconfig.Config) (inventory.Node, error) {
	self, err := os.Executable()
	if err != nil {
		return inventory.Node{}, fmt.Errorf("find own program: %w", err)
	}
	return host.Machine().Inspect(host.Query{
		VPP:    cfg.VPP.Binary,
		Engine: self,
		Dirs:   []string{cfg.RuntimeDir, filepath.Dir(cfg.Sockets.API), filepath.Dir(cfg.Sockets.Stats)},
	})
}

// Options are what a run needs besides its plan.
type Options struct {
	Log          *slog.Logger
	Output       io.Writer        // gets the dataplane's standard output and error
	Health       string           // address for GET /readyz; "" = none
	NotifySocket string           // systemd's $NOTIFY_SOCKET; "" = none
	Timing       supervise.Timing // zero: supervise.DefaultTiming
}

// Run carries the plan out and keeps the dataplane running until ctx ends; then it stops
// the dataplane and removes what it made.
func Run(ctx context.Context, plan startup.Plan, opt Options) error {
	systemd := notifier{socket: opt.NotifySocket, log: opt.Log}
	if opt.Timing == (supervise.Timing{}) {
		opt.Timing = supervise.DefaultTiming()
	}
	s := supervise.New(specOf(plan), supervise.Options{
		Dial: dial, Output: opt.Output, Log: opt.Log, Timing: opt.Timing,
		Notify: func(st supervise.Status) { systemd.tell(readiness(plan, st)) },
	})
	group, ctx := errgroup.WithContext(ctx)
	if opt.Health != "" {
		listener, err := net.Listen("tcp", opt.Health)
		if err != nil {
			return fmt.Errorf("serve readiness: %w", err)
		}
		group.Go(func() error { return serveHealth(ctx, listener, s.Status) })
	}
	group.Go(func() error {
		err := s.Run(ctx)
		systemd.tell("STOPPING=1")
		if err == nil {
			err = errStopped
		}
		return err
	})
	if err := group.Wait(); !errors.Is(err, errStopped) {
		return err
	}
	return nil
}

// errStopped ends the group in good order.
var errStopped = errors.New("stopped")

func specOf(p startup.Plan) supervise.Spec {
	spec := supervise.Spec{
		Name: string(p.Dataplane), Command: p.Command, RuntimeDir: p.RuntimeDir,
		APISocket: p.Sockets.API, Sockets: p.Sockets.Paths(), Strays: p.Strays,
	}
	for _, f := range p.Files {
		spec.Files = append(spec.Files, supervise.File{Path: f.Path, Text: f.Text})
	}
	return spec
}

func dial(ctx context.Context, socket string) (supervise.Conn, error) {
	conn, err := vpp.Dial(ctx, vpp.Config{Socket: socket, Name: "millrace-manager"})
	if err != nil {
		return nil, err // not a nil *vpp.Conn in an interface
	}
	return conn, nil
}
