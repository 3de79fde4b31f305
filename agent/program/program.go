// Package program owns the step from a dataplane's wish to the machine: it observes what
// a machine that speaks VPP's binary API has of ours, and carries out plans on it and on
// the kernel's end of its interfaces.
//
// It is the only place that knows sw_if_index and acl_index, and learns them anew from tags
// in each life of the machine. It never decides what should be, and never changes or deletes what does
// not carry our tag or hang on something that does.
package program

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"

	"go.fd.io/govpp/binapi/fib"

	"github.com/millrace/millrace/dataplane"
	"github.com/millrace/millrace/vpp"
)

// none is VPP's ~0: no interface, any, all.
const none = ^uint32(0)

// Program works on one connection, that is on one life of the machine. It is not safe for
// concurrent use.
type Program struct {
	conn   *vpp.Conn
	id     Identity
	source uint8             // FIB source of our routes
	plain  uint8             // FIB source of API clients that name none
	ports  map[string]port   // our interfaces by name; Observe fills it, Apply keeps it
	named  map[string]uint32 // everybody's by the machine's name, at the last Observe

	uplinks map[string]uplinkPort // by the name that paths have for them; filled like ports

	decap [2]uint32            // what VPP calls ethernet-input behind a tunnel over IPv4 and IPv6
	bare  map[tunnelKey]uint32 // tunnels without mark, at the last Observe

	acls      map[string]aclRef               // ours by name; filled and kept like ports
	bound     map[string]dataplane.ACLBinding // what our interfaces are bound to, by name; likewise
	unguarded error                           // why the machine has no ACLs; nil = it has
	spreads   bool                            // rules that reflect everything are written as several

	nat  nat  // what it knows of services
	host Host // nil = nobody

	sockets       memifSockets    // everybody's; filled and kept like ports
	unusedSockets map[uint32]bool // of sockets, at the last Observe: whether one is ours and no interface's
}

// port is what the machine calls one of our interfaces.
type port struct {
	index  uint32
	driver driver
	host   hostEnd // of a tun or veth
	outer  string  // of a veth: the kernel's name of the end that the machine reads
	socket uint32  // of a memif: the number of its socket
	nic    dataplane.NIC
	tunnel tunnelKey
}

// driver is what made an interface, and has to delete it.
type driver uint8

const (
	driverUnknown driver = iota
	driverTap
	driverAFPacket
	driverMemif
	driverLoopback
	driverNIC
	driverBond
	driverVLAN
	driverVXLAN
)

// New prepares a connection: ACLs work as ours need them, and our routes get a FIB source of their own where the machine
// has such, so that they can be told from everybody else's.
func New(ctx context.Context, conn *vpp.Conn, id Identity) (*Program, error) {
	p := newProgram(conn, id)
	if err := p.prepareACLs(ctx); err != nil {
		return nil, fmt.Errorf("set up ACLs: %w", err)
	}
	if err := p.findSource(ctx); err != nil {
		return nil, fmt.Errorf("find route source: %w", err)
	}
	if err := p.prepareNAT(ctx); err != nil {
		return nil, fmt.Errorf("set up translation: %w", err)
	}
	return p, nil
}

func newProgram(conn *vpp.Conn, id Identity) *Program {
	return &Program{
		conn: conn, id: id, ports: map[string]port{}, sockets: memifSockets{},
		acls: map[string]aclRef{}, bound: map[string]dataplane.ACLBinding{},
		nat: nat{ids: map[dataplane.Key]uint32{}, sides: map[string]dataplane.NATSide{}, on: map[string][len(natFeatures)]bool{}, routes: map[dataplane.Key]dataplane.Route{}, kept: map[dataplane.NATKept]bool{}},
	}
}

// findSource looks for our FIB source, and makes it when it is not there. One made by an
// earlier life of ours still holds that one's routes.
func (p *Program) findSource(ctx context.Context) error {
	found, err := p.lookForSource(ctx)
	if found || err != nil {
		return err
	}
	reply, err := vpp.Call[fib.FibSourceAddReply](ctx, p.conn, &fib.FibSourceAdd{Src: p.id.fibSource()})
	if err != nil {
		return err
	}
	p.source = reply.ID
	return nil
}

func (p *Program) lookForSource(ctx context.Context) (found bool, err error) {
	for d, err := range vpp.Dump[fib.FibSourceDetails](ctx, p.conn, &fib.FibSourceDump{}) {
		switch {
		case err != nil:
			return false, err
		case d.Src.Name == "API" && p.plain == 0:
			p.plain = d.Src.ID
		case d.Src.Name == p.id.Source && !found:
			p.source, found = d.Src.ID, true
		}
	}
	return found, nil
}

// index finds an interface that an object refers to.
func (p *Program) index(name string) (uint32, error) {
	if port, ok := p.ports[name]; ok {
		return port.index, nil
	}
	if u, ok := p.uplinks[name]; ok {
		return u.index, nil
	}
	if u, ok := p.uplinks[strings.TrimSuffix(name, hostSuffix)]; ok && u.HostLink {
		return u.host, nil
	}
	return 0, fmt.Errorf("no interface is called %s", name)
}

// name finds our name of an interface; one that is neither ours nor an uplink gets a name
// that no wish has.
func (p *Program) name(index uint32) (name string, ours bool) {
	for name, port := range p.ports {
		if port.index == index {
			return name, true
		}
	}
	for name, u := range p.uplinks {
		if u.index == index {
			return name, false
		}
	}
	return fmt.Sprintf("foreign:%d", index), false
}

// Apply carries out a plan and tells done what became of each step, in an order that
// keeps the plan's dependencies. A step whose ground another step failed to lay fails
// too, with ErrBlocked; all others go on. Objects in postponed are not touched: they count
// as failed before.
func (p *Program) Apply(ctx context.Context, plan dataplane.Plan, postponed map[dataplane.Key]error, done func(dataplane.Step, error)) {
	f := failures{broken: map[dataplane.Key]error{}, held: map[dataplane.Key]error{}}
	maps.Copy(f.broken, postponed)
	for _, stage := range stages(plan) {
		var ready []dataplane.Step
		for _, step := range stage {
			if err := f.blocks(step); err != nil {
				f.add(step, err)
				done(step, err)
				continue
			}
			ready = append(ready, step)
		}
		for i, err := range p.run(ctx, ready) {
			if err != nil {
				err = fmt.Errorf("%s %s: %w", ready[i].Verb, ready[i].Object.Key(), err)
				f.add(ready[i], err)
			} else {
				p.nat.note(ready[i])
			}
			done(ready[i], err)
		}
	}
}

// run carries out the steps of one stage and returns an error or nil for each.
func (p *Program) run(ctx context.Context, steps []dataplane.Step) []error {
	if len(steps) == 0 {
		return nil
	}
	if f := p.special(steps[0]); f != nil {
		return f(ctx, steps)
	}
	b := newBatch(len(steps))
	for i, step := range steps {
		e, err := p.exchange(step)
		b.add(i, e, err)
	}
	b.run(ctx, p.conn)
	return b.errs
}

// special finds what carries out steps that one message each does not do.
func (p *Program) special(step dataplane.Step) func(context.Context, []dataplane.Step) []error {
	switch step.Object.(type) {
	case dataplane.Interface:
		return map[dataplane.Verb]func(context.Context, []dataplane.Step) []error{
			dataplane.Create: p.createInterfaces, dataplane.Update: p.updateInterfaces, dataplane.Delete: p.deleteInterfaces,
		}[step.Verb]
	case dataplane.Unnumbered:
		if step.Verb != dataplane.Delete {
			return p.borrow
		}
	case dataplane.TunnelBypass:
		return p.setBypasses
	case dataplane.Translation:
		if step.Verb == dataplane.Delete {
			return p.deleteTranslations
		}
		return p.writeTranslations
	case dataplane.NATInterface:
		return p.switchNAT
	case dataplane.NATKept:
		return p.keepSources
	case dataplane.BondMember:
		if step.Verb != dataplane.Delete {
			return p.join
		}
	case dataplane.ACL:
		return map[dataplane.Verb]func(context.Context, []dataplane.Step) []error{
			dataplane.Create: p.createACLs, dataplane.Update: p.guard, dataplane.Delete: p.deleteACLs,
		}[step.Verb]
	case dataplane.Steering:
		return p.steer
	case dataplane.HostSetting, dataplane.HostNAT:
		return p.tellKernel
	case dataplane.ACLBinding:
		return map[dataplane.Verb]func(context.Context, []dataplane.Step) []error{
			dataplane.Create: p.guard, dataplane.Update: p.guard, dataplane.Delete: p.unbind,
		}[step.Verb]
	}
	return nil
}

// exchange is the one message that carries out any other step.
func (p *Program) exchange(step dataplane.Step) (vpp.Exchange, error) {
	add := step.Verb != dataplane.Delete
	switch o := step.Object.(type) {
	case dataplane.Table:
		return p.tableExchange(o, add), nil
	case dataplane.BondMember:
		return p.leaveExchange(o)
	case dataplane.ProxyRange:
		return rangeExchange(o, add), nil
	case dataplane.ProxyARP:
		return p.proxyExchange(o, add)
	case dataplane.Address:
		return p.addressExchange(o, add)
	case dataplane.Unnumbered:
		return p.unnumberedExchange(o, false)
	case dataplane.Neighbor:
		return p.neighborExchange(o, add)
	case dataplane.Route:
		return p.routeExchange(o, add)
	case dataplane.SourceNAT:
		return sourceExchange(o, add), nil
	case dataplane.Up:
		return p.upExchange(o, add)
	}
	return vpp.Exchange{}, fmt.Errorf("no file of this package knows a %s", step.Object.Key().Kind)
}

// ErrBlocked says that a step was not tried: what it stands on, or what stands on it,
// failed before. The error of that comes with it.
var ErrBlocked = errors.New("not tried")

// failures are what later steps of a plan cannot build on.
type failures struct {
	broken map[dataplane.Key]error // steps that failed
	held   map[dataplane.Key]error // what stays because something on it could not be deleted
}

func (f failures) add(step dataplane.Step, err error) {
	f.broken[step.Object.Key()] = err
	if step.Verb == dataplane.Delete {
		for _, k := range dataplane.Requires(step.Object) {
			f.held[k] = err
		}
	}
}

func (f failures) blocks(step dataplane.Step) error {
	key := step.Object.Key()
	if err, ok := f.broken[key]; ok {
		return fmt.Errorf("%w again: %w", ErrBlocked, err)
	}
	if step.Verb == dataplane.Delete {
		if err, ok := f.held[key]; ok {
			return fmt.Errorf("%w while something is on it: %w", ErrBlocked, err)
		}
		return nil
	}
	for _, k := range dataplane.Requires(step.Object) {
		if err, ok := f.broken[k]; ok {
			return fmt.Errorf("%w without %s: %w", ErrBlocked, k, err)
		}
	}
	return nil
}

// batch collects exchanges of several steps and the first error of each step.
type batch struct {
	exchanges []vpp.Exchange
	owners    []int
	errs      []error
	asDone    func(error) bool // refusals that are as good as success; nil = none
}

func newBatch(steps int) *batch { return &batch{errs: make([]error, steps)} }

// add appends an exchange of step i, unless making it failed.
func (b *batch) add(i int, e vpp.Exchange, err error) {
	if err != nil {
		b.fail(i, err)
		return
	}
	b.exchanges = append(b.exchanges, e)
	b.owners = append(b.owners, i)
}

func (b *batch) fail(i int, err error) {
	if b.errs[i] == nil {
		b.errs[i] = err
	}
}

// run sends everything and fills errs.
func (b *batch) run(ctx context.Context, conn *vpp.Conn) {
	if len(b.exchanges) == 0 {
		return
	}
	_ = conn.Batch(ctx, b.exchanges) // each exchange without an answer has it as its Err
	for n, e := range b.exchanges {
		if e.Err != nil && (b.asDone == nil || !b.asDone(e.Err)) {
			b.fail(b.owners[n], e.Err)
		}
	}
}
