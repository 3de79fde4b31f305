package nat

import (
	"net/netip"
	"testing"
)

// Interfaces of the tests, and what they lead to.
const (
	podA, podB, uplink, other, host = 1, 70, 3, 4, 5
)

func TestPolicy(t *testing.T) {
	addr := netip.MustParseAddr
	var include, pods, hosts Interfaces
	include = include.With(podA, true).With(podB, true)
	pods = pods.With(podA, true).With(podB, true)
	hosts = hosts.With(host, true)
	base := Policy{Include4: include, Include6: include, Pods: pods, Host: hosts,
		Excluded: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd00::/16")},
		Source4:  addr("192.0.2.1"), Source6: addr("2001:db8::1")}
	for _, c := range []struct {
		name                 string
		src, dst             string
		in, out              uint32
		none, by, kubernetes bool
	}{
		{"a pod to outside", "10.0.0.1", "198.51.100.1", podA, uplink, true, true, true},
		{"a pod to outside, IPv6", "fd00::1", "2001:db8:1::1", podA, uplink, true, true, true},
		{"a pod to an excluded prefix", "10.0.0.1", "10.9.0.1", podA, uplink, true, false, false},
		{"a pod to another", "10.0.0.1", "10.0.0.2", podA, podB, true, false, false},
		{"a pod to itself", "10.0.0.1", "10.0.0.1", podA, podA, true, false, true},
		{"a pod to itself, IPv6", "fd00::1", "fd00::1", podA, podA, true, false, true},
		{"a pod to the host", "10.0.0.1", "198.51.100.1", podA, host, true, true, false},
		{"outside to a pod", "198.51.100.1", "10.0.0.1", uplink, podA, true, false, false},
		{"outside to outside", "198.51.100.1", "10.7.0.1", uplink, other, true, false, true},
		{"the node to outside", "192.0.2.1", "198.51.100.1", host, uplink, true, false, false},
		{"the host's other address to outside", "192.0.2.9", "198.51.100.1", host, uplink, true, false, true},
	} {
		for kind, want := range map[PolicyKind]bool{PolicyNone: c.none, PolicyInterfaces: c.by, PolicyKubernetes: c.kubernetes, 9: false} {
			p := base
			p.Kind = kind
			f := &Outgoing{Src: addr(c.src), Dst: addr(c.dst), In: c.in, Out: c.out, Served: true}
			source := p.Source4
			if f.Src.Is6() {
				source = p.Source6
			}
			if !want {
				source = netip.Addr{}
			}
			if got := p.Source(f); got != source {
				t.Errorf("%s, policy %d: %v, want %v", c.name, kind, got, source)
			}
			outside := !pods.Has(c.in) && !pods.Has(c.out)
			f.Served = false
			if got := p.Source(f); kind == PolicyKubernetes && outside && got.IsValid() {
				t.Errorf("%s, and no service: %v", c.name, got)
			}
			p.Source4, p.Source6 = netip.Addr{}, netip.IPv6Unspecified()
			if got := p.Source(f); got.IsValid() {
				t.Errorf("%s, policy %d without a source: %v", c.name, kind, got)
			}
		}
	}
}

func TestInterfaces(t *testing.T) {
	var none Interfaces
	one := none.With(64, true)
	two := one.With(3, true)
	less := two.With(64, false)
	for _, c := range []struct {
		set  Interfaces
		want [4]bool
	}{{none, [4]bool{}}, {one, [4]bool{false, true}}, {two, [4]bool{true, true}}, {less, [4]bool{true}}} {
		for n, index := range []uint32{3, 64, 65, 1 << 31} {
			if got := c.set.Has(index); got != c.want[n] {
				t.Errorf("%v has %d: %v", c.set, index, got)
			}
		}
	}
}
