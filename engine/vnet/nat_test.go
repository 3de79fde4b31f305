package vnet

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"github.com/millrace/millrace/engine/nat"
	"github.com/millrace/millrace/engine/port/pipe"
)

func at(addr string, port uint16) NATEndpoint {
	a := netip.MustParseAddr(addr)
	return NATEndpoint{Addr: a, Interface: NoIndex, Family: familyOf(a), Port: port}
}

// byInterface is an endpoint that an interface decides about.
func byInterface(index uint32, f Family, port uint16) NATEndpoint {
	return NATEndpoint{Interface: index, Family: f, Port: port}
}

// tcpTo is a translation of TCP to some backends.
func tcpTo(vip NATEndpoint, backends ...NATEndpoint) Translation {
	t := Translation{VIP: vip, Protocol: 6, LB: LBMaglev}
	none := at("0.0.0.0", 0)
	for _, b := range backends {
		t.Paths = append(t.Paths, NATPath{Dst: b, Src: none})
	}
	return t
}

func (r *rig) update(t Translation) uint32 {
	r.Helper()
	id, err := r.p.UpdateTranslation(t)
	r.must(err)
	return id
}

// found is what workers find of TCP to an address and port: id and backends.
func (r *rig) found(addr string, port uint16) string {
	r.Helper()
	r.p.mu.Lock()
	defer r.p.mu.Unlock()
	x := r.p.nat.tables.Find(netip.MustParseAddr(addr), port, 6)
	if x == nil {
		return "nothing"
	}
	text := fmt.Sprint(x.ID, ":")
	for _, b := range x.Backends {
		text += " " + b.Dst.String()
	}
	return text
}

func (r *rig) checkFound(addr string, port uint16, want string) {
	r.Helper()
	if got := r.found(addr, port); got != want {
		r.Errorf("%s port %d: %s, want %s", addr, port, got, want)
	}
}

func TestTranslationsFollowInterfaces(t *testing.T) {
	r := newRig(t, 1)
	a, b := r.eth(), r.eth("10.0.2.1/24")
	vip := r.update(tcpTo(byInterface(a.index, IPv4, 80), at("10.0.9.9", 8080)))
	to := r.update(tcpTo(at("10.96.0.1", 80), byInterface(b.index, IPv4, 8080), at("10.0.9.9", 8080)))
	r.checkFound("10.0.1.1", 80, "nothing")
	r.checkFound("10.96.0.1", 80, "1: 10.0.2.1:8080 10.0.9.9:8080")
	if id := r.update(tcpTo(byInterface(a.index, IPv4, 80), at("10.0.9.8", 8080))); id != vip {
		t.Errorf("the same VIP again is %d, was %d", id, vip)
	}
	r.must(r.p.AddAddress(a.index, pfx("10.0.1.1/24")))
	r.must(r.p.AddAddress(a.index, pfx("10.0.3.1/24")))
	r.checkFound("10.0.1.1", 80, "0: 10.0.9.8:8080")
	r.must(r.p.DelAddress(b.index, pfx("10.0.2.1/24")))
	r.checkFound("10.96.0.1", 80, "1: 10.0.9.9:8080")
	r.must(r.p.DelAddress(a.index, pfx("10.0.1.1/24")))
	r.checkFound("10.0.1.1", 80, "nothing")
	r.checkFound("10.0.3.1", 80, "0: 10.0.9.8:8080")

	// What borrows an address has it.
	r.must(r.p.SetUnnumbered(b.index, a.index, true))
	r.checkFound("10.96.0.1", 80, "1: 10.0.3.1:8080 10.0.9.9:8080")
	r.must(r.p.DeleteInterface(a.index))
	r.checkFound("10.0.3.1", 80, "nothing")
	r.checkFound("10.96.0.1", 80, "1: 10.0.9.9:8080")
	r.must(r.p.DeleteTranslation(to))
	r.must(r.p.DeleteTranslation(vip))
	if n := r.p.nat.tables.Len(); n != 0 {
		t.Errorf("%d translations are left to workers", n)
	}
}

// An address that two translations come to have stays the first one's until it gives up.
func TestTranslationsOfOneAddress(t *testing.T) {
	r := newRig(t, 1)
	a := r.eth()
	first := r.update(tcpTo(at("10.0.1.1", 80), at("10.0.9.1", 1)))
	second := r.update(tcpTo(byInterface(a.index, IPv4, 80), at("10.0.9.2", 2)))
	r.must(r.p.AddAddress(a.index, pfx("10.0.1.1/24")))
	r.checkFound("10.0.1.1", 80, "0: 10.0.9.1:1")
	r.must(r.p.DeleteTranslation(first))
	r.checkFound("10.0.1.1", 80, "1: 10.0.9.2:2")
	if id := r.update(tcpTo(at("10.0.1.1", 80), at("10.0.9.3", 3))); id != second {
		t.Errorf("the address by itself is %d, want %d", id, second)
	}
	r.checkFound("10.0.1.1", 80, "1: 10.0.9.3:3")
}

func TestVIPsAreNobodysElse(t *testing.T) {
	r := newRig(t, 1)
	route := func() (out []Path) {
		for x := range r.p.Routes(Table{Family: IPv4}) {
			if x.Prefix == pfx("10.96.0.1/32") {
				out = x.Paths
			}
		}
		return out
	}
	api := []Path{{Type: PathUnreachable, Interface: NoIndex, Weight: 1}}
	_, err := r.p.EditRoute(Route{Prefix: pfx("10.96.0.1/32"), Paths: api}, RouteReplace)
	r.must(err)
	nowhere := []Path{{Interface: NoIndex, Weight: 1}}
	a, b := tcpTo(at("10.96.0.1", 80), at("10.0.9.1", 1)), tcpTo(at("10.96.0.1", 81), at("10.0.9.1", 1))
	b.RealIP = true
	r.update(b)
	if got := route(); !slices.Equal(got, api) {
		t.Errorf("route of an address that is also somebody's own: %v", got)
	}
	id := r.update(a)
	for range 2 {
		if got := route(); !slices.Equal(got, nowhere) {
			t.Errorf("route of a VIP: %v", got)
		}
		r.update(a)
	}
	r.must(r.p.DeleteTranslation(id))
	if got := route(); !slices.Equal(got, api) {
		t.Errorf("route of what was a VIP: %v", got)
	}
}

func TestTranslationsHaveLimits(t *testing.T) {
	r := newRig(t, 1)
	want(t, "no paths", second(r.p.UpdateTranslation(tcpTo(at("10.96.0.1", 80)))), -7)
	want(t, "too many paths", second(r.p.UpdateTranslation(Translation{VIP: at("10.96.0.1", 80), Paths: make([]NATPath, MaxPaths+1)})), -7)
	backend := at("10.0.9.1", 1)
	// Routes end first: the rig has room for fewer.
	last, n := Translation{}, 0
	for ; ; n++ {
		last = tcpTo(at(addrOf(0x0a600000+uint32(n)).String(), 80), backend)
		if _, err := r.p.UpdateTranslation(last); err != nil {
			want(t, "no room for a route", err, -162)
			break
		}
	}
	if got := len(slices.Collect(r.p.Translations())); got != n {
		t.Errorf("%d translations after %d", got, n)
	}
	last.RealIP = true
	for range len(r.p.cfg.Counters[0].Translations) - n {
		r.update(last)
		last.VIP.Port++
	}
	want(t, "no counter", second(r.p.UpdateTranslation(last)), -162)
}

func second[T any](_ T, err error) error { return err }

func TestNATFeaturesAreCounted(t *testing.T) {
	r := newRig(t, 1)
	a := r.link(pipe.Config{})
	is := func() (all []bool) {
		v := r.p.published[a.index]
		return []bool{v.NATIn4, v.NATIn6, v.NATOut4, v.NATOut6}
	}
	for n, step := range []struct {
		f         Family
		input, on bool
		want      []bool
	}{
		{IPv4, true, true, []bool{true, false, false, false}},
		{IPv6, true, true, []bool{true, true, false, false}},
		{IPv4, false, true, []bool{true, true, true, false}},
		{IPv6, false, true, []bool{true, true, true, true}},
		{IPv4, true, true, []bool{true, true, true, true}},
		{IPv4, true, false, []bool{true, true, true, true}},
		{IPv4, true, false, []bool{false, true, true, true}},
		{IPv4, true, false, []bool{false, true, true, true}},
		{IPv4, true, true, []bool{true, true, true, true}},
	} {
		r.must(r.p.SetNAT(a.index, step.f, step.input, step.on))
		if got := is(); !slices.Equal(got, step.want) {
			t.Errorf("after step %d: %v, want %v", n, got, step.want)
		}
	}
	for _, set := range []NATSet{NATInclude4, NATInclude6, NATPods, NATHosts} {
		r.must(r.p.SetNATInterface(a.index, set, true))
	}
	r.must(r.p.DeleteInterface(a.index))
	next := r.link(pipe.Config{})
	if next.index != a.index || slices.Contains(is(), true) {
		t.Errorf("interface %d, which had the index %d of another, translates: %v", next.index, a.index, is())
	}
	p := r.p.NATPolicy()
	for _, set := range []nat.Interfaces{p.Include4, p.Include6, p.Pods, p.Host} {
		if set.Has(next.index) {
			t.Error("a set still has the index of a deleted interface")
		}
	}
}

func TestNATSourceFollowsInterface(t *testing.T) {
	r := newRig(t, 1)
	a := r.eth()
	given := netip.MustParseAddr("192.0.2.1")
	r.must(r.p.SetNATSource(NATSource{IPv4: given, Interface: a.index}))
	check := func(want string) {
		t.Helper()
		if got := r.p.NATSource().IPv4; got.String() != want {
			t.Errorf("source %v, want %s", got, want)
		}
	}
	check("192.0.2.1")
	r.must(r.p.AddAddress(a.index, pfx("10.0.1.1/24")))
	r.must(r.p.AddAddress(a.index, pfx("10.0.2.1/24")))
	check("10.0.1.1")
	r.must(r.p.DelAddress(a.index, pfx("10.0.1.1/24")))
	check("10.0.2.1")
	r.must(r.p.DelAddress(a.index, pfx("10.0.2.1/24")))
	check("192.0.2.1")
}

// 10,000 services of 10 backends: one of them edited.
func BenchmarkUpdateTranslation(b *testing.B) {
	p, err := New(Config{Counters: []Counters{{Translations: make([]Combined, 20000)}, {Translations: make([]Combined, 20000)}}})
	if err != nil {
		b.Fatal(err)
	}
	service := func(n, backends int) Translation {
		var to []NATEndpoint
		for i := range backends {
			to = append(to, at(addrOf(0x0a000000+uint32(n*16+i)).String(), 8080))
		}
		t := tcpTo(at(addrOf(0x0a600000+uint32(n)).String(), 80), to...)
		t.RealIP = true
		return t
	}
	for n := range 10000 {
		if _, err := p.UpdateTranslation(service(n, 10)); err != nil {
			b.Fatal(err)
		}
	}
	for n := 0; b.Loop(); n++ {
		if _, err := p.UpdateTranslation(service(n%10000, 11)); err != nil {
			b.Fatal(err)
		}
	}
}

func TestNATExcluded(t *testing.T) {
	r := newRig(t, 1)
	for _, x := range []string{"10.1.0.0/16", "10.0.0.0/8", "fd00::/16", "10.1.2.3/16"} {
		r.must(r.p.AddNATExcluded(pfx(x)))
	}
	inner, outer := netip.MustParseAddr("10.1.9.9"), netip.MustParseAddr("10.2.0.1")
	has := func(a netip.Addr) bool { return r.p.NATPolicy().Excluded.Has(a) }
	if !has(inner) || !has(outer) || len(r.p.NATExcluded()) != 3 {
		t.Errorf("excluded are %v", r.p.NATExcluded())
	}
	r.must(r.p.DelNATExcluded(pfx("10.0.0.0/8")))
	if !has(inner) || has(outer) {
		t.Errorf("without 10.0.0.0/8: %v", r.p.NATPolicy().Excluded)
	}
	want(t, "deleted again", r.p.DelNATExcluded(pfx("10.0.0.0/8")), 1)
	want(t, "not a prefix", r.p.AddNATExcluded(netip.Prefix{}), -171)
}
