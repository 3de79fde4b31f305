// Package peer is one end of a memif link in a process of its own, as benchmarks start it:
// it sends or takes frames and counts them when it is told to. Its caller speaks to it over
// its standard input and output, one JSON value a line:
//
//	in   Config
//	out  Ready            the socket listens or connects
//	in   Window           … as often as wanted
//	out  Answer
//	     end of the input: the process ends
//
// It never chooses when to measure and never starts another process.
package peer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime/debug"

	"github.com/millrace/millrace/benchmarks/cores"
	"github.com/millrace/millrace/benchmarks/generator"
	"github.com/millrace/millrace/memif"
)

// Config is one end of a link.
type Config struct {
	Server bool   `json:"server"` // else client
	Socket string `json:"socket"` // path, or @name
	Send   bool   `json:"send"`   // else receive
	Size   int    `json:"size"`   // bytes of a frame
	Queues int    `json:"queues"` // all served by one thread
	Ring   int    `json:"ring"`   // descriptors; 0 = memif.DefaultRingSize
	Batch  int    `json:"batch"`  // frames per call; 0 = generator.DefaultBatch
	Core   int    `json:"core"`   // of the thread
	// Priority, if not 0, is what the thread is raised to; the rest of the process goes one
	// above it. Then windows begin in time on a busy machine too.
	Priority int `json:"priority"`
}

// Ready says that the process is at work.
type Ready struct {
	Thread int `json:"thread"` // id of the thread that moves frames
}

// Window is a time to count in, in ns of the machine's monotonic clock. Frames move from
// when it is given until its end.
type Window struct {
	From int64 `json:"from"`
	To   int64 `json:"to"`
}

// Answer is what a window showed.
type Answer struct {
	generator.Count
	Up    bool   `json:"up"`    // there is a link
	Error string `json:"error"` // "" = none
}

// Run is the process's life, until in ends or ctx does.
func Run(ctx context.Context, in io.Reader, out io.Writer) (err error) {
	lines, answers := json.NewDecoder(in), json.NewEncoder(out)
	lines.DisallowUnknownFields()
	var c Config
	if err := lines.Decode(&c); err != nil {
		return fmt.Errorf("read configuration: %w", err)
	}
	// Collecting would disturb the windows, and there is next to nothing to collect.
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	defer debug.SetMemoryLimit(debug.SetMemoryLimit(1 << 30))
	end, err := newEnd(c)
	if err != nil {
		return err
	}
	if c.Priority > 0 {
		lower, err := raise(c.Priority, end.generator.Thread())
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, lower()) }()
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	running := make(chan error, 1)
	go func() { running <- end.socket.Run(ctx) }()
	served := make(chan error, 1)
	go func() { served <- end.serve(lines, answers) }()
	select {
	case err = <-served:
		cancel()
		return errors.Join(err, <-running)
	case err = <-running: // the socket failed, or ctx ended
		return err
	}
}

// raise raises the process, and its generator's thread a little less, where that is
// permitted.
func raise(priority, thread int) (lower func() error, err error) {
	lower, err = cores.RaiseSelf(priority + 1)
	if err == nil {
		_, err = cores.Raise(thread, priority) // lowered with all others
	}
	if errors.Is(err, os.ErrPermission) {
		err = nil
	}
	return lower, err
}

// end is a socket with its interface and the thread on its queues.
type end struct {
	socket    *memif.Socket
	port      *memif.Interface
	generator *generator.Generator
}

func newEnd(c Config) (*end, error) {
	role := memif.Client
	if c.Server {
		role = memif.Server
	}
	socket, err := memif.NewSocket(memif.SocketConfig{Role: role, Address: c.Socket})
	if err != nil {
		return nil, err
	}
	port, err := socket.Add(memif.Config{Name: "millrace", RxQueues: c.Queues, TxQueues: c.Queues, RingSize: c.Ring, RxMode: memif.Polling})
	if err != nil {
		return nil, err
	}
	g := generator.Config{Core: c.Core, Size: c.Size, Batch: c.Batch, Header: generator.DefaultHeader()}
	for i := range port.Config().TxQueues {
		if c.Send {
			g.Tx = append(g.Tx, port.TxQueue(i))
		} else {
			g.Rx = append(g.Rx, port.RxQueue(i))
		}
	}
	e := &end{socket: socket, port: port}
	if e.generator, err = generator.New(g); err != nil {
		return nil, err
	}
	return e, nil
}

// serve answers windows until there are no more.
func (e *end) serve(lines *json.Decoder, answers *json.Encoder) error {
	if err := answers.Encode(Ready{Thread: e.generator.Thread()}); err != nil {
		return fmt.Errorf("tell ready: %w", err)
	}
	for {
		var w Window
		err := lines.Decode(&w)
		if errors.Is(err, io.EOF) {
			e.generator.Close()
			return nil
		}
		if err != nil {
			return fmt.Errorf("read window: %w", err)
		}
		var a Answer
		if a.Count, err = e.generator.Window(w.From, w.To); err != nil {
			a.Error = err.Error()
		}
		a.Up = e.port.Status().Up
		if err := answers.Encode(a); err != nil {
			return fmt.Errorf("tell answer: %w", err)
		}
	}
}
