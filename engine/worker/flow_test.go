package worker

import (
	"math/rand/v2"
	"testing"
)

// What the cache finds is what was put last for that flow in this generation; it may have
// forgotten, but seldom while there is room.
func TestFlowCacheAgainstMap(t *testing.T) {
	type answer struct{ adj, leaf uint32 }
	r := rand.New(rand.NewPCG(8, 8))
	c := newFlowCache()
	anyKey := func() flowKey {
		k := flowKey{a: uint64(r.IntN(1000)), e: uint64(r.IntN(40)), f: uint32(r.IntN(2))}
		if r.IntN(2) == 0 {
			k.b, k.c, k.d, k.f = uint64(r.IntN(2)), uint64(r.IntN(2)), uint64(r.IntN(2)), k.f|keyV6
		}
		return k
	}
	for generation := uint32(1); generation < 5; generation++ {
		known := map[flowKey]answer{}
		for step := range 60000 {
			k := anyKey()
			s := c.find(&k, k.hash(), generation)
			if want, put := known[k]; s != nil && (!put || want != answer{s.adj, s.leaf}) {
				t.Fatalf("%+v in generation %d: %+v, want %+v (put: %v)", k, generation, *s, want, put)
			}
			if s == nil {
				known[k] = answer{uint32(step), r.Uint32()}
				s = c.put(&k, k.hash(), flowState{generation: generation, adj: known[k].adj, leaf: known[k].leaf})
				*c.passOf(&k, k.hash(), s) = pass{inRule: uint32(step)}
			} else if p := c.passOf(&k, k.hash(), s); p.inRule != s.adj {
				t.Fatalf("%+v in generation %d: let through by %+v, want %d", k, generation, *p, s.adj)
			}
		}
		lost := [2]int{}
		for k := range known {
			if c.find(&k, k.hash(), generation) == nil {
				lost[k.f>>8&1]++
			}
		}
		if lost[0] > len(known)/1000 || lost[1] > len(known)/5 {
			t.Errorf("forgot %d IPv4 and %d IPv6 flows of %d", lost[0], lost[1], len(known))
		}
	}
}

// Whoever holds an answer must not hold that of another generation, whatever its number.
func TestFlowCacheForgetsWithTheGeneration(t *testing.T) {
	c := newFlowCache()
	for _, k := range []flowKey{{a: 1}, {a: 1, f: keyV6}} {
		c.put(&k, k.hash(), flowState{generation: 7, adj: 1, leaf: 1})
		for _, generation := range []uint32{0, 6, 8} {
			if c.find(&k, k.hash(), generation) != nil {
				t.Errorf("%+v of generation 7 found in %d", k, generation)
			}
		}
	}
}

// Flows that fill less than half of the cache have their place in it, all but a few.
func TestFlowCacheHasRoom(t *testing.T) {
	r := rand.New(rand.NewPCG(9, 9))
	c := newFlowCache()
	keys := make([]flowKey, 100000)
	for i := range keys {
		keys[i] = flowKey{a: r.Uint64(), e: 1<<32 | uint64(r.Uint32()), f: 6}
	}
	missing := 0
	for round := range 6 {
		missing = 0
		for i := range keys {
			if k := &keys[i]; c.find(k, k.hash(), 1) == nil {
				missing++
				s := c.put(k, k.hash(), flowState{generation: 1, adj: uint32(i) << flowBits})
				*c.passOf(k, k.hash(), s) = pass{inRule: uint32(i)}
			} else if s := c.find(k, k.hash(), 1); s.adj>>flowBits != uint32(i) || c.passOf(k, k.hash(), s).inRule != uint32(i) {
				t.Fatalf("flow %d in round %d is known as %d, let through by %d", i, round, s.adj>>flowBits, c.passOf(k, k.hash(), s).inRule)
			}
		}
	}
	if missing > len(keys)/10000 {
		t.Errorf("%d flows of %d push each other out", missing, len(keys))
	}
}
