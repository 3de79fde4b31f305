package dataplane

import (
	"net/netip"
	"strings"
	"testing"
)

func endpoint(s string) netip.AddrPort { return netip.MustParseAddrPort(s) }

func endpoints(list ...string) (out []netip.AddrPort) {
	for _, s := range list {
		out = append(out, endpoint(s))
	}
	return out
}

func TestNATTextForm(t *testing.T) {
	s, err := NewState(
		Interface{Name: "pod/a", MTU: 1500, Device: Loopback{}}, Interface{Name: "host", MTU: 1500, Device: Loopback{}},
		SourceNAT{addr("10.1.0.1"), addr("fd01::1")}, NATKept{prefix("fd00::/8")}, NATInterface{"pod/a", NATMasked}, NATInterface{"host", NATOuter},
		Translation{endpoint("10.96.0.10:53"), 17, endpoints("10.1.0.9:5353", "10.1.0.10:53"), true},
		Translation{endpoint("10.96.0.10:53"), 6, endpoints("10.1.0.9:5353"), false},
		Translation{endpoint("[fd96::1]:38412"), 132, endpoints("[fd01::9]:38412"), false},
	)
	if err != nil {
		t.Fatal(err)
	}
	want := `interface host device=loopback mtu=1500
interface pod/a device=loopback mtu=1500
source-nat node address=10.1.0.1 address=fd01::1
translation sctp [fd96::1]:38412 backend=[fd01::9]:38412
translation tcp 10.96.0.10:53 backend=10.1.0.9:5353
translation udp 10.96.0.10:53 backend=10.1.0.10:53 backend=10.1.0.9:5353 by-client=true
nat-kept fd00::/8
nat-interface host side=outer
nat-interface pod/a side=masked
`
	if got := s.String(); got != want {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
	back, err := ParseState(want)
	if err != nil || !back.Equal(s) {
		t.Errorf("read back: %v\n%s", err, back)
	}
}

func TestNATChecks(t *testing.T) {
	vip, back := endpoint("10.96.0.1:80"), endpoints("10.1.0.2:80")
	tests := []struct {
		object Object
		want   string
	}{
		{Translation{vip, 6, nil, false}, "without any there is no translation"},
		{Translation{vip, 1, back, false}, "protocol-1: only tcp"},
		{Translation{endpoint("10.96.0.1:0"), 6, back, false}, "and a port"},
		{Translation{netip.AddrPort{}, 6, back, false}, "want an address"},
		{Translation{vip, 6, endpoints("0.0.0.0:80"), false}, "backend 0.0.0.0:80"},
		{Translation{vip, 6, endpoints("[fd01::1]:80"), false}, "of another family"},
		{Translation{vip, 6, endpoints("10.1.0.2:80", "10.1.0.2:80"), false}, "stands twice"},
		{SourceNAT{}, "no address"},
		{SourceNAT{IPv4: addr("fd01::1")}, "one of IPv4"},
		{SourceNAT{IPv6: addr("10.0.0.1")}, "one of IPv6"},
		{NATInterface{"a", NATUnknown}, "want pod, outer, host or masked"},
		{NATInterface{"gone", NATPod}, "interface gone is not there"},
	}
	for _, tt := range tests {
		if _, err := NewState(tt.object); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: error %v, want %q", tt.object, err, tt.want)
		}
	}
	for text, want := range map[string]string{
		"translation icmp 10.0.0.1:1 backend=10.0.0.2:1":                `protocol "icmp"`,
		"translation tcp 10.0.0.1 backend=10.0.0.2:1":                   "not an ip:port",
		"source-nat here address=10.0.0.1":                              "want node",
		"source-nat node address=10.0.0.1 address=::1 address=10.0.0.2": "one of each family",
		"nat-interface a side=inner":                                    `side "inner"`,
	} {
		if _, err := ParseState(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v, want %q", text, err, want)
		}
	}
}

// TestTranslationChanges: backends come and go in place, so that flows to those that stay
// are not touched; how one is chosen is fixed.
func TestTranslationChanges(t *testing.T) {
	was := Translation{endpoint("10.96.0.1:80"), 6, endpoints("10.1.0.2:80"), false}
	var have State
	have.Put(was)
	plan := func(w Translation) string {
		var want State
		want.Put(w)
		return Diff(have, want).String()
	}
	w := was
	w.Backends = endpoints("10.1.0.3:80", "10.1.0.2:80")
	if got := plan(w); !strings.HasPrefix(got, "update translation tcp") {
		t.Errorf("other backends:\n%s", got)
	}
	w.ByClient = true
	if got := plan(w); !strings.HasPrefix(got, "delete translation") || !strings.Contains(got, "create translation") {
		t.Errorf("another choice:\n%s", got)
	}
}
