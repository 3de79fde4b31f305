package acl_test

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/millrace/millrace/engine/acl"
)

// A shape is a kind of list. Hit makes the key of a packet that one of its rules matches.
type shape struct {
	name string
	rule func(r *rand.Rand, i, n int) acl.Rule
}

var any4 = netip.MustParsePrefix("0.0.0.0/0")

func host4(i int) netip.Prefix {
	var b [4]byte
	binary.BigEndian.PutUint32(b[:], 10<<24+uint32(i)*3)
	return netip.PrefixFrom(netip.AddrFrom4(b), 32)
}

func host6(i int) netip.Prefix {
	var b [16]byte
	binary.BigEndian.PutUint64(b[:], 0xfd00_0000_0000_0000+uint64(i>>8))
	binary.BigEndian.PutUint64(b[8:], uint64(i&0xff)+1)
	return netip.PrefixFrom(netip.AddrFrom16(b), 128)
}

func port(p int) acl.Ports { return acl.Ports{First: uint16(p), Last: uint16(p)} }

var shapes = []shape{
	{"product", func(_ *rand.Rand, i, _ int) acl.Rule { // peers x 10 ports
		return acl.Rule{Action: acl.PermitReflect, Src: host4(i / 10), Dst: any4, Protocol: tcp, SrcPorts: acl.AnyPorts(), DstPorts: port(8000 + i%10*7)}
	}},
	{"product6", func(_ *rand.Rand, i, _ int) acl.Rule {
		return acl.Rule{Action: acl.PermitReflect, Src: host6(i / 10), Dst: netip.MustParsePrefix("::/0"), Protocol: tcp, SrcPorts: acl.AnyPorts(), DstPorts: port(8000 + i%10*7)}
	}},
	{"ranges", func(_ *rand.Rand, i, _ int) acl.Rule { // peers x 10 ranges of ports
		p := uint16(1000 + i%10*500)
		return acl.Rule{Action: acl.PermitReflect, Src: host4(i / 10), Dst: any4, Protocol: udp, SrcPorts: acl.AnyPorts(), DstPorts: acl.Ports{First: p, Last: p + 300}}
	}},
	{"ports", func(_ *rand.Rand, i, n int) acl.Rule { // one peer, all ports
		p := i * (65536 / min(n, 65536)) % 65536
		return acl.Rule{Action: acl.PermitReflect, Src: host4(i / 65536), Dst: any4, Protocol: tcp, SrcPorts: acl.AnyPorts(), DstPorts: port(p)}
	}},
	{"hosts", func(_ *rand.Rand, i, _ int) acl.Rule {
		return acl.Rule{Action: acl.PermitReflect, Src: host4(i), Dst: any4, SrcPorts: acl.AnyPorts(), DstPorts: acl.AnyPorts()}
	}},
	{"random", func(r *rand.Rand, _, _ int) acl.Rule { // both sides, all lengths from /16
		side := func() netip.Prefix {
			var b [4]byte
			binary.BigEndian.PutUint32(b[:], 10<<24+r.Uint32N(1<<24))
			return netip.PrefixFrom(netip.AddrFrom4(b), 16+r.IntN(17)).Masked()
		}
		ports := func() acl.Ports {
			switch p := uint16(r.Uint32()); r.IntN(3) {
			case 0:
				return acl.Ports{First: p, Last: p}
			case 1:
				return acl.Ports{First: p / 2, Last: p/2 + uint16(r.IntN(2000))}
			}
			return acl.AnyPorts()
		}
		return acl.Rule{Action: acl.Permit, Src: side(), Dst: side(), Protocol: []uint8{tcp, udp}[r.IntN(2)], SrcPorts: acl.AnyPorts(), DstPorts: ports()}
	}},
}

// Lists made to be hard: the bounds on memory are for these.
var hard = []shape{
	{"crossing", func(r *rand.Rand, _, _ int) acl.Rule { // ranges of both ports
		return acl.Rule{Action: acl.Permit, Src: any4, Dst: any4, Protocol: udp, SrcPorts: anyRange(r), DstPorts: anyRange(r)}
	}},
	{"crossing flags", func(r *rand.Rand, _, _ int) acl.Rule {
		f := uint8(r.Uint32())
		return acl.Rule{Action: acl.Permit, Src: any4, Dst: any4, Protocol: tcp, SrcPorts: anyRange(r), DstPorts: anyRange(r),
			TCPMask: f, TCPValue: f & uint8(r.Uint32())}
	}},
	{"flags", func(r *rand.Rand, _, _ int) acl.Rule { // nothing but flags, rare ones first
		mask := uint8(r.Uint32()) | 0xe0
		return acl.Rule{Action: acl.Permit, Src: any4, Dst: any4, Protocol: tcp, SrcPorts: acl.AnyPorts(), DstPorts: acl.AnyPorts(),
			TCPMask: mask, TCPValue: mask & uint8(r.Uint32())}
	}},
	{"sides", func(r *rand.Rand, i, _ int) acl.Rule { // one side or the other
		rule := acl.Rule{Action: acl.Permit, Src: host4(r.IntN(1 << 20)), Dst: any4, Protocol: tcp, SrcPorts: acl.AnyPorts(), DstPorts: anyRange(r)}
		if i%2 == 0 {
			rule.Src, rule.Dst = rule.Dst, rule.Src
		}
		return rule
	}},
	{"nested", func(r *rand.Rand, i, _ int) acl.Rule { // prefixes within prefixes, both sides
		side := func() netip.Prefix {
			a := netip.AddrFrom4([4]byte{10, 0, byte(r.Uint32() & 3), byte(r.Uint32())})
			p, _ := a.Prefix(r.IntN(33))
			return p
		}
		return acl.Rule{Action: acl.Permit, Src: side(), Dst: side(), Protocol: tcp, SrcPorts: anyRange(r), DstPorts: anyRange(r)}
	}},
	{"blocks", func(r *rand.Rand, i, _ int) acl.Rule { // the same with one side, as policies have
		p, _ := netip.AddrFrom4([4]byte{10, 0, byte(r.Uint32()), byte(r.Uint32())}).Prefix(r.IntN(33))
		return acl.Rule{Action: acl.Permit, Src: p, Dst: any4, Protocol: tcp, SrcPorts: acl.AnyPorts(), DstPorts: anyRange(r)}
	}},
	{"nested6", func(r *rand.Rand, i, _ int) acl.Rule {
		side := func() netip.Prefix {
			a := acl.Addr{Hi: 0xfd<<56 | r.Uint64()&r.Uint64()&r.Uint64(), Lo: r.Uint64()}
			p, _ := addr(a, true).Prefix(r.IntN(129))
			return p
		}
		return acl.Rule{Action: acl.Permit, Src: side(), Dst: side(), Protocol: uint8(1 + i%250), SrcPorts: anyRange(r), DstPorts: anyRange(r)}
	}},
}

func anyRange(r *rand.Rand) acl.Ports {
	p, q := uint16(r.Uint32()), uint16(r.Uint32())
	return acl.Ports{First: min(p, q), Last: max(p, q)}
}

func (s *shape) rules(n int) []acl.Rule {
	r := rand.New(rand.NewPCG(uint64(n), 7))
	rules := make([]acl.Rule, n)
	for i := range rules {
		rules[i] = s.rule(r, i, n)
	}
	return rules
}

const benchKeys = 4096

// hits are keys that random rules match, misses the same from elsewhere or to other ports.
func hits(rules []acl.Rule) []acl.Key {
	r := rand.New(rand.NewPCG(1, 2))
	keys := make([]acl.Key, benchKeys)
	for i := range keys {
		p := &rules[r.IntN(len(rules))]
		src, dst := p.Src.Addr(), p.Dst.Addr()
		if p.Dst.Bits() == 0 && dst.Is4() {
			dst = netip.AddrFrom4([4]byte{10, 1, 2, byte(i)})
		}
		keys[i] = acl.KeyOf(src, dst, max(p.Protocol, 1), p.SrcPorts.First, p.DstPorts.First)
	}
	return keys
}

func misses(rules []acl.Rule) []acl.Key {
	keys := hits(rules)
	for i := range keys {
		switch i % 3 {
		case 0:
			keys[i].Src.Lo++ // between the peers
		case 1:
			keys[i].Src.Lo ^= 1 << 28
		default:
			keys[i].Protocol = sctp
		}
	}
	return keys
}

// flat is a rule as VPP keeps it, for the linear walk beside the lookup.
type flat struct {
	src, dst, srcMask, dstMask   acl.Addr
	sFirst, sLast, dFirst, dLast uint16
	flags                        acl.KeyFlags
	protocol, mask, value        uint8
}

func flatten(rules []acl.Rule) []flat {
	out := make([]flat, len(rules))
	for i, r := range rules {
		f := flat{src: acl.AddrOf(r.Src.Addr()), dst: acl.AddrOf(r.Dst.Addr()), srcMask: maskOf(r.Src), dstMask: maskOf(r.Dst),
			sFirst: r.SrcPorts.First, sLast: r.SrcPorts.Last, dFirst: r.DstPorts.First, dLast: r.DstPorts.Last,
			protocol: r.Protocol, mask: r.TCPMask, value: r.TCPValue}
		if !r.Src.Addr().Is4() {
			f.flags = acl.KeyIPv6
		}
		out[i] = f
	}
	return out
}

func maskOf(p netip.Prefix) acl.Addr {
	var all netip.Addr
	if p.Addr().Is4() {
		all = netip.AddrFrom4([4]byte{255, 255, 255, 255})
	} else {
		all = netip.MustParseAddr("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff")
	}
	m, _ := all.Prefix(p.Bits())
	return acl.AddrOf(m.Addr())
}

func walk(rules []flat, k *acl.Key) int {
	for i := range rules {
		r := &rules[i]
		if k.Dst.Lo&r.dstMask.Lo == r.dst.Lo && k.Src.Lo&r.srcMask.Lo == r.src.Lo &&
			k.Dst.Hi&r.dstMask.Hi == r.dst.Hi && k.Src.Hi&r.srcMask.Hi == r.src.Hi && r.flags == k.Flags &&
			(r.protocol == 0 || r.protocol == k.Protocol && r.sFirst <= k.SrcPort && k.SrcPort <= r.sLast &&
				r.dFirst <= k.DstPort && k.DstPort <= r.dLast && (k.Protocol != tcp || k.TCPFlags&r.mask == r.value)) {
			return i
		}
	}
	return -1
}

// perKey is how long the linear walk takes for one of keys, in nanoseconds.
func perKey(rules []flat, keys []acl.Key) float64 {
	begin, n := time.Now(), 0
	for ; n < len(keys) && (n < 64 || time.Since(begin) < 20*time.Millisecond); n++ {
		walk(rules, &keys[n])
	}
	return float64(time.Since(begin).Nanoseconds()) / float64(n)
}

var sizes = []int{10, 1_000, 10_000, 100_000}

// One key a time, and in batches of 256; "x" is how many times faster than the linear walk.
func BenchmarkMatch(b *testing.B) {
	for _, s := range slices.Concat(shapes, hard) {
		for _, n := range sizes {
			rules := s.rules(n)
			l := compile(b, rules...)
			c, slow := acl.Join(l), flatten(rules)
			for name, keys := range map[string][]acl.Key{"hit": hits(rules), "miss": misses(rules)} {
				where := fmt.Sprintf("%s/%d/%s", s.name, n, name)
				linear := perKey(slow, keys)
				report := func(b *testing.B) {
					ns := float64(b.Elapsed().Nanoseconds()) / float64(b.N)
					b.ReportMetric(linear/ns, "x")
				}
				b.Run(where, func(b *testing.B) {
					for i := range b.N {
						c.Match(&keys[i%benchKeys])
					}
					report(b)
				})
			}
		}
	}
}

// What a list costs: time per rule to compile, and memory per rule.
func BenchmarkNew(b *testing.B) {
	for _, s := range slices.Concat(shapes, hard) {
		for _, n := range sizes {
			b.Run(fmt.Sprintf("%s/%d", s.name, n), func(b *testing.B) {
				rules := s.rules(n)
				var l *acl.List
				for b.Loop() {
					l = compile(b, rules...)
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(n), "ns/rule")
				b.ReportMetric(float64(l.Bytes())/float64(n), "B/rule")
			})
		}
	}
}
