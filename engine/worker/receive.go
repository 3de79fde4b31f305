package worker

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/millrace/millrace/engine/packet"
	"github.com/millrace/millrace/engine/port"
)

// Mode is how a receive queue is watched, as in interface_types.api rx_mode.
type Mode uint8

const (
	Polling   Mode = 1 // the worker never sleeps
	Interrupt Mode = 2 // the worker sleeps until the queue's descriptor is readable
	Adaptive  Mode = 3 // as Interrupt, but looks again for spinTime before it sleeps
)

// spinTime bounds the empty looks of an adaptive queue. Longer would take the cycles
// that the senders need where cores are few.
const spinTime = 30 * time.Microsecond

// busyRounds is after how many rounds with packets a worker looks which sleeping queues
// have woken. Each look is a system call, dear beside a small batch; a waking queue waits
// for at most so many batches.
const busyRounds = 8

// idlePoll is how long a worker sleeps between looks at a queue that has no descriptor.
const idlePoll = 1 // millisecond

// Learned is what a worker saw of a neighbour in ARP or ND.
type Learned struct {
	Interface uint32
	Addr      netip.Addr
	MAC       packet.MAC
}

// Queue is one receive queue given to a worker.
type Queue struct {
	Interface uint32
	Port      port.Port
	Index     int
	Mode      Mode

	tag  int32
	fd   int
	hot  bool // looked at in each round
	idle time.Time
}

// Config of a Worker.
type Config struct {
	Index    int // 0 is the first worker
	State    *State
	Counters *Counters
	Learn    chan<- Learned // never blocks: what does not fit is lost and counted
	Gone     chan<- uint32  // interfaces whose port failed; buffered or read
	Logger   *slog.Logger
	// Capacity is the number of interfaces that may exist.
	Capacity int
}

// Worker is one forwarding thread.
type Worker struct {
	cfg    Config
	state  *State
	count  *Counters
	poller *poller

	// Control threads leave jobs, which the worker runs between two batches.
	mu      sync.Mutex
	jobs    []job
	running bool
	stopped bool
	pending atomic.Bool

	queues []*Queue // by tag, nil for holes
	polled []*Queue // looked at in each round: polling mode, or no descriptor
	hot    []*Queue

	rx    [packet.BatchSize]*packet.Buffer
	arena *packet.Arena
	now   time.Time // of this batch, zero when nobody has asked

	batch  batch
	outbox outbox
	limits limits
	// fragmentID names the last IPv6 packet of our own that was cut.
	fragmentID uint32
}

type job struct {
	do   func()
	done chan struct{}
}

// spare is how many buffers a worker has beside its receive batch: for segments,
// fragments and messages of its own.
const spare = packet.BatchSize

// New returns a worker that has no queue yet.
func New(cfg Config) (*Worker, error) {
	p, err := newPoller()
	if err != nil {
		return nil, err
	}
	arena, err := packet.NewArena(packet.BatchSize + spare)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("make worker %d: %w", cfg.Index, err), p.close())
	}
	w := &Worker{cfg: cfg, state: cfg.State, count: cfg.Counters, poller: p, arena: arena}
	arena.TakeBatch(w.rx[:])
	w.batch.flows, w.batch.cur, w.batch.own = newFlowCache(), new(vector), new(vector)
	w.batch.entering, w.batch.inside = new(entered), new(entered)
	for i := range w.batch.all {
		w.batch.all[i] = uint8(i)
	}
	w.outbox.boxes = make([]box, cfg.Capacity)
	return w, nil
}

// Do runs f on the worker's thread between two batches and returns when it is done. When
// it returns, the worker has finished with everything that f's caller unpublished before.
// It must not be called by the worker itself.
func (w *Worker) Do(f func()) {
	w.mu.Lock()
	if !w.running {
		f()
		w.mu.Unlock()
		return
	}
	j := job{do: f, done: make(chan struct{})}
	w.jobs = append(w.jobs, j)
	w.pending.Store(true)
	w.mu.Unlock()
	w.wakeUp()
	<-j.done
}

func (w *Worker) wakeUp() {
	if err := w.poller.wake(); err != nil {
		w.cfg.Logger.Error("worker cannot be woken", "worker", w.cfg.Index, "err", err)
	}
}

// Add gives the worker a queue. The queue must be with no other worker.
func (w *Worker) Add(q *Queue) error {
	var err error
	w.Do(func() { err = w.add(q) })
	return err
}

// Remove takes a queue away; when it returns the worker has left the port's receive side.
func (w *Worker) Remove(q *Queue) error {
	var err error
	w.Do(func() { err = w.remove(q) })
	return err
}

// Barrier returns when the worker has seen everything published before the call.
func (w *Worker) Barrier() { w.Do(func() {}) }

func (w *Worker) add(q *Queue) error {
	i := slices.Index(w.queues, nil)
	if i < 0 {
		i = len(w.queues)
		w.queues = append(w.queues, nil)
	}
	q.tag, q.fd, q.hot, q.idle = int32(i), q.Port.RxFD(q.Index), false, time.Time{}
	if q.Mode == Polling || q.fd < 0 {
		w.polled = append(w.polled, q)
	} else if err := w.poller.add(q.fd, q.tag); err != nil {
		return err
	}
	w.queues[i] = q
	return nil
}

func (w *Worker) remove(q *Queue) error {
	if int(q.tag) >= len(w.queues) || w.queues[q.tag] != q {
		return nil
	}
	w.queues[q.tag] = nil
	w.hot = slices.DeleteFunc(w.hot, func(o *Queue) bool { return o == q })
	if i := slices.Index(w.polled, q); i >= 0 {
		w.polled = slices.Delete(w.polled, i, i+1)
		return nil
	}
	return w.poller.remove(q.fd)
}

// Run is the thread: it returns when Stop is called. The goroutine keeps its thread.
func (w *Worker) Run() error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	w.mu.Lock()
	if w.stopped {
		w.mu.Unlock()
		return nil
	}
	w.running = true
	w.mu.Unlock()
	var err error
	for rounds := 0; err == nil; {
		if w.pending.Load() && w.runJobs() {
			break
		}
		busy := w.round()
		if rounds++; !busy || rounds >= busyRounds {
			rounds = 0
			err = w.sleep()
		}
	}
	w.mu.Lock()
	w.running = false
	jobs := w.jobs
	w.jobs = nil
	w.mu.Unlock()
	for _, j := range jobs {
		if j.do == nil {
			continue // another Stop
		}
		j.do()
		close(j.done)
	}
	return err
}

// round serves each queue that is polled or hot once and reports whether there was
// anything.
func (w *Worker) round() bool {
	busy := false
	for i := 0; i < len(w.polled); i++ { // serve may shorten it
		busy = w.serve(w.polled[i]) > 0 || busy
	}
	for i := 0; i < len(w.hot); {
		q := w.hot[i]
		n := w.serve(q)
		busy = n > 0 || busy
		if w.stillHot(q, n) {
			i++
		} else {
			w.cool(i)
		}
	}
	return busy
}

// Stop makes Run return, also a Run that has not begun yet; a later Close frees the
// worker's memory.
func (w *Worker) Stop() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.jobs = append(w.jobs, job{})
	w.pending.Store(true)
	w.wakeUp()
}

// Close frees the worker's memory and descriptors. Run has returned.
func (w *Worker) Close() error {
	return errors.Join(w.arena.Close(), w.poller.close())
}

// runJobs reports whether one of them was to stop.
func (w *Worker) runJobs() (stop bool) {
	w.mu.Lock()
	jobs := w.jobs
	w.jobs = nil
	w.pending.Store(false)
	w.mu.Unlock()
	for _, j := range jobs {
		if j.do == nil {
			stop = true
			continue
		}
		j.do()
		close(j.done)
	}
	return stop
}

// sleep waits for events, not at all while some queue is to be looked at again.
func (w *Worker) sleep() error {
	timeout := -1
	if len(w.hot) > 0 {
		timeout = 0
	}
	for _, q := range w.polled {
		if q.Mode == Polling {
			timeout = 0
		} else if timeout < 0 {
			timeout = idlePoll
		}
	}
	n, err := w.poller.wait(timeout)
	if err != nil {
		return err
	}
	for i := range n {
		tag, err := w.poller.tag(i)
		if err != nil {
			return err
		}
		if tag == wakeTag || w.queues[tag] == nil || w.queues[tag].hot {
			continue
		}
		q := w.queues[tag]
		q.hot = true
		w.hot = append(w.hot, q)
	}
	return nil
}

func (w *Worker) cool(i int) {
	q := w.hot[i]
	q.hot = false
	w.hot[i] = w.hot[len(w.hot)-1]
	w.hot = w.hot[:len(w.hot)-1]
}

// stillHot decides whether to look at q again after a round that gave n packets. A full
// batch means that there is more; with less the device was found empty.
func (w *Worker) stillHot(q *Queue, n int) bool {
	if n < 0 {
		return false
	}
	if n == packet.BatchSize {
		q.idle = time.Time{}
		return true
	}
	if q.Mode != Adaptive {
		return false
	}
	// Only load is worth spinning for: single packets go by interrupt.
	if n >= packet.BatchSize/8 {
		q.idle = time.Now()
		return true
	}
	return !q.idle.IsZero() && time.Since(q.idle) < spinTime
}

// serve takes one batch of q through all stages and returns how many packets there were,
// -1 when the port is gone.
func (w *Worker) serve(q *Queue) int {
	n, err := q.Port.Receive(q.Index, w.rx[:])
	if n > 0 {
		w.process(q.Interface, n)
	}
	if err != nil {
		w.fail(q)
		return -1
	}
	return n
}

// fail stops watching a queue whose port is gone and tells the control thread.
func (w *Worker) fail(q *Queue) {
	w.count.RxError[q.Interface]++
	if i := slices.Index(w.polled, q); i >= 0 {
		w.polled = slices.Delete(w.polled, i, i+1)
	} else if err := w.poller.remove(q.fd); err != nil {
		w.cfg.Logger.Warn("failed queue cannot be unwatched", "interface", q.Interface, "err", err)
	}
	w.queues[q.tag] = nil
	select {
	case w.cfg.Gone <- q.Interface:
	default:
		w.cfg.Logger.Warn("interface failed while others do", "interface", q.Interface)
	}
}

// Ask has the worker send an ARP request or neighbour solicitation for addr. It does not
// wait.
func (w *Worker) Ask(ifc uint32, addr netip.Addr) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.running {
		return
	}
	w.jobs = append(w.jobs, job{do: func() { w.askNow(ifc, addr) }, done: make(chan struct{})})
	w.pending.Store(true)
	w.wakeUp()
}
