package vnet

import "go.fd.io/govpp/api"

// ClearCounters zeroes the counters of an interface, of all interfaces for NoIndex: in
// the statistics segment, too, as VPP does.
func (p *Plane) ClearCounters(index uint32) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if index != NoIndex {
		if p.iface(index) == nil {
			return api.INVALID_SW_IF_INDEX
		}
		p.zeroInterfaces(index)
		return nil
	}
	var all []uint32
	for n, i := range p.ifs {
		if i != nil {
			all = append(all, uint32(n))
		}
	}
	p.zeroInterfaces(all...)
	return nil
}
