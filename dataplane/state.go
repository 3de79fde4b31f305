package dataplane

import (
	"fmt"
	"iter"
	"slices"
	"strings"

	"github.com/millrace/millrace/internal/textline"
)

// State is a set of objects, one per Key. Its zero value is empty. It is a value: a copy
// changes apart from the original, and what both have in common they share, so that a copy
// costs nothing and Diff and Equal look only at where the two part.
type State struct {
	objects *tree
	counts  [KindUp + 1]int
}

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
			if s.objects.find(need) == nil && !optional(need) {
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
func (s State) Len() (n int) {
	for _, of := range s.counts {
		n += of
	}
	return n
}

// Count is the number of objects of a kind.
func (s State) Count(k Kind) int { return s.counts[k] }

// Object finds an object.
func (s State) Object(k Key) (Object, bool) {
	t := s.objects.find(k)
	return t.held(), t != nil
}

// All yields the objects in order of creation: by kind, then by name.
func (s State) All() iter.Seq[Object] {
	return func(yield func(Object) bool) { s.objects.each(yield) }
}

// AllOf yields the objects of a kind, by name.
func (s State) AllOf(k Kind) iter.Seq[Object] {
	return func(yield func(Object) bool) { s.objects.eachOf(k, yield) }
}

// Put adds an object or replaces the one of its Key.
func (s *State) Put(o Object) {
	k := o.Key()
	if s.objects.find(k) == nil {
		s.counts[k.Kind]++
	}
	s.objects = s.objects.put(k, o, weigh(k))
}

// Remove takes an object out.
func (s *State) Remove(k Key) {
	if s.objects.find(k) != nil {
		s.objects = s.objects.remove(k)
		s.counts[k.Kind]--
	}
}

// Equal says whether both hold the same objects.
func (s State) Equal(o State) bool { return s.counts == o.counts && len(differences(s, o)) == 0 }

// difference is an object that two States do not have in common; nil stands for none.
type difference struct{ have, want Object }

// differences finds all, in order of creation.
func differences(have, want State) (list []difference) {
	part(have.objects, want.objects, func(_ Key, a, b Object) {
		if a == nil || b == nil || !same(a, b) {
			list = append(list, difference{a, b})
		}
	})
	return list
}

// same compares by text, which says all of an object and sorts what has no order. Where
// values are equal as they stand, no text is made.
func same(a, b Object) bool {
	switch x := a.(type) {
	case Table, TunnelBypass, BondMember, Address, Unnumbered, Neighbor, ProxyRange, ProxyARP, SourceNAT, NATKept, NATInterface, Steering, HostSetting, Up:
		return a == b
	case Route:
		if y, ok := b.(Route); ok && x.Table == y.Table && x.Prefix == y.Prefix && slices.Equal(x.Paths, y.Paths) {
			return true
		}
	case Translation:
		if y, ok := b.(Translation); ok && x.VIP == y.VIP && x.Protocol == y.Protocol && x.ByClient == y.ByClient && slices.Equal(x.Backends, y.Backends) {
			return true
		}
	case HostNAT:
		if y, ok := b.(HostNAT); ok && x.equal(y) {
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
