package vnet

import (
	"iter"
	"net"
	"net/netip"
	"slices"
	"sync"

	"go.fd.io/govpp/api"

	"github.com/millrace/millrace/engine/packet"
	"github.com/millrace/millrace/engine/port"
	"github.com/millrace/millrace/engine/worker"
)

// defaultMTU is VPP's for an Ethernet interface, in bytes.
const defaultMTU = 9000

// iface is an interface with all that hangs on it.
type iface struct {
	index   uint32
	spec    InterfaceSpec
	tag     string
	port    port.Port // nil: local0 and loopbacks
	link    port.Link
	mac     packet.MAC
	admin   bool
	carrier bool // the device's
	linkUp  bool // what is shown and forwarded by: no link while the interface is down
	linkMTU uint16
	mtu     [4]uint32
	rxMode  RxMode
	queues  []*rxQueue
	locks   []sync.Mutex

	tables     [2]*table
	addrs      [2][]netip.Prefix
	users      [2]int // addresses and other reasons to speak the family
	ip6Locks   int    // of the link-local address
	linkLocal  netip.Addr
	linkLocals *table
	lender     uint32
	proxyARP   bool
	urpf       [2]urpf
	acls       [2][]uint32      // of input and output, in order
	guards     [2]*worker.Guard // what they come to
	policy     [2]uint32        // how often that changed while sessions are judged again
	drops      port.Drops       // those that are counted already
	tunnel     *tunnel          // nil where it is none
	bypass     [2]bool          // of tunnels' packets
	nat        [2][2]int        // how often translation is on: of input and output, by family
	dirty      bool
}

type rxQueue struct {
	worker   int
	mode     RxMode
	queue    *worker.Queue
	attached bool
}

type urpf struct {
	mode  URPFMode
	table *table // of its own, or nil for the interface's
}

func (p *Plane) iface(i uint32) *iface {
	if uint64(i) >= uint64(len(p.ifs)) {
		return nil
	}
	return p.ifs[i]
}

func (p *Plane) addLocal0() {
	i := p.newInterface(InterfaceSpec{Name: "local0", DeviceType: "local"}, nil)
	i.mtu = [4]uint32{}
	i.linkMTU, i.linkUp = 0, false
	i.link = port.IP
}

// AddInterface makes d, or a loopback when d is nil, an interface: down, without
// addresses, in the tables 0. The Plane owns d from now on, unless it returns an error.
func (p *Plane) AddInterface(s InterfaceSpec, d port.Port) (uint32, error) {
	index := NoIndex
	err := p.edit(func() error {
		switch {
		case s.Name == "" || len(s.Name) > 63:
			return api.INVALID_VALUE
		case p.byName(s.Name) != nil:
			return api.IF_ALREADY_EXISTS
		case len(p.freeIfs) == 0 && len(p.ifs) >= p.cfg.MaxInterfaces:
			return api.LIMIT_EXCEEDED
		}
		index = p.newInterface(s, d).index
		p.events.add(event{iface: &InterfaceEvent{Index: index}})
		return nil
	})
	return index, err
}

func (p *Plane) byName(name string) *iface {
	for _, i := range p.ifs {
		if i != nil && i.spec.Name == name {
			return i
		}
	}
	return nil
}

func (p *Plane) newInterface(s InterfaceSpec, d port.Port) *iface {
	i := &iface{
		index: uint32(len(p.ifs)), spec: s, port: d, carrier: s.LinkUp, linkUp: s.LinkUp, lender: NoIndex,
		linkMTU: s.LinkMTU, rxMode: RxInterrupt, dirty: true,
	}
	if n := len(p.freeIfs); n > 0 {
		i.index, p.freeIfs = p.freeIfs[n-1], p.freeIfs[:n-1]
		p.ifs[i.index] = i
	} else {
		p.ifs = append(p.ifs, i)
	}
	if i.linkMTU == 0 {
		i.linkMTU = defaultMTU
	}
	i.mtu[0] = s.MTU
	if s.MTU == 0 {
		i.mtu[0] = uint32(i.linkMTU)
	}
	if s.NoMTU {
		i.linkMTU, i.mtu[0] = 0, 0
	}
	for f := range i.tables {
		i.tables[f] = p.tables[f][0]
	}
	if d == nil {
		return i
	}
	i.link = d.Link()
	copy(i.mac[:], d.HardwareAddr())
	for q := range d.RxQueues() {
		rx := &rxQueue{worker: p.nextWorker % len(p.workers), mode: i.rxMode}
		rx.queue = &worker.Queue{Interface: i.index, Port: d, Index: q, Mode: worker.Mode(rx.mode)}
		p.nextWorker++
		i.queues = append(i.queues, rx)
	}
	if d.RxQueues()%len(p.workers) == 0 {
		p.nextWorker++ // the first queue has the most to do: not always on the same worker
	}
	if d.TxQueues() < len(p.workers) {
		i.locks = make([]sync.Mutex, d.TxQueues())
	}
	p.zeroInterfaces(i.index)
	return i
}

// zeroInterfaces clears the counters of each index, each row on the thread that writes it.
func (p *Plane) zeroInterfaces(indexes ...uint32) {
	for k := range p.cfg.Counters {
		row := &p.cfg.Counters[k]
		clearRow := func() {
			for _, c := range [][]Combined{row.RX, row.TX, row.RxUnicast, row.RxMulticast, row.RxBroadcast,
				row.TxUnicast, row.TxMulticast, row.TxBroadcast} {
				for _, i := range indexes {
					c[i] = Combined{}
				}
			}
			for _, c := range [][]uint64{row.Drops, row.Punt, row.IP4, row.IP6, row.RxNoBuf, row.RxMiss, row.RxError, row.TxError} {
				for _, i := range indexes {
					c[i] = 0
				}
			}
		}
		if k == 0 {
			clearRow()
			continue
		}
		p.workers[k-1].Do(clearRow)
	}
}

// DeleteInterface removes an interface with its addresses, connected routes, neighbours
// and borrowers, waits until no worker uses the port, and closes it. Routes by the
// interface stay without forwarding, as in VPP.
func (p *Plane) DeleteInterface(index uint32) error {
	var d port.Port
	err := p.edit(func() error {
		i := p.iface(index)
		if i == nil || index == 0 {
			return api.INVALID_SW_IF_INDEX
		}
		p.strip(i)
		d = i.port
		p.ifs[index] = nil
		p.freeIfs = append(p.freeIfs, index)
		p.publishInterfaces()
		p.barrier()
		p.countDropsOf(i)
		p.events.add(event{iface: &InterfaceEvent{Index: index, Deleted: true}})
		return nil
	})
	if err == nil && d != nil {
		if cerr := d.Close(); cerr != nil {
			p.log.Warn("deleted interface's device did not close", "sw_if_index", index, "err", cerr)
		}
	}
	return err
}

// strip takes everything off an interface that is about to go.
func (p *Plane) strip(i *iface) {
	for _, b := range p.ifs {
		if b != nil && b.lender == i.index {
			p.setLender(b, NoIndex)
		}
	}
	p.down(i)
	p.setLender(i, NoIndex)
	for f := range i.addrs {
		for len(i.addrs[f]) > 0 {
			p.dropAddress(i, f, 0)
		}
	}
	for i.ip6Locks > 0 {
		p.unlockIP6(i)
	}
	for k, n := range p.neighbors {
		if k.iface == i.index {
			p.removeNeighbor(n)
		}
	}
	for f := range p.punts {
		p.setPunt(i.index, f, nil)
	}
	p.dropLists(i)
	p.killPaths(i.index)
	p.closeTunnel(i)
	p.dropNAT(i)
	for f := range i.tables {
		p.bindTable(i, f, p.tables[f][0])
		p.setURPF(i, f, urpf{})
	}
}

// killPaths marks the paths by a deleted interface dead, in all tables.
func (p *Plane) killPaths(index uint32) {
	for f := range p.tables {
		for _, t := range p.tables[f] {
			for _, e := range t.entries {
				p.killEntry(e, index)
			}
		}
	}
}

func (p *Plane) killEntry(e *entry, index uint32) {
	hit := false
	for s := range e.sources {
		by := func(q path) bool { return q.Interface == index && !q.dead && q.Type != PathDrop }
		if !slices.ContainsFunc(e.sources[s].paths, by) {
			continue
		}
		hit = true
		paths := slices.Clone(e.sources[s].paths)
		for k := range paths {
			paths[k].dead = paths[k].dead || by(paths[k])
		}
		e.sources[s].paths = paths
	}
	if hit {
		p.refresh(e)
	}
}

// Interface returns a copy of an interface's state.
func (p *Plane) Interface(index uint32) (Interface, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	i := p.iface(index)
	if i == nil {
		return Interface{}, api.INVALID_SW_IF_INDEX
	}
	return i.copy(), nil
}

// Interfaces yields copies of all interfaces of one moment, by index.
func (p *Plane) Interfaces() iter.Seq[Interface] {
	p.mu.Lock()
	var out []Interface
	for _, i := range p.ifs {
		if i != nil {
			out = append(out, i.copy())
		}
	}
	p.mu.Unlock()
	return slices.Values(out)
}

func (i *iface) copy() Interface {
	c := Interface{
		Index: i.index, Name: i.spec.Name, DeviceType: i.spec.DeviceType, Tag: i.tag, Link: i.link,
		AdminUp: i.admin, LinkUp: i.linkUp, LinkMTU: i.linkMTU, MTU: i.mtu, RxMode: i.rxMode,
		RxQueues: len(i.queues), Table4: i.tables[0].ID, Table6: i.tables[1].ID,
		IP6Enabled: i.users[1] > 0, Unnumbered: i.lender,
	}
	if i.link == port.Ethernet {
		c.HardwareAddr = net.HardwareAddr(slices.Clone(i.mac[:]))
	}
	if i.port != nil {
		c.TxQueues = i.port.TxQueues()
	}
	return c
}

func (i *iface) mtuOf(f Family) int {
	m := i.mtu[1+slot(f)]
	if m == 0 {
		m = i.mtu[0]
	}
	if m == 0 {
		m = defaultMTU // VPP's, whatever the link's is
	}
	return int(m)
}

// publishInterfaces gives the workers the interfaces that changed.
func (p *Plane) publishInterfaces() {
	changed := len(p.published) != len(p.ifs)
	for k := 0; k < len(p.ifs) && !changed; k++ {
		i := p.ifs[k]
		changed = (i == nil) != (p.published[k] == nil) || i != nil && i.dirty
	}
	if !changed {
		return
	}
	list := make([]*worker.Interface, len(p.ifs))
	copy(list, p.published)
	for k, i := range p.ifs {
		switch {
		case i == nil:
			list[k] = nil
		case i.dirty || list[k] == nil:
			list[k] = p.view(i)
			i.dirty = false
		}
	}
	p.published = list
	p.state.SetInterfaces(list)
	p.bump = true
}

// view is what the workers see of i.
func (p *Plane) view(i *iface) *worker.Interface {
	v := &worker.Interface{
		Index: i.index, Link: i.link, Up: i.admin, NoLink: !i.linkUp, MAC: i.mac, Port: i.port, Locks: i.locks,
		IP4: i.users[0] > 0, IP6: i.users[1] > 0, Lender: i.lender,
		Table4: i.tables[0].t4, Table6: i.tables[1].t6,
		URPF4: worker.Filter(i.urpf[0].mode), URPF6: worker.Filter(i.urpf[1].mode),
		URPFTable4: i.tables[0].t4, URPFTable6: i.tables[1].t6,
		Punt4: p.puntOf(i.index, 0), Punt6: p.puntOf(i.index, 1),
		PuntUDP4: p.puntUDP[0], PuntUDP6: p.puntUDP[1], In: i.guards[input], Out: i.guards[output],
		Proxied: p.proxied(i), Bypass4: i.bypass[0], Bypass6: i.bypass[1],
	}
	v.NATIn4, v.NATIn6 = i.nat[input][0] > 0, i.nat[input][1] > 0
	v.NATOut4, v.NATOut6 = i.nat[output][0] > 0, i.nat[output][1] > 0
	if t := i.urpf[0].table; t != nil {
		v.URPFTable4 = t.t4
	}
	if t := i.urpf[1].table; t != nil {
		v.URPFTable6 = t.t6
	}
	if i.tunnel != nil {
		v.Tunnel = &i.tunnel.sender
	}
	if i.port != nil {
		v.Caps, v.TxQueues = i.port.Capabilities(), i.port.TxQueues()
	}
	owner := i
	if l := p.iface(i.lender); l != nil {
		owner = l
	}
	for _, a := range owner.addrs[0] {
		mask := uint32(0)
		if a.Bits() > 0 {
			mask = ^uint32(0) << (32 - a.Bits())
		}
		v.Addrs4 = append(v.Addrs4, worker.Own4{Addr: a.Addr().As4(), IP: word(a.Addr()), Mask: mask})
	}
	for _, a := range owner.addrs[1] {
		v.Addrs6 = append(v.Addrs6, a.Addr().As16())
	}
	if i.linkLocals != nil {
		v.LinkLocals, v.LinkLocal = i.linkLocals.t6, i.linkLocal.As16()
	}
	return v
}
