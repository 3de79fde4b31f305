package acl_test

import (
	"encoding/binary"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/millrace/millrace/engine/acl"
)

// style says how random rules are made. Each makes other parts of the tree.
type style struct {
	rules      int     // at most, over all lists
	lists      int     // at most
	six        float64 // share of IPv6
	any        float64 // share of sides that are 0.0.0.0/0
	spread     int     // bits in which addresses differ: few nest and meet often
	protocols  []uint8 // to choose from
	wide       float64 // share of port ranges among ports
	anyPorts   float64 // share of fields that hold all ports
	ports      int     // values of ports to choose from
	flags      float64 // share of rules with TCP flags
	hosts      float64 // share of sides that are one address
	duplicates float64 // share of rules that repeat an earlier one, with another action
}

type source struct {
	*rand.Rand
	style
}

func (s *source) chance(p float64) bool { return s.Float64() < p }

func (s *source) addr(six bool) netip.Addr {
	low := s.Uint32() & (1<<s.spread - 1)
	if s.chance(0.05) {
		low = s.Uint32()
	}
	if !six {
		var b [4]byte
		binary.BigEndian.PutUint32(b[:], 10<<24^low)
		return netip.AddrFrom4(b)
	}
	var b [16]byte
	binary.BigEndian.PutUint64(b[:], 0xfd00<<48|uint64(low&3))
	binary.BigEndian.PutUint64(b[8:], uint64(low>>2)<<(low&1*40))
	return netip.AddrFrom16(b)
}

func (s *source) prefix(six bool) netip.Prefix {
	a := s.addr(six)
	n := a.BitLen()
	switch {
	case s.chance(s.any):
		n = 0
	case s.chance(s.hosts):
	case six:
		n -= s.IntN(s.spread + 45)
	default:
		n -= s.IntN(s.spread + 2)
	}
	p, err := a.Prefix(max(n, 0))
	if err != nil {
		panic(err)
	}
	return p
}

func (s *source) port() uint16 {
	if s.chance(0.02) {
		return []uint16{0, 1, 1023, 1024, 32767, 32768, 65534, 65535}[s.IntN(8)]
	}
	return uint16(s.IntN(s.style.ports) * 977)
}

func (s *source) span() acl.Ports {
	switch {
	case s.chance(s.anyPorts):
		return acl.AnyPorts()
	case s.chance(s.wide):
		p, q := s.port(), s.port()
		return acl.Ports{First: min(p, q), Last: max(p, q)}
	}
	p := s.port()
	return acl.Ports{First: p, Last: p}
}

func (s *source) tcpFlags() uint8 {
	if s.chance(0.5) {
		return uint8(s.Uint32())
	}
	return uint8(s.IntN(8))
}

func (s *source) rule() acl.Rule {
	six := s.chance(s.six)
	r := acl.Rule{
		Action: acl.Action(s.IntN(3)), Src: s.prefix(six), Dst: s.prefix(six),
		Protocol: s.protocols[s.IntN(len(s.protocols))], SrcPorts: s.span(), DstPorts: s.span(),
	}
	if s.chance(s.flags) {
		r.TCPMask, r.TCPValue = s.tcpFlags(), s.tcpFlags()
		if s.chance(0.8) {
			r.TCPValue &= r.TCPMask
		}
	}
	return r
}

func (s *source) lists() [][]acl.Rule {
	lists := make([][]acl.Rule, 1+s.IntN(s.style.lists))
	var all []acl.Rule
	for range s.IntN(s.rules + 1) {
		r := s.rule()
		if len(all) > 0 && s.chance(s.duplicates) {
			action := r.Action
			r = all[s.IntN(len(all))]
			r.Action = action
		}
		i := s.IntN(len(lists))
		lists[i], all = append(lists[i], r), append(all, r)
	}
	return lists
}

// key makes a key at a border of one of the rules, or anywhere.
func (s *source) key(rules []acl.Rule) acl.Key {
	var k acl.Key
	if len(rules) > 0 && s.chance(0.9) {
		k = s.near(&rules[s.IntN(len(rules))])
	} else {
		six := s.chance(s.six)
		k = acl.KeyOf(s.addr(six), s.addr(six), s.protocols[s.IntN(len(s.protocols))], s.port(), s.port())
	}
	if s.chance(0.1) {
		k.Protocol = uint8(s.IntN(256))
	}
	k.TCPFlags = s.tcpFlags()
	if s.chance(0.15) {
		k.Flags |= acl.KeyFragment
	}
	if s.chance(0.1) {
		k.Flags |= acl.KeyNoL4
	}
	return k
}

func (s *source) near(r *acl.Rule) acl.Key {
	at := func(p acl.Ports) uint16 {
		return []uint16{p.First, p.Last, p.First - 1, p.Last + 1, s.port()}[s.IntN(5)]
	}
	in := func(p netip.Prefix) netip.Addr {
		if s.chance(0.3) {
			return s.addr(!p.Addr().Is4())
		}
		b := p.Addr().AsSlice()
		if s.chance(0.5) { // the last address
			for bit := p.Bits(); bit < 8*len(b); bit++ {
				b[bit/8] |= 0x80 >> (bit % 8)
			}
		}
		if bit := s.IntN(8 * len(b)); s.chance(0.2) {
			b[bit/8] ^= 0x80 >> (bit % 8)
		}
		a, _ := netip.AddrFromSlice(b)
		return a
	}
	return acl.KeyOf(in(r.Src), in(r.Dst), r.Protocol, at(r.SrcPorts), at(r.DstPorts))
}

func chain(lists [][]acl.Rule) (*acl.Chain, error) {
	compiled := make([]*acl.List, len(lists))
	for i, rules := range lists {
		var err error
		if compiled[i], err = acl.New(rules); err != nil {
			return nil, err
		}
	}
	return acl.Join(compiled...), nil
}

// shrink drops rules and wideness as long as the key is still judged wrongly.
func shrink(lists [][]acl.Rule, k acl.Key) [][]acl.Rule {
	wrong := func(lists [][]acl.Rule) bool {
		c, err := chain(lists)
		return err == nil && c.Match(&k) != linear(lists, &k)
	}
	for again := true; again; {
		again = false
		for i := range lists {
			for n := max(1, len(lists[i])/2); n > 0; n /= 2 {
				for j := 0; j+n <= len(lists[i]); {
					less := slices.Clone(lists)
					less[i] = slices.Delete(slices.Clone(lists[i]), j, j+n)
					if wrong(less) {
						lists, again = less, true
					} else {
						j += n
					}
				}
			}
		}
	}
	return lists
}

func describe(lists [][]acl.Rule, k acl.Key) string {
	var b strings.Builder
	for i, rules := range lists {
		for j, r := range rules {
			fmt.Fprintf(&b, "  list %d rule %d: %v %v -> %v protocol %d ports %v -> %v tcp %#x/%#x\n",
				i, j, r.Action, r.Src, r.Dst, r.Protocol, r.SrcPorts, r.DstPorts, r.TCPValue, r.TCPMask)
		}
	}
	six := k.Flags&acl.KeyIPv6 != 0
	fmt.Fprintf(&b, "  key %v -> %v protocol %d ports %d -> %d tcp %#x flags %#x", addr(k.Src, six), addr(k.Dst, six),
		k.Protocol, k.SrcPort, k.DstPort, k.TCPFlags, k.Flags)
	return b.String()
}

// judge compares Match with the linear walk.
func judge(t *testing.T, lists [][]acl.Rule, keys []acl.Key) {
	t.Helper()
	c, err := chain(lists)
	if err != nil {
		t.Fatal(err)
	}
	for i := range keys {
		want := linear(lists, &keys[i])
		if got := c.Match(&keys[i]); got != want {
			small := shrink(lists, keys[i])
			c, _ := chain(small)
			t.Fatalf("got %+v, want %+v; shrunk to %+v instead of %+v:\n%s", got, want,
				c.Match(&keys[i]), linear(small, &keys[i]), describe(small, keys[i]))
		}
	}
}

var styles = map[string]style{
	"few":         {rules: 12, lists: 3, six: 0.3, any: 0.3, spread: 4, protocols: []uint8{0, tcp, udp, icmp}, wide: 0.4, anyPorts: 0.3, ports: 5, flags: 0.2, hosts: 0.3},
	"peers":       {rules: 400, lists: 2, six: 0.5, any: 0.05, spread: 8, protocols: []uint8{tcp, udp}, wide: 0.2, anyPorts: 0.6, ports: 10, hosts: 0.9, duplicates: 0.1},
	"products":    {rules: 400, lists: 4, six: 0.3, any: 0.3, spread: 6, protocols: []uint8{tcp, udp}, anyPorts: 0.6, ports: 4, hosts: 0.8, duplicates: 0.1, flags: 0.01},
	"one side":    {rules: 400, lists: 2, six: 0.2, any: 0.6, spread: 8, protocols: []uint8{0, tcp, udp, icmp}, wide: 0.3, anyPorts: 0.5, ports: 20, hosts: 0.5},
	"nested":      {rules: 300, lists: 1, six: 0.5, any: 0.1, spread: 20, protocols: []uint8{0, tcp}, wide: 0.3, anyPorts: 0.3, ports: 8, flags: 0.1, hosts: 0.1},
	"ranges":      {rules: 300, lists: 1, any: 0.95, spread: 2, protocols: []uint8{tcp, udp, icmpv6}, wide: 0.95, anyPorts: 0.3, ports: 67},
	"two ranges":  {rules: 500, lists: 1, any: 1, spread: 2, protocols: []uint8{tcp}, wide: 0.9, anyPorts: 0.05, ports: 67, flags: 0.2},
	"flags":       {rules: 300, lists: 1, any: 0.97, spread: 2, protocols: []uint8{tcp, tcp, udp}, wide: 0.3, anyPorts: 0.8, ports: 3, flags: 0.95},
	"protocols":   {rules: 200, lists: 2, any: 0.9, spread: 3, protocols: []uint8{0, 1, 2, 6, 17, 50, 58, 132, 255}, wide: 0.5, anyPorts: 0.7, ports: 4, flags: 0.3},
	"all at once": {rules: 2000, lists: 4, six: 0.4, any: 0.4, spread: 12, protocols: []uint8{0, tcp, tcp, udp}, wide: 0.6, anyPorts: 0.3, ports: 60, flags: 0.1, hosts: 0.4, duplicates: 0.2},
}

// Structured random lists, each judged by keys at the borders of their rules.
func TestMatchAgainstLinear(t *testing.T) {
	rounds := 60
	if testing.Short() {
		rounds = 6
	}
	for name, style := range styles {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for seed := range uint64(max(rounds*300/(300+style.rules), 5)) {
				s := &source{rand.New(rand.NewPCG(seed, 4)), style}
				lists := s.lists()
				all := slices.Concat(lists...)
				keys := make([]acl.Key, 300)
				for i := range keys {
					keys[i] = s.key(all)
				}
				judge(t, lists, keys)
			}
		})
	}
}

// Lists made to be hard, or large, are judged right and stay within their memory.
func TestHardLists(t *testing.T) {
	for _, shape := range slices.Concat(shapes, hard) {
		t.Run(shape.name, func(t *testing.T) {
			t.Parallel()
			rules := shape.rules(3000)
			judge(t, [][]acl.Rule{rules}, slices.Concat(hits(rules)[:300], misses(rules)[:300]))
			s := &source{rand.New(rand.NewPCG(3, 3)), styles["all at once"]}
			keys := make([]acl.Key, 300)
			for i := range keys {
				keys[i] = s.key(rules)
			}
			judge(t, [][]acl.Rule{rules}, keys)
			if per := compile(t, rules...).Bytes() / len(rules); per > 800 {
				t.Errorf("%d bytes per rule, want at most 800", per)
			}
		})
	}
}

// Keys of any bytes, and lists made from them, are judged as the linear walk does.
func FuzzMatch(f *testing.F) {
	names := slices.Sorted(maps.Keys(styles))
	for i := range names {
		f.Add(uint8(i), uint64(i), []byte("\x0a\x00\x00\x01\x0a\x00\x00\x02\x00\x50\x1f\x90\x06\x02\x00"))
	}
	f.Fuzz(func(t *testing.T, name uint8, seed uint64, raw []byte) {
		s := &source{rand.New(rand.NewPCG(seed, 9)), styles[names[int(name)%len(names)]]}
		s.rules = min(s.rules, 100)
		lists := s.lists()
		var keys []acl.Key
		for ; len(raw) >= 15; raw = raw[15:] {
			k := s.key(slices.Concat(lists...))
			if raw[14]&0x80 == 0 {
				k.Src.Lo, k.Dst.Lo = uint64(binary.BigEndian.Uint32(raw)), uint64(binary.BigEndian.Uint32(raw[4:]))
			}
			k.SrcPort, k.DstPort = binary.BigEndian.Uint16(raw[8:]), binary.BigEndian.Uint16(raw[10:])
			k.Protocol, k.TCPFlags, k.Flags = raw[12], raw[13], acl.KeyFlags(raw[14]&7)
			if k.Flags&acl.KeyIPv6 == 0 {
				k.Src.Hi, k.Dst.Hi, k.Src.Lo, k.Dst.Lo = 0, 0, k.Src.Lo&0xffffffff, k.Dst.Lo&0xffffffff
			}
			keys = append(keys, k)
		}
		judge(t, lists, keys)
	})
}

// Matching allocates nothing, whatever part of the tree it goes through.
func TestMatchAllocatesNothing(t *testing.T) {
	for name, style := range styles {
		s := &source{rand.New(rand.NewPCG(1, 4)), style}
		lists := s.lists()
		c, err := chain(lists)
		if err != nil {
			t.Fatal(err)
		}
		keys := make([]acl.Key, 300)
		for i := range keys {
			keys[i] = s.key(slices.Concat(lists...))
		}
		n := testing.AllocsPerRun(20, func() {
			for i := range keys {
				c.Match(&keys[i])
			}
		})
		if n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}
