package vnet

import (
	"iter"
	"net"
	"net/netip"
	"slices"
	"sync"

	"go.fd.io/govpp/api"

	"github.com/millrace/millrace/engine/fib"
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
	linkUp  bool
	linkMTU uint16
	mtu     [4]uint32
	rxMode  RxMode
	queues  []*rxQueue
	locks   []sync.Mutex

	tables     [2]*table
	addrs      [2][]netip.Prefix
	connected  map[netip.Prefix]int // addresses of a prefix whose routes are in
	users      [2]int               // addresses and other reasons to speak the family
	ip6Locks   int                  // of the link-local address
	linkLocal  netip.Addr
	linkLocals *table
	lender     uint32
	urpf       [2]urpf
	dirty      bool
}

type rxQueue struct {
	worker   int
	mode     RxMode
	queue    *worker.Queue
	attached bool
}

type urpf struct {
	mode   URPFMode
	table  *table // of its own, or nil for the interface's
	output URPFMode
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
		index: uint32(len(p.ifs)), spec: s, port: d, linkUp: s.LinkUp, lender: NoIndex,
		linkMTU: s.LinkMTU, rxMode: RxInterrupt, connected: map[netip.Prefix]int{}, dirty: true,
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
	for f := range i.tables {
		i.tables[f] = p.tables[f][0]
	}
	if d == nil {
		return i
	}
	i.link = d.Link()
	copy(i.mac[:], d.HardwareAddr())
	for q := range d.RxQueues() {
		rx := &rxQueue{worker: p.nextWorker, mode: i.rxMode}
		rx.queue = &worker.Queue{Interface: i.index, Port: d, Index: q, Mode: worker.Mode(rx.mode)}
		p.nextWorker = (p.nextWorker + 1) % len(p.workers)
		i.queues = append(i.queues, rx)
	}
	if d.TxQueues() < len(p.workers) {
		i.locks = make([]sync.Mutex, d.TxQueues())
	}
	p.zeroInterface(i.index)
	return i
}

// zeroInterface clears the counters of an index that may have been used before.
func (p *Plane) zeroInterface(i uint32) {
	for k := range p.cfg.Counters {
		row := &p.cfg.Counters[k]
		clearRow := func() {
			for _, c := range [][]Combined{row.RX, row.TX, row.RxUnicast, row.RxMulticast, row.RxBroadcast,
				row.TxUnicast, row.TxMulticast, row.TxBroadcast} {
				c[i] = Combined{}
			}
			for _, c := range [][]uint64{row.Drops, row.Punt, row.IP4, row.IP6, row.RxNoBuf, row.RxMiss, row.RxError, row.TxError} {
				c[i] = 0
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
	p.killPaths(i.index)
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
		m = uint32(i.linkMTU)
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
		Index: i.index, Link: i.link, Up: i.admin, MAC: i.mac, Port: i.port, Locks: i.locks,
		IP4: i.users[0] > 0, IP6: i.users[1] > 0, Lender: i.lender,
		Table4: i.tables[0].t4, Table6: i.tables[1].t6,
		URPF4: worker.Filter(i.urpf[0].mode), URPF6: worker.Filter(i.urpf[1].mode),
		URPFTable4: i.tables[0].t4, URPFTable6: i.tables[1].t6,
		Punt4: p.puntOf(i.index, 0), Punt6: p.puntOf(i.index, 1),
		PuntUDP4: p.puntUDP[0], PuntUDP6: p.puntUDP[1],
	}
	if t := i.urpf[0].table; t != nil {
		v.URPFTable4 = t.t4
	}
	if t := i.urpf[1].table; t != nil {
		v.URPFTable6 = t.t6
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

// SetAdminUp switches an interface on or off. Its addresses' routes exist only while it
// is up; its learned neighbours are forgotten when it goes down.
func (p *Plane) SetAdminUp(index uint32, up bool) error {
	return p.withInterface(index, func(i *iface) error {
		p.setAdmin(i, up)
		return nil
	})
}

// withInterface runs f as one edit of interface index.
func (p *Plane) withInterface(index uint32, f func(*iface) error) error {
	return p.edit(func() error {
		i := p.iface(index)
		if i == nil {
			return api.INVALID_SW_IF_INDEX
		}
		return f(i)
	})
}

func (p *Plane) setAdmin(i *iface, up bool) {
	if i.admin == up {
		return
	}
	p.switchAdmin(i, up)
	p.events.add(event{iface: &InterfaceEvent{Index: i.index, AdminUp: up, LinkUp: i.linkUp}})
}

// down is setAdmin for an interface that is going: only its deletion is an event.
func (p *Plane) down(i *iface) {
	if i.admin {
		p.switchAdmin(i, false)
	}
}

func (p *Plane) switchAdmin(i *iface, up bool) {
	i.admin = up
	if i.port == nil && i.index != 0 {
		i.linkUp = up // a loopback's carrier is its switch
	}
	if !up {
		p.detach(i)
		p.flushNeighbors(i.index, false)
	}
	for f := range i.addrs {
		for _, a := range i.addrs[f] {
			if up {
				p.connect(i, a)
			} else {
				p.disconnect(i, a)
			}
		}
	}
	p.touchInterface(i)
	p.resolvePaths(i.index)
	if up {
		p.publishInterfaces()
		p.attach(i)
	}
}

// SetLinkUp notes the carrier; paths by an interface without one do not forward.
func (p *Plane) SetLinkUp(index uint32, up bool) error {
	return p.withInterface(index, func(i *iface) error {
		if i.linkUp == up {
			return nil
		}
		i.linkUp = up
		p.touchInterface(i)
		p.resolvePaths(i.index)
		p.events.add(event{iface: &InterfaceEvent{Index: i.index, AdminUp: i.admin, LinkUp: up}})
		return nil
	})
}

// SetMTU sets the MTUs of L3, IPv4, IPv6 and MPLS in bytes; 0 inherits that of L3.
func (p *Plane) SetMTU(index uint32, mtu [4]uint32) error {
	return p.withInterface(index, func(i *iface) error {
		i.mtu = mtu
		p.touchInterface(i)
		return nil
	})
}

// SetLinkMTU sets the hardware's MTU in bytes. Only Ethernet interfaces have one.
func (p *Plane) SetLinkMTU(index uint32, mtu uint16) error {
	return p.withInterface(index, func(i *iface) error {
		if i.link != port.Ethernet {
			return api.FEATURE_DISABLED
		}
		if mtu < 64 || mtu > 9216 {
			return api.INVALID_VALUE
		}
		i.linkMTU, i.mtu[0] = mtu, uint32(mtu)
		p.touchInterface(i)
		return nil
	})
}

// hardwareAddrSetter is a port that must be told of a new Ethernet address.
type hardwareAddrSetter interface {
	SetHardwareAddr(net.HardwareAddr) error
}

// SetMAC changes the Ethernet address.
func (p *Plane) SetMAC(index uint32, mac net.HardwareAddr) error {
	return p.withInterface(index, func(i *iface) error {
		if i.link != port.Ethernet || len(mac) != 6 || mac[0]&1 != 0 {
			return api.UNIMPLEMENTED
		}
		if s, ok := i.port.(hardwareAddrSetter); ok {
			if err := s.SetHardwareAddr(mac); err != nil {
				p.log.Warn("device refused its new address", "sw_if_index", index, "err", err)
				return api.UNIMPLEMENTED
			}
		}
		copy(i.mac[:], mac)
		p.touchInterface(i)
		return nil
	})
}

// SetTag sets the operator's mark, at most 63 bytes; "" takes it off.
func (p *Plane) SetTag(index uint32, tag string) error {
	return p.withInterface(index, func(i *iface) error {
		i.tag = tag[:min(len(tag), 63)]
		return nil
	})
}

// SetName renames an interface.
func (p *Plane) SetName(index uint32, name string) error {
	return p.withInterface(index, func(i *iface) error {
		if name == "" {
			return api.INVALID_VALUE
		}
		if other := p.byName(name); len(name) > 63 || other != nil && other != i {
			return api.INVALID_SW_IF_INDEX // VPP's answer to a failed rename
		}
		i.spec.Name = name
		return nil
	})
}

// promiscuousSetter is a port that filters by address unless told not to.
type promiscuousSetter interface {
	SetPromiscuous(bool) error
}

// SetPromisc lets an Ethernet device deliver frames for other addresses too. IP packets
// among them are still dropped.
func (p *Plane) SetPromisc(index uint32, on bool) error {
	return p.withInterface(index, func(i *iface) error {
		if i.link != port.Ethernet {
			return api.INVALID_VALUE
		}
		if s, ok := i.port.(promiscuousSetter); ok {
			if err := s.SetPromiscuous(on); err != nil {
				p.log.Warn("device refused promiscuous mode", "sw_if_index", index, "err", err)
				return api.UNIMPLEMENTED
			}
		}
		return nil
	})
}

// bindTable moves an interface into a table.
func (p *Plane) bindTable(i *iface, f int, t *table) {
	old := i.tables[f]
	if old == t {
		return
	}
	i.tables[f] = t
	t.locks++
	old.locks--
	i.dirty = true
	p.bump = true
	p.releaseTable(old)
}

// SetTable moves an interface that has no address of the family, its own or a lender's,
// into a table.
func (p *Plane) SetTable(index uint32, f Family, id uint32) error {
	return p.withInterface(index, func(i *iface) error {
		t := p.tables[slot(f)][id]
		if t == nil {
			return api.NO_SUCH_FIB
		}
		owner := i
		if l := p.iface(i.lender); l != nil {
			owner = l
		}
		if len(owner.addrs[slot(f)]) > 0 {
			return api.ADDRESS_FOUND_FOR_INTERFACE
		}
		p.bindTable(i, slot(f), t)
		return nil
	})
}

// SetUnnumbered lets borrower speak from lender's addresses, or ends that.
func (p *Plane) SetUnnumbered(borrower, lender uint32, add bool) error {
	return p.edit(func() error {
		b := p.iface(borrower)
		if b == nil {
			return api.INVALID_SW_IF_INDEX
		}
		if !add {
			p.setLender(b, NoIndex)
			return nil
		}
		l := p.iface(lender)
		if l == nil {
			return api.INVALID_SW_IF_INDEX_2
		}
		if b.tables != l.tables {
			return api.UNEXPECTED_INTF_STATE
		}
		p.setLender(b, lender)
		return nil
	})
}

func (p *Plane) setLender(i *iface, lender uint32) {
	was := i.lender != NoIndex
	i.lender = lender
	i.dirty = true
	if now := lender != NoIndex; now != was {
		for f := range i.users {
			if now {
				i.users[f]++
			} else {
				i.users[f]--
			}
		}
	}
	p.bump = true
	p.reviewNeighbors(i.index)
}

// lenderOf is the interface whose addresses i speaks from, or NoIndex.
func (p *Plane) lenderOf(index uint32) uint32 {
	if i := p.iface(index); i != nil {
		return i.lender
	}
	return NoIndex
}

// EnableIP6 gives an interface IPv6 and a link-local address without any other, or takes
// back one such request.
func (p *Plane) EnableIP6(index uint32, on bool) error {
	return p.withInterface(index, func(i *iface) error {
		if !on {
			if i.ip6Locks == 0 {
				return api.IP6_NOT_ENABLED
			}
			p.unlockIP6(i)
			return nil
		}
		if !p.lockIP6(i, netip.Addr{}) {
			return api.VALUE_EXIST
		}
		return nil
	})
}

// lockIP6 asks for IPv6 on i and reports whether nobody had before. The link-local
// address is addr, or made from the Ethernet address, or from the index.
func (p *Plane) lockIP6(i *iface, addr netip.Addr) bool {
	i.ip6Locks++
	if i.ip6Locks > 1 {
		return false
	}
	if !addr.IsValid() {
		mac := i.mac
		if mac == (packet.MAC{}) {
			mac = packet.MAC{0x02, 0xfe, byte(i.index >> 24), byte(i.index >> 16), byte(i.index >> 8), byte(i.index)}
		}
		addr = netip.AddrFrom16(packet.LinkLocal(mac))
	}
	i.users[1]++
	i.linkLocals = p.newTable(IPv6, NoIndex, "link-local")
	i.linkLocals.t6 = &worker.Table6{Hash: fib.NewHash6(), ID: NoIndex}
	p.mustSet(i.linkLocals, netip.MustParsePrefix("fe80::/10"), SourceInterface,
		path{Path: Path{Interface: i.index, Weight: 1}, connected: true})
	p.setLinkLocal(i, addr)
	p.reviewNeighbors(i.index)
	return true
}

func (p *Plane) unlockIP6(i *iface) {
	if i.ip6Locks--; i.ip6Locks > 0 {
		return
	}
	i.users[1]--
	p.emptyTable(i.linkLocals)
	i.linkLocals, i.linkLocal = nil, netip.Addr{}
	i.dirty = true
	p.bump = true
}

func (p *Plane) setLinkLocal(i *iface, addr netip.Addr) {
	if i.linkLocal.IsValid() {
		p.dropSource(i.linkLocals, netip.PrefixFrom(i.linkLocal, 128), SourceND)
	}
	i.linkLocal = addr
	p.mustSet(i.linkLocals, netip.PrefixFrom(addr, 128), SourceND, localPath(i.index, addr))
	i.dirty = true
	p.bump = true
}

// mustSet is setSource for the few routes of the engine's own; when even those find no
// room the log tells.
func (p *Plane) mustSet(t *table, prefix netip.Prefix, source uint8, q path) {
	if err := p.setSource(t, prefix, source, []path{q}); err != nil {
		p.log.Error("no room for a route of the engine's own", "prefix", prefix, "err", err)
	}
}

func localPath(index uint32, addr netip.Addr) path {
	return path{Path: Path{Type: PathLocal, Interface: index, NextHop: addr, Weight: 1}}
}
