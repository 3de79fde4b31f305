package dataplane

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/millrace/millrace/internal/secret"
)

func TestDiff(t *testing.T) {
	base := state(t, node(), pod("pod/a", "10.1.0.5"))
	with := func(f func(*State)) State {
		s := base
		f(&s)
		return s
	}
	a, _ := base.Object(InterfaceKey("pod/a"))
	tun := a.(Interface)
	tests := []struct {
		name string
		have State
		want State
	}{
		{"same", base, base},
		{"first-boot", State{}, base},
		{"all-gone", base, State{}},
		{"second-pod", base, state(t, node(), pod("pod/a", "10.1.0.5"), pod("pod/b", "10.1.0.6"))},
		{"mtu", base, with(func(s *State) { i := tun; i.MTU = 9000; s.Put(i) })},
		{"queues", base, with(func(s *State) {
			i, d := tun, tun.Device.(Tun)
			d.Queues = 2
			i.Device = d
			s.Put(i)
		})},
		{"lender-address", base, with(func(s *State) { s.Put(Address{"loop", prefix("fd01::1/128")}) })},
		{"first-policy", with(func(s *State) { guard(s, "policy/old") }), with(func(s *State) { guard(s, "policy/old", "policy/new") })},
		{"last-policy", with(func(s *State) { guard(s, "policy/old", "policy/new") }), with(func(s *State) { guard(s, "policy/new") })},
		{"uplink", base, state(t, node(), pod("pod/a", "10.1.0.5"), uplink())},
		{"uplink-driver", state(t, uplink()), state(t, changed(uplink(), func(i *Interface) {
			if i.Name == "uplink2" {
				i.Device = NIC{Driver: NICAFPacket, Port: "p-eth2", MAC: MAC{2}}
			}
		}))},
		{"path", base, with(func(s *State) {
			s.Put(Route{0, prefix("10.1.0.5/32"), []Path{{Interface: "pod/a", Via: addr("10.1.0.5")}}})
		})},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := Diff(tt.have, tt.want)
			golden(t, "plan-"+tt.name+".golden", p.String())
			walk(t, tt.have, tt.want, p)
			again, err := ParsePlan(p.String())
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(p.String(), again.String()); diff != "" {
				t.Errorf("read back: %s", diff)
			}
		})
	}
}

func changed(list []Object, change func(*Interface)) []Object {
	for n, o := range list {
		if i, ok := o.(Interface); ok {
			change(&i)
			list[n] = i
		}
	}
	return list
}

// guard binds pod/a to ACLs of those names.
func guard(s *State, names ...string) {
	for i, n := range names {
		s.Put(ACL{n, []Rule{{
			Action: PermitReflect, Src: prefix("10.1.0.0/16"), Dst: prefix("0.0.0.0/0"), Protocol: 6,
			SrcPorts: AnyPorts(), DstPorts: Ports{80, 80 + uint16(i)},
		}}})
	}
	s.Put(ACLBinding{"pod/a", names, names[:1]})
}

// walk runs a plan step by step and checks the law of order at each.
func walk(t *testing.T, have, want State, p Plan) State {
	t.Helper()
	s := have
	var opened []string
	for _, step := range p {
		_, there := s.Object(step.Object.Key())
		if there == (step.Verb == Create) {
			t.Fatalf("%s while it is there: %t", step, there)
		}
		if step.Verb == Delete {
			for o := range s.All() {
				if slices.Contains(o.requires(), step.Object.Key()) {
					t.Fatalf("%s while %s requires it", step, o.Key())
				}
			}
		}
		if _, ok := step.Object.(ACLBinding); ok && step.Verb == Create && slices.Contains(opened, step.Object.Key().Name) {
			t.Fatalf("%s after its interface was opened", step)
		}
		if u, ok := step.Object.(Up); ok && step.Verb == Create {
			opened = append(opened, u.Interface)
		}
		if a, ok := step.Object.(Address); ok {
			for o := range s.All() {
				if slices.Contains(o.requires(), addressesOf(a.Interface)) {
					t.Fatalf("%s while %s borrows", step, o.Key())
				}
			}
		}
		if step.Verb == Update && !step.Object.becomes(step.Was) {
			t.Fatalf("%s in place", step)
		}
		s.Apply(step)
		if err := s.checkReferences(); err != nil {
			t.Fatalf("after %s: %v", step, err)
		}
	}
	if !s.Equal(want) {
		t.Fatalf("the plan\n%sleads to\n%swant\n%s", p, s, want)
	}
	return s
}

// random makes a State of a few names, so that two of them overlap.
func random(r *rand.Rand) State {
	var s State
	chance := func(percent int) bool { return r.IntN(100) < percent }
	tables := map[uint32]bool{0: true}
	if chance(50) {
		tables[5] = true
		s.Put(Table{IPv4, 5, fmt.Sprint(r.IntN(2))})
		s.Put(Table{IPv6, 5, ""})
	}
	if chance(50) {
		s.Put(HostNAT{Masquerade: []netip.Prefix{prefix("10.1.0.0/16")}, Keep: []netip.Prefix{netip.PrefixFrom(addr("10.0.0.0"), 8+r.IntN(2))}})
	}
	var acls []string
	for _, n := range []string{"acl/a", "acl/b", "acl/c"} {
		if !chance(70) {
			continue
		}
		acls = append(acls, n)
		s.Put(ACL{n, []Rule{{
			Action: Action(r.IntN(3)), Src: prefix("10.0.0.0/8"), Dst: prefix("0.0.0.0/0"),
			Protocol: 6, SrcPorts: AnyPorts(), DstPorts: Ports{80, 80 + uint16(r.IntN(2))},
		}}})
	}
	var names []string
	for _, n := range []string{"a", "b", "c", "d"} {
		if !chance(70) {
			continue
		}
		names = append(names, n)
		i := Interface{Name: n, MTU: 1500 + uint32(r.IntN(2)), RPF: RPF(r.IntN(3)), Device: Loopback{}}
		if tables[5] && chance(30) {
			i.Table = 5
		}
		if chance(50) {
			i.Device = Tun{HostName: "eth0", Queues: uint16(1 + r.IntN(2)), RxRing: 256, TxRing: 256}
			i.Host.MTU = uint32(r.IntN(2))
		}
		if chance(30) {
			link := memif().Device.(Memif)
			link.RxQueues = uint8(1 + r.IntN(2))
			link.Secret = secret.New("word", secret.Salt{byte(r.IntN(2))})
			if i.Device, i.Host = link, (HostSide{}); chance(50) {
				i.Device = link.sealed()
			}
		}
		s.Put(i)
		if chance(50) {
			s.Put(Up{n})
		}
		if len(acls) > 0 && chance(60) {
			first := r.IntN(len(acls))
			s.Put(ACLBinding{n, acls[:first], acls[first:]})
		}
	}
	if len(names) > 1 && chance(40) {
		s.Put(BondMember{Interface: names[0], Bond: names[1], LongTimeout: chance(50)})
	}
	if len(names) > 0 && chance(40) {
		s.Put(Interface{Name: "v", MTU: 1500, Device: VLAN{names[r.IntN(len(names))], uint16(1 + r.IntN(2))}})
		s.Put(Up{"v"})
	}
	if chance(60) {
		backends := endpoints("10.1.0.2:80", "10.1.0.3:80")
		s.Put(Translation{endpoint("10.96.0.1:80"), 6, backends[r.IntN(2):], chance(30)})
	}
	if chance(50) {
		s.Put(SourceNAT{IPv4: netip.AddrFrom4([4]byte{10, 1, 0, byte(1 + r.IntN(2))})})
	}
	for _, n := range names {
		other := names[r.IntN(len(names))]
		switch {
		case other != n && chance(40):
			s.Put(Unnumbered{n, other})
		case chance(60):
			s.Put(Address{n, netip.PrefixFrom(addr("10.0.0.1"), 24+r.IntN(3))})
		}
		if chance(40) {
			s.Put(Neighbor{Interface: n, Addr: addr("10.0.0.9"), MAC: MAC{2, 0, 0, 0, 0, byte(r.IntN(2))}, Attached: chance(30)})
		}
		if chance(30) {
			s.Put(ProxyARP{n})
		}
		if chance(50) {
			s.Put(NATInterface{n, NATSide(1 + r.IntN(4))})
			s.Put(NATKept{netip.PrefixFrom(addr("10.0.0.0"), 8+r.IntN(2))})
		}
		if chance(50) {
			s.Put(HostSetting{"net/ipv4/conf/" + n + "/rp_filter", fmt.Sprint(1 + r.IntN(2)), n})
		}
		if tables[5] && chance(30) {
			s.Put(ProxyRange{5, addr("10.0.0.1"), netip.AddrFrom4([4]byte{10, 0, 0, byte(2 + r.IntN(2))})})
		}
		for table := range tables {
			if chance(20) {
				s.Put(Route{table, prefix("10.3.0.0/16"), []Path{{End: EndLookup}}})
			}
			if chance(40) {
				paths := []Path{{Interface: n}}
				if other != n {
					paths = append(paths, Path{Interface: other, Weight: uint8(1 + r.IntN(2))})
				}
				s.Put(Route{table, prefix("10.2.0.0/16"), paths})
			}
		}
	}
	return s
}

// TestWalks goes through random States by different roads: straight, back, in halves,
// with steps left out, and twice to the same place.
func TestWalks(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 2000 {
		states := []State{{}, random(r), random(r), random(r)}
		for i := 1; i < len(states); i++ {
			from, to := states[i-1], states[i]
			walk(t, from, to, Diff(from, to))
			walk(t, to, from, Diff(to, from))
			if p := Diff(to, to); len(p) != 0 {
				t.Fatalf("nothing to do, and yet:\n%s", p)
			}
			// Interrupted anywhere, the next plan goes on from there.
			half := from
			p := Diff(from, to)
			for _, step := range p[:r.IntN(len(p)+1)] {
				half.Apply(step)
			}
			walk(t, half, to, Diff(half, to))
		}
		walk(t, states[0], states[3], Diff(states[0], states[3]))
		walk(t, states[1], states[3], Diff(states[1], states[3]))
	}
}

func TestParsePlanErrors(t *testing.T) {
	tests := []struct{ text, want string }{
		{"make up a", `verb "make"`},
		{"create", "want a verb and an object"},
		{"update up a", "lacks its from"},
		{"update up a\ncreate up b", "lacks its from"},
		{"from up a", "without an update"},
		{"update up a\n from up b", "two objects"},
		{"create address a 1.2.3.4/33", "line 1"},
	}
	for _, tt := range tests {
		_, err := ParsePlan(tt.text)
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("ParsePlan(%q) = %v, want an error with %q", tt.text, err, tt.want)
		}
	}
}

func FuzzParsePlan(f *testing.F) {
	f.Add(Diff(State{}, state(f, node(), pod("pod/a", "10.1.0.5"), veth())).String())
	f.Add("update up a\n  from up a\ndelete up a")
	f.Fuzz(func(t *testing.T, text string) {
		p, err := ParsePlan(text)
		if err != nil {
			return
		}
		again, err := ParsePlan(p.String())
		if err != nil {
			t.Fatalf("cannot read what was printed: %v\n%s", err, p)
		}
		if p.String() != again.String() {
			t.Fatalf("text is not stable:\n%s\n%s", p, again)
		}
	})
}

func BenchmarkDiff(b *testing.B) {
	var have, want State
	for i := range 250 {
		a := netip.AddrFrom4([4]byte{10, 1, 0, byte(i)})
		for _, o := range pod(fmt.Sprintf("pod/%d", i), a.String()) {
			want.Put(o)
			if i > 0 {
				have.Put(o)
			}
		}
	}
	for b.Loop() {
		Diff(have, want)
	}
}
