package vnet

import (
	"fmt"
	"iter"
	"net/netip"
	"slices"

	"go.fd.io/govpp/api"

	"github.com/millrace/millrace/engine/nat"
)

// NATEndpoint is an address and a port of translations. It may name an interface instead:
// then Addr is that one's first address of Family, and not valid while it has none.
type NATEndpoint struct {
	Addr      netip.Addr
	Interface uint32 // NoIndex: Addr was given
	Family    Family
	Port      uint16
}

func (e NATEndpoint) addrPort() netip.AddrPort { return netip.AddrPortFrom(e.Addr, e.Port) }

// NATPath is a way to a backend. Of Flags, bit 0 says that all addresses are known; the
// others stay as they were given.
type NATPath struct {
	Dst, Src NATEndpoint
	Flags    uint8
}

const pathActive = 1 << 0

// Translation sends flows to VIP to one of its paths each.
type Translation struct {
	ID       uint32
	VIP      NATEndpoint
	Protocol uint8
	// LB is VPP's cnat_lb_type, HashFields its flow_hash_config. They stay what they were
	// when the translation was made.
	LB         uint8
	HashFields uint32
	Flags      uint8 // cnat_translation_flags
	RealIP     bool  // VIP's address is also somebody's own
	Paths      []NATPath
}

// LBMaglev is VPP's CNAT_LB_TYPE_MAGLEV.
const LBMaglev = 1

// cnat_translation_flags.
const (
	natAllocPort = 1 << 0
	natNoReturn  = 1 << 2
)

// MaxPaths is how many paths a translation has at most.
const MaxPaths = 1<<16 - 1

// translation is one as its owner wants it, and where the workers find it.
type translation struct {
	Translation
	shown nat.Endpoint // not valid while the workers have nothing of it
}

// translator is the part of the control state that is about address translation.
type translator struct {
	list   []*translation // by id, nil for holes
	free   []uint32       // the last given back is given out first, as by VPP's pools
	named  map[*translation]struct{}
	tables *nat.Tables
	source uint8 // of the routes to what is nothing but translated; 0 = not made yet
	snat   snat
	// sessions is nil until the first interface has what needs them.
	sessions *nat.Sessions
	stale    bool // addresses have changed that endpoints may name
}

// UpdateTranslation makes a translation, or gives the one of the same VIP and protocol
// other paths and flags. It returns its id.
func (p *Plane) UpdateTranslation(t Translation) (uint32, error) {
	if len(t.Paths) == 0 || len(t.Paths) > MaxPaths {
		return NoIndex, fmt.Errorf("update translation of %v: %d paths, want 1 to %d; delete it to have none: %w",
			t.VIP.addrPort(), len(t.Paths), MaxPaths, api.INVALID_VALUE)
	}
	id := NoIndex
	err := p.edit(func() error {
		t.Paths = slices.Clone(t.Paths)
		x := p.translationOf(&t)
		made := x == nil
		if made {
			if x = p.newTranslation(t); x == nil {
				return api.LIMIT_EXCEEDED
			}
		} else {
			x.Flags, x.RealIP, x.Paths = t.Flags, t.RealIP, t.Paths
		}
		p.watchAddresses(x)
		err := p.showTranslation(x)
		if err != nil && made {
			p.removeTranslation(x)
			return err
		}
		id = x.ID
		return err
	})
	return id, err
}

// translationOf is the one that has the VIP of t, nil for none.
func (p *Plane) translationOf(t *Translation) *translation {
	t.VIP = p.resolved(t.VIP)
	if t.VIP.Addr.IsValid() {
		if x := p.nat.tables.Find(t.VIP.Addr, t.VIP.Port, t.Protocol); x != nil {
			return p.nat.list[x.ID]
		}
	}
	for x := range p.nat.named {
		if x.VIP.Interface != NoIndex && x.VIP == t.VIP && x.Protocol == t.Protocol {
			return x
		}
	}
	return nil
}

// newTranslation is nil when there are as many as there are counters for.
func (p *Plane) newTranslation(t Translation) *translation {
	n := &p.nat
	switch k := len(n.free); {
	case k > 0:
		t.ID, n.free = n.free[k-1], n.free[:k-1]
	case len(n.list) >= len(p.cfg.Counters[0].Translations):
		return nil
	default:
		t.ID = uint32(len(n.list))
		n.list = append(n.list, nil)
	}
	x := &translation{Translation: t}
	n.list[t.ID] = x
	p.zeroTranslation(t.ID)
	return x
}

// zeroTranslation clears the counters of an id that is used again.
func (p *Plane) zeroTranslation(id uint32) {
	for i := range p.cfg.Counters {
		row := p.cfg.Counters[i].Translations
		switch {
		case row[id] == Combined{}:
		case i == 0:
			row[id] = Combined{}
		default:
			p.workers[i-1].Do(func() { row[id] = Combined{} })
		}
	}
}

// watchAddresses remembers translations with endpoints that name interfaces.
func (p *Plane) watchAddresses(x *translation) {
	delete(p.nat.named, x)
	named := func(e NATEndpoint) bool { return e.Interface != NoIndex }
	if named(x.VIP) || slices.ContainsFunc(x.Paths, func(w NATPath) bool { return named(w.Dst) || named(w.Src) }) {
		p.nat.named[x] = struct{}{}
	}
}

// resolved is e with the address that its interface has now.
func (p *Plane) resolved(e NATEndpoint) NATEndpoint {
	if e.Interface == NoIndex {
		return e
	}
	e.Addr = p.firstAddress(e.Interface, e.Family)
	return e
}

// firstAddress is not valid for an interface without one, which may be unknown.
func (p *Plane) firstAddress(index uint32, f Family) (none netip.Addr) {
	i := p.iface(index)
	if i == nil {
		return none
	}
	if l := p.iface(i.lender); l != nil {
		i = l
	}
	if addrs := i.addrs[slot(f)]; len(addrs) > 0 {
		return addrs[0].Addr()
	}
	return none
}

// showTranslation makes the workers see a translation as it is. Where another one has the
// same address, port and protocol already, which interfaces' addresses can make happen,
// that one goes on.
func (p *Plane) showTranslation(x *translation) error {
	x.VIP = p.resolved(x.VIP)
	for i := range x.Paths {
		w := &x.Paths[i]
		w.Dst, w.Src = p.resolved(w.Dst), p.resolved(w.Src)
		w.Flags &^= pathActive
		if w.Dst.Addr.IsValid() && w.Src.Addr.IsValid() {
			w.Flags |= pathActive
		}
	}
	at := nat.Endpoint{Addr: x.VIP.Addr, Port: x.VIP.Port, Protocol: x.Protocol}
	if at != x.shown {
		p.hideTranslation(x)
	}
	if !at.Addr.IsValid() {
		return nil
	}
	if other := p.nat.tables.Find(at.Addr, at.Port, at.Protocol); other != nil && other.ID != x.ID {
		return nil
	}
	p.setTables(p.nat.tables.With(x.compiled(at)))
	x.shown = at
	return p.claim(at.Addr)
}

// compiled is x as workers read it. Backends of the other family are left out.
func (x *translation) compiled(at nat.Endpoint) *nat.Translation {
	t := nat.Translation{
		Endpoint: at, ID: x.ID, Maglev: x.LB == LBMaglev, HashFields: x.HashFields,
		AllocPort: x.Flags&natAllocPort != 0, NoReturn: x.Flags&natNoReturn != 0, RealIP: x.RealIP,
	}
	for _, w := range x.Paths {
		if w.Flags&pathActive != 0 && w.Dst.Addr.Is4() == at.Addr.Is4() {
			t.Backends = append(t.Backends, nat.Backend{Dst: w.Dst.addrPort(), Src: w.Src.addrPort()})
		}
	}
	return nat.NewTranslation(t)
}

// hideTranslation takes a translation away from the workers.
func (p *Plane) hideTranslation(x *translation) {
	if !x.shown.Addr.IsValid() {
		return
	}
	was := x.shown.Addr
	p.setTables(p.nat.tables.Without(x.shown))
	x.shown = nat.Endpoint{}
	p.unclaim(was)
	p.nat.stale = true // somebody may have waited for the same address
}

// setTables gives the workers other translations or another policy.
func (p *Plane) setTables(t *nat.Tables) {
	p.nat.tables = t
	p.publishNAT()
}

// sourceCnat is VPP's priority of the plugin's FIB source.
const sourceCnat = 0x02

// claim makes a route that drops what is sent to an address that is nothing but
// translated, as VPP does: nobody has it. What is translated is looked up by its new
// destination. Unlike in VPP, nothing is translated where the features are off.
func (p *Plane) claim(a netip.Addr) error {
	if _, only := p.nat.tables.VIP(a); !only {
		p.unclaim(a)
		return nil
	}
	if p.nat.source == 0 {
		id, err := p.addSource("cnat", sourceCnat, false)
		if err != nil {
			return err
		}
		p.nat.source = id
	}
	t := p.tables[slot(familyOf(a))][0]
	nowhere := path{Path: Path{Interface: NoIndex, Weight: 1}, dead: true}
	return p.setSource(t, netip.PrefixFrom(a, a.BitLen()), p.nat.source, []path{nowhere})
}

// unclaim takes back what claim did, if nothing wants it any more.
func (p *Plane) unclaim(a netip.Addr) {
	if _, only := p.nat.tables.VIP(a); only || p.nat.source == 0 {
		return
	}
	p.dropSource(p.tables[slot(familyOf(a))][0], netip.PrefixFrom(a, a.BitLen()), p.nat.source)
}

// DeleteTranslation ends a translation. Flows that it made go on.
func (p *Plane) DeleteTranslation(id uint32) error {
	return p.edit(func() error {
		n := &p.nat
		if uint64(id) >= uint64(len(n.list)) || n.list[id] == nil {
			return api.NO_SUCH_ENTRY
		}
		p.removeTranslation(n.list[id])
		return nil
	})
}

func (p *Plane) removeTranslation(x *translation) {
	p.hideTranslation(x)
	delete(p.nat.named, x)
	p.nat.list[x.ID] = nil
	p.nat.free = append(p.nat.free, x.ID)
}

// Translations yields all translations of one moment, by id.
func (p *Plane) Translations() iter.Seq[Translation] {
	p.mu.Lock()
	var out []Translation
	for _, x := range p.nat.list {
		if x != nil {
			t := x.Translation
			t.Paths = slices.Clone(t.Paths)
			out = append(out, t)
		}
	}
	p.mu.Unlock()
	return slices.Values(out)
}

// followAddresses resolves again what names interfaces, after their addresses changed.
func (p *Plane) followAddresses() {
	if !p.nat.stale {
		return
	}
	p.nat.stale = false
	p.refreshPolicy()
	var all []*translation
	for x := range p.nat.named {
		all = append(all, x)
	}
	slices.SortFunc(all, func(a, b *translation) int { return int(a.ID) - int(b.ID) })
	for range 2 { // what one gives up another may take
		for _, x := range all {
			if err := p.showTranslation(x); err != nil {
				p.log.Warn("translation has no route", "id", x.ID, "vip", x.VIP.Addr, "err", err)
			}
		}
	}
	p.nat.stale = false
}
