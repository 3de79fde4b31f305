package vnet

import (
	"github.com/millrace/millrace/engine/port"
	"github.com/millrace/millrace/engine/worker"
)

// dropper is a port that drops packets by itself and counts them.
type dropper interface{ Drops() port.Drops }

// countDrops takes over what the devices have dropped since the last call into the control
// thread's counters.
func (p *Plane) countDrops() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, i := range p.ifs {
		if i != nil {
			p.countDropsOf(i)
		}
	}
}

func (p *Plane) countDropsOf(i *iface) {
	d, ok := i.port.(dropper)
	if !ok {
		return
	}
	now, before, row := d.Drops(), i.drops, &p.cfg.Counters[0]
	i.drops = now
	for _, c := range []struct {
		reason  worker.Reason
		n       uint64
		counter []uint64
	}{
		{worker.RxInvalid, now.RxInvalid - before.RxInvalid, row.RxError},
		{worker.RxTooLong, now.RxTooLong - before.RxTooLong, row.RxError},
		{worker.TxTooLong, now.TxTooLong - before.TxTooLong, row.TxError},
	} {
		row.Errors[c.reason] += c.n
		row.Drops[i.index] += c.n
		c.counter[i.index] += c.n
	}
}
