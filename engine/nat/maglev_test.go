package nat

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
)

func backendsOf(n int) []netip.AddrPort {
	all := make([]netip.AddrPort, n)
	for i := range all {
		a := netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)})
		if i%2 != 0 {
			a = netip.AddrFrom16([16]byte{0xfd, 14: byte(i >> 8), 15: byte(i)})
		}
		all[i] = netip.AddrPortFrom(a, 8080)
	}
	return all
}

// owners is whom each place belongs to.
func owners(backends []netip.AddrPort) []netip.AddrPort {
	var out []netip.AddrPort
	for _, i := range Maglev(backends, MaglevSize) {
		out = append(out, backends[i])
	}
	return out
}

func TestMaglevIsFair(t *testing.T) {
	for _, n := range []int{1, 2, 3, 10, 100} {
		count := map[netip.AddrPort]int{}
		for _, b := range owners(backendsOf(n)) {
			count[b]++
		}
		for b, places := range count {
			// Backends take places in turn: none has two more than another.
			if places < MaglevSize/n || places > MaglevSize/n+1 {
				t.Errorf("%d backends: %v has %d places of %d", n, b, places, MaglevSize)
			}
		}
		if len(count) != n {
			t.Errorf("%d backends: %d have places", n, len(count))
		}
	}
	if places := Maglev(nil, MaglevSize); places != nil {
		t.Errorf("places of nobody: %v", places)
	}
}

func TestMaglevForgetsOrder(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	all := backendsOf(20)
	want := owners(all)
	for range 20 {
		r.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
		if !slices.Equal(owners(all), want) {
			t.Fatal("another order, another table")
		}
	}
}

// TestMaglevDisturbsFew: of the places of backends that stay, few go to another.
func TestMaglevDisturbsFew(t *testing.T) {
	all := backendsOf(20)
	before := owners(all)
	for gone := range all {
		after := owners(slices.Delete(slices.Clone(all), gone, gone+1))
		moved := 0
		for i := range before {
			if before[i] != all[gone] && before[i] != after[i] {
				moved++
			}
			if after[i] == all[gone] {
				t.Fatal("who is gone has a place")
			}
		}
		if moved > MaglevSize/5 {
			t.Errorf("without backend %d, %d of %d places moved", gone, moved, MaglevSize)
		}
	}
}

func TestMaglevOfTwins(t *testing.T) {
	b := backendsOf(2)
	count := map[netip.AddrPort]int{}
	for _, o := range owners([]netip.AddrPort{b[0], b[0], b[1]}) {
		count[o]++
	}
	if count[b[0]] < 670 || count[b[0]] > 674 {
		t.Errorf("listed twice: %d of %d places", count[b[0]], MaglevSize)
	}
}
