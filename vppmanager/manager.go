// Package vppmanager boots the dataplane of a node and keeps it running: it reads the
// node (host), plans the start (startup), changes the host as the plan says, runs the
// process (supervise), sets up the node's uplinks in it each time it starts, and tells
// systemd and Kubernetes how it goes. Whatever ends it, the host is put back as it was.
//
// It owns the dataplane's process, its runtime directory and what it changed of the host.
// It never programs pods, their routes or policies: those are the agent's.
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
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/millrace/millrace/internal/nodeconfig"
	"github.com/millrace/millrace/vpp"
	"github.com/millrace/millrace/vpp/compat"
	"github.com/millrace/millrace/vppmanager/change"
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

// Preview is Plan for a person who looks before a start. It says, too, what an earlier
// manager has changed of the host, or one that runs: then the node is not as a start, which
// undoes that first, would find it.
func Preview(cfg nodeconfig.Config) (startup.Plan, error) {
	plan, err := Plan(cfg)
	left, leftErr := change.Host{Root: "/"}.Left(cfg.StateDir)
	if leftErr != nil {
		return startup.Plan{}, errors.Join(err, leftErr)
	}
	if len(left) == 0 {
		return plan, err
	}
	note := fmt.Sprintf("%s holds %d changes of a manager that was killed, or runs (the last: %s): a start undoes them first, and so does millrace manager undo; only then is this plan what a start would do",
		filepath.Join(cfg.StateDir, change.JournalFile), len(left), left[len(left)-1])
	if err != nil {
		return startup.Plan{}, fmt.Errorf("%w\n  note: %s", err, note)
	}
	plan.Notes = append([]string{note}, plan.Notes...)
	return plan, nil
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
		Dirs:   []string{cfg.RuntimeDir, cfg.StateDir, filepath.Dir(cfg.Sockets.API), filepath.Dir(cfg.Sockets.Stats)},
	})
}

// hostChanges carries changes of the host out and takes them back.
type hostChanges interface {
	// Pending says whether an earlier manager left changes that are not undone.
	Pending() (bool, error)
	// Apply carries changes out, in order, until one fails; Undo takes back what was done.
	Apply(context.Context, []startup.Change) error
	// Undo takes back, in reverse, all that was done and is not undone, by whichever
	// manager; nothing when there is nothing.
	Undo(context.Context) error
}

// wirer sets up the node's uplinks and the host's links in a dataplane that has just
// started and knows nothing. conn lives as long as that dataplane.
type wirer interface {
	Wire(ctx context.Context, conn *vpp.Conn, plan startup.Plan) error
	// Release ends what Wire began and what the dataplane's end does not end.
	Release() error
}

// Options are what a run needs besides its configuration.
type Options struct {
	Log          *slog.Logger
	Output       io.Writer                                     // gets the dataplane's standard output and error
	Health       string                                        // address for GET /readyz, /livez and /status; "" = none
	NotifySocket string                                        // systemd's $NOTIFY_SOCKET; "" = none
	Watchdog     time.Duration                                 // systemd's $WATCHDOG_USEC; 0 = none
	Timing       supervise.Timing                              // zero: supervise.DefaultTiming
	Plan         func(nodeconfig.Config) (startup.Plan, error) // nil: Plan
	Host         hostChanges                                   // nil, as Wire: this machine, with the journal in the state directory
	Wire         wirer                                         // nil: as Host is
}

// manager is one run.
type manager struct {
	cfg     nodeconfig.Config
	opt     Options
	log     *slog.Logger
	state   *state
	systemd *notifier
}

// Run boots the dataplane and keeps it running until ctx ends; then it stops it and puts
// the host back. It returns nil after such a stop. Its error says what to do; the host is
// put back then, too, and when even that failed the error says what is left.
//
// What an earlier manager left is undone first, although the plan may well be the same:
// the plan has to be made from the node as it is without us (a NIC that is bound to
// vfio-pci shows no addresses), and one way back that is taken at each start is worth more
// than a second way that is taken once a year.
func Run(ctx context.Context, cfg nodeconfig.Config, opt Options) (err error) {
	if opt.Timing == (supervise.Timing{}) {
		opt.Timing = supervise.DefaultTiming()
	}
	if opt.Plan == nil {
		opt.Plan = Plan
	}
	if opt.Host == nil || opt.Wire == nil {
		this := newMachine(cfg.StateDir, opt.Log)
		defer func() { err = errors.Join(err, this.close()) }()
		opt.Host, opt.Wire = this, this
	}
	st := newState(opt.Timing)
	m := &manager{cfg: cfg, opt: opt, log: opt.Log, state: st, systemd: newNotifier(opt, st)}
	left, err := opt.Host.Pending()
	if err != nil {
		return fmt.Errorf("look for changes that an earlier manager left: %w", err)
	}
	if !left { // a plan that is refused shall not even make a directory
		if _, err := opt.Plan(cfg); err != nil {
			return err
		}
	}
	return m.serve(ctx)
}

// serve runs the manager beside those who tell how it goes.
func (m *manager) serve(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	// What is told ends after what it tells of.
	tell, quiet := context.WithCancel(context.WithoutCancel(ctx))
	if m.opt.Health != "" {
		listener, err := net.Listen("tcp", m.opt.Health)
		if err != nil {
			quiet()
			return fmt.Errorf("serve readiness: %w", err)
		}
		group.Go(func() error { return serveHealth(tell, listener, m.state) })
	}
	group.Go(func() error { m.systemd.run(tell); return nil })
	group.Go(func() error {
		defer quiet()
		return m.run(ctx)
	})
	return group.Wait()
}

// run enters the room, changes the host, runs the dataplane, and takes it all back.
func (m *manager) run(ctx context.Context) (err error) {
	room, err := supervise.Enter(ctx, m.cfg.RuntimeDir, m.log)
	if err != nil {
		return err
	}
	defer context.AfterFunc(ctx, m.systemd.stopping)()
	defer func() {
		err = errors.Join(err, room.Leave())
		m.enter(Stopped)
	}()
	if err := m.undo(ctx, Undoing); err != nil {
		return err
	}
	plan, err := m.opt.Plan(m.cfg)
	if err != nil {
		return err
	}
	m.announce(plan)
	defer func() {
		m.systemd.stopping()
		err = errors.Join(err, m.undo(ctx, GivingBack))
	}()
	if err := m.change(ctx, plan); err != nil {
		return err
	}
	return m.supervise(ctx, plan, room)
}

func (m *manager) announce(plan startup.Plan) {
	m.log.Info("starting the dataplane", "dataplane", plan.Dataplane, "reason", plan.Reason, "runtimeDir", plan.RuntimeDir)
	for _, note := range plan.Notes {
		m.log.Info("note", "text", note)
	}
	m.state.planned(plan)
}

// change carries the plan's changes out.
func (m *manager) change(ctx context.Context, plan startup.Plan) error {
	if len(plan.Changes) == 0 {
		return nil
	}
	m.enter(Changing)
	if err := m.opt.Host.Apply(ctx, plan.Changes); err != nil {
		if ctx.Err() != nil {
			return nil // asked to stop in the middle: what was done is undone
		}
		return fmt.Errorf("prepare the host: %w", err)
	}
	return nil
}

// undo takes back what was changed, also when ctx has ended: a stop that leaves a node
// without its NIC is worse than one that takes long.
func (m *manager) undo(ctx context.Context, phase Phase) error {
	left, err := m.opt.Host.Pending()
	if err == nil && left {
		if phase == Undoing {
			m.log.Warn("an earlier manager did not put the host back: doing it now")
		}
		m.enter(phase)
		err = m.opt.Host.Undo(context.WithoutCancel(ctx))
	}
	if err != nil {
		return fmt.Errorf("put the host back: %w: mend what it names, then run: millrace manager undo", err)
	}
	return nil
}

// supervise runs the dataplane until ctx ends or there is no use in it.
func (m *manager) supervise(ctx context.Context, plan startup.Plan, room *supervise.Room) error {
	if ctx.Err() != nil {
		return nil
	}
	s := supervise.New(specOf(plan, m.cfg), supervise.Options{
		Dial: dial, Wire: m.wire(plan), Output: m.opt.Output, Log: m.log, Timing: m.opt.Timing,
		About: m.state.about, Alive: m.state.alive,
		Notify: func(st supervise.Status) {
			m.state.supervised(st)
			m.systemd.changed()
		},
	})
	err := s.Run(ctx, room)
	if released := m.opt.Wire.Release(); released != nil {
		err = errors.Join(err, released)
	}
	if crash, ok := errors.AsType[*supervise.CrashError](err); ok {
		return fmt.Errorf("%w\n  what to do: %s", err, remedy(plan, crash))
	}
	return err
}

// wire sets up a dataplane that answers.
func (m *manager) wire(plan startup.Plan) func(context.Context, supervise.Conn) error {
	return func(ctx context.Context, c supervise.Conn) error {
		conn, ok := c.(*vpp.Conn)
		if !ok {
			return fmt.Errorf("set up the dataplane: a connection of type %T", c)
		}
		if err := m.probe(ctx, conn); err != nil {
			return err
		}
		if err := m.opt.Wire.Wire(ctx, conn, plan); err != nil {
			err = fmt.Errorf("set up the uplinks: %w", err)
			if errors.Is(err, vpp.ErrUnsupported) { // the same program lacks it at its next start, too
				err = fmt.Errorf("%w (%w)", err, supervise.ErrHopeless)
			}
			return err
		}
		return nil
	}
}

// probe finds out what a dataplane is, and whether it has what a node cannot do without.
func (m *manager) probe(ctx context.Context, conn *vpp.Conn) error {
	r, err := compat.Probe(ctx, conn)
	if err != nil {
		return err
	}
	m.state.probed(r)
	if err := r.Err(); err != nil {
		return fmt.Errorf("%w (%w)", err, supervise.ErrHopeless)
	}
	var off []string
	for _, g := range r.Gaps {
		off = append(off, g.Feature)
		m.log.Debug("a feature is off", "dataplane", r.Name(), "feature", g.Feature, "without it", g.Without, "missing", g.Missing)
	}
	if len(off) > 0 {
		m.log.Info("the dataplane lacks features", "dataplane", r.Name(), "features", off)
	}
	return nil
}

func (m *manager) enter(p Phase) {
	m.state.enter(p)
	m.systemd.changed()
}

func specOf(p startup.Plan, cfg nodeconfig.Config) supervise.Spec {
	spec := supervise.Spec{
		Name: string(p.Dataplane), Command: p.Command, RuntimeDir: p.RuntimeDir,
		APISocket: p.Sockets.API, Sockets: p.Sockets.Paths(), Strays: p.Strays,
	}
	if cfg.StateDir != "" {
		spec.CrashDir = filepath.Join(cfg.StateDir, "crashes")
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
