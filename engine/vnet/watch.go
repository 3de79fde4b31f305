package vnet

import (
	"iter"
	"slices"
	"sync"
)

// events delivers what happened, in order, under no lock of the Plane. A watcher may call
// the Plane; it must not block.
type events struct {
	mu         sync.Mutex
	queue      []event
	delivering bool
	interfaces []*func(InterfaceEvent)
	neighbors  []*func(NeighborEvent)
}

type event struct {
	iface *InterfaceEvent
	nbr   *NeighborEvent
}

func (e *events) add(v event) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.queue = append(e.queue, v)
}

func (e *events) discard() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.queue = nil
}

// deliver empties the queue, unless another goroutine (or a watcher further up the stack)
// is doing so.
func (e *events) deliver() {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.delivering {
		return
	}
	e.delivering = true
	defer func() { e.delivering = false }()
	for len(e.queue) > 0 {
		v := e.queue[0]
		e.queue = e.queue[1:]
		e.one(v)
	}
}

func (e *events) one(v event) {
	interfaces, neighbors := slices.Clone(e.interfaces), slices.Clone(e.neighbors)
	e.mu.Unlock()
	defer e.mu.Lock()
	if v.iface != nil {
		for _, f := range interfaces {
			(*f)(*v.iface)
		}
		return
	}
	for _, f := range neighbors {
		(*f)(*v.nbr)
	}
}

// WatchInterfaces calls f for each interface event from now on until stop is called. f
// must not block; it is called under no lock.
func (p *Plane) WatchInterfaces(f func(InterfaceEvent)) (stop func()) {
	e := &p.events
	e.mu.Lock()
	defer e.mu.Unlock()
	e.interfaces = append(e.interfaces, &f)
	return func() {
		e.mu.Lock()
		defer e.mu.Unlock()
		e.interfaces = slices.DeleteFunc(e.interfaces, func(g *func(InterfaceEvent)) bool { return g == &f })
	}
}

// WatchNeighbors is WatchInterfaces for neighbours.
func (p *Plane) WatchNeighbors(f func(NeighborEvent)) (stop func()) {
	e := &p.events
	e.mu.Lock()
	defer e.mu.Unlock()
	e.neighbors = append(e.neighbors, &f)
	return func() {
		e.mu.Lock()
		defer e.mu.Unlock()
		e.neighbors = slices.DeleteFunc(e.neighbors, func(g *func(NeighborEvent)) bool { return g == &f })
	}
}

// Errors yields each thread's counters that are not zero. Each worker's row is read
// between two of its batches.
func (p *Plane) Errors() iter.Seq2[int, ErrorCounter] {
	return func(yield func(int, ErrorCounter) bool) {
		p.countDrops()
		names := ErrorNames()
		for thread := range p.cfg.Counters {
			row := p.errorRow(thread)
			for i := range min(len(names), len(row)) {
				if row[i] == 0 {
					continue
				}
				c := names[i]
				c.Count = row[i]
				if !yield(thread, c) {
					return
				}
			}
		}
	}
}

func (p *Plane) errorRow(thread int) (row []uint64) {
	read := func() { row = slices.Clone(p.cfg.Counters[thread].Errors) }
	if thread == 0 {
		p.mu.Lock()
		defer p.mu.Unlock()
		read()
	} else {
		p.workers[thread-1].Do(read)
	}
	return row
}
