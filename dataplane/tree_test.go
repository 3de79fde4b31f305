package dataplane

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
)

// TestStateIsAValue walks many States that come from each other, and has a map beside each:
// they hold what the maps hold, in order, whatever becomes of those they came from.
func TestStateIsAValue(t *testing.T) {
	type pair struct {
		s State
		m map[Key]Object
	}
	r := rand.New(rand.NewPCG(3, 4))
	all := []pair{{State{}, map[Key]Object{}}}
	for range 3000 {
		from := all[r.IntN(len(all))]
		p := pair{from.s, maps.Clone(from.m)}
		for range r.IntN(20) {
			o := Up{fmt.Sprint(r.IntN(60))}
			var put Object = o
			if r.IntN(2) == 0 {
				put = Table{IPv4, uint32(r.IntN(60)), fmt.Sprint(r.IntN(3))}
			}
			if r.IntN(3) > 0 {
				p.s.Put(put)
				p.m[put.Key()] = put
			} else {
				p.s.Remove(put.Key())
				delete(p.m, put.Key())
			}
		}
		all = append(all, p)
		other := all[r.IntN(len(all))]
		if got, want := p.s.Equal(other.s), maps.Equal(p.m, other.m); got != want {
			t.Fatalf("equal is %t, want %t:\n%s---\n%s", got, want, p.s, other.s)
		}
		want := map[Key]bool{}
		for k := range maps.Keys(p.m) {
			want[k] = p.m[k] != other.m[k]
		}
		for k := range maps.Keys(other.m) {
			want[k] = p.m[k] != other.m[k]
		}
		maps.DeleteFunc(want, func(_ Key, differs bool) bool { return !differs })
		for _, d := range differences(p.s, other.s) {
			o := d.have
			if o == nil {
				o = d.want
			}
			if k := o.Key(); !want[k] || p.m[k] != d.have || other.m[k] != d.want {
				t.Fatalf("%s: %v and %v", k, d.have, d.want)
			}
			delete(want, o.Key())
		}
		if len(want) > 0 {
			t.Fatalf("not found: %v", want)
		}
	}
	for _, p := range all {
		if p.s.Len() != len(p.m) {
			t.Fatalf("%d objects, want %d", p.s.Len(), len(p.m))
		}
		keys := slices.SortedFunc(maps.Keys(p.m), Key.Compare)
		for o := range p.s.All() {
			if o != p.m[keys[0]] {
				t.Fatalf("%s, want %s", o, p.m[keys[0]])
			}
			keys = keys[1:]
		}
		ups := 0
		for o := range p.s.AllOf(KindUp) {
			if got, ok := p.s.Object(o.Key()); !ok || got != o {
				t.Fatalf("%s is not found", o)
			}
			ups++
		}
		if ups != p.s.Count(KindUp) || ups+p.s.Count(KindTable) != p.s.Len() {
			t.Fatalf("%d of %d objects", ups, p.s.Len())
		}
	}
}

// TestOneOfMany: to change one of many objects, and to see that, touches the few above it.
func TestOneOfMany(t *testing.T) {
	var s State
	for i := range 20000 {
		s.Put(Up{fmt.Sprint(i)})
	}
	other := s
	other.Put(Up{"x"})
	looked := 0
	part(s.objects, other.objects, func(Key, Object, Object) { looked++ })
	if looked > 100 {
		t.Errorf("%d of 20000 objects looked at for one that is new", looked)
	}
	if depth := s.objects.depth(); depth > 60 {
		t.Errorf("the tree of 20000 is %d deep", depth)
	}
}

func (t *tree) depth() int {
	if t == nil {
		return 0
	}
	return 1 + max(t.left.depth(), t.right.depth())
}

// TestWhatStirs: nothing stands on kinds of which Diff takes that for granted.
func TestWhatStirs(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	for range 200 {
		for o := range random(r).All() {
			for _, k := range o.requires() {
				switch k.Kind {
				case KindTable, KindInterface, KindACLBinding, KindAddress, KindACL:
				default:
					t.Fatalf("%s requires %s", o, k)
				}
			}
		}
	}
}
