// Package engine is the embedded packet engine as one value: Config, New, Run.
//
// It owns how the parts are put together (control state and workers, API server,
// statistics segment), their sockets, and their common end. It never touches a packet
// or a message itself.
package engine

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/millrace/millrace/engine/api"
	"github.com/millrace/millrace/engine/stats"
	"github.com/millrace/millrace/engine/vnet"
)

// Config of an Engine. Zero numbers mean the defaults below.
type Config struct {
	APISocket     string // path of the binary API socket
	StatsSocket   string // path of the stats segment socket
	RuntimeDir    string // of memif sockets with relative names; "" = that of APISocket
	Workers       int    // threads that move packets
	MaxInterfaces int
	MaxRoutes     int    // with the routes that interfaces and neighbours make
	Version       string // for show_version
	NotifySocket  string // systemd's NOTIFY_SOCKET; "" = nobody to tell
	Logger        *slog.Logger
}

// Defaults of Config. Room that is not used costs address space, no memory.
const (
	DefaultWorkers       = 1
	DefaultMaxInterfaces = 4096
	DefaultMaxRoutes     = 256 << 10
)

// maxTranslations is how many there can be of services' addresses and ports.
const maxTranslations = 128 << 10

// Engine is a packet engine that is not running yet.
type Engine struct {
	config  Config
	segment *stats.Segment
	plane   *vnet.Plane
	server  *api.Server
}

// New makes the control state, the segment and the API server. It opens no socket.
func New(c Config) (*Engine, error) {
	c.Workers = cmp.Or(c.Workers, DefaultWorkers)
	c.MaxInterfaces = cmp.Or(c.MaxInterfaces, DefaultMaxInterfaces)
	c.MaxRoutes = cmp.Or(c.MaxRoutes, DefaultMaxRoutes)
	if c.Workers < 1 || c.MaxInterfaces < 1 || c.MaxRoutes < 1 {
		return nil, fmt.Errorf("configure engine: %d workers, %d interfaces, %d routes; want at least 1 of each",
			c.Workers, c.MaxInterfaces, c.MaxRoutes)
	}
	e := &Engine{config: c}
	var err error
	e.segment, err = stats.New(stats.Config{
		Threads: c.Workers + 1, Interfaces: c.MaxInterfaces, Routes: c.MaxRoutes, Translations: maxTranslations,
		Errors: vnet.ErrorNames(),
	})
	if err != nil {
		return nil, err
	}
	if err := e.build(); err != nil {
		return nil, errors.Join(err, e.segment.Close())
	}
	return e, nil
}

func (e *Engine) build() error {
	var err error
	e.plane, err = vnet.New(vnet.Config{
		Workers: e.config.Workers, MaxInterfaces: e.config.MaxInterfaces, MaxRoutes: e.config.MaxRoutes,
		Counters: e.segment.Counters(), Rules: e.segment, Logger: e.config.Logger,
	})
	if err != nil {
		return fmt.Errorf("make control state: %w", err)
	}
	for i := range e.plane.Interfaces() {
		if err := e.segment.SetInterface(i.Index, i.Name); err != nil {
			return err
		}
	}
	e.server, err = api.New(api.Config{
		Plane: e.plane, Stats: e.segment, Counters: e.segment.Counters(), Threads: e.threads,
		Version: e.config.Version, RuntimeDir: cmp.Or(e.config.RuntimeDir, filepath.Dir(e.config.APISocket)), Logger: e.config.Logger,
	})
	return err
}

// threads are the main thread and the workers. Workers are kernel threads of their own,
// whose numbers stay with the Go runtime.
func (e *Engine) threads() []api.Thread {
	list := []api.Thread{{Name: "vpp_main", TID: os.Getpid(), CPU: -1}}
	for n := range e.config.Workers {
		list = append(list, api.Thread{Name: fmt.Sprintf("vpp_wk_%d", n), Type: "workers", CPU: -1})
	}
	return list
}

// Run opens the sockets, starts the workers and serves until ctx ends: then ready clients
// are cut off, the sockets removed, the ports closed. It calls ready once the sockets
// answer. An Engine runs once.
func (e *Engine) Run(ctx context.Context, ready func()) error {
	err := e.run(ctx, ready)
	return errors.Join(err, e.segment.Close())
}

func (e *Engine) run(ctx context.Context, ready func()) error {
	apiSocket, err := listen("unix", e.config.APISocket)
	if err != nil {
		return fmt.Errorf("open api socket: %w", err)
	}
	statsSocket, err := listen("unixpacket", e.config.StatsSocket)
	if err != nil {
		return errors.Join(fmt.Errorf("open stats socket: %w", err), apiSocket.Close())
	}
	// Workers outlive the API: a request under way still finds them.
	workers, stopWorkers := context.WithCancel(context.WithoutCancel(ctx))
	defer stopWorkers()
	done := make(chan error, 1)
	group, ctx := errgroup.WithContext(ctx)
	go func() { done <- e.plane.Run(workers) }()
	group.Go(func() error { return e.server.Serve(ctx, apiSocket) })
	group.Go(func() error { return e.segment.Serve(ctx, statsSocket) })
	group.Go(func() error { return e.tick(ctx) })
	group.Go(func() error { return e.workersEnd(ctx, done) })
	if err := notify(e.config.NotifySocket, "READY=1"); err != nil {
		e.config.Logger.Warn("tell the service manager", "err", err)
	}
	ready()
	err = group.Wait()
	if noteErr := notify(e.config.NotifySocket, "STOPPING=1"); noteErr != nil {
		e.config.Logger.Warn("tell the service manager", "err", noteErr)
	}
	stopWorkers()
	return errors.Join(err, <-done)
}

// workersEnd ends the engine when its workers end by themselves. done keeps their
// result for run.
func (e *Engine) workersEnd(ctx context.Context, done chan error) error {
	select {
	case <-ctx.Done():
		return nil
	case err := <-done:
		done <- err
		return errors.New("the workers have ended")
	}
}

// tick moves the heartbeat.
func (e *Engine) tick(ctx context.Context) error {
	second := time.NewTicker(time.Second)
	defer second.Stop()
	e.segment.Tick(time.Now())
	for {
		select {
		case <-ctx.Done():
			return nil
		case now := <-second.C:
			e.segment.Tick(now)
		}
	}
}

// notify sends one line of systemd's sd_notify protocol. A leading @ means an abstract
// socket.
func notify(path, state string) error {
	if path == "" {
		return nil
	}
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		return fmt.Errorf("reach notify socket: %w", err)
	}
	_, err = conn.Write([]byte(state))
	return errors.Join(err, conn.Close())
}
