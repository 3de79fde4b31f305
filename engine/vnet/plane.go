package vnet

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/millrace/millrace/engine/fib"
	"github.com/millrace/millrace/engine/nat"
	"github.com/millrace/millrace/engine/port"
	"github.com/millrace/millrace/engine/worker"
)

// Combined counts packets and bytes.
type Combined = worker.Combined

// Counters is one thread's rows, indexed by sw_if_index, by ErrorNames or by stats_index.
type Counters = worker.Counters

// Config of a Plane. Counters has Workers+1 rows; row 0 belongs to the control thread.
// Zero values stand for one worker, 1024 interfaces and 65536 routes.
type Config struct {
	Workers       int
	MaxInterfaces int
	MaxRoutes     int
	Counters      []Counters
	Rules         RuleCounters // of access lists; nil = on the heap
	Logger        *slog.Logger
}

// Plane is the control state and its workers. Its methods may be called from any
// goroutine; errors they return are api.VPPApiError values with VPP's meaning.
type Plane struct {
	cfg     Config
	log     *slog.Logger
	state   *worker.State
	workers []*worker.Worker
	learn   chan worker.Learned
	gone    chan uint32
	sweep   chan struct{} // sessions were cleared: make room
	events  events

	mu         sync.Mutex
	ifs        []*iface // by sw_if_index, nil for holes
	freeIfs    []uint32
	published  []*worker.Interface
	tables     [2]map[uint32]*table
	sources    []source // by number
	blocks     *fib.Blocks
	leaves     indexes
	routes     indexes
	adjIndexes indexes
	lists      map[string]*pathList
	adjs       map[adjKey]*adjacency
	vias       map[viaKey]*via
	neighbors  map[nbrKey]*neighbor
	nbrCount   [2]uint32
	nbrConfig  [2]NeighborConfig
	punts      [2]map[uint32]*pathList // by receiving interface, NoIndex for any
	puntUDP    [2]bool
	pmtu       map[pmtuKey]uint16
	access     accessLists
	proxies    proxies
	tunnels    tunnels
	nat        translator
	nextWorker int
	bump       bool // an edit changed where packets may go
	asks       []ask
	now        func() time.Time
}

// ErrorNames is the fixed list of drop and event reasons, in the order of
// Counters.Errors; Count is 0.
func ErrorNames() []ErrorCounter {
	names := worker.Names()
	out := make([]ErrorCounter, len(names))
	for i, n := range names {
		out[i] = ErrorCounter{Node: n.Node, Reason: n.Text, Severity: n.Severity}
	}
	return out
}

// New returns a Plane with local0 (sw_if_index 0) and the tables 0 of both families. Its
// workers start with Run.
func New(c Config) (*Plane, error) {
	c = withDefaults(c)
	if len(c.Counters) != c.Workers+1 {
		return nil, fmt.Errorf("make plane: %d rows of counters for %d workers; want one each and one for the control thread",
			len(c.Counters), c.Workers)
	}
	p := &Plane{
		cfg: c, log: c.Logger,
		state:     worker.NewState(c.MaxRoutes),
		learn:     make(chan worker.Learned, 1024),
		gone:      make(chan uint32, 64),
		sweep:     make(chan struct{}, 1),
		access:    accessLists{counters: c.Rules, limits: defaultLimits()},
		blocks:    fib.NewBlocks(),
		leaves:    indexes{next: 1, max: uint32(c.MaxRoutes)},
		routes:    indexes{next: 1, max: NoIndex},
		lists:     map[string]*pathList{},
		adjs:      map[adjKey]*adjacency{},
		vias:      map[viaKey]*via{},
		neighbors: map[nbrKey]*neighbor{},
		pmtu:      map[pmtuKey]uint16{},
		sources:   builtinSources(),
		nat:       translator{named: map[*translation]struct{}{}, tables: &nat.Tables{}},
		now:       time.Now,
	}
	p.adjIndexes = indexes{next: 1, max: NoIndex}
	for i := range p.tables {
		p.tables[i] = map[uint32]*table{}
		p.punts[i] = map[uint32]*pathList{}
		p.nbrConfig[i] = NeighborConfig{MaxNumber: 50000}
	}
	for i := range c.Workers {
		w, err := worker.New(worker.Config{
			Index: i, State: p.state, Counters: &c.Counters[i+1], Learn: p.learn, Gone: p.gone,
			Logger: c.Logger, Capacity: c.MaxInterfaces,
		})
		if err != nil {
			return nil, errors.Join(fmt.Errorf("make plane: %w", err), p.closeWorkers())
		}
		p.workers = append(p.workers, w)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, f := range []Family{IPv4, IPv6} {
		if _, err := p.makeTable(f, 0, ""); err != nil {
			return nil, errors.Join(fmt.Errorf("make plane: %w", err), p.closeWorkers())
		}
	}
	p.publishStateful()
	p.addLocal0()
	p.commit()
	p.events.discard()
	return p, nil
}

func withDefaults(c Config) Config {
	if c.Workers == 0 {
		c.Workers = 1
	}
	if c.MaxInterfaces == 0 {
		c.MaxInterfaces = 1024
	}
	if c.MaxRoutes == 0 {
		c.MaxRoutes = 65536
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Counters == nil {
		for range c.Workers + 1 {
			c.Counters = append(c.Counters, worker.NewCounters(c.MaxInterfaces, c.MaxRoutes))
		}
	}
	if c.Rules == nil {
		c.Rules = heapRules{c.Workers + 1}
	}
	return c
}

func (p *Plane) closeWorkers() error {
	var err error
	for _, w := range p.workers {
		err = errors.Join(err, w.Close())
	}
	return err
}

// Run starts the workers and the neighbours' ageing. It returns when ctx is done and all
// of them have stopped and every port is closed. A Plane runs once.
func (p *Plane) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	for _, w := range p.workers {
		g.Go(w.Run)
	}
	g.Go(func() error { return p.housekeep(ctx) })
	g.Go(func() error {
		<-ctx.Done()
		for _, w := range p.workers {
			w.Stop()
		}
		return nil
	})
	err := g.Wait()
	return errors.Join(err, p.closePorts(), p.closeWorkers())
}

// housekeep learns neighbours, ages them and sessions, and downs interfaces whose port is
// gone.
func (p *Plane) housekeep(ctx context.Context) error {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case l := <-p.learn:
			p.learned(l)
		case i := <-p.gone:
			p.log.Warn("interface lost its device", "sw_if_index", i)
			if err := p.SetLinkUp(i, false); err != nil {
				p.log.Debug("lost interface is deleted already", "sw_if_index", i, "err", err)
			}
		case <-p.sweep:
			p.sweepSessions()
		case <-tick.C:
			p.age()
			p.countDrops()
			p.ageSessions()
		}
	}
}

// closePorts holds no lock while it closes them: a port may wait for a goroutine that
// reports its link.
func (p *Plane) closePorts() error {
	p.mu.Lock()
	var ports []port.Port
	for _, i := range p.ifs {
		if i != nil && i.port != nil {
			ports = append(ports, i.port)
			i.port = nil
		}
	}
	p.mu.Unlock()
	var err error
	for _, d := range ports {
		err = errors.Join(err, d.Close())
	}
	return err
}

// edit runs f as one change: under the lock, published to the workers afterwards, events
// delivered under no lock.
func (p *Plane) edit(f func() error) error {
	p.mu.Lock()
	err := f()
	p.commit()
	asks := p.asks
	p.asks = nil
	p.mu.Unlock()
	p.sendAsks(asks)
	p.events.deliver()
	return err
}

// commit makes the workers see what an edit changed.
func (p *Plane) commit() {
	p.followAddresses()
	p.publishInterfaces()
	if p.bump {
		p.state.Bump()
		p.bump = false
	}
	// What was unlinked may still be read by a batch at work; after a barrier not.
	if p.blocks.Limbo() > 1024 || p.leaves.pressed() || p.routes.pressed() || p.adjIndexes.pressed() {
		p.barrier()
		p.blocks.Reclaim()
		p.leaves.reclaim()
		p.routes.reclaim()
		p.adjIndexes.reclaim()
	}
}

// barrier returns when every worker has finished the batch it had when it was called.
func (p *Plane) barrier() {
	for _, w := range p.workers {
		w.Barrier()
	}
}

// indexes hands out numbers. A number given back is used again only after reclaim.
type indexes struct {
	next, max uint32
	free      []uint32
	waiting   []uint32
}

func (x *indexes) take() (uint32, bool) {
	if n := len(x.free); n > 0 {
		i := x.free[n-1]
		x.free = x.free[:n-1]
		return i, true
	}
	if x.next >= x.max {
		return 0, false
	}
	x.next++
	return x.next - 1, true
}

func (x *indexes) put(i uint32) { x.waiting = append(x.waiting, i) }

// pressed says that it is time to reclaim: many numbers wait, or more than are left.
func (x *indexes) pressed() bool {
	n := len(x.waiting)
	return n > 4096 || n > len(x.free)+int(x.max-x.next)
}

func (x *indexes) reclaim() {
	x.free = append(x.free, x.waiting...)
	x.waiting = x.waiting[:0]
}

func slot(f Family) int {
	if f == IPv6 {
		return 1
	}
	return 0
}
