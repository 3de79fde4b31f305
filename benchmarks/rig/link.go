package rig

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/millrace/millrace/benchmarks"
	"github.com/millrace/millrace/benchmarks/cores"
)

// End is one end of a memif link, in a process of its own.
type End interface {
	// Start starts the process and returns the threads that poll. A server listens then.
	Start(ctx context.Context, l *Launcher, c EndConfig) (pollers []int, err error)
	// Window has frames moved until a time of the monotonic clock, in ns; a receiver
	// counts from another one on.
	Window(from, to int64) (Counted, error)
	Stop() error
}

// Link is two ends that are joined for one window.
type Link struct {
	Sender, Receiver         End
	ServerSends              bool // else the client does
	Size, Queues             int
	SenderCore, ReceiverCore int
}

const flowPatience = time.Minute

// Measure starts both ends, waits until frames arrive, counts for one window and ends them.
func (k Link) Measure(ctx context.Context, l *Launcher, t Timing) (c Counted, cond benchmarks.Condition, err error) {
	dir, err := scratch()
	if err != nil {
		return c, cond, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	defer func() { err = errors.Join(err, k.Sender.Stop(), k.Receiver.Stop()) }()
	pollers, err := k.start(ctx, l, dir)
	if err != nil {
		return c, cond, err
	}
	clock, err := cores.NewClock()
	if err != nil {
		return c, cond, err
	}
	if err := k.flow(ctx, clock); err != nil {
		return c, cond, err
	}
	o := Observed{Cores: [2]int{k.SenderCore, k.ReceiverCore}, Pollers: pollers}
	cond, err = o.During(clock, t, func(from, to int64) error {
		c, err = k.both(from, to)
		return err
	})
	return c, cond, err
}

// start starts the server first: the client's connect must find it.
func (k Link) start(ctx context.Context, l *Launcher, dir string) (pollers []int, err error) {
	sender := EndConfig{Server: k.ServerSends, Send: true, Core: k.SenderCore}
	receiver := EndConfig{Server: !k.ServerSends, Core: k.ReceiverCore}
	for _, c := range []*EndConfig{&sender, &receiver} {
		c.Socket, c.Dir, c.Size, c.Queues = filepath.Join(dir, "memif.sock"), dir, k.Size, k.Queues
	}
	ends := []struct {
		End
		EndConfig
	}{{k.Receiver, receiver}, {k.Sender, sender}}
	if k.ServerSends {
		ends[0], ends[1] = ends[1], ends[0]
	}
	for _, e := range ends {
		threads, err := e.Start(ctx, l, e.EndConfig)
		if err != nil {
			return nil, err
		}
		pollers = append(pollers, threads...)
		if err := awaitListener(ctx, e.Socket); err != nil {
			return nil, err
		}
	}
	return pollers, nil
}

// awaitListener waits until a unix socket listens, without connecting to it: testpmd tries
// to connect only once.
func awaitListener(ctx context.Context, path string) error {
	const accepting = "00010000" // SO_ACCEPTCON in the flags of /proc/net/unix
	for deadline := time.Now().Add(flowPatience); ; time.Sleep(5 * time.Millisecond) {
		table, err := os.ReadFile("/proc/net/unix")
		if err != nil {
			return fmt.Errorf("wait for listener: %w", err)
		}
		for line := range strings.Lines(string(table)) {
			if f := strings.Fields(line); len(f) == 8 && f[3] == accepting && f[7] == path {
				return nil
			}
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("wait for listener at %s: none in %s", path, flowPatience)
		}
	}
}

// flow waits until frames arrive.
func (k Link) flow(ctx context.Context, clock cores.Clock) error {
	for deadline := time.Now().Add(flowPatience); ; {
		from := clock.Now()
		c, err := k.both(from, from+int64(20*time.Millisecond))
		if err != nil || c.Frames > 0 {
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("wait for frames: none arrived in %s", flowPatience)
		}
	}
}

// both runs a window at both ends. The sender goes on a little longer: the receiver must
// not run dry in its window.
func (k Link) both(from, to int64) (Counted, error) {
	const tail = 5 * time.Millisecond
	sent := make(chan error, 1)
	var sender Counted
	go func() {
		var err error
		sender, err = k.Sender.Window(from, to+int64(tail))
		sent <- err
	}()
	c, err := k.Receiver.Window(from, to)
	err = errors.Join(err, <-sent)
	c.Mallocs += sender.Mallocs
	return c, err
}
