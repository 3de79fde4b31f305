package dataplane

import (
	"fmt"
	"slices"
	"strings"

	"github.com/millrace/millrace/internal/textline"
)

// Verb is what a Step does.
type Verb uint8

const (
	Create Verb = iota + 1
	Update
	Delete
)

var verbNames = [...]string{Create: "create", Update: "update", Delete: "delete"}

func (v Verb) String() string {
	if int(v) < len(verbNames) && verbNames[v] != "" {
		return verbNames[v]
	}
	return fmt.Sprintf("verb-%d", uint8(v))
}

// Step changes one object.
type Step struct {
	Verb   Verb
	Object Object // the one to create, to update to, or to delete
	Was    Object // of an Update: what it is now
}

// Plan is a sequence of steps that turns one State into another. At each point everything
// that stands has all it requires.
type Plan []Step

// Diff returns the Plan that makes want out of have: deletes from the last kind to the
// first, then creates and updates from the first to the last, and at the end the deletes
// of ACLs, which the updates before let go of: an interface is bound to the new before the
// old is dropped. An object that has to be made anew takes along what depends on it. Equal
// States give an empty Plan.
func Diff(have, want State) Plan {
	parts := differences(have, want)
	if !slices.ContainsFunc(parts, difference.stirs) {
		return directly(parts)
	}
	d := diff{have: have, want: want, stirred: map[Key]bool{}, gone: map[Key]bool{}}
	for o := range want.All() {
		if _, ok := have.Object(o.Key()); !ok {
			d.stirAddress(o)
		}
	}
	// Rising, so that one pass finds everything that depends on what goes.
	for o := range have.All() {
		if d.goes(o) {
			d.gone[o.Key()], d.stirred[o.Key()] = true, !outlives(o.Key())
			d.stirAddress(o)
		}
	}
	deletes, last := d.deletes()
	return slices.Concat(deletes, d.writes(), last)
}

// stirs says whether others may have to be made anew for it: those that stand on what
// goes, and those that borrow the addresses of an interface that gets or loses one.
func (d difference) stirs() bool {
	o := d.have
	if o == nil {
		o = d.want
	}
	switch o.Key().Kind {
	case KindAddress:
		return true
	case KindTable, KindInterface, KindACLBinding:
		return d.goes()
	}
	return false // nothing stands on it, or it outlives those who do
}

// goes says whether what is has to be deleted, for good or to be made anew.
func (d difference) goes() bool { return d.have != nil && (d.want == nil || !d.want.becomes(d.have)) }

// directly is the Plan where nothing but what differs is touched.
func directly(parts []difference) Plan {
	var before, writes, after Plan
	for _, d := range parts {
		if d.goes() {
			step := Step{Verb: Delete, Object: d.have}
			if outlives(d.have.Key()) {
				after = append(after, step)
			} else {
				before = append(before, step)
			}
		}
		switch {
		case d.want == nil:
		case d.have == nil || d.goes():
			writes = append(writes, Step{Verb: Create, Object: d.want})
		default:
			writes = append(writes, Step{Verb: Update, Object: d.want, Was: d.have})
		}
	}
	slices.Reverse(before)
	slices.Reverse(after)
	return slices.Concat(before, writes, after)
}

type diff struct {
	have, want State
	gone       map[Key]bool // what is deleted, for good or to be made anew
	stirred    map[Key]bool // what others may not stand on while the plan runs
}

func (d *diff) stirAddress(o Object) {
	if a, ok := o.(Address); ok {
		d.stirred[addressesOf(a.Interface)] = true
	}
}

func (d *diff) goes(o Object) bool {
	w, ok := d.want.Object(o.Key())
	if !ok || !same(o, w) && !w.becomes(o) {
		return true
	}
	return slices.ContainsFunc(o.requires(), func(k Key) bool { return d.stirred[k] })
}

// outlives tells the kind of which nothing is ever made anew, and whose users can let go
// of it without being so either.
func outlives(k Key) bool { return k.Kind == KindACL }

// deletes are those that come before all writes, and those that come after.
func (d *diff) deletes() (before, after Plan) {
	for o := range d.have.All() {
		switch step := (Step{Verb: Delete, Object: o}); {
		case !d.gone[o.Key()]:
		case outlives(o.Key()):
			after = append(after, step)
		default:
			before = append(before, step)
		}
	}
	slices.Reverse(before)
	slices.Reverse(after)
	return before, after
}

func (d *diff) writes() (p Plan) {
	for w := range d.want.All() {
		o, ok := d.have.Object(w.Key())
		switch {
		case !ok || d.gone[w.Key()]:
			p = append(p, Step{Verb: Create, Object: w})
		case !same(o, w):
			p = append(p, Step{Verb: Update, Object: w, Was: o})
		}
	}
	return p
}

// Apply makes s what it is after the step.
func (s *State) Apply(step Step) {
	if step.Verb == Delete {
		s.Remove(step.Object.Key())
		return
	}
	s.Put(step.Object)
}

// String is one line per step; an update has a second line with what it was.
func (p Plan) String() string {
	var b strings.Builder
	for _, step := range p {
		fmt.Fprintln(&b, step)
	}
	return b.String()
}

func (s Step) String() string {
	text := s.Verb.String() + " " + s.Object.String()
	if s.Verb == Update && s.Was != nil {
		text += "\n  from " + s.Was.String()
	}
	return text
}

// ParsePlan reads the text form back.
func ParsePlan(text string) (Plan, error) {
	var p Plan
	err := textline.Each(text, func(l textline.Line) error { return p.read(l) })
	if err == nil {
		err = p.open()
	}
	if err != nil {
		return nil, fmt.Errorf("parse plan: %w", err)
	}
	return p, nil
}

func (p *Plan) read(l textline.Line) error {
	verb := l.Words
	if len(verb) < 2 {
		return fmt.Errorf("want a verb and an object")
	}
	l.Words = verb[1:]
	o, err := parseObject(l)
	if err == nil {
		err = Check(o)
	}
	if err != nil {
		return err
	}
	if verb[0] == "from" {
		if p.open() == nil {
			return fmt.Errorf("from stands without an update before it")
		}
		last := &(*p)[len(*p)-1]
		if last.Object.Key() != o.Key() {
			return fmt.Errorf("update of %s from %s: they are two objects", last.Object.Key(), o.Key())
		}
		last.Was = o
		return nil
	}
	v := Verb(slices.Index(verbNames[:], verb[0]))
	if v != Create && v != Update && v != Delete {
		return fmt.Errorf("verb %q: want create, update, from or delete", verb[0])
	}
	if err := p.open(); err != nil {
		return err
	}
	*p = append(*p, Step{Verb: v, Object: o})
	return nil
}

// open is an error while the last step is an update that lacks its from.
func (p *Plan) open() error {
	if n := len(*p); n > 0 && (*p)[n-1].Verb == Update && (*p)[n-1].Was == nil {
		return fmt.Errorf("update of %s lacks its from", (*p)[n-1].Object.Key())
	}
	return nil
}
