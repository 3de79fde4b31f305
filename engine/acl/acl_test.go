package acl_test

import (
	"errors"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/millrace/millrace/engine/acl"
)

const (
	icmp   = 1
	tcp    = 6
	udp    = 17
	icmpv6 = 58
	sctp   = 132
)

func prefix(s string) netip.Prefix { return netip.MustParsePrefix(s) }

// permit is a rule between two prefixes for all ports of a protocol.
func permit(src, dst string, protocol uint8) acl.Rule {
	return acl.Rule{
		Action: acl.Permit, Src: prefix(src), Dst: prefix(dst), Protocol: protocol,
		SrcPorts: acl.AnyPorts(), DstPorts: acl.AnyPorts(),
	}
}

func with(r acl.Rule, edit func(*acl.Rule)) acl.Rule { edit(&r); return r }

func key(src, dst string, protocol uint8, sport, dport uint16) acl.Key {
	return acl.KeyOf(netip.MustParseAddr(src), netip.MustParseAddr(dst), protocol, sport, dport)
}

func flagged(k acl.Key, flags acl.KeyFlags) acl.Key { k.Flags |= flags; return k }

func withTCP(k acl.Key, flags uint8) acl.Key { k.TCPFlags = flags; return k }

func compile(t testing.TB, rules ...acl.Rule) *acl.List {
	t.Helper()
	l, err := acl.New(rules)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// Each case is one meaning of one rule.
func TestRuleMatches(t *testing.T) {
	any4 := "0.0.0.0/0"
	web := with(permit("10.0.0.0/8", "10.1.0.0/16", tcp), func(r *acl.Rule) {
		r.SrcPorts, r.DstPorts = acl.Ports{First: 1024, Last: 65535}, acl.Ports{First: 80, Last: 90}
	})
	syn := with(permit(any4, any4, tcp), func(r *acl.Rule) { r.TCPMask, r.TCPValue = 0x12, 0x02 })
	never := with(permit(any4, any4, tcp), func(r *acl.Rule) { r.TCPMask, r.TCPValue = 0x02, 0x12 })
	echo := with(permit(any4, any4, icmp), func(r *acl.Rule) {
		r.SrcPorts, r.DstPorts = acl.Ports{First: 8, Last: 8}, acl.Ports{}
	})
	hit := key("10.9.9.9", "10.1.2.3", tcp, 5000, 80)
	for _, c := range []struct {
		name string
		rule acl.Rule
		key  acl.Key
		want bool
	}{
		{"all fields", web, hit, true},
		{"source outside", web, key("11.0.0.1", "10.1.2.3", tcp, 5000, 80), false},
		{"destination outside", web, key("10.9.9.9", "10.2.0.0", tcp, 5000, 80), false},
		{"first source port", web, key("10.9.9.9", "10.1.2.3", tcp, 1024, 80), true},
		{"below the source ports", web, key("10.9.9.9", "10.1.2.3", tcp, 1023, 80), false},
		{"last port", web, key("10.9.9.9", "10.1.2.3", tcp, 65535, 90), true},
		{"above the ports", web, key("10.9.9.9", "10.1.2.3", tcp, 5000, 91), false},
		{"other protocol", web, key("10.9.9.9", "10.1.2.3", udp, 5000, 80), false},
		{"ends of prefixes", web, key("10.255.255.255", "10.1.255.255", tcp, 5000, 80), true},
		{"beginnings of prefixes", web, key("10.0.0.0", "10.1.0.0", tcp, 5000, 80), true},

		{"any protocol", permit(any4, any4, 0), key("1.1.1.1", "2.2.2.2", 99, 0, 0), true},
		{"any protocol ignores ports and flags", with(web, func(r *acl.Rule) { r.Protocol, r.TCPMask, r.TCPValue = 0, 1, 1 }),
			key("10.9.9.9", "10.1.2.3", tcp, 1, 1), true},
		{"protocol 0 in the packet", web, key("10.9.9.9", "10.1.2.3", 0, 5000, 80), false},
		{"any protocol and 0 in the packet", permit(any4, any4, 0), key("1.1.1.1", "2.2.2.2", 0, 0, 0), true},

		{"ICMP type and code", echo, key("1.1.1.1", "2.2.2.2", icmp, 8, 0), true},
		{"ICMP other type", echo, key("1.1.1.1", "2.2.2.2", icmp, 0, 0), false},
		{"ICMP other code", echo, key("1.1.1.1", "2.2.2.2", icmp, 8, 1), false},
		{"SCTP without ports", permit(any4, any4, sctp), key("1.1.1.1", "2.2.2.2", sctp, 0, 0), true},

		{"TCP flags", syn, withTCP(key("1.1.1.1", "2.2.2.2", tcp, 1, 2), 0x02), true},
		{"TCP flags outside the mask", syn, withTCP(key("1.1.1.1", "2.2.2.2", tcp, 1, 2), 0xc2), true},
		{"TCP flag too much", syn, withTCP(key("1.1.1.1", "2.2.2.2", tcp, 1, 2), 0x12), false},
		{"TCP flags missing", syn, key("1.1.1.1", "2.2.2.2", tcp, 1, 2), false},
		{"TCP value outside the mask", never, withTCP(key("1.1.1.1", "2.2.2.2", tcp, 1, 2), 0x12), false},
		{"TCP value outside the mask, fragment", never, flagged(key("1.1.1.1", "2.2.2.2", tcp, 0, 0), acl.KeyFragment), true},
		{"TCP flags in a rule of UDP", with(syn, func(r *acl.Rule) { r.Protocol = udp }), key("1.1.1.1", "2.2.2.2", udp, 1, 2), true},

		{"fragment ignores ports", web, flagged(key("10.9.9.9", "10.1.2.3", tcp, 0, 0), acl.KeyFragment), true},
		{"fragment of another protocol", web, flagged(key("10.9.9.9", "10.1.2.3", udp, 0, 0), acl.KeyFragment), false},
		{"fragment from elsewhere", web, flagged(key("11.9.9.9", "10.1.2.3", tcp, 0, 0), acl.KeyFragment), false},
		{"fragment, any protocol", permit(any4, any4, 0), flagged(key("1.1.1.1", "2.2.2.2", tcp, 0, 0), acl.KeyFragment), true},
		{"fragment with no L4", web, flagged(key("10.9.9.9", "10.1.2.3", tcp, 0, 0), acl.KeyFragment|acl.KeyNoL4), true},
		{"no L4", web, flagged(hit, acl.KeyNoL4), false},
		{"no L4, all ports", permit(any4, any4, tcp), flagged(hit, acl.KeyNoL4), false},
		{"no L4, any protocol", permit(any4, any4, 0), flagged(hit, acl.KeyNoL4), true},

		{"IPv6 of a rule of IPv4", permit(any4, any4, 0), key("::1", "::2", tcp, 1, 2), false},
		{"IPv4 of a rule of IPv6", permit("::/0", "::/0", 0), key("1.1.1.1", "2.2.2.2", tcp, 1, 2), false},
		{"IPv6", permit("fd00::/65", "fd00:1::1/128", udp), key("fd00::1", "fd00:1::1", udp, 1, 2), true},
		{"IPv6 beyond 64 bits", permit("fd00::/65", "fd00:1::1/128", udp), key("fd00::8000:0:0:1", "fd00:1::1", udp, 1, 2), false},
		{"IPv6 of the other word", permit("::/0", "fd00:1::1/128", udp), key("fd00::1", "fd00:1::2", udp, 1, 2), false},
		{"mapped address is IPv6", permit("::ffff:10.0.0.0/104", "::/0", 0), key("::ffff:10.1.1.1", "::1", tcp, 1, 2), true},
		{"mapped address is not IPv4", permit("10.0.0.0/8", any4, 0), key("::ffff:10.1.1.1", "::1", tcp, 1, 2), false},
	} {
		t.Run(c.name, func(t *testing.T) {
			want := acl.NoMatch()
			if c.want {
				want = acl.Verdict{Action: acl.Permit}
			}
			if got := acl.Join(compile(t, c.rule)).Match(&c.key); got != want {
				t.Errorf("%+v and %+v: got %+v, want %+v", c.rule, c.key, got, want)
			}
		})
	}
}

func TestFirstMatchOverLists(t *testing.T) {
	deny := with(permit("10.0.0.1/32", "0.0.0.0/0", 0), func(r *acl.Rule) { r.Action = acl.Deny })
	reflect := with(permit("10.0.0.0/8", "0.0.0.0/0", tcp), func(r *acl.Rule) { r.Action = acl.PermitReflect })
	empty, first := compile(t), compile(t, permit("10.0.0.2/32", "0.0.0.0/0", udp), deny)
	second := compile(t, reflect, deny)
	c := acl.Join(empty, first, second, first)
	for _, k := range []struct {
		src      string
		protocol uint8
		want     acl.Verdict
	}{
		{"10.0.0.1", tcp, acl.Verdict{List: 1, Rule: 1, Action: acl.Deny}},
		{"10.0.0.2", udp, acl.Verdict{List: 1, Rule: 0, Action: acl.Permit}},
		{"10.0.0.2", tcp, acl.Verdict{List: 2, Rule: 0, Action: acl.PermitReflect}},
		{"10.0.0.3", udp, acl.NoMatch()},
	} {
		key := key(k.src, "10.0.0.9", k.protocol, 1, 2)
		if got := c.Match(&key); got != k.want {
			t.Errorf("from %s, protocol %d: got %+v, want %+v", k.src, k.protocol, got, k.want)
		}
	}
	if k := key("10.0.0.1", "10.0.0.9", tcp, 1, 2); acl.Join().Match(&k) != acl.NoMatch() {
		t.Error("a chain without lists matches")
	}
}

func TestNewRefuses(t *testing.T) {
	any4 := "0.0.0.0/0"
	for _, c := range []struct {
		name  string
		rule  acl.Rule
		field acl.Field
	}{
		{"no source", acl.Rule{Dst: prefix(any4)}, acl.FieldSrc},
		{"no destination", acl.Rule{Src: prefix(any4)}, acl.FieldDst},
		{"host bits in source", permit("10.0.0.1/8", any4, 0), acl.FieldSrc},
		{"host bits in destination", permit("::/0", "fd00::1/64", 0), acl.FieldDst},
		{"two families", permit(any4, "::/0", 0), acl.FieldSrc},
		{"source ports", with(permit(any4, any4, tcp), func(r *acl.Rule) { r.SrcPorts = acl.Ports{First: 2, Last: 1} }), acl.FieldPorts},
		{"destination ports, even of any protocol", with(permit(any4, any4, 0), func(r *acl.Rule) { r.DstPorts = acl.Ports{First: 2, Last: 1} }), acl.FieldPorts},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := acl.New([]acl.Rule{permit(any4, any4, 0), c.rule})
			var e *acl.RuleError
			if !errors.As(err, &e) || e.Rule != 1 || e.Field != c.field {
				t.Errorf("got %v, want an error about field %d of rule 1", err, c.field)
			}
		})
	}
}

// What an API dumps is what it was given, also where matching does not look at it.
func TestRulesAreKept(t *testing.T) {
	rules := []acl.Rule{
		permit("10.0.0.0/8", "0.0.0.0/0", tcp),
		permit("fd00::/8", "::/0", 0),
		{Action: 7, Src: prefix("::/0"), Dst: prefix("::1/128"), SrcPorts: acl.Ports{First: 3, Last: 4}, TCPMask: 1, TCPValue: 2},
		{Action: acl.PermitReflect, Src: prefix("1.0.0.0/8"), Dst: prefix("10.0.0.0/8"), Protocol: udp, DstPorts: acl.Ports{First: 53, Last: 53}, TCPMask: 5},
		{Src: prefix("::ffff:1.2.3.4/128"), Dst: prefix("::/0"), Protocol: 255},
	}
	l := compile(t, rules...)
	compare := cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })
	if d := cmp.Diff(rules, l.Rules(), compare); d != "" {
		t.Errorf("rules changed (-given +kept):\n%s", d)
	}
	for i := range rules {
		if d := cmp.Diff(rules[i], l.Rule(i), compare); d != "" {
			t.Errorf("rule %d changed (-given +kept):\n%s", i, d)
		}
	}
	if l.Len() != len(rules) {
		t.Errorf("got %d rules, want %d", l.Len(), len(rules))
	}
}
