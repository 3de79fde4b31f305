package vnet

import (
	"net/netip"
	"slices"
	"testing"
)

// TestSourcesOfAPrefixInOrder: whatever the order in which sources want a prefix, the
// lowest priority forwards, of equals the first made, and the next when that one goes.
func TestSourcesOfAPrefixInOrder(t *testing.T) {
	r := newRig(t, 1)
	add := func(name string, priority uint8) uint8 {
		t.Helper()
		id, err := r.p.AddSource(name, priority)
		r.must(err)
		return id
	}
	first, second := add("same", 0x81), add("same", 0x81)
	low, high, pathMTU := add("low", 0xff), add("high", 0), uint8(22)
	want := []uint8{high, pathMTU, SourceAPI, SourceCLI, first, second, low}
	prefix := netip.MustParsePrefix("20.0.0.0/8")
	edit := func(source uint8, e RouteEdit) {
		t.Helper()
		_, err := r.p.EditRoute(Route{Prefix: prefix, Source: source, Paths: []Path{{Type: PathDrop, Interface: NoIndex}}}, e)
		r.must(err)
	}
	for turn := range want {
		for n := range want {
			edit(want[(n+turn)%len(want)], RouteReplace)
		}
		var got []uint8
		for range want {
			for x := range r.p.Routes(Table{Family: IPv4}) {
				if x.Prefix == prefix {
					got = append(got, x.Source)
					edit(x.Source, RouteDelete)
				}
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("turn %d: sources %v, want %v", turn, got, want)
		}
	}
}
