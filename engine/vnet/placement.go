package vnet

import (
	"iter"
	"slices"

	"go.fd.io/govpp/api"

	"github.com/millrace/millrace/engine/worker"
)

// Placement says which worker serves a receive queue.
type Placement struct {
	Interface uint32
	Queue     int
	Worker    int
	Mode      RxMode
}

// attach gives the receive queues of an interface to their workers.
func (p *Plane) attach(i *iface) {
	for _, q := range i.queues {
		p.attachQueue(i, q)
	}
}

// pollingSetter is a port whose peer signals, but need not while a queue is polled. The
// queue is with no worker when it is called.
type pollingSetter interface {
	SetPolling(queue int, polling bool)
}

func (p *Plane) attachQueue(i *iface, q *rxQueue) {
	if q.attached || !i.admin {
		return
	}
	q.queue.Mode = worker.Mode(q.mode)
	if s, ok := i.port.(pollingSetter); ok {
		s.SetPolling(q.queue.Index, q.mode == RxPolling)
	}
	if err := p.workers[q.worker].Add(q.queue); err != nil {
		p.log.Error("receive queue cannot be watched", "sw_if_index", i.index, "queue", q.queue.Index, "err", err)
		return
	}
	q.attached = true
}

// detach takes the receive queues back; when it returns no worker receives from them.
func (p *Plane) detach(i *iface) {
	for _, q := range i.queues {
		p.detachQueue(i, q)
	}
}

func (p *Plane) detachQueue(i *iface, q *rxQueue) {
	if !q.attached {
		return
	}
	q.attached = false
	if err := p.workers[q.worker].Remove(q.queue); err != nil {
		p.log.Warn("receive queue left its worker badly", "sw_if_index", i.index, "queue", q.queue.Index, "err", err)
	}
}

// SetRxMode sets how a queue, or all with -1, is watched.
func (p *Plane) SetRxMode(index uint32, queue int, m RxMode) error {
	return p.withInterface(index, func(i *iface) error {
		if m < RxPolling || m > RxAdaptive || queue >= len(i.queues) || len(i.queues) == 0 {
			return api.UNIMPLEMENTED // VPP's answer to a mode or queue it cannot set
		}
		if queue < 0 {
			i.rxMode = m
		}
		for k, q := range i.queues {
			if queue >= 0 && k != queue {
				continue
			}
			p.detachQueue(i, q)
			q.mode = m
			p.attachQueue(i, q)
		}
		return nil
	})
}

// SetRxPlacement moves a queue to a worker, while traffic flows.
func (p *Plane) SetRxPlacement(index uint32, queue, to int) error {
	return p.withInterface(index, func(i *iface) error {
		if queue < 0 || queue >= len(i.queues) || to < 0 || to >= len(p.workers) {
			return api.UNIMPLEMENTED // VPP's answer to an unknown queue or worker
		}
		q := i.queues[queue]
		p.detachQueue(i, q)
		q.worker = to
		p.attachQueue(i, q)
		return nil
	})
}

// RxPlacements yields all receive queues, by interface and number.
func (p *Plane) RxPlacements() iter.Seq[Placement] {
	p.mu.Lock()
	var out []Placement
	for _, i := range p.ifs {
		if i == nil {
			continue
		}
		for k, q := range i.queues {
			out = append(out, Placement{i.index, k, q.worker, q.mode})
		}
	}
	p.mu.Unlock()
	return slices.Values(out)
}
