// Package api is the engine's binary API server: VPP's messages over a unix socket, to
// which unmodified GoVPP connects.
//
// It owns the socket, the message table and the translation of messages into edits of
// the control state, one file per VPP module. It never holds forwarding state, and lists
// in its table only what it implements, so that a client's compatibility check tells
// the truth.
package api

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"syscall"
	"time"

	"github.com/millrace/millrace/engine/vnet"
)

// Stats is told of what the statistics segment must name or make room for.
type Stats interface {
	SetInterface(index uint32, name string) error
	RemoveInterface(index uint32) error
	Grow(counter string, index uint32) error
}

// Thread is one row of show_threads.
type Thread struct {
	Name string // vpp_main, vpp_wk_0
	Type string // "" for main, "workers"
	TID  int    // of the kernel; 0 = unknown
	CPU  int    // pinned to; -1 = any
}

// Config of a Server.
type Config struct {
	Plane    *vnet.Plane
	Stats    Stats
	Counters []vnet.Counters // for the show commands; row 0 = main thread
	Threads  func() []Thread
	Version  string
	// RuntimeDir is where sockets with relative names are.
	RuntimeDir string
	Logger     *slog.Logger
}

// Server answers binary API clients.
type Server struct {
	plane    *vnet.Plane
	stats    Stats
	counters []vnet.Counters
	threads  func() []Thread
	version  string
	// runtimeDir is where memif sockets with relative names are.
	runtimeDir string
	started    time.Time
	log        *slog.Logger

	table         *table
	leave         *entry // sockclnt_delete
	ifEvent       *entry
	neighborEvent *entry
	devices       *devices
	nodes         *tunnelNodes
	memifs        *memifs
	settings      *settings
	marks         marks
	cleared       clearedErrors
	commands      []command

	ctx     context.Context // ends the watches
	cancel  func()
	watches sync.WaitGroup

	mu       sync.Mutex // guards the fields below
	sessions map[*session]struct{}
	last     uint32 // client_index given out last
}

// New makes a server; Serve starts it.
func New(c Config) (*Server, error) {
	s := &Server{
		plane: c.Plane, stats: c.Stats, counters: c.Counters, threads: c.Threads, version: c.Version,
		started: time.Now(), log: c.Logger, devices: newDevices(), nodes: newTunnelNodes(), runtimeDir: c.RuntimeDir, memifs: newMemifs(c.RuntimeDir), settings: newSettings(), sessions: map[*session]struct{}{},
		last: firstClient - 1,
	}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.commands = s.commandTable()
	var err error
	if s.table, err = newTable(s.messages()); err != nil {
		return nil, fmt.Errorf("build message table: %w", err)
	}
	return s, nil
}

// firstClient is the client_index of the first client, as VPP's socket clients have it.
const firstClient = 0x80000001

// Serve answers clients until ctx ends, then closes their connections and l, which
// removes the socket file, and waits for the requests under way.
func (s *Server) Serve(ctx context.Context, l *net.UnixListener) error {
	defer l.Close()
	defer s.plane.WatchInterfaces(s.interfaceChanged)()
	defer s.plane.WatchNeighbors(s.neighborChanged)()
	defer s.watches.Wait()
	defer s.cancel()
	ctx, cancel := context.WithCancel(ctx)
	var clients sync.WaitGroup
	defer clients.Wait()
	defer cancel()
	defer context.AfterFunc(ctx, func() { l.Close() })()
	for {
		conn, err := l.AcceptUnix()
		if ctx.Err() != nil {
			if err == nil {
				conn.Close()
			}
			return nil
		}
		if outOfDescriptors(err) {
			s.log.Error("accept api client", "err", err)
			if !pause(ctx, 100*time.Millisecond) {
				return nil
			}
			continue
		}
		if err != nil {
			return fmt.Errorf("accept api client: %w", err)
		}
		clients.Go(func() { s.serveClient(ctx, conn) })
	}
}

func outOfDescriptors(err error) bool {
	return errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE) || errors.Is(err, syscall.ECONNABORTED)
}

// pause waits for d and reports whether ctx still runs.
func pause(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}

func (s *Server) serveClient(ctx context.Context, conn net.Conn) {
	c := newSession(ctx, s, conn)
	s.mu.Lock()
	s.sessions[c] = struct{}{}
	s.mu.Unlock()
	err := c.run()
	s.mu.Lock()
	delete(s.sessions, c)
	s.mu.Unlock()
	conn.Close()
	if err != nil {
		s.log.Warn("api client cut off", "client", c.name, "err", err)
	}
}

// everyone runs f for every client.
func (s *Server) everyone(f func(*session)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.sessions {
		f(c)
	}
}
