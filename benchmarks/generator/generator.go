// Package generator owns the packets of a measurement: it makes frames, sends them through
// memif queues at full speed or at a rate, takes in what comes back, and counts.
//
// It never starts a process, never opens a socket (its caller brings the queues), and never
// judges a number.
package generator

import (
	"errors"
	"fmt"
	"runtime"
	"runtime/metrics"
	"time"

	"github.com/millrace/millrace/benchmarks/cores"
	"github.com/millrace/millrace/memif"
)

// Config is one generator: one thread that sends to all of Tx and takes from all of Rx, in
// turn. Either may be empty.
type Config struct {
	Tx    []*memif.TxQueue
	Rx    []*memif.RxQueue
	Core  int // the thread's; negative = any
	Size  int // bytes of a frame
	Batch int // frames per call of a queue; 0 = DefaultBatch
	Header
	Flows Flows // where the frames go; nothing = all to one place
	// Check, if set, judges the first frame of each batch that comes back.
	Check func(frame []byte) bool
	// Borrow has frames looked at where they lie instead of copied: a device is measured,
	// and the generator must not be what is slow.
	Borrow bool
}

// DefaultBatch is frames per call of a queue.
const DefaultBatch = 64

// looks is how many turns pass between two looks at the clock.
const looks = 8

// Generator is a thread that waits to be told what to do. While it waits it does not run.
type Generator struct {
	config Config
	clock  cores.Clock
	thread int
	jobs   chan func()
	ended  chan struct{}

	out   *batch
	in    [][]byte
	views []memif.View
	flows walk

	counters
}

// counters count since the beginning.
type counters struct {
	sent, received uint64
	full           uint64 // calls of Send that found less room than frames
	calls          uint64 // of Send
	looked, wrong  uint64 // frames that Check judged, and found wrong
}

// since is what happened after was.
func (c counters) since(was counters, took time.Duration) Count {
	n := Count{Sent: c.sent - was.sent, Received: c.received - was.received, Took: took, Looked: c.looked - was.looked, Wrong: c.wrong - was.wrong}
	if c.calls > was.calls {
		n.Full = float64(c.full-was.full) / float64(c.calls-was.calls)
	}
	return n
}

// New starts the thread. Close ends it.
func New(c Config) (*Generator, error) {
	if c.Batch == 0 {
		c.Batch = DefaultBatch
	}
	if c.Batch < 1 || c.Batch > memif.MaxRingSize {
		return nil, fmt.Errorf("start generator: batch of %d frames: want 1 to %d", c.Batch, memif.MaxRingSize)
	}
	out, err := newBatch(c.Header, c.Size, c.Batch)
	if err != nil {
		return nil, fmt.Errorf("start generator: %w", err)
	}
	clock, err := cores.NewClock()
	if err != nil {
		return nil, fmt.Errorf("start generator: %w", err)
	}
	g := &Generator{config: c, clock: clock, out: out, in: buffers(c.Batch, MaxFrame), views: make([]memif.View, c.Batch), jobs: make(chan func()), ended: make(chan struct{}), flows: c.Flows.walk()}
	ready := make(chan error, 1)
	go g.live(ready)
	if err := <-ready; err != nil {
		return nil, fmt.Errorf("start generator: %w", err)
	}
	return g, nil
}

func (g *Generator) live(ready chan<- error) {
	defer close(g.ended)
	runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
	g.thread = threadID()
	if g.config.Core >= 0 {
		if err := cores.Pin(0, g.config.Core); err != nil {
			ready <- err
			return
		}
	}
	ready <- nil
	for job := range g.jobs {
		job()
	}
}

// do runs fn on the thread.
func (g *Generator) do(fn func() error) error {
	done := make(chan error, 1)
	g.jobs <- func() { done <- fn() }
	return <-done
}

// Thread is the id of the thread, for whoever raises it.
func (g *Generator) Thread() int { return g.thread }

// Close ends the thread. Nothing else may be under way.
func (g *Generator) Close() {
	close(g.jobs)
	<-g.ended
}

// Count is what happened in a window.
type Count struct {
	Sent     uint64        // frames that the device took
	Received uint64        // frames that came back
	Took     time.Duration // the window as it really was
	Full     float64       // share of sends that found the device full: near 1 = saturated
	Mallocs  uint64        // of the whole process, in the window and around its edges
	Looked   uint64        // frames that Config.Check judged
	Wrong    uint64        // those that it found wrong
}

// Window moves frames as fast as they go from now on and counts from one time of the
// machine's monotonic clock (ns) to another.
func (g *Generator) Window(from, to int64) (Count, error) {
	var c Count
	before := mallocs()
	err := g.do(func() error {
		var err error
		c, err = g.window(from, to)
		return err
	})
	c.Mallocs = mallocs() - before
	return c, err
}

func (g *Generator) window(from, to int64) (Count, error) {
	if from >= to {
		return Count{}, errors.New("measure window: it ends before it begins")
	}
	for g.clock.Now() < from {
		if err := g.turns(); err != nil {
			return Count{}, err
		}
	}
	was, begin := g.counters, g.clock.Now()
	end := begin
	for ; end < to; end = g.clock.Now() {
		if err := g.turns(); err != nil {
			return Count{}, err
		}
	}
	return g.counters.since(was, time.Duration(end-begin)), nil
}

func (g *Generator) turns() error {
	for range looks {
		for _, q := range g.config.Tx {
			g.flows.aim(g.out, len(g.out.frames))
			n, err := q.Send(g.out.frames)
			if err != nil {
				return fmt.Errorf("send frames: %w", err)
			}
			g.sent += uint64(n)
			g.calls++
			if n < len(g.out.frames) {
				g.full++
			}
			g.flows.next(n)
		}
		for _, q := range g.config.Rx {
			if err := g.take(q); err != nil {
				return fmt.Errorf("receive frames: %w", err)
			}
		}
	}
	return nil
}

// take receives one batch.
func (g *Generator) take(q *memif.RxQueue) error {
	if g.config.Borrow {
		return g.borrow(q)
	}
	n, err := q.Receive(g.in)
	g.received += uint64(n)
	if n > 0 {
		g.look(g.in[0])
	}
	return err
}

func (g *Generator) borrow(q *memif.RxQueue) error {
	n, err := q.Borrow(g.views)
	if n == 0 {
		return err
	}
	for _, v := range g.views[:n] {
		if !v.More {
			g.received++
		}
	}
	if first := g.views[0]; !first.More {
		g.look(first.Bytes)
	}
	q.Release(n)
	return err
}

func (g *Generator) look(frame []byte) {
	if g.config.Check == nil {
		return
	}
	g.looked++
	if !g.config.Check(frame) {
		g.wrong++
	}
}

// mallocs is how many objects the process has allocated so far.
func mallocs() uint64 {
	sample := []metrics.Sample{{Name: "/gc/heap/allocs:objects"}}
	metrics.Read(sample)
	if sample[0].Value.Kind() != metrics.KindUint64 {
		return 0
	}
	return sample[0].Value.Uint64()
}
