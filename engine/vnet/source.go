package vnet

import (
	"slices"

	"go.fd.io/govpp/api"
)

// Source is a FIB source: on whose behalf a route is there. Where several want the same
// prefix, the source with the lowest Priority forwards; of two with the same Priority, the
// one that was made first.
type Source struct {
	ID       uint8
	Priority uint8
	Name     string // need not be unique
}

// maxSources: VPP gives out no number from 255.
const maxSources = 255

// source is a Source with what tells it from others of its priority.
type source struct {
	Source
	turn   uint8 // among those of its priority
	routes bool  // EditRoute takes routes of it
}

// builtinSources are VPP's own (vnet/fib/fib_source.h, and the one that ip_path_mtu.c
// allocates), by number. Clients name routes theirs by those that in VPP do no more than
// hold paths; what the engine keeps for itself they must not touch.
func builtinSources() []source {
	list := []source{
		{Source: Source{Name: "invalid", Priority: 0xff}},
		{Source: Source{Name: "special", Priority: 0x00}},
		{Source: Source{Name: "classify", Priority: 0x01}},
		{Source: Source{Name: "proxy", Priority: 0x02}, routes: true},
		{Source: Source{Name: "interface", Priority: 0x03}},
		{Source: Source{Name: "SR", Priority: 0x10}, routes: true},
		{Source: Source{Name: "BIER", Priority: 0x20}, routes: true},
		{Source: Source{Name: "6RD", Priority: 0x30}, routes: true},
		{Source: Source{Name: "API", Priority: 0x80}, routes: true},
		{Source: Source{Name: "CLI", Priority: 0x81}, routes: true},
		{Source: Source{Name: "LISP", Priority: 0x90}},
		{Source: Source{Name: "MAP", Priority: 0xa0}, routes: true},
		{Source: Source{Name: "DHCP", Priority: 0xb0}, routes: true},
		{Source: Source{Name: "IPv6-proxy-nd", Priority: 0xc0}, routes: true},
		{Source: Source{Name: "IPv6-nd", Priority: 0xc1}, routes: true},
		{Source: Source{Name: "adjacency", Priority: 0xd0}},
		{Source: Source{Name: "mpls", Priority: 0xe0}},
		{Source: Source{Name: "attached_export", Priority: 0xf0}},
		{Source: Source{Name: "recursive-resolution", Priority: 0xfb}},
		{Source: Source{Name: "urpf-exempt", Priority: 0xfc}},
		{Source: Source{Name: "default-route", Priority: 0xfd}},
		{Source: Source{Name: "interpose", Priority: 0xfe}},
		{Source: Source{Name: "path-mtu", Priority: 0x10}, routes: true, turn: 1},
	}
	for n := range list {
		list[n].ID = uint8(n)
	}
	return list
}

// AddSource makes a FIB source for the life of the engine and returns its number. The
// same name again makes another one, as in VPP.
func (p *Plane) AddSource(name string, priority uint8) (uint8, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.addSource(name, priority, true)
}

func (p *Plane) addSource(name string, priority uint8, routes bool) (uint8, error) {
	if len(p.sources) >= maxSources {
		return 0, api.LIMIT_EXCEEDED
	}
	s := source{Source: Source{ID: uint8(len(p.sources)), Priority: priority, Name: name}, routes: routes}
	for _, other := range p.sources {
		if other.Priority == priority {
			s.turn++
		}
	}
	p.sources = append(p.sources, s)
	return s.ID, nil
}

// Sources returns the FIB sources by number.
func (p *Plane) Sources() []Source {
	p.mu.Lock()
	defer p.mu.Unlock()
	out := make([]Source, len(p.sources))
	for n, s := range p.sources {
		out[n] = s.Source
	}
	return out
}

// rank orders the sources of a prefix; the lowest wins.
func (p *Plane) rank(source uint8) uint16 {
	s := p.sources[source]
	return uint16(s.Priority)<<8 | uint16(s.turn)
}

// takesRoutes reports whether source is there and a client's routes may be its.
func (p *Plane) takesRoutes(id uint8) bool {
	return slices.ContainsFunc(p.sources, func(s source) bool { return s.ID == id && s.routes })
}
