package vnet

import (
	"fmt"

	"go.fd.io/govpp/api"

	"github.com/millrace/millrace/engine/session"
)

// sessionLimits are what a table of sessions is given when it is made.
type sessionLimits struct {
	max      uint32
	room     uint32    // of the table that was made
	timeouts [3]uint32 // by session.Class
}

func defaultLimits() sessionLimits {
	return sessionLimits{max: session.DefaultMax, timeouts: [3]uint32{session.DefaultUDPIdle, session.DefaultTCPIdle, session.DefaultTCPTransient}}
}

// needSessions makes the table of sessions with the first list on an interface.
func (p *Plane) needSessions() {
	if p.access.settings.Sessions != nil {
		return
	}
	p.access.limits.room = p.access.limits.max
	t := session.New(int(p.access.limits.max), p.cfg.MaxInterfaces)
	for c, seconds := range p.access.limits.timeouts {
		t.SetTimeout(session.Class(c), seconds)
	}
	p.access.settings.Sessions = t
	p.publishStateful()
}

// publishStateful makes the workers see the settings that concern all lists.
func (p *Plane) publishStateful() {
	s := p.access.settings
	p.state.SetStateful(&s)
	p.bump = true
}

// clearSessions ends the sessions of an interface, or of all for NoIndex.
func (p *Plane) clearSessions(index uint32) {
	t := p.access.settings.Sessions
	switch {
	case t == nil:
		return
	case index == NoIndex:
		t.ClearAll()
	default:
		t.Clear(index)
	}
	p.bump = true
	select {
	case p.sweep <- struct{}{}:
	default:
	}
}

// ClearSessions ends all sessions.
func (p *Plane) ClearSessions() error {
	return p.edit(func() error {
		p.clearSessions(NoIndex)
		return nil
	})
}

// SetSessionTimeout sets for how many seconds sessions of a class live without a packet.
func (p *Plane) SetSessionTimeout(c session.Class, seconds uint32) error {
	return p.edit(func() error {
		if int(c) >= len(p.access.limits.timeouts) {
			return api.INVALID_VALUE
		}
		p.access.limits.timeouts[c] = seconds
		if t := p.access.settings.Sessions; t != nil {
			t.SetTimeout(c, seconds)
		}
		return nil
	})
}

// SetMaxSessions bounds the number of sessions. Once an interface has a list, there is a
// table with the room of then, and the limit can only be lowered.
func (p *Plane) SetMaxSessions(n uint32) error {
	return p.edit(func() error {
		if t := p.access.settings.Sessions; t != nil {
			if n > p.access.limits.room {
				return fmt.Errorf("set limit of sessions to %d: the table was made for %d; set it before the first list: %w",
					n, p.access.limits.room, api.INVALID_VALUE)
			}
			t.SetMax(int(n))
		}
		p.access.limits.max = n
		return nil
	})
}

// SetReclassify says whether a change of rules or lists has live sessions judged again, at
// their next packet in either direction. Otherwise they outlive a change of rules, and
// end with a change of lists.
func (p *Plane) SetReclassify(on bool) error {
	return p.edit(func() error {
		p.access.settings.Reclassify = on
		p.publishStateful()
		return nil
	})
}

// SetCountRules says whether the packets that rules match are counted.
func (p *Plane) SetCountRules(on bool) error {
	return p.edit(func() error {
		p.access.settings.CountRules = on
		p.publishStateful()
		return nil
	})
}

// SessionState is what is known of sessions as a whole.
type SessionState struct {
	Max        uint32
	Adds, Dels uint64
	Live       uint64 // of those that are not deleted, how many have not timed out or been cleared
	Timeouts   [3]uint32
	Reclassify bool
	CountRules bool
	Interfaces []InterfaceSessions
}

// InterfaceSessions counts the sessions of an interface; Judged is how often one was
// judged again.
type InterfaceSessions struct {
	Interface          uint32
	Adds, Dels, Judged uint64
}

// SessionMax is the limit of sessions.
func (p *Plane) SessionMax() uint32 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.access.limits.max
}

// Sessions returns the state of the sessions.
func (p *Plane) Sessions() SessionState {
	p.mu.Lock()
	defer p.mu.Unlock()
	a := &p.access
	s := SessionState{Max: a.limits.max, Timeouts: a.limits.timeouts, Reclassify: a.settings.Reclassify,
		CountRules: a.settings.CountRules}
	t := a.settings.Sessions
	if t == nil {
		return s
	}
	s.Adds, s.Dels = t.Totals()
	for range t.All(p.state.Clock()) {
		s.Live++
	}
	for _, i := range p.ifs {
		if i != nil {
			adds, dels, judged := t.Face(i.index)
			s.Interfaces = append(s.Interfaces, InterfaceSessions{i.index, adds, dels, judged})
		}
	}
	return s
}

// sweepBudget is how many places of a table of sessions one sweep looks at, a few
// milliseconds' work.
const sweepBudget = 128 << 10

// ageSessions moves the workers' clock and ends sessions that have timed out.
func (p *Plane) ageSessions() {
	p.mu.Lock()
	now := p.now()
	p.mu.Unlock()
	p.state.Advance(now)
	p.sweepSessions()
}

func (p *Plane) sweepSessions() {
	p.mu.Lock()
	t, translated := p.access.settings.Sessions, p.nat.sessions
	p.mu.Unlock()
	if t != nil {
		t.Sweep(p.state.Clock(), sweepBudget)
	}
	if translated != nil {
		translated.Sweep(p.state.Clock(), sweepBudget)
	}
}

// dropLists takes the lists off an interface that is about to go, and ends its sessions.
func (p *Plane) dropLists(i *iface) {
	for d := range i.acls {
		i.acls[d], i.guards[d] = nil, nil
	}
	p.clearSessions(i.index)
}
