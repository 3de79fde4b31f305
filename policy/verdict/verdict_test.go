package verdict_test

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/millrace/millrace/dataplane"
	"github.com/millrace/millrace/policy/verdict"
)

// street has two pods, a and b, and c without lists.
const street = `
acl base rule=permit,0.0.0.0/0,0.0.0.0/0,proto=1,sport=3
acl web rule=deny,10.0.0.2/32,0.0.0.0/0,proto=6,dport=80 rule=permit+reflect,10.0.0.0/8,0.0.0.0/0,proto=6,dport=80-90 rule=permit,::/0,::/0
acl dns rule=permit+reflect,0.0.0.0/0,10.0.0.0/30,proto=17,dport=53
acl none
interface a device=loopback mtu=1500
interface b device=loopback mtu=1500
interface c device=loopback mtu=1500
route 0 10.0.0.1/32 path=a
route 0 fd00::1/128 path=a
route 0 10.0.0.2/32 path=b
route 0 10.0.0.3/32 path=c
route 0 10.0.0.0/24 path=a
acl-binding a input=base input=dns output=base output=web
acl-binding b output=none
`

func TestJudge(t *testing.T) {
	s, err := dataplane.ParseState(street)
	if err != nil {
		t.Fatal(err)
	}
	tables := verdict.New(s)
	for _, tt := range []struct {
		src, dst     string
		protocol     uint8
		sport, dport uint16
		want         string
	}{
		{"10.0.0.2", "10.0.0.1", 6, 5, 80, "deny by acl web rule 0 of a"},
		{"10.0.0.2", "10.0.0.1", 6, 5, 81, "allow by acl web rule 1 of a"},
		{"10.0.0.3", "10.0.0.1", 6, 5, 80, "allow by acl web rule 1 of a"},
		{"10.0.0.3", "10.0.0.1", 17, 5, 80, "deny by the end of the list of a"},
		{"192.0.2.1", "10.0.0.1", 1, 3, 4, "allow by acl base rule 0 of a"},
		{"192.0.2.1", "10.0.0.1", 1, 8, 0, "deny by the end of the list of a"},
		{"2001:db8::1", "fd00::1", 1, 8, 0, "allow by acl web rule 2 of a"},
		{"fd00::1", "2001:db8::1", 6, 1, 1, "deny by the end of the list of a"},
		{"10.0.0.1", "10.0.0.3", 17, 5, 53, "allow by acl dns rule 0 of a"},
		{"10.0.0.1", "10.0.0.4", 17, 5, 53, "deny by the end of the list of a"},
		{"10.0.0.1", "10.0.0.2", 17, 5, 53, "deny by the end of the list of b"},
		{"10.0.0.2", "10.0.0.3", 17, 5, 53, "allow by the end of the list of b"}, // its input is not filtered
		{"10.0.0.3", "10.0.0.9", 17, 5, 53, "allow: no filtered interface"},
	} {
		p := verdict.Packet{Src: netip.MustParseAddr(tt.src), Dst: netip.MustParseAddr(tt.dst), Protocol: tt.protocol, SrcPort: tt.sport, DstPort: tt.dport}
		v := tables.Judge(p)
		if got := v.Deciding().String(); got != tt.want || v.Allowed != strings.HasPrefix(tt.want, "allow") {
			t.Errorf("%+v: %t, %s; want %s", p, v.Allowed, got, tt.want)
		}
	}
	if got := tables.Interface(netip.MustParseAddr("10.0.0.1")); got != "a" {
		t.Errorf("interface of 10.0.0.1: %q, want a", got)
	}
}

// TestIndex: what the index finds is what going through the rules one after the other
// finds.
func TestIndex(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	prefix := func() netip.Prefix {
		bits := [...]int{0, 0, 8, 30, 31, 32}[r.IntN(6)]
		return netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(r.IntN(4))}), bits).Masked()
	}
	ports := func() dataplane.Ports {
		n := uint16(r.IntN(4))
		return dataplane.Ports{First: n, Last: n + uint16(r.IntN(3))}
	}
	type found struct {
		ACL  string
		Rule int
	}
	for range 300 {
		acls := []dataplane.ACL{{Name: "x"}, {Name: "y"}}
		for i := range acls {
			for range r.IntN(12) {
				rule := dataplane.Rule{Action: dataplane.Action(r.IntN(3)), Src: prefix(), Dst: prefix(), SrcPorts: dataplane.AnyPorts(), DstPorts: dataplane.AnyPorts()}
				if r.IntN(2) == 0 {
					rule.Protocol, rule.SrcPorts, rule.DstPorts = uint8(6+r.IntN(2)), ports(), ports()
				}
				acls[i].Rules = append(acls[i].Rules, rule)
			}
		}
		pod := netip.MustParseAddr("10.0.0.1")
		s, err := dataplane.NewState(acls[0], acls[1], dataplane.Interface{Name: "pod", Device: dataplane.Loopback{}, MTU: 1500},
			dataplane.Route{Prefix: netip.PrefixFrom(pod, 32), Paths: []dataplane.Path{{Interface: "pod"}}},
			dataplane.ACLBinding{Interface: "pod", Input: []string{"x", "y"}})
		if err != nil {
			t.Fatal(err)
		}
		tables := verdict.New(s)
		for range 50 {
			p := verdict.Packet{Src: pod, Dst: netip.AddrFrom4([4]byte{10, 0, 0, byte(r.IntN(5))}), Protocol: uint8(6 + r.IntN(2)), SrcPort: uint16(r.IntN(6)), DstPort: uint16(r.IntN(6))}
			want, allowed := found{"", -1}, false
		search:
			for _, a := range acls {
				for i, rule := range a.Rules {
					if rule.Src.Contains(p.Src) && rule.Dst.Contains(p.Dst) && (rule.Protocol == 0 || rule.Protocol == p.Protocol &&
						rule.SrcPorts.First <= p.SrcPort && p.SrcPort <= rule.SrcPorts.Last && rule.DstPorts.First <= p.DstPort && p.DstPort <= rule.DstPorts.Last) {
						want, allowed = found{a.Name, i}, rule.Action != dataplane.Deny
						break search
					}
				}
			}
			d := tables.Judge(p).Input
			if diff := cmp.Diff(want, found{d.ACL, d.Rule}); diff != "" || d.Allowed != allowed {
				t.Fatalf("%+v in\n%s: allowed %t, want %t\n%s", p, s, d.Allowed, allowed, diff)
			}
		}
	}
}

// BenchmarkJudge: 100 pods, each with a list of 1000 rules.
func BenchmarkJudge(b *testing.B) {
	acl := dataplane.ACL{Name: "many"}
	for i := range 1000 {
		acl.Rules = append(acl.Rules, dataplane.Rule{Action: dataplane.PermitReflect, Protocol: 6, SrcPorts: dataplane.AnyPorts(), DstPorts: dataplane.Ports{First: 80, Last: 80},
			Src: netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)}), 32), Dst: netip.MustParsePrefix("0.0.0.0/0")})
	}
	objects := []dataplane.Object{acl}
	address := func(i int) netip.Addr { return netip.AddrFrom4([4]byte{10, 1, 0, byte(i)}) }
	for i := range 100 {
		name := fmt.Sprint("pod", i)
		objects = append(objects, dataplane.Interface{Name: name, Device: dataplane.Loopback{}, MTU: 1500}, dataplane.ACLBinding{Interface: name, Output: []string{"many"}},
			dataplane.Route{Prefix: netip.PrefixFrom(address(i), 32), Paths: []dataplane.Path{{Interface: name}}})
	}
	s, err := dataplane.NewState(objects...)
	if err != nil {
		b.Fatal(err)
	}
	tables := verdict.New(s)
	i := 0
	for b.Loop() {
		i++
		if !tables.Judge(verdict.Packet{Src: address(i % 100), Dst: address(i % 97), Protocol: 6, SrcPort: 9, DstPort: 80}).Allowed {
			b.Fatal("denied")
		}
	}
}
