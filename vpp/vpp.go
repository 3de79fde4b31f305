// Package vpp owns the connection to a dataplane that speaks VPP's binary API: dialling,
// calls with deadlines, dumps and cursor streams as iterators, pipelined batches, events,
// the capability probe, and the statistics segment.
//
// It mirrors no message: callers fill GoVPP's generated binapi types. It never retries a
// call, never logs, and never keeps state across connections, since a new connection may
// lead to a new process that knows nothing: one [Conn] is one life of the peer's state.
//
// Messages, their codec and their CRCs are GoVPP's; the socket under them is ours, because
// GoVPP's own notices a closed peer only by a health check that is seconds late, gives up
// replies when a reader is slow, and knows no deadline while it connects.
package vpp

import (
	"context"
	"iter"
	"time"
)

// DefaultSocket is where VPP and the embedded engine listen unless told otherwise.
const DefaultSocket = "/run/vpp/api.sock"

const (
	defaultTimeout = 5 * time.Second
	defaultDepth   = 32
	// The shortest and the longest pause between two attempts to connect. Pods are cut off
	// for as long as nobody sees that VPP is back after a crash, and to try costs a call of
	// connect(2): a pause is a sixteenth of how long it is gone.
	shortestPause = 5 * time.Millisecond
	longestPause  = 200 * time.Millisecond
	pauseShare    = 16
)

// Config says how to reach the peer. Its zero value is usable.
type Config struct {
	Socket string // path of the API socket; "" = DefaultSocket
	Name   string // how the peer shows this client; "" = "millrace"; at most 63 bytes

	// Timeout bounds the handshake, and the silence of the peer in every call whose
	// context has no deadline: for one reply, or between two messages of a dump. 0 = 5 s.
	Timeout time.Duration

	// Keepalive, when not 0, sends a control_ping in each such interval and gives the
	// connection up (ErrSilent) when one stays unanswered for as long. A dead process
	// is noticed at once without it; it finds one that hangs. Choose more than the
	// longest barrier VPP may hold: one second is too short for large ACL changes.
	Keepalive time.Duration

	// Depth is how many requests of a Batch may be unanswered at a time. 0 = 32.
	Depth int
}

func (cfg Config) withDefaults() Config {
	if cfg.Socket == "" {
		cfg.Socket = DefaultSocket
	}
	if cfg.Name == "" {
		cfg.Name = "millrace"
	}
	if cfg.Timeout <= 0 {
		cfg.Timeout = defaultTimeout
	}
	if cfg.Depth <= 0 {
		cfg.Depth = defaultDepth
	}
	return cfg
}

// Connections dials again and again until ctx ends, and yields each live connection, or
// the error of each failed attempt with a nil connection. The loop's body owns the
// connection: it works until [Conn.Done] is closed (or as long as it likes), and the
// connection is closed when the body ends. [Conn.Generation] rises by one with each;
// everything known of the peer's state must then be observed anew.
//
//	for conn, err := range vpp.Connections(ctx, cfg) {
//		if err != nil {
//			logger.Warn("dataplane unreachable", "err", err)
//			continue
//		}
//		logger.Info("connected", "generation", conn.Generation())
//		serve(ctx, conn)
//	}
func Connections(ctx context.Context, cfg Config) iter.Seq2[*Conn, error] {
	return func(yield func(*Conn, error) bool) {
		gone := time.Now()
		for generation := uint64(1); ctx.Err() == nil; {
			conn, err := dial(ctx, cfg, generation)
			switch {
			case ctx.Err() != nil:
				if err == nil {
					conn.Close()
				}
				return
			case err != nil:
				if !yield(nil, err) {
					return
				}
			default:
				generation++
				since := time.Now()
				more := yield(conn, nil)
				conn.Close()
				if !more {
					return
				}
				if time.Since(since) > time.Second {
					gone = time.Now()
				}
			}
			if !sleep(ctx, min(max(shortestPause, time.Since(gone)/pauseShare), longestPause)) {
				return
			}
		}
	}
}

// sleep waits for d and says whether ctx is still alive.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}
