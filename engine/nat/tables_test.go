package nat

import (
	"math/rand/v2"
	"net/netip"
	"testing"
)

// translationOf is one of many, told apart by n.
func translationOf(n, backends int) *Translation {
	k := Endpoint{netip.AddrFrom4([4]byte{10, 96, byte(n >> 8), byte(n)}), 80, 6}
	if n%3 == 1 {
		k.Addr = netip.AddrFrom16([16]byte{0xfd, 14: byte(n >> 8), 15: byte(n)})
	}
	if n%3 == 2 {
		k = Endpoint{netip.AddrFrom4([4]byte{192, 0, 2, 1}), uint16(1000 + n), 17}
	}
	t := Translation{Endpoint: k, ID: uint32(n), Maglev: true, RealIP: n%3 == 2}
	for i := range backends {
		t.Backends = append(t.Backends, Backend{Dst: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, byte(n), byte(n >> 8), byte(i)}), 8080)})
	}
	return NewTranslation(t)
}

func TestTablesAgreeWithAMap(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 3))
	tables, model := &Tables{}, map[Endpoint]*Translation{}
	type moment struct {
		tables *Tables
		find   Endpoint
		want   *Translation
	}
	var earlier []moment
	for range 20000 {
		x := translationOf(r.IntN(3000), 1)
		if r.IntN(3) > 0 {
			tables, model[x.Endpoint] = tables.With(x), x
		} else {
			tables = tables.Without(x.Endpoint)
			delete(model, x.Endpoint)
		}
		k := translationOf(r.IntN(3000), 0).Endpoint
		earlier = append(earlier, moment{tables, k, model[k]})
		checkTables(t, tables, model, k)
	}
	for _, m := range earlier {
		if got := m.tables.Find(m.find.Addr, m.find.Port, m.find.Protocol); got != m.want {
			t.Fatalf("an edit changed tables of before: %v is %v, was %v", m.find, got, m.want)
		}
	}
	for k := range model {
		tables = tables.Without(k)
	}
	if has, _ := tables.VIP(netip.MustParseAddr("192.0.2.1")); tables.Len() != 0 || has {
		t.Errorf("%d translations left, of 192.0.2.1: %v", tables.Len(), has)
	}
}

func checkTables(t *testing.T, tables *Tables, model map[Endpoint]*Translation, k Endpoint) {
	t.Helper()
	if got := tables.Find(k.Addr, k.Port, k.Protocol); got != model[k] || tables.Len() != len(model) {
		t.Fatalf("%v is %v, want %v; %d of %d", k, got, model[k], tables.Len(), len(model))
	}
	if has, only := tables.VIP(k.Addr); k.Port == 80 && (has != (model[k] != nil) || only != has) {
		t.Fatalf("%v is a VIP: %v, only: %v", k.Addr, has, only)
	}
}

func TestVIPOfSeveralTranslations(t *testing.T) {
	a := netip.MustParseAddr("192.0.2.1")
	tables := &Tables{}
	for _, step := range []struct {
		port             uint16
		real, del        bool
		wantHas, wantAll bool
	}{
		{port: 1, real: true, wantHas: true},
		{port: 2, wantHas: true, wantAll: true},
		{port: 2, real: true, wantHas: true},
		{port: 2, wantHas: true, wantAll: true},
		{port: 2, del: true, wantHas: true},
		{port: 2, del: true, wantHas: true},
		{port: 1, del: true},
	} {
		k := Endpoint{a, step.port, 6}
		if step.del {
			tables = tables.Without(k)
		} else {
			tables = tables.With(NewTranslation(Translation{Endpoint: k, RealIP: step.real}))
		}
		if has, only := tables.VIP(a); has != step.wantHas || only != step.wantAll {
			t.Errorf("after %+v: has %v, only %v", step, has, only)
		}
	}
}

func TestPickAndAlive(t *testing.T) {
	for _, maglev := range []bool{false, true} {
		for _, n := range []int{0, 1, 3, 150, 1500} {
			x := translationOf(7, 0)
			x.Maglev = maglev
			for _, b := range backendsOf(n) {
				x.Backends = append(x.Backends, Backend{Dst: b})
			}
			x = NewTranslation(*x)
			seen := map[netip.AddrPort]int{}
			for h := range uint32(100 * n) {
				b := x.Pick(h)
				if !x.Alive(b.Dst) {
					t.Fatalf("%v is picked, but not alive", b.Dst)
				}
				seen[b.Dst]++
			}
			if len(seen) != n || n == 0 && x.Pick(5) != nil {
				t.Errorf("maglev %v: %d of %d backends are picked", maglev, len(seen), n)
			}
			if x.Alive(netip.MustParseAddrPort("10.0.0.0:8081")) {
				t.Error("another port is alive")
			}
		}
	}
}

func TestLookupDoesNotAllocate(t *testing.T) {
	tables, translations := &Tables{}, someTranslations()
	for _, x := range translations {
		tables = tables.With(x)
	}
	var found *Translation
	i := 0
	if n := testing.AllocsPerRun(1000, func() {
		x := translations[i%len(translations)]
		found = tables.Find(x.Addr, x.Port, x.Protocol)
		tables.VIP(x.Addr)
		found.Alive(found.Pick(uint32(i)).Dst)
		i++
	}); n != 0 {
		t.Errorf("%v allocations per lookup", n)
	}
}

// someTranslations are the first of those that translationOf tells apart.
func someTranslations() (all []*Translation) {
	for i := range 1000 {
		all = append(all, translationOf(i, 10))
	}
	return all
}

// 10,000 services of 10 backends: built, one of them edited, looked up.
func BenchmarkTables(b *testing.B) {
	full, translations := &Tables{}, someTranslations()
	for i := range 10000 {
		full = full.With(translationOf(i, 10))
	}
	b.Run("build", func(b *testing.B) {
		for b.Loop() {
			t := &Tables{}
			for i := range 10000 {
				t = t.With(translationOf(i, 10))
			}
		}
	})
	b.Run("edit", func(b *testing.B) {
		for i := 0; b.Loop(); i++ {
			full.With(translationOf(i%10000, 11))
		}
	})
	b.Run("edit without Maglev", func(b *testing.B) {
		x := translationOf(500, 11)
		for b.Loop() {
			full.With(x)
		}
	})
	b.Run("find", func(b *testing.B) {
		for i := 0; b.Loop(); i++ {
			x := translations[i%len(translations)]
			full.Find(x.Addr, x.Port, x.Protocol)
		}
	})
	b.Run("find nothing", func(b *testing.B) {
		for i := 0; b.Loop(); i++ {
			full.Find(translations[i%len(translations)].Addr, 81, 6)
		}
	})
}
