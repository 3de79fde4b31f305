package dataplane

import (
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"

	"github.com/millrace/millrace/internal/textline"
)

// State is a set of objects, one per Key. Its zero value is empty. It is not safe for
// concurrent use; whoever hands one on hands on a Clone.
type State struct{ objects map[Key]Object }

// NewState returns the set of the given objects. Two of one Key, an object that is wrong
// in itself, or one that refers to another that is not there, is an error.
func NewState(objects ...Object) (State, error) {
	var s State
	for _, o := range objects {
		if err := o.check(); err != nil {
			return State{}, fmt.Errorf("check %s: %w", o.Key(), err)
		}
		if _, twice := s.Object(o.Key()); twice {
			return State{}, fmt.Errorf("check %s: it stands twice", o.Key())
		}
		s.Put(o)
	}
	if err := s.checkReferences(); err != nil {
		return State{}, err
	}
	return s, nil
}

// checkReferences names the first object that requires what is not there.
func (s State) checkReferences() error {
	for o := range s.All() {
		for _, need := range o.requires() {
			if _, ok := s.objects[need]; !ok && !optional(need) {
				return fmt.Errorf("check %s: %s is not there", o.Key(), need)
			}
		}
	}
	return nil
}

// optional tells the keys of what need not be there, but if it is, comes first and goes
// last. Uplinks are somebody else's.
func optional(k Key) bool {
	return k.Kind == KindACLBinding || isGroup(k) || k.Kind == KindInterface && IsUplink(k.Name)
}

// isGroup tells the keys that stand for a set, which may be empty.
func isGroup(k Key) bool { return k.Kind == KindAddress && !strings.Contains(k.Name, " ") }

// Check finds what is wrong with one object in itself.
func Check(o Object) error {
	if err := o.check(); err != nil {
		return fmt.Errorf("check %s: %w", o.Key(), err)
	}
	return nil
}

// Requires lists what must be there before o and go after it.
func Requires(o Object) []Key {
	return slices.DeleteFunc(o.requires(), isGroup)
}

// Len is the number of objects.
func (s State) Len() int { return len(s.objects) }

// Object finds an object.
func (s State) Object(k Key) (Object, bool) {
	o, ok := s.objects[k]
	return o, ok
}

// All yields the objects in order of creation: by kind, then by name.
func (s State) All() iter.Seq[Object] {
	return func(yield func(Object) bool) {
		for _, k := range slices.SortedFunc(maps.Keys(s.objects), Key.Compare) {
			if !yield(s.objects[k]) {
				return
			}
		}
	}
}

// Put adds an object or replaces the one of its Key.
func (s *State) Put(o Object) {
	if s.objects == nil {
		s.objects = map[Key]Object{}
	}
	s.objects[o.Key()] = o
}

// Remove takes an object out.
func (s *State) Remove(k Key) { delete(s.objects, k) }

// Clone is a State that changes apart from s.
func (s State) Clone() State { return State{maps.Clone(s.objects)} }

// Equal says whether both hold the same objects.
func (s State) Equal(o State) bool {
	return maps.EqualFunc(s.objects, o.objects, same)
}

// same compares by text, which says all of an object and sorts what has no order. Where
// values are equal as they stand, no text is made.
func same(a, b Object) bool {
	switch x := a.(type) {
	case Table, TunnelBypass, BondMember, Address, Unnumbered, Neighbor, ProxyRange, ProxyARP, SourceNAT, NATInterface, Steering, Up:
		return a == b
	case Route:
		if y, ok := b.(Route); ok && x.Table == y.Table && x.Prefix == y.Prefix && slices.Equal(x.Paths, y.Paths) {
			return true
		}
	case Translation:
		if y, ok := b.(Translation); ok && x.VIP == y.VIP && x.Protocol == y.Protocol && x.ByClient == y.ByClient && slices.Equal(x.Backends, y.Backends) {
			return true
		}
	case Interface:
		if y, ok := b.(Interface); ok && x.equal(y) {
			return true
		}
	case ACL:
		y, ok := b.(ACL)
		return ok && x.equal(y)
	case ACLBinding:
		y, ok := b.(ACLBinding)
		return ok && x.equal(y)
	}
	return a.String() == b.String()
}

// String is one line per object, in order of creation. Equal States print equal texts.
func (s State) String() string {
	var b strings.Builder
	for o := range s.All() {
		b.WriteString(o.String())
		b.WriteByte('\n')
	}
	return b.String()
}

// ParseState reads the text form back. Empty lines and # comments are allowed. It checks
// like NewState.
func ParseState(text string) (State, error) {
	var objects []Object
	err := textline.Each(text, func(l textline.Line) error {
		o, err := parseObject(l)
		objects = append(objects, o)
		return err
	})
	var s State
	if err == nil {
		s, err = NewState(objects...)
	}
	if err != nil {
		return State{}, fmt.Errorf("parse state: %w", err)
	}
	return s, nil
}
