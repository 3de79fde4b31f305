package program

import (
	"context"
	"fmt"

	"github.com/millrace/millrace/dataplane"
	"github.com/millrace/millrace/vpp"
)

// Sight is what the machine has of our ACLs and of what they stand on.
type Sight struct {
	State dataplane.State   // interfaces, ACLs, routes and bindings
	ACLs  map[string]uint32 // acl_index by name, valid in this life of the machine
	// Spans is how many of the machine's rules, and so of its counters, each rule of an ACL
	// is, by name.
	Spans map[string][]int
}

// Look observes the ACLs of a machine that another process programs. Unlike New, it sets
// nothing up: it only asks.
func Look(ctx context.Context, conn *vpp.Conn, owner string) (Sight, error) {
	p := newProgram(conn, Agent(owner))
	p.unguarded = p.missingACLs()
	found, err := p.lookForSource(ctx)
	if err != nil {
		return Sight{}, fmt.Errorf("find route source: %w", err)
	}
	var s dataplane.State
	for _, observe := range []func(context.Context, *dataplane.State) error{p.observeInterfaces, p.observeACLs, p.observeRoutes, p.observeBindings} {
		if err := observe(ctx, &s); err != nil {
			return Sight{}, fmt.Errorf("look at the dataplane: %w", err)
		}
	}
	if !found { // no agent was here, and the routes are somebody else's
		for o := range s.All() {
			if o.Key().Kind == dataplane.KindRoute {
				s.Remove(o.Key())
			}
		}
	}
	sight := Sight{State: s, ACLs: p.ACLs(), Spans: map[string][]int{}}
	for name, ref := range p.acls {
		sight.Spans[name] = ref.spans
	}
	return sight, nil
}

// Interfaces are the sw_if_index of ours by name, and ACLs the acl_index, in this life of
// the machine and as of the last Observe and Apply.
func (p *Program) Interfaces() map[string]uint32 {
	list := make(map[string]uint32, len(p.ports))
	for name, port := range p.ports {
		list[name] = port.index
	}
	return list
}

// ACLs are like Interfaces.
func (p *Program) ACLs() map[string]uint32 {
	list := make(map[string]uint32, len(p.acls))
	for name, ref := range p.acls {
		list[name] = ref.index
	}
	return list
}
