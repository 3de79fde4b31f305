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
			adj, leaf, ok := c.find(&k, k.hash(), generation)
			if want, put := known[k]; ok && (!put || want != answer{adj, leaf}) {
				t.Fatalf("%+v in generation %d: %d, %d, want %+v (put: %v)", k, generation, adj, leaf, want, put)
			}
			if !ok {
				known[k] = answer{uint32(step), r.Uint32()}
				c.put(&k, k.hash(), generation, known[k].adj, known[k].leaf)
			}
		}
		lost := [2]int{}
		for k := range known {
			if _, _, ok := c.find(&k, k.hash(), generation); !ok {
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
		c.put(&k, k.hash(), 7, 1, 1)
		for _, generation := range []uint32{0, 6, 8} {
			if _, _, ok := c.find(&k, k.hash(), generation); ok {
				t.Errorf("%+v of generation 7 found in %d", k, generation)
			}
		}
	}
}
