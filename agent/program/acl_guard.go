package program

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"go.fd.io/govpp/binapi/acl"

	"github.com/millrace/millrace/dataplane"
)

// replaceMax bounds how much one message may have VPP build again while no packet moves:
// in rules times interfaces, at 0.5 to 1.3 us each.
const replaceMax = 50_000

// guard carries out updates of ACLs and writes of bindings together. Whatever changes for
// an interface and direction changes in one message: a flow that the old and the new lists
// permit is never denied because its permission moves from one ACL to another. Directions
// that only permit more come after all others: a flow that one interface forbade and
// another will is not let through in between.
//
// An ACL that changes alone, and not too much, is replaced where it is. Otherwise all new
// versions are written beside the old, interface by interface is bound to them, and the
// old are deleted. Whatever ends this midway leaves two ACLs of one tag: see observeACLs.
//
// What VPP 25.10 cannot do: a session there ends with the first packet that the new lists
// forbid, and an answer to an earlier one, if under way, is then judged as the first packet
// of a flow in the other direction. Where that is permitted and makes a session, the flow
// lives on by it. The engine knows such answers; what is done about them on VPP stands in
// acl_answers.go and acl_hold.go.
func (p *Program) guard(ctx context.Context, steps []dataplane.Step) []error {
	if p.unguarded != nil {
		return slices.Repeat([]error{p.unguarded}, len(steps))
	}
	if o, ok := steps[0].Object.(dataplane.ACL); ok && len(steps) == 1 && p.replaceable(o) && !p.mayRevive(steps[0]) {
		return p.replace(ctx, o)
	}
	s := swap{program: p, steps: steps, batch: newBatch(len(steps)), fresh: map[string]aclRef{}, widened: map[string]bool{}, own: map[string]int{}}
	s.write(ctx)
	s.bind(ctx)
	s.drop(ctx)
	return s.batch.errs
}

// replaceable estimates what VPP has to build again: each list that names the ACL.
func (p *Program) replaceable(o dataplane.ACL) bool {
	cost := 0
	for _, b := range p.bound {
		for _, list := range [...][]string{b.Input, b.Output} {
			if !slices.Contains(list, o.Name) {
				continue
			}
			cost += len(o.Rules)
			for _, name := range list {
				cost += p.acls[name].rules
			}
		}
	}
	return cost <= replaceMax
}

func (p *Program) replace(ctx context.Context, o dataplane.ACL) []error {
	index, err := p.acl(o.Name)
	b := newBatch(1)
	b.add(0, p.writeACL(o, index), err)
	if b.run(ctx, p.conn); b.errs[0] == nil {
		p.acls[o.Name] = aclRefOf(o, index)
	}
	return b.errs
}

// swap is the state of one guard.
type swap struct {
	program *Program
	steps   []dataplane.Step
	batch   *batch            // its errs are those of the steps
	fresh   map[string]aclRef // the new version of each ACL that was written
	widened map[string]bool   // of fresh: whether it permits all that the old one did
	own     map[string]int    // the step of each interface that has one
}

// write makes the new versions, bound nowhere.
func (s *swap) write(ctx context.Context) {
	b := newBatch(len(s.steps))
	for i, step := range s.steps {
		if o, ok := step.Object.(dataplane.ACL); ok {
			b.add(i, s.program.writeACL(o, none), nil)
		}
	}
	b.run(ctx, s.program.conn)
	for n, e := range b.exchanges {
		i := b.owners[n]
		if s.batch.fail(i, b.errs[i]); b.errs[i] != nil {
			continue
		}
		o := s.steps[i].Object.(dataplane.ACL)
		s.fresh[o.Name] = aclRefOf(o, e.Reply.(*acl.ACLAddReplaceReply).ACLIndex)
		was, ok := s.steps[i].Was.(dataplane.ACL)
		s.widened[o.Name] = ok && hasAll(o.Rules, was.Rules)
	}
}

// hasAll says whether rules has each of those in some.
func hasAll(rules, some []dataplane.Rule) bool {
	set := make(map[dataplane.Rule]struct{}, len(rules))
	for _, r := range rules {
		set[r] = struct{}{}
	}
	return !slices.ContainsFunc(some, func(r dataplane.Rule) bool {
		_, ok := set[r]
		return !ok
	})
}

// relist is what becomes of one interface.
type relist struct {
	was, want dataplane.ACLBinding
	in, out   turn
}

// turn is what a change of a list means for the packets of its direction.
type turn uint8

const (
	narrows turn = iota // it may forbid some that it permitted, or nobody knows
	stays
	widens
)

// bind sets the lists of the steps' own interfaces and of all that name a new version:
// first the directions that narrow, with the others as they were, then those that widen.
func (s *swap) bind(ctx context.Context) {
	all := s.relists()
	failed := map[string]error{}
	hold := s.hold(ctx, all)
	s.set(ctx, all, failed, func(r relist) (input, output []uint32, err error) {
		if r.in != narrows && r.out != narrows {
			return nil, nil, errLater
		}
		input, output, err = s.lists(r, r.in == widens, r.out == widens)
		if err == nil && hold.holds(r) {
			input, output = hold.before(r, input, output)
		}
		return input, output, err
	})
	hold.wait(ctx)
	s.set(ctx, all, failed, func(r relist) (input, output []uint32, err error) {
		if r.in != widens && r.out != widens && !hold.holds(r) {
			return nil, nil, errLater
		}
		return s.lists(r, false, false)
	})
	s.release(ctx, hold)
	for _, r := range all {
		name := r.want.Interface
		if err := failed[name]; err != nil {
			s.failList(r, err)
			continue
		}
		s.program.bound[name] = r.want
	}
}

// errLater says that an interface has nothing to do in one of the two turns.
var errLater = fmt.Errorf("later")

// set sends what lists says, in order of the interfaces' names.
func (s *swap) set(ctx context.Context, all []relist, failed map[string]error, lists func(relist) (input, output []uint32, err error)) {
	b := newBatch(len(all))
	for i, r := range all {
		input, output, err := lists(r)
		if err == errLater || failed[r.want.Interface] != nil {
			continue
		}
		e, indexErr := s.program.listExchange(r.want.Interface, input, output)
		if err == nil {
			err = indexErr
		}
		b.add(i, e, err)
	}
	b.run(ctx, s.program.conn)
	for i, err := range b.errs {
		if err != nil {
			failed[all[i].want.Interface] = err
		}
	}
}

// relists are the interfaces whose lists change, in order of their names.
func (s *swap) relists() (all []relist) {
	p := s.program
	byName := map[string]relist{}
	for name, b := range p.bound {
		if s.renews(b) {
			byName[name] = relist{was: b, want: b}
		}
	}
	for i, step := range s.steps {
		o, ok := step.Object.(dataplane.ACLBinding)
		if !ok {
			continue
		}
		if err := s.outdated(step); err != nil {
			s.batch.fail(i, err)
			delete(byName, o.Interface)
			continue
		}
		byName[o.Interface], s.own[o.Interface] = relist{was: p.bound[o.Interface], want: o}, i
	}
	for _, name := range slices.Sorted(maps.Keys(byName)) {
		r := byName[name]
		if len(r.was.Input)+len(r.was.Output) > 0 {
			r.in, r.out = s.turn(r.was.Input, r.want.Input), s.turn(r.was.Output, r.want.Output)
		}
		all = append(all, r)
	}
	return all
}

// outdated is why an interface that is not open yet must wait: one of its ACLs could not
// be brought to what it should be.
func (s *swap) outdated(step dataplane.Step) error {
	if step.Verb != dataplane.Create {
		return nil
	}
	o := step.Object.(dataplane.ACLBinding)
	for i, other := range s.steps {
		a, ok := other.Object.(dataplane.ACL)
		if ok && s.batch.errs[i] != nil && slices.Contains(slices.Concat(o.Input, o.Output), a.Name) {
			return fmt.Errorf("%w without %s: %w", ErrBlocked, a.Key(), s.batch.errs[i])
		}
	}
	return nil
}

func (s *swap) renews(b dataplane.ACLBinding) bool {
	isFresh := func(name string) bool { _, ok := s.fresh[name]; return ok }
	return slices.ContainsFunc(b.Input, isFresh) || slices.ContainsFunc(b.Output, isFresh)
}

// turn compares two lists. An empty one filters nothing.
func (s *swap) turn(was, want []string) turn {
	isFresh := func(name string) bool { _, ok := s.fresh[name]; return ok }
	if slices.Equal(was, want) && !slices.ContainsFunc(want, isFresh) {
		return stays
	}
	all := len(want) == 0
	for _, name := range want {
		ref := s.ref(name)
		if ref.denies {
			return narrows
		}
		all = all || ref.all
	}
	foreign := func(name string) bool { _, ours := s.program.acls[name]; return !ours }
	lost := func(name string) bool { return !slices.Contains(want, name) || isFresh(name) && !s.widened[name] }
	if slices.ContainsFunc(was, foreign) {
		return narrows // it cannot be left as it was
	}
	if all || len(was) > 0 && !slices.ContainsFunc(was, lost) {
		return widens
	}
	return narrows
}

// ref is the version that will be in force.
func (s *swap) ref(name string) aclRef {
	if ref, ok := s.fresh[name]; ok {
		return ref
	}
	return s.program.acls[name]
}

// lists are the indexes of both directions, each as it was or as it will be.
func (s *swap) lists(r relist, oldIn, oldOut bool) (input, output []uint32, err error) {
	if input, err = s.indexes(r.was.Input, r.want.Input, oldIn); err != nil {
		return nil, nil, err
	}
	output, err = s.indexes(r.was.Output, r.want.Output, oldOut)
	return input, output, err
}

func (s *swap) indexes(was, want []string, old bool) (list []uint32, err error) {
	names := want
	if old {
		names = was
	}
	for _, name := range names {
		ref, ok := s.fresh[name]
		if old || !ok {
			if ref.index, err = s.program.acl(name); err != nil {
				return nil, err
			}
		}
		list = append(list, ref.index)
	}
	return list, nil
}

// failList fails the interface's own step, and the ACLs of which it may still have, or
// already have, either version: both stay until the next look at the machine.
func (s *swap) failList(r relist, err error) {
	name := r.want.Interface
	if i, ok := s.own[name]; ok {
		s.batch.fail(i, err)
	}
	uses := slices.Concat(r.want.Input, r.want.Output, r.was.Input, r.was.Output)
	for i, step := range s.steps {
		if o, ok := step.Object.(dataplane.ACL); ok && slices.Contains(uses, o.Name) {
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
		o, isACL := step.Object.(dataplane.ACL)
		if !isACL || s.batch.errs[i] != nil {
			continue
		}
		if old, known := p.acls[o.Name]; known {
			b.add(0, deleteACL(old.index), nil)
		}
		p.acls[o.Name] = s.fresh[o.Name]
	}
	b.run(ctx, p.conn)
}
