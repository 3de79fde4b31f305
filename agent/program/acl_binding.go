package program

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"go.fd.io/govpp/api"
	"go.fd.io/govpp/binapi/acl"
	"go.fd.io/govpp/binapi/interface_types"

	"github.com/millrace/millrace/dataplane"
	"github.com/millrace/millrace/vpp"
)

// observeBindings reads the lists of our interfaces. An ACL in them that is not ours has a
// name that no wish has: an interface of ours is guarded by our lists alone, and the next
// plan takes the foreign one out.
func (p *Program) observeBindings(ctx context.Context, s *dataplane.State) error {
	p.bound = map[string]dataplane.ACLBinding{}
	if p.unguarded != nil {
		return nil
	}
	names := map[uint32]string{}
	for name, index := range p.acls {
		names[index] = name
	}
	ours := map[uint32]string{}
	for name, port := range p.ports {
		ours[port.index] = name
	}
	all := &acl.ACLInterfaceListDump{SwIfIndex: interface_types.InterfaceIndex(none)}
	for d, err := range vpp.Dump[acl.ACLInterfaceListDetails](ctx, p.conn, all) {
		if err != nil {
			return err
		}
		name, known := ours[uint32(d.SwIfIndex)]
		if !known || len(d.Acls) == 0 {
			continue
		}
		b := dataplane.ACLBinding{Interface: name}
		for i, index := range d.Acls {
			if i < int(d.NInput) {
				b.Input = append(b.Input, aclName(names, index))
			} else {
				b.Output = append(b.Output, aclName(names, index))
			}
		}
		p.bound[name] = b
		s.Put(b)
	}
	return nil
}

// unbind takes the lists off interfaces that are down.
func (p *Program) unbind(ctx context.Context, steps []dataplane.Step) []error {
	b := newBatch(len(steps))
	b.asDone = isGone
	for i, step := range steps {
		name := step.Object.Key().Name
		e, err := p.listExchange(dataplane.ACLBinding{Interface: name}, nil)
		b.add(i, e, errors.Join(err, p.unguarded))
	}
	b.run(ctx, p.conn)
	for i, step := range steps {
		if b.errs[i] == nil {
			delete(p.bound, step.Object.Key().Name)
		}
	}
	return b.errs
}

// listExchange sets both lists of an interface in one message, which VPP carries out
// between two packets. fresh are ACLs that have another index than p.acls says.
func (p *Program) listExchange(o dataplane.ACLBinding, fresh map[string]uint32) (vpp.Exchange, error) {
	port, err := p.index(o.Interface)
	if err != nil {
		return vpp.Exchange{}, err
	}
	req := &acl.ACLInterfaceSetACLList{SwIfIndex: interface_types.InterfaceIndex(port), NInput: uint8(len(o.Input))}
	for _, name := range slices.Concat(o.Input, o.Output) {
		index, ok := fresh[name]
		if !ok {
			if index, err = p.acl(name); err != nil {
				return vpp.Exchange{}, err
			}
		}
		req.Acls = append(req.Acls, index)
	}
	return vpp.Exchange{Request: req, Reply: &acl.ACLInterfaceSetACLListReply{}}, nil
}

// replaceMax bounds how much one message may have VPP build again while no packet moves:
// in rules times interfaces, at 0.5 to 1.3 us each.
const replaceMax = 50_000

// guard carries out updates of ACLs and writes of bindings together. Whatever changes for
// an interface changes in one message: a flow that the old and the new lists permit is
// never denied because its permission moves from one ACL to another, and each interface
// has either all that is old or all that is new.
//
// An ACL that changes alone, and not too much, is replaced where it is. Otherwise all new
// versions are written beside the old, interface by interface is bound to them, and the
// old are deleted. Whatever ends this midway leaves two ACLs of one tag: see observeACLs.
func (p *Program) guard(ctx context.Context, steps []dataplane.Step) []error {
	if p.unguarded != nil {
		return slices.Repeat([]error{p.unguarded}, len(steps))
	}
	if o, ok := steps[0].Object.(dataplane.ACL); ok && len(steps) == 1 && p.replaceable(o) {
		return p.replace(ctx, o)
	}
	s := swap{program: p, steps: steps, batch: newBatch(len(steps)), fresh: map[string]uint32{}, lists: map[string]int{}}
	s.write(ctx)
	s.bind(ctx)
	s.drop(ctx)
	return s.batch.errs
}

func (p *Program) replaceable(o dataplane.ACL) bool {
	return p.users(o.Name)*len(o.Rules) <= replaceMax
}

// users is how many lists of our interfaces name an ACL.
func (p *Program) users(name string) (n int) {
	for _, b := range p.bound {
		if slices.Contains(b.Input, name) {
			n++
		}
		if slices.Contains(b.Output, name) {
			n++
		}
	}
	return n
}

func (p *Program) replace(ctx context.Context, o dataplane.ACL) []error {
	index, err := p.acl(o.Name)
	b := newBatch(1)
	b.add(0, writeACL(o, index), err)
	b.run(ctx, p.conn)
	return b.errs
}

// swap is the state of one guard.
type swap struct {
	program *Program
	steps   []dataplane.Step
	batch   *batch            // its errs are those of the steps
	fresh   map[string]uint32 // the new index of each ACL that was written
	lists   map[string]int    // interfaces whose lists are set, with the step of their own or -1
}

// write makes the new versions, bound nowhere.
func (s *swap) write(ctx context.Context) {
	b := newBatch(len(s.steps))
	for i, step := range s.steps {
		if o, ok := step.Object.(dataplane.ACL); ok {
			b.add(i, writeACL(o, none), nil)
		}
	}
	b.run(ctx, s.program.conn)
	for n, e := range b.exchanges {
		i := b.owners[n]
		if s.batch.fail(i, b.errs[i]); b.errs[i] == nil {
			s.fresh[s.steps[i].Object.Key().Name] = e.Reply.(*acl.ACLAddReplaceReply).ACLIndex
		}
	}
}

// bind sets the lists of the steps' own interfaces and of all that name a new version.
func (s *swap) bind(ctx context.Context) {
	p := s.program
	want := map[string]dataplane.ACLBinding{}
	for name, b := range p.bound {
		if s.renews(b) {
			want[name], s.lists[name] = b, -1
		}
	}
	for i, step := range s.steps {
		if o, ok := step.Object.(dataplane.ACLBinding); ok {
			want[o.Interface], s.lists[o.Interface] = o, i
		}
	}
	names := slices.Sorted(maps.Keys(want))
	b := newBatch(len(names))
	for i, name := range names {
		e, err := p.listExchange(want[name], s.fresh)
		b.add(i, e, err)
	}
	b.run(ctx, p.conn)
	for i, name := range names {
		if b.errs[i] == nil {
			p.bound[name] = want[name]
			continue
		}
		s.failList(name, want[name], b.errs[i])
	}
}

func (s *swap) renews(b dataplane.ACLBinding) bool {
	isFresh := func(name string) bool { _, ok := s.fresh[name]; return ok }
	return slices.ContainsFunc(b.Input, isFresh) || slices.ContainsFunc(b.Output, isFresh)
}

// failList fails the interface's own step, and the ACLs of which it may still have, or
// already have, either version: both stay until the next look at the machine.
func (s *swap) failList(name string, b dataplane.ACLBinding, err error) {
	if i := s.lists[name]; i >= 0 {
		s.batch.fail(i, err)
	}
	was := s.program.bound[name]
	for i, step := range s.steps {
		o, ok := step.Object.(dataplane.ACL)
		if ok && slices.Contains(slices.Concat(b.Input, b.Output, was.Input, was.Output), o.Name) {
			s.batch.fail(i, fmt.Errorf("bind interface %s to it: %w", name, err))
		}
	}
}

// drop deletes the old versions. One that cannot go, because an interface that is not ours
// is bound to it, does no harm: the next look at the machine finds it as too much.
func (s *swap) drop(ctx context.Context) {
	p := s.program
	b := newBatch(1)
	for i, step := range s.steps {
		name := step.Object.Key().Name
		index, ok := s.fresh[name]
		if _, isACL := step.Object.(dataplane.ACL); !ok || !isACL || s.batch.errs[i] != nil {
			continue
		}
		if old, known := p.acls[name]; known {
			b.add(0, deleteACL(old), nil)
		}
		p.acls[name] = index
	}
	b.run(ctx, p.conn)
}

func isNoSuchEntry(err error) bool { return errors.Is(err, api.NO_SUCH_ENTRY) }
