// Package agent owns the loop that makes a node's dataplane do what the facts say:
// observe, compile, diff, apply, keep what was acknowledged.
//
// It is the single writer of what the agent believes the machine to have. First boot, a
// restart of the agent and one of the machine are the same path with another beginning. It
// never learns a fact itself and never speaks a message: its rooms watch, attach and
// program do.
package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/millrace/millrace/agent/compile"
	"github.com/millrace/millrace/agent/healthcheck"
	"github.com/millrace/millrace/agent/program"
	"github.com/millrace/millrace/cluster"
	"github.com/millrace/millrace/dataplane"
	"github.com/millrace/millrace/service"
	"github.com/millrace/millrace/vpp"
	"github.com/millrace/millrace/vpp/compat"
)

// Cluster is where the facts of the API's objects come from.
type Cluster interface {
	// WaitSynced returns nil once Take has all there is; its error is the end of ctx.
	WaitSynced(ctx context.Context) error
	// Take returns all but the attachments, and in what that differs from what Take returned
	// before, at first from nothing.
	Take() (cluster.Snapshot, cluster.Changes)
	// Changed receives a value after the facts changed; several changes may be one value.
	Changed() <-chan struct{}
}

// Attachments is where the facts of the CNI door come from.
type Attachments interface {
	// Facts returns the attachments and the revision they stand at.
	Facts() (revision uint64, attachments []cluster.Attachment)
	// Changed is like that of Cluster.
	Changed() <-chan struct{}
}

// Events tells the authors of Kubernetes objects what cannot be done with them.
type Events interface {
	// Warn does not wait; to say the same again changes nothing.
	Warn(about cluster.Ref, reason, message string)
}

// NextHops knows the neighbours on shared uplinks. It is asked for those that routes lead to.
type NextHops interface {
	Follow([]dataplane.NextHop)
	Known() map[dataplane.NextHop]dataplane.MAC
	// Changed is like that of Cluster.
	Changed() <-chan struct{}
}

// Config is what an Agent works with.
type Config struct {
	Node        string // this node's name in the facts
	VPP         vpp.Config
	Options     compile.Options // Device is probed on each connection
	Cluster     Cluster
	Attachments Attachments
	Events      Events        // nil = the log is told only
	NextHops    NextHops      // nil = there are no shared uplinks
	Host        program.Host  // nil = nothing of the node's kernel is changed, beside interfaces
	Resync      time.Duration // how often to observe although nothing changed; 0 = 30 s
	Log         *slog.Logger
	Metrics     prometheus.Registerer // nil = none
	StatsSocket string                // of the statistics that Metrics shows; empty = none
}

const defaultResync = 30 * time.Second

// ErrNotReady is why Ready fails before the first round of a connection is through.
var ErrNotReady = errors.New("the dataplane is not programmed yet")

// Agent runs the loop.
type Agent struct {
	config  Config
	log     *slog.Logger
	metrics *metrics

	// remains are interfaces that a machine lost by dying; the kernel may still have
	// their other ends. Only Run's goroutine touches them.
	remains remains
	// told are the policies' problems that the log has. Only Run's goroutine touches them.
	told map[cluster.Ref]string
	// toldServices are those of services, likewise.
	toldServices map[service.Key]bool

	// checks answers at the ports that services have for it.
	checks *healthcheck.Server

	// names are of the latest round; nil without a machine.
	names atomic.Pointer[names]

	// questions are answered by the loop, between two rounds.
	questions chan chan<- View

	// mu guards last and next, the latest outcome and the channel closed when another comes.
	mu   sync.Mutex
	last outcome
	next chan struct{}
}

// New checks the configuration; Run does the work.
func New(c Config) (*Agent, error) {
	if c.Node == "" || c.Cluster == nil || c.Attachments == nil || c.Log == nil {
		return nil, errors.New("make agent: it needs a node name, both sources of facts and a logger")
	}
	if c.Resync <= 0 {
		c.Resync = defaultResync
	}
	a := &Agent{config: c, log: c.Log, questions: make(chan chan<- View), next: make(chan struct{})}
	a.checks = healthcheck.New(func() bool { return a.Ready() == nil })
	a.last.down = fmt.Errorf("%w: the cluster's objects are not all known yet", ErrNotReady)
	var err error
	if a.metrics, err = newMetrics(c.Metrics); err != nil {
		return nil, fmt.Errorf("make agent: %w", err)
	}
	if c.Metrics != nil && c.StatsSocket != "" {
		if err := c.Metrics.Register(newCounters(c.StatsSocket, a.names.Load)); err != nil {
			return nil, fmt.Errorf("make agent: %w", err)
		}
	}
	return a, nil
}

// Run waits until the facts are whole, connects to the machine and keeps it as they want it, over and over when the
// machine goes away, until ctx ends. Then it returns nil and leaves the machine as it is:
// packets go on.
func (a *Agent) Run(ctx context.Context) error {
	// A policy that is not known yet would leave its pods open.
	if a.config.Cluster.WaitSynced(ctx) != nil {
		return nil
	}
	defer a.checks.Close()
	a.publish(outcome{down: ErrNotReady})
	reported := ""
	for conn, err := range vpp.Connections(ctx, a.config.VPP) {
		if err != nil {
			a.publish(outcome{down: fmt.Errorf("%w: %w", ErrNotReady, err)})
			if err.Error() != reported {
				reported = err.Error()
				a.log.Info("waiting for the dataplane", "err", err)
			}
			continue
		}
		reported = ""
		a.log.Info("connected to the dataplane", "generation", conn.Generation())
		a.metrics.connected.Set(1)
		err := a.serve(ctx, conn)
		a.metrics.connected.Set(0)
		a.names.Store(nil)
		a.publish(outcome{down: fmt.Errorf("%w: %w", ErrNotReady, err)})
		if ctx.Err() == nil {
			a.log.Warn("lost the dataplane", "err", err)
		}
	}
	return nil
}

// serve works on one connection until it ends, and says why it did.
func (a *Agent) serve(ctx context.Context, conn *vpp.Conn) error {
	if err := a.probe(ctx, conn); err != nil {
		return err
	}
	p, err := program.New(ctx, conn, program.Agent(a.config.Node))
	if err != nil {
		return err
	}
	r := round{agent: a, program: p, options: a.config.Options}
	if r.options.Host.Touch = a.config.Host != nil; r.options.Host.Touch {
		p.UseHost(a.config.Host)
	}
	if err := r.begin(ctx); err != nil {
		return err
	}
	a.metrics.device.Reset()
	a.metrics.device.WithLabelValues(deviceName(r.options.Device)).Set(1)
	defer func() { a.remains.keep(r.have) }()
	links, err := p.Links(ctx)
	if err != nil {
		return err
	}
	for {
		pause, err := r.run(ctx)
		if err == nil {
			err = a.wait(ctx, conn, &r, links.Events(), pause)
		}
		if err != nil {
			return err
		}
		if err := links.Err(); err != nil {
			return err
		}
	}
}

// probe finds out what the machine lacks. What needs that is off; what cannot go on without
// says so itself, at the pod that it concerns.
func (a *Agent) probe(ctx context.Context, conn *vpp.Conn) error {
	r, err := compat.Probe(ctx, conn)
	if err != nil {
		return err
	}
	a.metrics.missing.Reset()
	for _, g := range r.Gaps {
		a.metrics.missing.WithLabelValues(g.Feature).Set(float64(len(g.Missing)))
		level := slog.LevelDebug // the manager's log and /status name them all
		if g.Essential {
			level = slog.LevelError
		}
		a.log.Log(ctx, level, "a feature is off", "dataplane", r.Name(), "feature", g.Feature, "without it", g.Without, "missing", g.Missing)
	}
	return nil
}

// wait returns when there is something for the next round to do. Its error ends the
// connection.
func (a *Agent) wait(ctx context.Context, conn *vpp.Conn, r *round, links <-chan *program.LinkEvent, pause time.Duration) error {
	timer := time.NewTimer(pause)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-conn.Done():
			return conn.Err()
		case <-a.config.Cluster.Changed():
			return nil
		case <-a.config.Attachments.Changed():
			return nil
		case <-a.nextHopsChanged():
			return nil
		case answer := <-a.questions:
			answer <- r.view()
		case <-timer.C:
			r.observe = true
			return nil
		case e, more := <-links:
			if !more {
				return nil
			}
			uplinks, err := r.program.LinkChanged(ctx, e)
			if errors.Is(err, vpp.ErrDisconnected) {
				return err
			} else if err != nil {
				a.log.Warn("the end or beginning of a link is not followed", "err", err)
			}
			if uplinks {
				return r.look(ctx)
			}
		}
	}
}

// nextHopsChanged is nil, which never receives, where there is nobody to tell.
func (a *Agent) nextHopsChanged() <-chan struct{} {
	if a.config.NextHops == nil {
		return nil
	}
	return a.config.NextHops.Changed()
}

// facts joins both doors. Attachments are read first, so that their revision never claims
// more than what is compiled.
func (a *Agent) facts() (cluster.Snapshot, cluster.Changes) {
	revision, attachments := a.config.Attachments.Facts()
	s, changed := a.config.Cluster.Take()
	return s.WithAttachments(revision, attachments), changed
}

func deviceName(d compile.Device) string {
	if d == compile.DeviceVeth {
		return "veth"
	}
	return "tun"
}
