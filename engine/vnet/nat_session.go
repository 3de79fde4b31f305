package vnet

import (
	"iter"

	"github.com/millrace/millrace/engine/nat"
	"github.com/millrace/millrace/engine/worker"
)

// needNATSessions makes the table of translated flows with the first interface that
// translates.
func (p *Plane) needNATSessions() {
	if p.nat.sessions == nil {
		p.nat.sessions = nat.NewSessions(nat.DefaultMax)
		p.publishNAT()
	}
}

// publishNAT makes the workers see translations, policy and sessions as they are.
func (p *Plane) publishNAT() {
	if p.nat.sessions != nil {
		p.state.SetNAT(&worker.NAT{Tables: p.nat.tables, Sessions: p.nat.sessions})
		p.bump = true
	}
}

// NATSessions yields the flows that are translated, each direction by itself, while they
// come and go.
func (p *Plane) NATSessions() iter.Seq[nat.Info] {
	p.mu.Lock()
	t := p.nat.sessions
	p.mu.Unlock()
	if t == nil {
		return func(func(nat.Info) bool) {}
	}
	return t.All(p.state.Clock())
}

// PurgeNAT ends all sessions of translated flows. Translations stay, so that flows that go
// on become new ones, perhaps to other backends; those that had another source get another
// port.
func (p *Plane) PurgeNAT() error {
	return p.edit(func() error {
		if p.nat.sessions != nil {
			p.nat.sessions.Clear()
			p.bump = true
		}
		return nil
	})
}
