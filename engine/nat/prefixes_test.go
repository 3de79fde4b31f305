package nat

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
)

func TestPrefixesAgreeWithAList(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 5))
	addr := func() netip.Addr {
		if r.IntN(2) == 0 {
			return netip.AddrFrom4([4]byte{10, byte(r.IntN(3)), byte(r.IntN(3)), byte(r.IntN(256))})
		}
		return netip.AddrFrom16([16]byte{0xfd, 14: byte(r.IntN(3)), 15: byte(r.IntN(256))})
	}
	for range 300 {
		var list []netip.Prefix
		for range r.IntN(30) {
			a := addr()
			list = append(list, netip.PrefixFrom(a, a.BitLen()-r.IntN(a.BitLen()/8)).Masked())
		}
		slices.SortFunc(list, netip.Prefix.Compare)
		set := NewPrefixes(list)
		for range 100 {
			a := addr()
			want := slices.ContainsFunc(list, func(p netip.Prefix) bool { return p.Contains(a) })
			if got := set.Has(a); got != want {
				t.Fatalf("%v has %v: %v, want %v", list, a, got, want)
			}
		}
	}
	if (Prefixes)(nil).Has(netip.MustParseAddr("10.0.0.1")) {
		t.Error("nothing has an address")
	}
	all := Prefixes{netip.MustParsePrefix("0.0.0.0/0")}
	if !all.Has(netip.MustParseAddr("255.255.255.255")) || all.Has(netip.MustParseAddr("::1")) {
		t.Error("all of IPv4 is not that")
	}
}

func BenchmarkPrefixes(b *testing.B) {
	var list []netip.Prefix
	for i := range 3000 {
		list = append(list, netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i >> 8), byte(i), 0}), 24))
	}
	set, a := NewPrefixes(list), netip.MustParseAddr("192.0.2.1")
	b.ReportAllocs()
	for b.Loop() {
		set.Has(a)
	}
}
