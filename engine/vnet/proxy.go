package vnet

import (
	"net/netip"
	"slices"

	"go.fd.io/govpp/api"

	"github.com/millrace/millrace/engine/worker"
)

// ProxyRange is a range of IPv4 addresses, both ends in it, that the interfaces of a table
// answer ARP for when ProxyARP is on.
type ProxyRange struct {
	Table     uint32
	Low, High netip.Addr
}

// proxies are the ranges, in the order in which they came.
type proxies []proxyRange

type proxyRange struct {
	ProxyRange
	table *table
}

// EditProxyRange adds or deletes a range. Adding it again is no error, nor is one that ends
// before it begins, which nothing is in.
func (p *Plane) EditProxyRange(r ProxyRange, add bool) error {
	return p.edit(func() error {
		t := p.tables[slot(IPv4)][r.Table]
		if t == nil {
			return api.NO_SUCH_FIB
		}
		at := slices.Index(p.proxies, proxyRange{r, t})
		switch {
		case !add && at < 0:
			return api.NO_SUCH_ENTRY
		case !add:
			p.proxies = slices.Delete(p.proxies, at, at+1)
		case at < 0:
			p.proxies = append(p.proxies, proxyRange{r, t})
		}
		for _, i := range p.ifs {
			if i != nil && i.proxyARP && i.tables[slot(IPv4)] == t {
				i.dirty, p.bump = true, true
			}
		}
		return nil
	})
}

// ProxyRanges are all of them, in the order in which they came.
func (p *Plane) ProxyRanges() (out []ProxyRange) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, r := range p.proxies {
		out = append(out, r.ProxyRange)
	}
	return out
}

// SetProxyARP has an interface answer for the ranges of its table, or not.
func (p *Plane) SetProxyARP(index uint32, on bool) error {
	return p.withInterface(index, func(i *iface) error {
		i.proxyARP, i.dirty, p.bump = on, true, true
		return nil
	})
}

// ProxyARPs are the interfaces that answer, rising.
func (p *Plane) ProxyARPs() (out []uint32) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, i := range p.ifs {
		if i != nil && i.proxyARP {
			out = append(out, i.index)
		}
	}
	return out
}

// proxied is what an interface answers for.
func (p *Plane) proxied(i *iface) (out []worker.Span4) {
	if !i.proxyARP {
		return nil
	}
	for _, r := range p.proxies {
		if r.table == i.tables[slot(IPv4)] {
			out = append(out, worker.Span4{Low: word(r.Low), High: word(r.High)})
		}
	}
	return out
}

// dropProxies forgets the ranges of a table that goes.
func (p *Plane) dropProxies(t *table) {
	p.proxies = slices.DeleteFunc(p.proxies, func(r proxyRange) bool { return r.table == t })
}
