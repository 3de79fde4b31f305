package policy

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/millrace/millrace/dataplane"
)

// few has addresses of a small part of both families, so that prefixes meet.
type few struct{ *rand.Rand }

func (f few) prefix() netip.Prefix {
	if f.IntN(3) == 0 {
		a := netip.MustParseAddr("fd00::").As16()
		a[15] = byte(f.IntN(32))
		return netip.PrefixFrom(netip.AddrFrom16(a), 123+f.IntN(6)).Masked()
	}
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(f.IntN(32))}), 27+f.IntN(6)).Masked()
}

func (f few) prefixes(most int) []netip.Prefix {
	list := make([]netip.Prefix, f.IntN(most+1))
	for i := range list {
		list[i] = f.prefix()
	}
	return list
}

// all are the addresses that prefixes of few can hold.
func (f few) all() (list []netip.Addr) {
	for i := range 32 {
		six := netip.MustParseAddr("fd00::").As16()
		six[15] = byte(i)
		list = append(list, netip.AddrFrom4([4]byte{10, 0, 0, byte(i)}), netip.AddrFrom16(six))
	}
	return list
}

func inAny[S ~[]netip.Prefix](list S, a netip.Addr) bool {
	return slices.ContainsFunc(list, func(p netip.Prefix) bool { return p.Contains(a) })
}

// isCover checks the form that makes a cover the least one.
func isCover(t *testing.T, c cover) {
	t.Helper()
	for i := range c {
		if i == 0 {
			continue
		}
		if c[i-1].Compare(c[i]) >= 0 || holds(c[i-1], c[i]) || halves(c[i-1], c[i]) {
			t.Fatalf("%s: %s and %s do not follow each other in a cover", c, c[i-1], c[i])
		}
	}
}

func TestCovers(t *testing.T) {
	f := few{rand.New(rand.NewPCG(4, 4))}
	for range 3000 {
		a, b := f.prefixes(6), f.prefixes(6)
		ca, cb := minimise(slices.Clone(a)), minimise(slices.Clone(b))
		both, either := intersect(ca, cb), union(ca, cb)
		if ca.overlaps(cb) != (len(both) > 0) {
			t.Fatalf("%v and %v overlap: %t", ca, cb, ca.overlaps(cb))
		}
		whole, holes := f.prefix(), f.prefixes(3)
		rest := without(whole, holes)
		for _, c := range []cover{ca, cb, both, either, rest} {
			isCover(t, c)
		}
		for _, x := range f.all() {
			inA, inB := inAny(a, x), inAny(b, x)
			if inAny(ca, x) != inA || inAny(both, x) != (inA && inB) || inAny(either, x) != (inA || inB) {
				t.Fatalf("%s of %v and %v: covers %v and %v, both %v, either %v", x, a, b, ca, cb, both, either)
			}
			if got, want := inAny(rest, x), whole.Contains(x) && !inAny(holes, x); got != want {
				t.Fatalf("%s in %s without %v: %t, want %t: %v", x, whole, holes, got, want, rest)
			}
		}
	}
}

// TestAddresses: a set that pods come to and leave is one that was made of those left.
func TestAddresses(t *testing.T) {
	f := few{rand.New(rand.NewPCG(5, 5))}
	for range 300 {
		var s addresses
		var left []netip.Addr
		all := f.all()
		for range f.IntN(60) {
			if len(left) > 0 && f.IntN(3) == 0 {
				i := f.IntN(len(left))
				s.remove(left[i : i+1])
				left = slices.Delete(left, i, i+1)
			} else {
				a := all[f.IntN(len(all))] // twice, too
				s.add([]netip.Addr{a})
				left = append(left, a)
			}
			if f.IntN(4) == 0 {
				s.cover()
			}
		}
		var want []netip.Prefix
		for _, a := range left {
			want = append(want, single(a))
		}
		if got, want := s.cover(), minimise(want); !slices.Equal(got, want) || s.empty() != (len(left) == 0) {
			t.Fatalf("cover %v, want %v", got, want)
		}
	}
}

// TestSplitEverywhere: halves of all lengths, in both families.
func TestSplitEverywhere(t *testing.T) {
	for _, text := range []string{"255.255.255.255", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "0.0.0.0", "::"} {
		a := netip.MustParseAddr(text)
		for bits := range a.BitLen() {
			p := netip.PrefixFrom(a, bits).Masked()
			low, high := split(p)
			if !halves(low, high) || parent(low) != p || parent(high) != p || low.Masked() != low || high.Masked() != high {
				t.Fatalf("%s splits into %s and %s", p, low, high)
			}
		}
		hole := netip.PrefixFrom(a, a.BitLen())
		rest := without(netip.PrefixFrom(a, 0).Masked(), []netip.Prefix{hole})
		if len(rest) != a.BitLen() || !slices.Equal(minimise(append(slices.Clone(rest), hole)), cover{netip.PrefixFrom(a, 0).Masked()}) {
			t.Fatalf("all but %s: %v", hole, rest)
		}
	}
}

func TestSpans(t *testing.T) {
	r := rand.New(rand.NewPCG(6, 6))
	draw := func() (list []span) {
		for range r.IntN(5) {
			first := uint16(r.IntN(12))
			s := span{[]uint8{tcp, udp, sctp}[r.IntN(3)], dataplane.Ports{First: first, Last: first + uint16(r.IntN(4))}}
			if r.IntN(20) == 0 {
				s = everything()[0]
			}
			if r.IntN(10) == 0 {
				s.ports.Last = 65535
			}
			list = append(list, s)
		}
		return list
	}
	has := func(list []span, protocol uint8, port uint16) bool {
		return spansHold(list, span{protocol, dataplane.Ports{First: port, Last: port}})
	}
	for range 5000 {
		a, b := draw(), draw()
		ma, mb := mergeSpans(slices.Clone(a)), mergeSpans(slices.Clone(b))
		both := intersectSpans(ma, mb)
		for i, s := range ma {
			if i > 0 && ma[i-1].protocol == s.protocol && int(ma[i-1].ports.Last)+1 >= int(s.ports.First) {
				t.Fatalf("%v merge to %v", a, ma)
			}
		}
		for _, protocol := range []uint8{tcp, udp, sctp, 47} {
			for _, port := range []uint16{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 65534, 65535} {
				inA, inB := has(a, protocol, port), has(b, protocol, port)
				if has(ma, protocol, port) != inA || has(both, protocol, port) != (inA && inB) {
					t.Fatalf("%d/%d in %v and %v: merged %v, both %v", port, protocol, a, b, ma, both)
				}
			}
		}
	}
}

// TestNames: names fit, can stand in a tag, and differ.
func TestNames(t *testing.T) {
	seen := map[string]string{}
	long := strings.Repeat("a", 63)
	for _, head := range []string{"policy/a/b", "policy/a/B_", "policy/a/ü", "policy/" + long + "/x", "policy/" + long + "/y"} {
		for i := range 30 {
			tail := fmt.Sprintf("ingress/%d/pass", i)
			name := aclName(head, tail, hashText(head, tail))
			if err := dataplane.Check(dataplane.ACL{Name: name}); err != nil {
				t.Error(err)
			}
			if other, twice := seen[name]; twice {
				t.Errorf("%s and %s %s are both called %s", other, head, tail, name)
			}
			seen[name] = head + " " + tail
		}
	}
	if a, b := hashText("ab", "c"), hashText("a", "bc"); slices.Equal(a, b) {
		t.Error("parts of what is hashed run together")
	}
}

// TestBound: a product is written with as many rules as the bound asks for; what could be
// written with fewer has a lower one.
func TestBound(t *testing.T) {
	rules := func(texts ...term) []dataplane.Rule { return render(nil, Ingress, dataplane.PermitReflect, texts) }
	at := func(first, last uint16) span { return span{tcp, dataplane.Ports{First: first, Last: last}} }
	p := func(texts ...string) (c cover) {
		for _, text := range texts {
			c = append(c, netip.MustParsePrefix(text))
		}
		return c
	}
	for _, tt := range []struct {
		rules []dataplane.Rule
		least int
	}{
		{rules(term{p("10.0.0.0/31", "10.0.0.4/30", "fd00::/64"), []span{at(80, 80), at(90, 99)}}), 6},
		{rules(term{everyone(), everything()}), 2},
		{rules(term{p("10.0.0.0/32", "10.0.0.1/32"), []span{at(80, 80)}}), 1},
		{rules(term{p("10.0.0.0/32"), []span{at(80, 80), at(81, 85)}}), 1},
		{rules(term{p("10.0.0.0/32"), []span{at(80, 80)}}, term{p("10.0.0.0/31"), []span{at(81, 85)}}), 2},
		{rules(term{p("10.0.0.0/31"), []span{at(80, 80)}}, term{p("10.0.0.0/32"), []span{at(81, 85)}}), 1},
	} {
		if got := leastRules(tt.rules); got != tt.least || got > len(tt.rules) {
			t.Errorf("%v: at least %d, want %d", tt.rules, got, tt.least)
		}
	}
}
